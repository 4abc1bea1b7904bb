"""Each sequence is moved by a number of its own, as if statistics were taken over time.

Refused by per_step_statistics_forget_the_scale: of all sequences alike
"""

import numpy as np


def indistinguishable(n, T):
    z = np.linspace(0, 1, n)[:, None] * np.ones(T)
    return np.stack([z, z + np.arange(1, n + 1)[::-1, None] ** 2])
