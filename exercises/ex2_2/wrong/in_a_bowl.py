"""A bowl: there the gradient only grows uphill.

Refused by sam_can_step_uphill: nowhere negative
"""


def turned_back(rho):
    return [[1, 0], [0, 0.1], [rho, rho]]
