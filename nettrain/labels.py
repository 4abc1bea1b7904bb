"""Labels: smoothed, and those of teachers (distillation)."""

import torch.nn.functional as F
from torch import Tensor, nn

from nettrain.checks import check_range

# ---- soft labels


def smooth_others(y: Tensor, eps: float, classes: int) -> Tensor:
    """Probability 1 − ε for the label, ε / (K − 1) for each other class: [n] -> [n, K].

    The textbook's form. Raises ValueError unless 0 ≤ ε < 1.
    """
    _check_smoothing(eps, classes)
    return (1 - eps) * F.one_hot(y, classes) + eps / (classes - 1) * (1 - F.one_hot(y, classes))


def smooth_all(y: Tensor, eps: float, classes: int) -> Tensor:
    """Probability 1 − ε for the label, plus ε / K for every class: [n] -> [n, K].

    The form of Szegedy et al. 2016 and of torch. It is smooth_others with ε (K − 1) / K in place of
    ε. Raises ValueError unless 0 ≤ ε < 1.
    """
    _check_smoothing(eps, classes)
    return (1 - eps) * F.one_hot(y, classes) + eps / classes


def soft_labels(logits: Tensor, temperature: float) -> Tensor:
    """The mean over M teachers of softmax(z / T): logits [M, n, K] -> [n, K].

    Hinton et al. 2015. Raises ValueError unless T > 0.
    """
    check_range("temperature", temperature, "(0, inf)")
    return (logits / temperature).softmax(-1).mean(0)


class Temperature(nn.Module):
    """z / T in training, z at evaluation: the last layer of a student.

    With soft labels of the same T the loss is the cross-entropy of equally soft distributions.
    Raises ValueError unless T > 0.
    """

    def __init__(self, temperature: float):
        super().__init__()
        check_range("temperature", temperature, "(0, inf)")
        self.temperature = temperature

    def forward(self, z: Tensor) -> Tensor:
        return z / self.temperature if self.training else z

    def extra_repr(self) -> str:
        return f"{self.temperature}"


def _check_smoothing(eps: float, classes: int) -> None:
    check_range("eps", eps, "[0, 1)")
    if classes < 2:
        raise ValueError(f"classes={classes} must be two or more")
