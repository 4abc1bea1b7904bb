"""The limit for many steps given for every step.

Refused by noise_factor_is_the_sum_of_squared_weights: the limit for large t
"""


def noise_factor(t, beta):
    return (1 - beta) / (1 + beta)
