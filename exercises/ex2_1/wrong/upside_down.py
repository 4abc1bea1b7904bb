"""The exponent K₀/K: the memory of a small batch becomes shorter.

Refused by half_is_forgotten_after_the_same_examples: upside down
"""


def kept_beta(beta, K0, K):
    return beta ** (K0 / K)
