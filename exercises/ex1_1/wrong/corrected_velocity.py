"""Momentum with Adam's bias correction.

Refused by velocity_is_momentum: Adam does
"""

import numpy as np


def velocity(g, alpha, rho):
    m, out = 0, []
    for t, g_t in enumerate(g, 1):
        m = rho * m - alpha * g_t
        out.append(m / (1 - rho**t))
    return np.array(out)
