"""A singular matrix.

Refused by five_steps_do_not_reach_every_singular_value: stays zero
"""

import numpy as np


def muon_misses(n):
    return np.ones((n, n))
