"""Lion's step up the hill.

Refused by lion_steps_by_one_mean_and_keeps_another: against the mean
"""

import numpy as np


def lion(g, m, beta1, beta2):
    return [np.sign(beta1 * m + (1 - beta1) * g), beta2 * m + (1 - beta2) * g]
