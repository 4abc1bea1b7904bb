"""One loss for any number of steps; the public answer only says "it hurts" (nndl-discussion #61).

Refused by memory_survives_if_every_mask_keeps_it: each step draws its own
"""


def survival(p, T):
    return p
