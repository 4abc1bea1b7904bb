"""Silence, and one gradient: 1.6 rates at the most.

Refused by a_step_of_adam_can_exceed_the_rate: let several follow each other
"""

import numpy as np


def over_the_rate(T):
    g = np.zeros(T)
    g[-1] = 1
    return g
