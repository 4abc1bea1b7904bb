"""The mean square, without its root.

Refused by noise_makes_later_steps_shorter: take the root
"""


def first_steps(t, beta1):
    x = beta1**t
    return (1 - beta1) / (1 + beta1) * (1 + x) / (1 - x)
