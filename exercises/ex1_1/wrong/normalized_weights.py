"""Weights forced to add up to one, as if the mean did not start at zero.

Refused by weights_are_those_of_the_recursion: because it starts at zero
"""

import numpy as np


def weights(t, rho):
    w = rho ** np.arange(t - 1, -1, -1)
    return w / w.sum()
