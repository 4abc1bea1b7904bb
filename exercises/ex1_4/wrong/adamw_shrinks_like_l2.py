"""AdamW believed to end where ℓ₂ with λ = w/α ends.

Refused by adamw_ends_where_its_step_meets_the_decay: an ℓ₂ penalty's shrinking
"""


def adamw_limit(a, c, alpha, w):
    return a * c / (a + w / alpha)
