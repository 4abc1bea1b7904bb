"""All steps made as long as the first, with shares above one.

Refused by the_share_makes_all_steps_equally_long: must tend to 1
"""


def level_share(t, beta1):
    return 1 / first_steps(t, beta1)  # noqa: F821
