"""The averages averaged, as several libraries did until 2024.

Refused by every_example_counts_alike: the mean of the pieces' means
"""


def whole_gradient(gradients, sizes):
    return gradients.mean(axis=0)
