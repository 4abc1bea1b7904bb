"""A small lead, which smoothing does not punish.

Refused by a_wrong_prediction_can_have_the_smaller_loss: let its lead be very large
"""

import numpy as np


def wrong_but_cheaper(K, eps):
    z = np.zeros((2, K))
    z[0, 0] = z[1, 1] = 1.0
    return z
