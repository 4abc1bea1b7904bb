"""Two points of one length, for which one decay does it.

Refused by the_norm_itself_is_no_decay: take lengths that differ much
"""

import numpy as np


def norm_counterexample(step):
    return np.array([[1.0, 0.0], [0.0, 1.0]])
