"""Factors of hyperparameters against torch's parameter groups; muP by the coordinate check."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from sweep_law import random_data
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch.testing import assert_close

from nettrain import averaging, groups
from nettrain import optimizers as o
from nettrain.lab import training
from nettrain.lab.sweep import Sweep
from nettrain.models import mlp
from nettrain.normalization import LayerNorm

close = partial(assert_close, rtol=1e-10, atol=1e-12)


def shapes(net):
    return {name: p.shape for name, p in net.named_parameters()}


NET = {"0.weight": (3, 2), "0.bias": (3,), "gain": (), "1.weight": (4, 3, 2, 2)}


# --------------------------------------------------------------------------------- multipliers


def test_a_factor_stands_once_for_each_number_of_its_tensor():
    by = lambda name, shape: {"lr": 2, "decay": 0.5} if "0" in name else {"rho": len(shape)}
    found = groups.multipliers(NET, by)
    assert list(found) == ["lr", "decay", "rho"]
    assert found["lr"].tolist() == [2.0] * 9 + [1.0] * 49
    assert found["decay"].tolist() == [0.5] * 9 + [1.0] * 49
    assert found["rho"].tolist() == [1.0] * 9 + [0.0] + [4.0] * 48
    assert {x.dtype for x in found.values()} == {torch.float64}


@pytest.mark.parametrize("norm", [None, LayerNorm])
def test_factors_are_in_the_order_of_the_vector_of_parameters(norm):
    net = mlp([5, 4, 3], norm=norm)
    found = groups.multipliers(shapes(net), lambda name, shape: {"lr": len(name), "decay": 3})
    for name, p in net.named_parameters():
        nn.init.constant_(p, len(name))
    assert torch.equal(found["lr"], parameters_to_vector(net.parameters()).double())


@pytest.mark.parametrize("factor", [-1, math.inf, math.nan])
def test_a_factor_out_of_range_is_refused(factor):
    by = lambda name, shape: {"lr": factor if name == "gain" else 1}
    message = f"gain: the factor {factor} of lr is outside [0, inf)"
    refused(lambda: groups.multipliers(NET, by), ValueError, message)


def test_no_factors_for_no_reason():
    assert groups.multipliers(NET, lambda name, shape: {}) == {}


# ------------------------------------------------------------------------------- grouped rules


@pytest.mark.parametrize("rule", o.RULES, ids=lambda r: r.__name__)
@given(seed=st.integers(0, 2**31))
def test_a_grouped_rule_steps_each_tensor_with_its_own_hyperparameters(rule, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(shape, dtype=torch.float64, generator=generator) * 0.9 + 0.05
    known = o.hyperparameters(rule)
    own = {name: {k: draw(1).item() for k in known} for name in NET}
    new = groups.grouped(rule, groups.multipliers(NET, lambda name, shape: own[name]))
    theta, g, *state = (draw(58) for _ in range(2 + len(o.state_names(rule))))
    stepped = new(theta, g, *state, t=3, lr=0.7)
    sizes = [math.prod(shape) for shape in NET.values()]
    parts = zip(*(x.split(sizes) for x in (theta, g, *state)), strict=True)
    for k, (factors, part) in enumerate(zip(own.values(), parts, strict=True)):
        hyper = {h: (known | {"lr": 0.7})[h] * factor for h, factor in factors.items()}
        for ours, theirs in zip(stepped, rule(*part, t=3, **hyper), strict=True):
            close(ours.split(sizes)[k], theirs)


def test_a_grouped_rule_keeps_signature_readout_and_dtype():
    factors = {"lr": torch.full((4,), 2.0, dtype=torch.float64)}
    new = groups.grouped(averaging.ema(o.adamw, 0.9), factors)
    assert o.state_names(new) == ["m", "v", "ema"]
    assert o.hyperparameters(new) == o.hyperparameters(o.adamw)
    for dtype in (torch.float32, torch.bfloat16):
        after = new(torch.ones(4, dtype=dtype), *torch.zeros(4, 4, dtype=dtype), t=1)
        assert {x.dtype for x in after} == {dtype}
    assert averaging.readout(new)(*after[:1], *after[1:], t=1).shape == (4,)
    assert not hasattr(groups.grouped(o.sgd, factors), "weights")


def test_hyperparameters_that_are_passed_are_not_changed():
    hyper, factors = {"lr": torch.tensor(0.1)}, {"lr": torch.arange(4.0)}
    new = groups.grouped(o.sgd, factors)
    for _ in range(2):
        (theta,) = new(torch.zeros(4), torch.ones(4), t=1, **hyper)
        close(theta, -0.1 * torch.arange(4.0), rtol=1e-6)
    assert hyper["lr"] == 0.1 and torch.equal(factors["lr"], torch.arange(4.0))


def test_a_grouped_sweep_is_torch_with_parameter_groups():
    """No decay on biases: three rows of a sweep against torch's AdamW with two groups."""
    model, data, rates = lambda: mlp([6, 8, 3]), random_data(6), [0.01, 0.05, 0.1]
    factors = groups.multipliers(shapes(model()), groups.weights_only)
    rule = groups.grouped(o.adamw, factors)
    work = Sweep(model, rule, data, batch=4, dtype=torch.float64)
    runs, _ = work.advance(work.start([0, 1, 2], lr=rates, decay=3.0), 9)
    flat = lambda net: parameters_to_vector(net.parameters())
    for r, lr in enumerate(rates):
        close(flat(work.network(runs, r)), flat(torchs(model, data, r, lr, decay_of_biases=0.0)))
        everywhere = flat(torchs(model, data, r, lr, decay_of_biases=3.0))
        assert (flat(work.network(runs, r)) - everywhere).abs().max() > 1e-3


