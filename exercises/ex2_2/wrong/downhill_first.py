"""A step downhill, then the gradient, as Nesterov looks ahead.

Refused by sam_takes_the_gradient_uphill: Uphill, not downhill
"""

import numpy as np


def sam_gradient(H, theta, rho):
    g = H @ theta
    return H @ (theta - rho * g / np.linalg.norm(g))
