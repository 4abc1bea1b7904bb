"""The statement applied to (1.18), which the textbook cites (E34), with gradients at θ_{t−1}.

Refused by nesterov_averages_gradients_ahead: the statement is false
"""

import numpy as np


def nesterov_gradients(a, theta0, alpha, rho, T):
    theta, delta, g = theta0, np.zeros_like(theta0), []
    for _ in range(T):
        g.append(a * theta)
        delta = rho * delta - alpha * a * (theta + rho * delta)
        theta = theta + delta
    return np.array(g)
