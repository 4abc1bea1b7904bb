"""Importance: which hyperparameters the value of a trial depends on."""

import math

import numpy as np
import pandas as pd
import torch

from nettrain import spaces
from nettrain.trials import Trial

# ------------------------------------------------------------------------------- importance


def importance(space: dict, trials: list[Trial], *, best: float = 0.1) -> pd.DataFrame:
    """How much each dimension matters for being among the best: PED-ANOVA.

        D = Σ_x p(x) (q(x) / p(x) − 1)²

    p is the density of all trials along the dimension, q that of the best share, each with the
    same kernel; D is the Pearson divergence, and 0 where good trials are like all others. A
    number's densities are Gaussian kernels on its unit coordinate, reflected at the ends, with
    Scott's width of the best trials. A dimension inside an option is judged among the trials
    that have it; if fewer than 4 of the best have it, its divergence is NaN. Failed trials are the
    worst, and never among the best. Watanabe, Bansal & Hutter 2023.

    Columns: divergence, and share: the divergences divided by their sum. Raises ValueError if
    there are fewer than 4 best trials.
    """
    if not 0 < best < 1:
        raise ValueError(f"best={best!r} must be a share between 0 and 1")
    trials = [t for t in trials if t.state != "pending" and not t.outside]
    done = sum(t.state == "done" for t in trials)
    values = np.array([t.value if t.state == "done" else math.inf for t in trials])
    top = min(round(best * len(trials)), done)
    if top < FEW:
        how = f"{len(trials)} trials, of which {done} succeeded,"
        raise ValueError(f"{how} have only {top} in the best {best:g}; needs {FEW}")
    points = torch.stack([spaces.to_unit(space, t.config) for t in trials])
    order = values.argsort(kind="stable")
    good = np.isin(np.arange(len(trials)), order[:top])
    points, active = points.numpy(), spaces.active(space, points).numpy()
    found = dict.fromkeys(spaces.labels(space), math.nan)
    for i, (label, (_, dim)) in enumerate(zip(found, spaces.leaves(space), strict=True)):
        every, best_of_them = points[active[:, i], i], points[active[:, i] & good, i]
        if len(best_of_them) < FEW:
            continue
        if isinstance(dim, spaces.Choice):
            p, q = _frequencies(every, dim), _frequencies(best_of_them, dim)
        else:
            width = max(best_of_them.std(), 0.01) * len(best_of_them) ** -0.2
            p, q = _kernels(every, width), _kernels(best_of_them, width)
        p, q = p[p > 0], q[p > 0]  # where there are no trials there are no best ones
        found[label] = (p * (q / p - 1) ** 2).sum()
    table = pd.DataFrame({"divergence": found})
    total = table["divergence"].sum()
    # if good trials are like all others everywhere, what is left is rounding
    return table.assign(share=table["divergence"] / (total if total > 1e-12 else math.inf))


FEW = 4  # best trials say nothing if they are fewer


def _frequencies(u: np.ndarray, dim: spaces.Choice) -> np.ndarray:
    """The share of each option."""
    return np.bincount([dim.pick(x) for x in u], minlength=len(dim.options)) / len(u)


def _kernels(u: np.ndarray, width: float) -> np.ndarray:
    """A Gaussian at each u and at its mirror images beyond 0 and 1, in 200 cells; sums to one."""
    x = (np.arange(200)[:, None] + 0.5) / 200
    density = sum(np.exp(-(((x - c) / width) ** 2) / 2).sum(1) for c in (u, -u, 2 - u))
    return density / density.sum()
