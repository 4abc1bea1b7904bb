"""Equal numbers: layer norm divides by zero.

Refused by rms_norm_can_be_far_from_layer_norm: divide by zero
"""

import numpy as np


def norms_apart(n):
    return np.ones(n)
