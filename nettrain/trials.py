"""A trial of a search: one configuration, evaluated once.

A trial whose value is not finite has failed: it is never the best, a parent or promoted.
"""

import inspect
import math
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import (
    Executor,
    Future,
)
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from nettrain import draws, spaces

# ----------------------------------------------------------------------------------- study


@dataclass(frozen=True)
class Trial:
    """One configuration and what came of it."""

    number: int
    config: dict
    value: float | None = None  # None: pending; not finite: failed
    error: str = ""  # why it failed
    outside: str = ""  # why the configuration is not in the space any more

    @property
    def state(self) -> str:
        """pending, failed or done"""
        if self.value is None:
            return "pending"
        return "done" if math.isfinite(self.value) else "failed"


def evaluate(objective: Callable, config: dict, seed: int | None = None) -> tuple[float, str]:
    """(value, "") of the objective, or (NaN, the error's text) if it fails or calls sys.exit."""
    try:
        return float(objective(config) if seed is None else objective(config, seed=seed)), ""
    except (Exception, SystemExit) as error:
        return math.nan, "".join(traceback.format_exception(error))


def judge(
    train: Callable, configs: Sequence[dict], seeds: Sequence[int], *, worst: float = math.inf
) -> Tensor:
    """How good recommended configurations are: test values [n, m] of m fresh trainings of each.

        judge(train, [study.best.config for study in studies], seeds, worst=math.log(10)).mean(1)

    train  (configs, seeds), two lists of equal length -> the test values of these runs, e.g. all in
           one sweep; of an objective(config, seed): `lambda *lists: list(map(objective, *lists))`
    seeds  none that a search has used: a selected run is biased by the selection
    worst  counts for a run that fails or ends higher: e.g. the loss of a constant prediction

    Smaller is better. Equal configurations are trained once. Raises ValueError for no
    configurations, for no seeds, for seeds that repeat and for another number of values.
    """
    seeds = [draws.check_seed(seed) for seed in seeds]
    keys = [spaces.hashable(config) for config in configs]
    different = dict(zip(keys, configs, strict=True))
    if not keys or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"{len(keys)} configurations, seeds={seeds}: needs some, all different")
    each = [config for config in different.values() for _ in seeds]
    values = torch.as_tensor(train(each, seeds * len(different)), dtype=torch.float64)
    if values.shape != (len(each),):
        raise ValueError(f"train gave values of shape {list(values.shape)}, not [{len(each)}]")
    values = values.where(values.isfinite(), worst).clamp(max=worst).view(-1, len(seeds)).cpu()
    row = {key: i for i, key in enumerate(different)}
    return values[[row[key] for key in keys]]


def _copy(trial: Trial) -> Trial:
    return replace(trial, config=spaces.plain(trial.config))


def _last_line(text: str) -> str:
    return text.strip().split("\n")[-1]


def _takes_seed(objective: Callable) -> bool:
    """Whether an objective has an argument seed beside its first, which is not fixed yet."""
    if not callable(objective):
        raise TypeError(f"objective={objective!r} is not a function of a configuration")
    try:
        arguments = inspect.signature(objective).parameters.values()
    except ValueError:  # some callables written in C have no signature
        return False
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    beside = [a for a in arguments if a.kind == inspect.Parameter.KEYWORD_ONLY]
    beside += [a for a in arguments if a.kind != inspect.Parameter.KEYWORD_ONLY][1:]
    taken = any(a.name == "seed" and a.kind in named for a in beside)
    return taken and not _fixes_seed(objective)


def _fixes_seed(objective: Callable) -> bool:
    """Whether a partial, here or in what is wrapped or called, has fixed the keyword seed."""
    while True:
        if isinstance(objective, partial):
            if "seed" in objective.keywords:
                return True
            objective = objective.func
        elif hasattr(objective, "__wrapped__"):
            objective = objective.__wrapped__
        elif inspect.ismethod(objective):
            objective = objective.__func__
        elif inspect.isroutine(objective) or inspect.isclass(objective):
            return False
        else:
            objective = objective.__call__  # of an object


class _Here(Executor):
    """Evaluates at once, in this thread."""

    def submit(self, function, /, *args, **kwargs) -> Future:
        future = Future()
        future.set_result(function(*args, **kwargs))
        return future
