"""Gradients of very different size, but the smaller one pushes as the penalty does.

Refused by no_single_decay_replaces_l2_under_adam: no steady gradient may push
"""

import numpy as np


def adam_counterexample(T):
    return np.stack([10.0 * (-1.0) ** np.arange(T), np.full(T, 0.01)], axis=1)
