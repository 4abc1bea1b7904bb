"""The step takes the sign of the new mean, as sign descent with momentum does.

Refused by lion_steps_by_one_mean_and_keeps_another: not of the mean that is kept
"""

import numpy as np


def lion(g, m, beta1, beta2):
    m = beta2 * m + (1 - beta2) * g
    return [-np.sign(m), m]
