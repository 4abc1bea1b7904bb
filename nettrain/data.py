"""Data sets with fixed splits, as tensors on the device. The defaults need no download."""

import os
from dataclasses import dataclass, replace
from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def device() -> torch.device:
    """CUDA if there is one, else the CPU; the environment variable NETTRAIN_DEVICE overrides."""
    best = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(os.environ.get("NETTRAIN_DEVICE", best))


@dataclass(frozen=True)
class Split:
    """Examples x [n, ...] and labels y [n]."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows) -> "Split":
        return Split(self.x[rows], self.y[rows])

    def to(self, *args) -> "Split":
        """Both tensors on a device, x in a dtype."""
        x = self.x.to(*args)
        return Split(x, self.y.to(x.device))


@dataclass(frozen=True)
class Data:
    """A data set: what to train on, what to choose with, what to look at once."""

    name: str
    train: Split
    valid: Split
    test: Split

    def to(self, *args) -> "Data":
        """Every split on a device or in a dtype, as Tensor.to."""
        return replace(self, **{k: getattr(self, k).to(*args) for k in ("train", "valid", "test")})

    @property
    def shape(self) -> torch.Size:
        """Shape of one example."""
        return self.train.x.shape[1:]

    def __repr__(self) -> str:
        n = " / ".join(str(len(s)) for s in (self.train, self.valid, self.test))
        return f"{self.name}: {n} examples {tuple(self.shape)} to train / choose / test with"


def _data(name, x, y, cuts) -> Data:
    """Cut x, y into three splits and scale x by mean and deviation of the training split."""
    x, y = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y, dtype=torch.int64)
    mean, std = x[: cuts[0]].mean(), x[: cuts[0]].std()
    x = (x - mean) / std
    starts, ends = (0, *cuts), (*cuts, len(y))
    splits = (Split(x[a:b], y[a:b]) for a, b in zip(starts, ends, strict=True))
    return Data(name, *splits).to(device())


def mnist(*, side: int = 28, full: bool = False) -> Data:
    """Handwritten digits, x [n, 1, side, side], one mean and one deviation for all pixels.

    The default is the 10,000 real digits that ship with the package (7,000 / 1,000 / 2,000), no
    download. side=14 or 7 averages blocks of pixels. full=True loads all 70,000 (50,000 / 10,000 /
    10,000). LeCun, Cortes & Burges, CC BY-SA 3.0; provenance in nettrain/mnist10k.md.
    """
    if side not in (28, 14, 7):
        raise ValueError(f"side={side} is none of 28, 14, 7")
    if full:
        images, labels = _openml("mnist_784", (70_000, 28, 28))
        cuts = (50_000, 60_000)
    else:
        with np.load(files("nettrain") / "mnist10k.npz") as f:
            images, labels = f["images"], f["labels"]
        cuts = (7_000, 8_000)
    x = F.avg_pool2d(torch.as_tensor(images)[:, None].float(), 28 // side)
    return _data(f"MNIST {side}x{side}", x, labels.astype(np.int64), cuts)
