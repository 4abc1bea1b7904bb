"""The length after many steps, taken for all of them: no step number in it.

Refused by noise_makes_later_steps_shorter: the limit for many steps
"""


def first_steps(t, beta1):
    return ((1 - beta1) / (1 + beta1)) ** 0.5
