"""The step counter is never raised: a bug that was published in a widely read book.

Refused by corrected_is_adams: right at t = 1 only
"""

import numpy as np


def corrected(g, beta):
    m, t, out = 0.0, 1, []
    for g_t in g:
        m = beta * m + (1 - beta) * g_t
        out.append(m / (1 - beta**t))
    return np.array(out)
