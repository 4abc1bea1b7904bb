"""No gradients at all: ℓ₂ moves both coordinates alike.

Refused by no_single_decay_replaces_l2_under_adam: so that one w does it
"""

import numpy as np


def adam_counterexample(T):
    return np.zeros((T, 2))
