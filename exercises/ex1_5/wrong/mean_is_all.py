"""The mean is right, so the variance is taken to stay that of one step.

Refused by inverted_masks_keep_the_mean_and_blow_up_the_variance: it grows with T
"""

import numpy as np


def per_step_moments(h0, u, p, T):
    return np.array([u**T * h0, u ** (2 * T) * h0**2 * (1 - p) / p])
