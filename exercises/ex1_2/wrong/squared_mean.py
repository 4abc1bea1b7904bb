"""E[G_t] taken for the squared mean.

Refused by moments_are_averages_over_all_paths: not μ²
"""

import numpy as np


def moments(mu, sigma, t, beta1, beta2):
    return np.array([(1 - beta1**t) * mu, (1 - beta2**t) * mu**2])
