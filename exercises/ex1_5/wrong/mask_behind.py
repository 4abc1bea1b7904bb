"""The mask put on the new state instead of the old one.

Refused by the_mask_acts_on_units_before_the_weights: before the weights
"""

import numpy as np


def run(h0, U, masks):
    h, states = h0, []
    for m in masks:
        h = m * (U @ h)
        states.append(h)
    return np.array(states)
