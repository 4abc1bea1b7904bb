"""The well-known α σ²/(2h), which is the limit for small rates.

Refused by averages_of_iterates_are_quieter: holds for small rates
"""

import numpy as np


def variances(h, alpha, sigma, T):
    last, t = alpha * sigma**2 / (2 * h), np.arange(T)
    return [last, last * ((1 - alpha * h) ** abs(t[:, None] - t)).mean()]
