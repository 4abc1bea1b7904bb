"""One mask for all updates where each step draws a new one.

Refused by dropping_updates_keeps_the_memory: new masks are independent
"""

import numpy as np


def update_moments(h0, c, p, T):
    return np.array([h0 + T * c, (T * c) ** 2 * (1 - p) / p])
