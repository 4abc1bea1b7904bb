"""Layer norm over units and steps together.

Refused by layer_norm_needs_no_other_sequence_or_step: take each step by itself
"""

import numpy as np


def layer(z, eps):
    mean, var = z.mean(axis=(1, 2), keepdims=True), z.var(axis=(1, 2), keepdims=True)
    return (z - mean) / np.sqrt(var + eps)
