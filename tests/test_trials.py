"""One judge for all searches: what a recommended configuration is worth when trained again."""

import math

import numpy as np
import pytest
import torch

from nettrain.data import digits
from nettrain.lab.sweep import Sweep
from nettrain.lab.training import build, fit
from nettrain.models import mlp
from nettrain.optimizers import sgd
from nettrain.trials import judge


def value(config, seed):
    return config["x"] + seed / 8


def of(objective):
    return lambda configs, seeds: list(map(objective, configs, seeds))


def test_a_row_for_each_configuration_a_column_for_each_seed():
    found = judge(of(value), [dict(x=2), dict(x=1.0), dict(x=2.0)], range(4))
    assert found.tolist() == [[x + s / 8 for s in range(4)] for x in (2, 1, 2)]
    assert found.dtype == torch.float64


def test_equal_configurations_are_trained_once():
    asked = []

    def train(configs, seeds):
        asked.extend(zip((c["x"] for c in configs), seeds, strict=True))
        return np.zeros(len(configs))

    judge(train, [dict(x=2), dict(x=1), dict(x=2.0), dict(x=True)], [5, 3])
    assert asked == [(2, 5), (2, 3), (1, 5), (1, 3), (True, 5), (True, 3)]


def test_a_failed_run_counts_as_the_worst():
    found = judge(lambda *_: [math.nan, 7.0, -math.inf, 1.0], [dict(x=0)], range(4), worst=2.5)
    assert found.tolist() == [[2.5, 2.5, 2.5, 1.0]]
    assert judge(lambda *_: [math.nan], [dict(x=0)], [0]).tolist() == [[math.inf]]


def test_the_selected_run_is_biased_and_the_judge_is_not():
    noise = np.random.default_rng(0).standard_normal((300, 40, 2))  # searches, trials, seeds
    configs = [dict(search=i, trial=int(row.argmin())) for i, row in enumerate(noise[..., 0])]
    again = judge(of(lambda c, seed: noise[c["search"], c["trial"], seed]), configs, [1])
    assert noise[..., 0].min(1).mean() < -2
    assert abs(again.mean()) < 4 / math.sqrt(300)


def test_a_sweep_and_a_plain_loop_judge_alike():
    data, model = digits(), lambda: mlp([64, 8, 10])
    work = Sweep(model, sgd, data, batch=40)

    def swept(configs, seeds):
        runs, _ = work.advance(work.start(seeds, lr=[c["lr"] for c in configs]), 60)
        return work.evaluate(runs, data.test)[0]

    def alone(config, seed):
        net = build(model, seed)
        fit(net, data, torch.optim.SGD(net.parameters(), **config), steps=60, batch=40, seed=seed)
        return torch.nn.functional.cross_entropy(net(data.test.x), data.test.y).item()

    configs = [dict(lr=0.1), dict(lr=0.01), dict(lr=1e9)]
    a, b = (judge(train, configs, [7, 8], worst=3.0) for train in (swept, of(alone)))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert (a[2] == 3).all()


@pytest.mark.parametrize("configs, seeds", [([], [1]), ([{}], []), ([{}], [1, 1])])
def test_nothing_to_judge_is_refused(configs, seeds):
    with pytest.raises(ValueError, match="needs some, all different"):
        judge(lambda c, s: [0.0] * len(c), configs, seeds)


def test_another_number_of_values_is_refused():
    with pytest.raises(ValueError, match=r"shape \[1\], not \[2\]"):
        judge(lambda *_: [0.0], [dict(x=1)], [1, 2])
