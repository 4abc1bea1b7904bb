"""A `return` forgotten.

Refused by velocity_is_momentum: does the function end without `return`
"""


def velocity(g, alpha, rho):
    delta, out = 0.0, []
    for g_t in g:
        delta = rho * delta - alpha * g_t
        out.append(delta)
