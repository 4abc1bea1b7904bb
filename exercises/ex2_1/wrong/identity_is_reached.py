"""The identity: its singular values are of one size.

Refused by five_steps_do_not_reach_every_singular_value: five steps are enough
"""

import numpy as np


def muon_misses(n):
    return np.eye(n)
