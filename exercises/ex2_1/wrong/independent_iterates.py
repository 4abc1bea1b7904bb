"""The variance of a mean divided by T, as if iterates were independent.

Refused by averages_of_iterates_are_quieter: no independent numbers
"""


def variances(h, alpha, sigma, T):
    last = alpha * sigma**2 / (h * (2 - alpha * h))
    return [last, last / T]
