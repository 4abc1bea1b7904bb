"""A loop that runs once too often.

Refused by training_is_gradient_descent_on_the_mean_loss: one step too many
"""

import numpy as np


def train(X, y, K, eps, alpha, T):
    W = np.zeros((X.shape[1], K))
    for _ in range(T + 1):
        W = W - alpha * X.T @ gradient(X @ W, y, eps) / len(y)  # noqa: F821
    return W
