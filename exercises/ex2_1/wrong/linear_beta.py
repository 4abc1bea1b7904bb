"""1 − β in proportion to the batch, as for a rate.

Refused by half_is_forgotten_after_the_same_examples: the exact one is a power
"""


def kept_beta(beta, K0, K):
    return 1 - (1 - beta) * K / K0
