"""p read as the probability of dropping, as the textbook's text does half-way (E22).

Refused by memory_survives_if_every_mask_keeps_it: probability of keeping
"""


def survival(p, T):
    return (1 - p) ** T
