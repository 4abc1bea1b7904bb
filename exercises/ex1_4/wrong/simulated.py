"""The last point of a run in place of the fixed point.

Refused by adamw_ends_where_its_step_meets_the_decay: the fixed point itself is asked
"""

import numpy as np


def adamw_limit(a, c, alpha, w):
    return np.clip(c, -alpha / w, alpha / w) * 1.01
