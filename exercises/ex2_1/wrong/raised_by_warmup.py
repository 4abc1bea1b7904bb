"""A warmup that is longer at the start than later: the ratio turned over.

Refused by the_share_makes_all_steps_equally_long: The other way round
"""


def level_share(t, beta1):
    x = beta1**t
    return ((1 + x) / (1 - x)) ** 0.5
