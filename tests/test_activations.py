"""Maxout against its formula, moments against scipy's integrals and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import nn

from nettrain.activations import Maxout, dead, fitted, moments
from nettrain.initializers import gaussian_in, he

g = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("pieces", [2, 3])
def test_maxout_is_the_largest_of_its_pieces(pieces):
    layer = Maxout(5, 4, pieces=pieces).double()
    x = torch.randn(7, 5, generator=g, dtype=torch.float64)
    W, b = layer.linear.weight.detach().numpy(), layer.linear.bias.detach().numpy()
    z = x.numpy() @ W.T + b
    expected = [z[:, pieces * j : pieces * (j + 1)].max(1) for j in range(4)]
    np.testing.assert_allclose(layer(x).detach(), np.stack(expected, 1), rtol=0, atol=1e-14)


def test_maxout_of_a_piece_and_its_opposite_is_the_absolute_value():
    layer = Maxout(1, 1).double()
    layer.linear.weight.data = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    nn.init.zeros_(layer.linear.bias)
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    assert torch.equal(layer(x), x.abs())


ACTIVATIONS = [nn.Sigmoid, nn.Tanh, nn.Softplus, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.SiLU]
ACTIVATIONS += [nn.GELU, nn.Identity]


@pytest.mark.parametrize("f", ACTIVATIONS, ids=lambda f: f.__name__)
def test_moments_are_the_integrals(f):
    f = f()

    def value(z):
        return f(torch.tensor(z, dtype=torch.float64)).item()

    def slope(z):
        z = torch.tensor(z, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(f(z), z)[0].item()

    density = lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    for found, m in zip(moments(f), (value, slope), strict=True):
        expected = sum(
            quad(lambda z, m=m: m(z) ** 2 * density(z), *ends, epsabs=1e-11, limit=200)[0]
            for ends in ((-12, -1e-12), (1e-12, 12))
        )
        assert found == pytest.approx(expected, abs=1e-8)


def test_moments_in_closed_form():
    """ReLU ½ and ½; tanh′ = 1 − tanh², so E f′² = 1 − 2 E f² + E f⁴; SELU keeps E f² = 1."""
    assert moments(torch.relu) == pytest.approx((0.5, 0.5), abs=1e-8)
    square, slope = moments(torch.tanh)
    fourth, _ = moments(lambda z: torch.tanh(z) ** 2)
    assert slope == pytest.approx(1 - 2 * square + fourth, abs=1e-12)
    assert moments(nn.SELU())[0] == pytest.approx(1, abs=1e-6)
    assert moments(nn.Identity()) == pytest.approx((1, 1), abs=1e-12)


@pytest.mark.parametrize("f, scheme", [(torch.relu, he), (nn.Identity(), gaussian_in)])
def test_fitted_is_the_known_scheme(f, scheme):
    a, b = (s((30, 40), generator=torch.Generator().manual_seed(1)) for s in (fitted(f), scheme))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=0)


def test_fitted_keeps_the_mean_square():
    scheme, a = fitted(torch.sigmoid), torch.randn(500, 300, generator=g)
    for _ in range(3):
        z = torch.sigmoid(a) @ scheme((300, 300), generator=g).T
        a = torch.randn(500, 300, generator=g)  # fresh signals: the law is about one layer
        assert z.square().mean().item() == pytest.approx(1, abs=0.2)


def test_dead_units_are_those_without_a_slope_anywhere():
    z = torch.tensor([[-1.0, -1.0, 2.0, 9.0], [-3.0, 1.0, 2.0, 12.0]])
    assert dead(nn.ReLU(), z).tolist() == [True, False, False, False]
    assert dead(nn.LeakyReLU(), z).tolist() == [False] * 4
    assert dead(nn.Sigmoid(), z).tolist() == [False, False, False, True]


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="^pieces=1: the largest of one piece is a linear layer$"):
        Maxout(3, 2, pieces=1)
