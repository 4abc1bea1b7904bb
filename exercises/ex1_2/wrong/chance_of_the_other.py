"""The chance given is that of the second value.

Refused by the_mean_first_step_can_go_uphill: chance of the first value
"""


def uphill(mean):
    return 1.0, -0.001, 0.65 - 1e-9
