"""The batch variance believed to be unbiased.

Refused by a_small_batch_underestimates_the_variance: too small on average
"""


def expected_variance(var, n):
    return var
