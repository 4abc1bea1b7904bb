"""The true logit equals the largest of the others, not their mean.

Refused by some_losses_do_not_depend_on_epsilon: not the largest of them
"""

import numpy as np


def indifferent(K):
    z = np.zeros(K)
    z[1] = 9.0
    return z
