"""The correction believed to be exact whatever the gradients do.

Refused by a_drift_leaves_an_error: exact only without drift
"""


def drift_error(t, beta, slope):
    return 0.0
