"""A hill, but the start is too far from its top.

Refused by sam_can_step_uphill: start nearer to it
"""


def turned_back(rho):
    return [[-1, 0], [0, -1], [3 * rho, 0]]
