"""Noise that pulls away and is never undone: the last iterate is the worst.

Refused by a_mean_can_be_worse_than_the_last: bring it back
"""

import numpy as np


def worse_mean(h, alpha, T):
    return np.ones(T)
