"""The same gradient in every piece.

Refused by the_mean_of_means_can_point_backwards: Where all pieces agree
"""

import numpy as np


def opposed(sizes):
    return np.ones((len(sizes), 2))
