"""The winner is always measured too low.

Refused by the_best_of_many_was_lucky: all measurements may have come out too high
"""


def winners_luck(K, sigma):
    return sigma
