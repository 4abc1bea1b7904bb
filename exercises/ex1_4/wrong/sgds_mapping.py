"""SGD's mapping λ = w/α used for the resting points of momentum.

Refused by momentum_with_decay_rests_where_l2_does: SGD's mapping
"""


def momentum_lambda(w, alpha, rho):
    return w / alpha
