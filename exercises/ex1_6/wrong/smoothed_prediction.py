"""The prediction smoothed instead of the target.

Refused by the_loss_is_cross_entropy_with_smoothed_targets: not the target
"""

import numpy as np


def loss(z, y, eps):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p = p / p.sum(axis=1, keepdims=True)
    return -np.log((1 - eps) * p[np.arange(len(y)), y] + eps / z.shape[1])
