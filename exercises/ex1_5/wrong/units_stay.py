"""U = 1: only unit 1 is lost.

Refused by one_mask_can_lose_everything: every unit keeps its own state
"""

import numpy as np


def all_lost(d):
    return np.eye(d)
