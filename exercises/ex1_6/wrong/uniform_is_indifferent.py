"""Equal logits: indifferent, but not certain.

Refused by some_losses_do_not_depend_on_epsilon: With equal logits the loss is log K
"""

import numpy as np


def indifferent(K):
    return np.zeros(K)
