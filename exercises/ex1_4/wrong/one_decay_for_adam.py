"""The equivalence claimed for Adam: "weight decay is equivalent to L2", without a caveat.

Refused by each_coordinate_has_its_own_decay: Adam divides
"""

import numpy as np


def scaled_decay(lam, alpha, v_hat, eps):
    return np.full(len(v_hat), alpha * lam)
