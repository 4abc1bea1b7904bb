"""The lecture's box ±1/λ, where the decay is α λ.

Refused by adamw_ends_where_its_step_meets_the_decay: takes off α λ; here it takes off w
"""

import numpy as np


def adamw_limit(a, c, alpha, w):
    return np.clip(c, -1 / w, 1 / w)
