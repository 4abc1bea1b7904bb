"""0 · ln 0 left to numpy.

Refused by no_bigram_model_is_better: leave out the pairs
"""

import numpy as np


def least_loss(q):
    with np.errstate(all="ignore"):
        return -(q * np.log(q / q.sum(axis=1, keepdims=True))).sum()
