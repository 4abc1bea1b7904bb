"""The rate in proportion to the inputs' size.

Refused by wide_units_change_as_much: The other way round
"""

import numpy as np


def same_change(alpha, x, wide):
    return alpha * np.abs(wide).sum() / np.abs(x).sum()
