"""One decay for a whole schedule.

Refused by the_decay_follows_the_schedule: one rate only
"""

import numpy as np


def decay_schedule(lam, alphas):
    return np.full(len(alphas), lam * alphas[0])
