""" "A step goes against the gradient", believed so firmly that the last gradient is zero.

Refused by a_step_can_go_along_its_gradient: Without a gradient no step goes
"""

import numpy as np


def against_the_gradient(T, rho):
    return np.append(-np.ones(T - 1), 0.0)
