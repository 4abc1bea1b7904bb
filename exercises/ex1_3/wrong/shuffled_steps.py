"""Batch norm "shuffles the time steps": the reply in nndl-discussion #59, made into code.

Refused by per_step_keeps_time_in_order: is seen elsewhere
"""

import numpy as np


def per_step(z, eps):
    z = np.roll(z, 1, axis=1)
    return (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + eps)
