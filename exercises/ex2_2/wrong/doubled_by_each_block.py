"""Every block doubles, whatever its factor.

Refused by uncorrelated_branches_add_their_squares: the factors count
"""


def growth(s):
    return 2.0 ** len(s)
