"""A half-life rounded to whole steps.

Refused by half_life_halves_the_weight: as it is, not rounded
"""

import numpy as np


def half_life(rho):
    return round(np.log(0.5) / np.log(rho))
