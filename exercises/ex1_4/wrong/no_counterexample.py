"""Two coordinates with equal gradients: one decay does it.

Refused by no_single_decay_replaces_l2_under_adam: no steady gradient
"""

import numpy as np


def adam_counterexample(T):
    return np.ones((T, 2))
