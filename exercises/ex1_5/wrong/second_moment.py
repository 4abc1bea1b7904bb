"""The second moment given as the variance.

Refused by inverted_masks_keep_the_mean_and_blow_up_the_variance: subtract the squared mean
"""

import numpy as np


def per_step_moments(h0, u, p, T):
    return np.array([u**T * h0, (u**2 / p) ** T * h0**2])
