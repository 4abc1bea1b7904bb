"""Layer norm's gradient.

Refused by the_gradient_through_rms_norm: no mean is taken away
"""


def rms_backward(x, c):
    rms = (x @ x / len(x)) ** 0.5
    y = x / rms
    return (c - c.mean() - y * (y @ c) / len(x)) / rms
