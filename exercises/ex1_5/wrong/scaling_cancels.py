"""Inverted scaling believed to keep the mean whatever the masks.

Refused by scaling_one_mask_at_every_step_is_wrong: share their mask
"""


def variational_inverted_mean(h0, u, p, T):
    return u**T * h0
