"""One mask for all steps treated as if it were a new one at each.

Refused by one_mask_pays_once: kept or dropped once
"""

import numpy as np


def variational_moments(h0, u, p, T):
    return np.array([p**T * u**T * h0, p**T * (1 - p**T) * u ** (2 * T) * h0**2])
