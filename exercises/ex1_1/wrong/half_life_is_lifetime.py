"""The half-life taken to be 1/(1 − ρ), as a well-known book says of ρ = 0.9 ("amounts to 10").

Refused by half_life_halves_the_weight: about 1/e
"""


def half_life(rho):
    return 1 / (1 - rho)
