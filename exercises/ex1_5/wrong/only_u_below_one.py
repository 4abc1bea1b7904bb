"""The bound of a network without dropout.

Refused by a_quiet_memory_must_fade: Without dropout the bound is 1
"""


def largest_u(p):
    return 1.0
