"""μP's factor, whatever the inputs are.

Refused by wide_units_change_as_much: right on average
"""


def same_change(alpha, x, wide):
    return alpha * len(x) / len(wide)
