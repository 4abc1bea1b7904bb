"""Regularization: dropout."""

import torch
from torch import Tensor, nn

from nettrain import draws


class Dropout(nn.Module):
    """Keep each unit with probability `keep`, scaled so that the mean stays: y = m ⊙ x / keep.

    m is drawn from the key (run's seed, training passes so far, layer), so that a run has the same
    masks alone, in a sweep, on CPU and on GPU; `training.build` sets seed and layer. At evaluation
    y = x. Eq. 1.65 scales at test time instead; the expectations agree. Srivastava et al. 2014.
    Raises ValueError unless 0 < keep ≤ 1.
    """

    def __init__(self, keep: float):
        super().__init__()
        if not 0 < keep <= 1:
            raise ValueError(f"keep={keep} is outside (0, 1]")
        self.keep = keep
        self.register_buffer("key", torch.zeros(3, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return x
        mask = draws.uniform(self.key, x.shape) < self.keep
        self.key[1] += 1
        return x * mask / self.keep

    def extra_repr(self) -> str:
        return f"keep={self.keep}"
