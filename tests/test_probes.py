"""The measured taxonomy against what the papers say of each rule, and closed-form responses."""

import pytest
import torch
from torch import nn

from nettrain import optimizers as o
from nettrain import probes

TAXONOMY = {  # the slides' table of Keras optimizers, and the four rules that it lacks
    o.sgd: ("gradient", "/"),
    o.momentum: ("momentum", "/"),
    o.nesterov: ("Nesterov", "/"),
    o.adagrad: ("gradient", "L2"),
    o.rmsprop: ("gradient", "average L2"),
    o.adadelta: ("gradient", "average L2 / average L2 of own steps"),
    o.adam: ("momentum", "average L2"),
    o.adamax: ("momentum", "average L∞"),
    o.nadam: ("Nesterov", "average L2"),
    o.amsgrad: ("momentum", "largest average L2"),
    o.adamw: ("momentum", "average L2"),
    o.powersign: ("sign agreement", "/"),
    o.addsign: ("sign agreement", "/"),
}


@pytest.mark.parametrize("rule", o.RULES, ids=lambda r: r.__name__)
def test_taxonomy(rule):
    assert (probes.direction(rule), probes.rate(rule)) == TAXONOMY[rule]


def test_impulse_responses_in_closed_form():
    k = torch.arange(6, dtype=torch.float64)
    plain = torch.zeros(6, dtype=torch.float64)
    plain[0] = 1
    near = dict(rtol=0, atol=1e-6)
    torch.testing.assert_close(probes.impulse_response(o.sgd), plain, **near)
    torch.testing.assert_close(probes.impulse_response(o.momentum), 0.1 * 0.9**k, **near)
    ahead = 0.1 * 0.9 ** (k + 1) + 0.1 * plain
    torch.testing.assert_close(probes.impulse_response(o.nesterov), ahead, **near)
    adam = probes.impulse_response(o.adam)
    torch.testing.assert_close(adam, 0.1 * 0.9**k, rtol=0, atol=2e-3)


def test_path_on_a_quadratic_is_geometric():
    theta = torch.tensor([1.0, -2.0], dtype=torch.float64)
    path = probes.path(o.sgd, lambda x: 3 * x, theta, 7, lr=0.1)
    expected = theta * 0.7 ** torch.arange(8, dtype=torch.float64)[:, None]
    torch.testing.assert_close(path, expected, rtol=0, atol=1e-14)


def test_steps_of_constant_gradients():
    ones = torch.ones(50)
    torch.testing.assert_close(probes.steps(o.sgd, ones, lr=0.5), -0.5 * ones.double())
    grown = (1 - 0.9 ** torch.arange(1, 51, dtype=torch.float64)) / 0.1
    torch.testing.assert_close(probes.steps(o.momentum, ones, lr=1.0), -grown)


def test_gradient_sizes_of_a_linear_chain_are_those_of_its_formula():
    """L = cᵀ B A x: ∂L/∂A = Bᵀ c xᵀ, ∂L/∂B = c (A x)ᵀ."""
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2, bias=False)).double()
    nn.init.zeros_(net[0].bias)
    g = torch.Generator().manual_seed(0)
    x, c = (torch.randn(n, generator=g, dtype=torch.float64) for n in (4, 2))
    A, B = (layer.weight.detach() for layer in net)
    first = (B.T @ c).norm() * x.norm() / A.norm()
    second = c.norm() * (A @ x).norm() / B.norm()
    found = probes.gradient_sizes(net, net(x) @ c)
    torch.testing.assert_close(found, torch.stack([first, second]), rtol=1e-13, atol=0)
