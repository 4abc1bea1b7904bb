"""The rate of today applied to all gradients, as in programs that keep u and step by −α_t u.

Refused by each_gradient_keeps_its_own_rate: does not act on old gradients
"""


def averaged(g, alphas, rho):
    return -alphas[-1] / (1 - rho) * g
