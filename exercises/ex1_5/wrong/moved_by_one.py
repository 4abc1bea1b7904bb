"""A cycle by one unit, which leaves the wrong half.

Refused by masks_that_drop_half_can_lose_nothing: where the next mask keeps it
"""

import numpy as np


def all_kept(d):
    return np.roll(np.eye(d), -1, axis=0)
