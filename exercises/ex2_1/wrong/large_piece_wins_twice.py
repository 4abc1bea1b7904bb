"""Pieces that disagree, but the large one wins in both means.

Refused by the_mean_of_means_can_point_backwards: let the small pieces win there
"""

import numpy as np


def opposed(sizes):
    g = np.zeros((len(sizes), 2))
    g[np.argmax(sizes)], g[np.argmin(sizes)] = 1.0, -0.2
    return g
