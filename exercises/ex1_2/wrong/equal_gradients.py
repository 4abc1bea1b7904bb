"""Equal gradients taken for a counterexample.

Refused by the_counterexample_is_one: Equal gradients are met exactly
"""

import numpy as np


def counterexample(t, beta):
    return np.ones(t)
