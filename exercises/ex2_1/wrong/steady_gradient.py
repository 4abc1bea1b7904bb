"""Gradients of one size, as large as allowed: the longest step, one would think.

Refused by a_step_of_adam_can_exceed_the_rate: remember different things
"""

import numpy as np


def over_the_rate(T):
    return np.ones(T)
