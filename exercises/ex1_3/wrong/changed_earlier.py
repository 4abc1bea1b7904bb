"""The batches differ before the last step too.

Refused by shared_statistics_see_the_future: at a step before the last
"""

import numpy as np


def sees_the_future(n, T):
    z = np.tile(np.linspace(-1, 1, n)[:, None], (2, 1, T))
    z[1] = 0
    return z
