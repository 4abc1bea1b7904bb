"""The loss of sequences, where each place has a label, such as the next character of a text.

outputs [n, T, classes], labels [n, T]
"""

from torch import Tensor

from nettrain.losses import cross_entropy


def token_cross_entropy(out: Tensor, y: Tensor) -> Tensor:
    """−mean over i, t of log softmax(oᵢₜ) at yᵢₜ: each place counts as an example.

    outputs [n, T, classes], labels [n, T] -> nats per token; divided by ln 2 it is in bits, and its
    exponential is the perplexity. Raises ValueError for labels of another shape, TypeError for
    labels that are not integers; as `losses.cross_entropy` it does not look at their values.
    """
    if out.ndim < 2 or y.shape != out.shape[:-1]:
        shapes = f"labels {list(y.shape)}, outputs {list(out.shape)}"
        raise ValueError(f"shapes are {shapes}; give labels [n, T] and outputs [n, T, classes]")
    return cross_entropy(out.flatten(0, -2), y.flatten())
