"""The zero start is said to have no weight, so that the weights would add up to less than one.

Refused by weights_and_start_add_up_to_one: start at zero still has a weight
"""


def start_weight(t, rho):
    return 0.0
