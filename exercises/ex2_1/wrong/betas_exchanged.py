"""β₁ and β₂ of Lion exchanged.

Refused by lion_steps_by_one_mean_and_keeps_another: are exchanged
"""

import numpy as np


def lion(g, m, beta1, beta2):
    return [-np.sign(beta2 * m + (1 - beta2) * g), beta1 * m + (1 - beta1) * g]
