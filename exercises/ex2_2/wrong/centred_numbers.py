"""Numbers of mean zero, for which the norms agree.

Refused by rms_norm_can_be_far_from_layer_norm: the two norms are the same
"""

import numpy as np


def norms_apart(n):
    return np.linspace(-1, 1, n)
