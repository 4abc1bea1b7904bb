"""The first step without corrections believed to be too short: the root over 1 − β₂ forgotten.

Refused by without_corrections_the_first_step_is_wrong: under a root
"""

import numpy as np


def first_step_uncorrected(g, alpha, beta1, beta2):
    return -alpha * (1 - beta1) / (1 - beta2) * np.sign(g)
