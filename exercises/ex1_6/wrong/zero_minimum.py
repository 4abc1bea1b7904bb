"""The smoothed loss believed to reach zero.

Refused by the_smallest_loss_is_an_entropy: cannot reach zero
"""


def smallest_loss(eps, K):
    return 0.0
