"""Batch norm believed to undo a negative factor.

Refused by per_step_statistics_forget_the_scale: A negative factor turns the signs
"""

import numpy as np


def indistinguishable(n, T):
    z = np.linspace(1, 2, n)[:, None] * np.ones(T)
    return np.stack([z, -z])
