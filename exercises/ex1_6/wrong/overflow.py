"""The exponential of a logit of 1000.

Refused by the_loss_is_stable: NaN or infinity
"""

import numpy as np


def loss(z, y, eps):
    n, K = z.shape
    q = np.full((n, K), eps / (K - 1))
    q[np.arange(n), y] = 1 - eps
    with np.errstate(all="ignore"):
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        return -(q * np.log(p)).sum(axis=1)
