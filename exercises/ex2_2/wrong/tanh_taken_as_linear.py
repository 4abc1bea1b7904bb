"""The derivative for small inputs only.

Refused by the_gradient_through_dynamic_tanh: right for small x only
"""


def dyt_backward(x, c, alpha):
    return alpha * c
