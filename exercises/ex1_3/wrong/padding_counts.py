"""Padding of short sequences counted among the examples.

Refused by padding_does_not_count: padding counts
"""

import numpy as np


def masked(z, lengths, eps):
    out = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + eps)
    out[np.arange(z.shape[1]) >= lengths[:, None]] = 0
    return out
