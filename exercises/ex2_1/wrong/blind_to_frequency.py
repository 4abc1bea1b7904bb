"""p − q within each row, as if every previous word came equally often.

Refused by the_gradient_of_the_bigram_model: as often as its previous word occurs
"""

import numpy as np


def bigram_gradient(q, W, b):
    p = np.exp(W + b)
    p = p / p.sum(axis=1, keepdims=True)
    rows = q.sum(axis=1, keepdims=True)
    g = p - q / np.where(rows > 0, rows, 1)
    return np.vstack([g, g.sum(axis=0)])
