"""Dividing by 1 − β at every step: right at t = 1, and the same public answer made into code.

Refused by corrected_is_adams: right at t = 1 only
"""

import numpy as np


def corrected(g, beta):
    m, out = 0.0, []
    for g_t in g:
        m = beta * m + (1 - beta) * g_t
        out.append(m / (1 - beta))
    return np.array(out)
