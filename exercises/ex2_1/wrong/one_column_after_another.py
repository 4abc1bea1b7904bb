"""Columns (or rows) made orthonormal one after the other.

Refused by all_singular_values_become_one: favour the first
"""

import numpy as np


def orthogonal_factor(G):
    tall = G if len(G) >= len(G.T) else G.T
    Q, R = np.linalg.qr(tall)
    Q = Q * np.sign(np.diag(R))
    return Q if tall is G else Q.T
