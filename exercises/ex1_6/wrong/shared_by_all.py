"""1 − ε and ε/K: rows that do not add up to one.

Refused by the_textbooks_targets: not K
"""

import numpy as np


def smooth(y, K, eps):
    q = np.full((len(y), K), eps / K)
    q[np.arange(len(y)), y] = 1 - eps
    return q