def torchs(model, data, seed, lr, decay_of_biases):
    net = training.build(model, seed).double()
    weights, biases = list(net.parameters())[::2], list(net.parameters())[1::2]
    parts = [{"params": weights}, {"params": biases, "weight_decay": decay_of_biases}]
    opt = torch.optim.AdamW(parts, lr=lr, weight_decay=3.0)
    training.fit(net, data, opt, steps=9, every=9, seed=seed, show=False, batch=4)
    return net


def test_what_grouped_refuses():
    factors = {"lr": torch.ones(4), "rho": torch.ones(4), "decay": torch.ones(4)}
    message = "adam has no rho, decay; it has lr, beta1, beta2, eps"
    refused(lambda: groups.grouped(o.adam, factors), ValueError, message)
    new = groups.grouped(o.sgd, {"lr": torch.ones(4)})
    message = "the factors of lr have shape [4], but theta has [3]"
    refused(lambda: new(torch.ones(3), torch.ones(3), t=1), ValueError, message)


def test_weights_are_decayed_and_vectors_are_not():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))
    decays = {
        name: groups.weights_only(name, p.shape)["decay"] for name, p in net.named_parameters()
    }
    ones = {name for name, factor in decays.items() if factor == 1}
    assert ones == {"0.weight", "3.weight"} and set(decays.values()) == {0.0, 1.0}
    assert groups.weights_only("temperature", ()) == {"decay": 0.0}


# ------------------------------------------------------------------------------------------ muP


def test_mup_is_table_3_with_m_the_growth_of_the_width():
    base, wide = shapes(mlp([20, 16, 16, 10])), shapes(mlp([20, 64, 64, 10]))
    table = {  # input weights, bias, hidden weights, bias, output weights, bias
        (groups.mup_adam, "lr"): [1, 1, 1 / 4, 1, 1 / 4, 1],
        (groups.mup_sgd, "lr"): [4, 4, 1, 4, 1 / 4, 1],
        (groups.mup_initial, "theta"): [1, 1, 1, 1, 1 / 2, 1],
    }
    for (by, name), factors in table.items():
        assert [by(base)(*tensor)[name] for tensor in wide.items()] == factors
        assert {by(base)(*tensor)[name] for tensor in base.items()} == {1.0}  # the base is itself


def test_mup_of_convolutions_goes_by_channels():
    net = lambda c: nn.Sequential(nn.Conv2d(1, c, 3), nn.Conv2d(c, c, 5), nn.BatchNorm2d(c))
    by = groups.mup_adam(shapes(net(8)))
    rates = {name: by(name, shape)["lr"] for name, shape in shapes(net(24)).items()}
    assert rates.pop("1.weight") == 1 / 3 and set(rates.values()) == {1}


