"""The state's variance taken to be the stationary one from the start.

Refused by the_variance_of_the_state_grows: starts at zero
"""

import numpy as np


def state_variance(u, s, T):
    if abs(u) >= 1:
        return s * np.arange(1, T + 1)
    return np.full(T, s / (1 - u**2))
