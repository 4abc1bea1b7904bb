"""The equivalence claimed for momentum too.

Refused by under_momentum_the_paths_part_at_the_second_step: They are not the same
"""


def momentum_gap(theta0, alpha, rho, lam):
    return 0 * theta0
