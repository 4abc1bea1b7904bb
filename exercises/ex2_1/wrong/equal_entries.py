"""A gradient with entries of one size, along whose opposite Adam does step.

Refused by the_first_step_leaves_the_steepest_descent: Where all entries have one size
"""

import numpy as np


def far_from_steepest(d):
    return (-1.0) ** np.arange(d)
