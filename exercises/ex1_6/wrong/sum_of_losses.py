"""Training on the sum of the losses.

Refused by training_is_gradient_descent_on_the_mean_loss: not their sum
"""

import numpy as np


def train(X, y, K, eps, alpha, T):
    W = np.zeros((X.shape[1], K))
    for _ in range(T):
        W = W - alpha * X.T @ gradient(X @ W, y, eps)  # noqa: F821
    return W
