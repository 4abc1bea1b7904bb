"""The mean step believed to follow the mean gradient.

Refused by the_mean_first_step_can_go_uphill: knows the gradient's sign
"""


def uphill(mean):
    return 1.0, 0.5, 0.5
