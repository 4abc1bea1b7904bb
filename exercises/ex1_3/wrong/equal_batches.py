"""Two equal batches: nothing is seen.

Refused by shared_statistics_see_the_future: The two batches are equal
"""

import numpy as np


def sees_the_future(n, T):
    return np.tile(np.linspace(-1, 1, n)[:, None], (2, 1, T))
