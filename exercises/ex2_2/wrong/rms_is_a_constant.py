"""The rms taken as a constant.

Refused by the_gradient_through_rms_norm: its derivative is missing
"""


def rms_backward(x, c):
    return c / (x @ x / len(x)) ** 0.5
