"""w = λ: the rate is missing, as a reader pointed out of the public answer (nndl-discussion #60).

Refused by under_sgd_both_walk_the_same_path: forgets that the rate
"""


def decay(lam, alpha):
    return lam
