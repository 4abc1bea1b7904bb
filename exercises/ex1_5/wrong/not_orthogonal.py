"""A shift that lets units fall off the end: not orthogonal.

Refused by one_mask_can_lose_everything: is not orthogonal
"""

import numpy as np


def all_lost(d):
    return np.eye(d, k=1)