def test_mup_refuses_a_tensor_without_a_counterpart():
    base = {"a": (3, 2), "b": (3,)}
    for by in (groups.mup_adam, groups.mup_sgd, groups.mup_initial):
        message = "c has the shape [3, 2]; in the base it has no such tensor"
        refused(lambda by=by: by(base)("c", (3, 2)), ValueError, message)
        message = "b has the shape [3, 1]; in the base it has the shape [3]"
        refused(lambda by=by: by(base)("b", (3, 1)), ValueError, message)


WIDTHS = [16, 32, 64, 128, 256, 512]
X = torch.randn(16, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
Y = torch.randint(10, (16,), generator=torch.Generator().manual_seed(6))


def layers(theta, shape):
    """Preactivations of an MLP with ReLU, layer by layer."""
    parts = [p.view(s) for p, s in zip(theta.split([math.prod(s) for s in shape]), shape)]
    x, found = X, []
    for W, b in zip(parts[::2], parts[1::2], strict=True):
        found.append(x @ W.T + b)
        x = found[-1].relu()
    return found


def growth(rule, lr, rates, initial, seeds, steps=4):
    """By which power of the width each layer's change in a few steps grows: 0 is muP's promise."""
    rows = []
    for width in WIDTHS:
        for seed in range(seeds):
            torch.manual_seed(seed)
            net = mlp([20, width, width, width, 10]).double()
            named, shape = shapes(net), list(shapes(net).values())
            theta = parameters_to_vector(net.parameters()).detach()
            if initial:
                theta = theta * groups.multipliers(named, initial)["theta"]
            step = groups.grouped(rule, groups.multipliers(named, rates)) if rates else rule
            loss = lambda theta, s=shape: nn.functional.cross_entropy(layers(theta, s)[-1], Y)
            before, state = layers(theta, shape), [0 * theta for _ in o.state_names(rule)]
            for t in range(1, steps + 1):
                g = torch.func.grad(loss)(theta)
                theta, *state = step(theta, g, *state, t=t, lr=lr)
            after = layers(theta, shape)
            sizes = [(a - b).square().mean().sqrt().item() for a, b in zip(after, before)]
            rows.append([math.log(width), *np.log(sizes)])
    logs = np.array(rows)
    return np.polyfit(logs[:, 0], logs[:, 1:], 1)[0]


BASE = shapes(mlp([20, 16, 16, 16, 10]))
ADAM, SGD, INITIAL = groups.mup_adam(BASE), groups.mup_sgd(BASE), groups.mup_initial(BASE)
TRANSPOSED = groups.mup_adam({name: shape[::-1] for name, shape in BASE.items()})
CHECKED = [(o.adam, 0.01, ADAM), (o.sgd, 0.3, SGD), (o.momentum, 0.1, SGD)]


@pytest.mark.parametrize("rule, lr, rates", CHECKED, ids=[r.__name__ for r, *_ in CHECKED])
def test_coordinate_check(rule, lr, rates):
    """Activations change as much at width 512 as at 16, in every layer: Yang et al. 2022."""
    powers = growth(rule, lr, rates, INITIAL, seeds=3)
    assert len(powers) == 4 and np.abs(powers).max() < 0.1


NO_MUP = [
    (o.adam, 0.01, None, None, "none of it"),
    (o.adam, 0.01, ADAM, None, "initial weights as ever"),
    (o.adam, 0.01, None, INITIAL, "one rate for all"),
    (o.adam, 0.01, SGD, INITIAL, "the rates of SGD"),
    (o.adam, 0.01, lambda k, shape: TRANSPOSED(k, shape[::-1]), INITIAL, "a lost transpose"),
    (o.sgd, 0.3, None, None, "none of it"),
    (o.sgd, 0.3, SGD, None, "initial weights as ever"),
    (o.sgd, 0.3, None, INITIAL, "one rate for all"),
    (o.sgd, 0.3, ADAM, INITIAL, "the rates of Adam"),
]


@pytest.mark.parametrize(
    "rule, lr, rates, initial",
    [c[:4] for c in NO_MUP],
    ids=[f"{c[0].__name__}: {c[4]}" for c in NO_MUP],
)
def test_the_coordinate_check_finds_what_is_missing(rule, lr, rates, initial):
    assert np.abs(growth(rule, lr, rates, initial, seeds=1)).max() > 0.17
