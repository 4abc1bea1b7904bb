"""Signal and branch add up as if they pointed alike.

Refused by uncorrelated_branches_add_their_squares: squares add up
"""

import numpy as np


def growth(s):
    return np.prod((1 + s) ** 2)
