"""The three problems: of the sizes that they say, and learned in the steps that they are given."""

import math

import pytest
import torch

from nettrain import data
from nettrain.lab import workloads
from nettrain.lab.sweep import Sweep, sweep
from nettrain.lab.workloads import WORKLOADS
from nettrain.optimizers import adam

SIZES = {"digits": 196 * 32 + 32 + 330, "clothes": 80 + 1168 + 16 * 9 * 10 + 10, "text": 30_944}


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_trained_for_times_its_steps(name):
    some = WORKLOADS[name]()
    assert some.name == name and sum(p.numel() for p in some.model().parameters()) == SIZES[name]
    assert some.how(5) == some.how() | {"steps": 5 * some.steps}
    work = Sweep(rule=adam, **{k: v for k, v in some.how().items() if k != "steps"})
    runs, losses = work.advance(work.start([0], lr=1e-3), 2)
    assert losses.isfinite().all()


def test_a_workload_learns_more_than_it_was_told_by_chance():
    """A tenth of the steps: below the best constant prediction."""
    some = workloads.digits()
    how = some.how() | {"steps": some.steps // 10}
    table = sweep(rule=adam, seeds=[0, 1], lr=1e-2, show=False, **how)
    assert table["valid_loss"].iloc[-2:].max() < 0.5 * math.log(10)


@pytest.mark.parametrize("name", WORKLOADS)
def test_on_a_gpu_they_are_larger(monkeypatch, name):
    small, where = WORKLOADS[name](), []
    gpu = lambda: where.append(1) or torch.device("cuda" if len(where) == 1 else "cpu")
    monkeypatch.setattr(data, "device", gpu)  # the data stay on the CPU
    large = WORKLOADS[name]()
    count = lambda some: sum(p.numel() for p in some.model().parameters())
    assert count(large) > 5 * count(small)
    assert large.data.train.x[0].numel() > small.data.train.x[0].numel()
    assert (
        large.model()(large.data.valid.x[:2]).shape[-1]
        == small.model()(small.data.valid.x[:2]).shape[-1]
    )
