"""The weights of −α g taken for those of −α/(1 − ρ) g: momentum read as a plain decaying sum.

Refused by weights_are_those_of_the_recursion: smaller by 1 − ρ
"""

import numpy as np


def weights(t, rho):
    return rho ** np.arange(t - 1, -1, -1)
