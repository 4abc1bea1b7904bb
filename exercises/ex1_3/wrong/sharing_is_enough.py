"""Shared statistics believed to give every step variance one.

Refused by sharing_normalizes_no_step: Only statistics for each step
"""

import numpy as np


def after_sharing(u, s, T):
    return np.ones(T)
