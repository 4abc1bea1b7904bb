"""The penalty's gradient taken with a factor 2.

Refused by under_sgd_both_walk_the_same_path: without a factor 2
"""


def decay(lam, alpha):
    return 2 * alpha * lam
