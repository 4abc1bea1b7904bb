"""The gradient of plain cross-entropy.

Refused by the_gradient_is_the_derivative_of_the_loss: without smoothing
"""

import numpy as np


def gradient(z, y, eps):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True) - np.eye(z.shape[1])[y]
