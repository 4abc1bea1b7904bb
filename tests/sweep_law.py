"""The law of sweeps, for the tests of every model and rule: a row is that run alone.

The run alone is `training.fit` with `adapter.Optimizer`: autograd, in-place updates, one network.
"""

import copy

import pytest
import torch

from nettrain.data import Data, Split
from nettrain.lab import training
from nettrain.lab.adapter import Optimizer


def random_data(*shape, seed=0):
    """22 / 9 / 5 examples of three classes: an epoch is 5 batches of 4, and two are left over."""
    g = torch.Generator().manual_seed(seed)
    splits = (
        Split(torch.randn(n, *shape, generator=g).double(), torch.randint(3, (n,), generator=g))
        for n in (22, 9, 5)
    )
    return Data("random", *splits)


def assert_law(work, runs, losses):
    """Every row has the parameters, buffers, losses and accuracy of its run alone."""
    valid, right = work.evaluate(runs, work.data.valid)
    for r in range(len(runs)):
        hyper = {name: column[r].item() for name, column in runs.hyper.items()}
        model, row = alone(work, int(runs.seed[r]), runs.t, hyper)
        close(dict(work.network(runs, r).state_dict()), dict(model.state_dict()))
        close(losses[r].item(), row["train_loss"])
        close(valid[r].item(), row["valid_loss"])
        assert right[r] == pytest.approx(row["valid_accuracy"], nan_ok=True)


def alone(work, seed, steps, hyper):
    """One row by the other path: the network, as it is evaluated, and its losses."""
    model = training.build(work.model, seed).double()
    how = {"schedule": work.schedule, "clip": work.clip, "loss": work.loss, "batch": work.batch}
    how |= {"gradient": work.gradient}
    opt = Optimizer(model.named_parameters(), work.rule, by=work.by, **hyper)
    table = training.fit(
        model, work.data, opt, steps=steps, every=steps, seed=seed, show=False, **how
    )
    with training.evaluated(model, opt, work.data.train.x):
        return copy.deepcopy(model), table.iloc[0]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10, equal_nan=True)
