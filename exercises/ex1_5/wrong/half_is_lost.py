"""U = 1: the first half is dropped at step 2.

Refused by masks_that_drop_half_can_lose_nothing: the first half is dropped at step 2
"""

import numpy as np


def all_kept(d):
    return np.eye(d)
