"""Surfaces, Hessians and random matrices against closed forms, models.mlp and each other."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nettrain import landscape, models, optimizers
from nettrain.optimizers import momentum, sgd

close = partial(assert_close, rtol=1e-10, atol=1e-10)
SURFACES = ("bowl", "saddle", "double_well", "valley", "rosenbrock", "beale", "cliff")


def points(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# ---------------------------------------------------------------------------------- surfaces

BY_HAND = {
    "bowl": lambda x, y: (x, 25 * y),
    "saddle": lambda x, y: (2 * x, -2 * y),
    "double_well": lambda x, y: (x, y**3 - y),
    "rosenbrock": lambda x, y: (-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)),
    "beale": lambda x, y: (
        sum(2 * (c - x + x * y**k) * (y**k - 1) for k, c in enumerate((1.5, 2.25, 2.625), 1)),
        sum(
            2 * (c - x + x * y**k) * k * x * y ** (k - 1)
            for k, c in enumerate((1.5, 2.25, 2.625), 1)
        ),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_gradients_by_hand(name):
    theta = points(20, 2)
    by_hand = torch.stack(BY_HAND[name](*theta.unbind(-1)), -1)
    close(landscape.gradient(getattr(landscape, name), theta), by_hand)


@pytest.mark.parametrize("name", SURFACES)
def test_gradient_is_the_slope_of_the_surface(name):
    f, theta = getattr(landscape, name), points(20, 2)
    theta = theta / 4 + torch.tensor([4.5, -1.3]) if name == "cliff" else theta
    for axis in torch.eye(2, dtype=torch.float64) * 1e-6:
        slope = (f(theta + axis) - f(theta - axis)) / 2e-6
        along = (landscape.gradient(f, theta) * axis).sum(-1) / 1e-6
        assert_close(along, slope, rtol=1e-5, atol=1e-5)


MINIMA = {"bowl": (0, 0), "double_well": (0, -1), "rosenbrock": (1, 1), "beale": (3, 0.5)}


@pytest.mark.parametrize("name, at", MINIMA.items())
def test_known_minima(name, at):
    f, theta = getattr(landscape, name), torch.tensor(at, dtype=torch.float64)
    assert f(theta) == 0
    close(landscape.gradient(f, theta), torch.zeros(2, dtype=torch.float64))
    assert (torch.linalg.eigvalsh(landscape.hessian(f, theta)) > 0).all()


def test_saddle_points():
    for f in (landscape.saddle, landscape.double_well):
        values = torch.linalg.eigvalsh(landscape.hessian(f, torch.zeros(2, dtype=torch.float64)))
        assert values[0] < 0 < values[1]
        assert landscape.hessian_index(values) == 0.5


def test_the_valley_is_flat_inside_and_high_outside():
    inside, outside = torch.tensor([[0.0, 0.0], [0.3, -0.3]]), torch.tensor([[2.0, 1.5]])
    assert (landscape.valley(inside) < 0.02).all() and landscape.valley(outside) > 1


def test_e11_the_cliff_needs_the_recursion():
    w, b = torch.meshgrid(torch.linspace(4, 5.6, 60), torch.linspace(-3, -1, 60), indexing="ij")
    grid = torch.stack([w, b], -1).double()
    jump = lambda z: max(z.diff(dim=0).abs().max(), z.diff(dim=1).abs().max())
    assert_close(jump(landscape.cliff(grid)).item(), 0.159, rtol=0, atol=1e-3)
    assert_close(jump(landscape.cliff(-grid)).item(), 0.013, rtol=0, atol=1e-3)
    fixed = torch.sigmoid(grid[..., 0] * landscape.cliff_state(grid, steps=1) + grid[..., 1])
    assert jump((fixed - 0.65) ** 2) < 0.02


# -------------------------------------------------------------------------- paths on quadratics


def test_sgd_on_a_quadratic_in_closed_form():
    lr, start = 0.03, torch.tensor([-3.0, 1.2], dtype=torch.float64)
    path = landscape.path(sgd, landscape.bowl, start, 40, lr=lr)
    factor = 1 - lr * torch.tensor([1.0, 25.0], dtype=torch.float64)
    close(path, start * factor ** torch.arange(41)[:, None])


@pytest.mark.parametrize("h", [1.0, 25.0])
def test_momentum_on_a_quadratic_in_closed_form(h):
    lr, rho = 0.03, 0.9  # θ_{t+1} = (1 + ρ − η h) θ_t − ρ θ_{t−1}: powers of the roots of z²
    f = lambda theta: h * theta.square().sum(-1) / 2
    path = landscape.path(momentum, f, torch.ones(1, dtype=torch.float64), 40, lr=lr, rho=rho)
    mean, product = (1 + rho - lr * h) / 2, rho
    root = torch.sqrt(torch.tensor(mean**2 - product, dtype=torch.complex128))
    one, other = mean + root, mean - root
    a = ((1 - lr * h) - other) / (one - other)
    t = torch.arange(41)
    close(path[:, 0], (a * one**t + (1 - a) * other**t).real)


def test_away_from_a_saddle_the_distance_grows_by_a_factor():
    start = torch.tensor([1.0, 1e-9], dtype=torch.float64)
    path = landscape.path(sgd, landscape.saddle, start, 60, lr=0.1)
    t = torch.arange(61, dtype=torch.float64)
    assert_close(path, torch.stack([0.8**t * start[0], 1.2**t * start[1]], -1), rtol=1e-9, atol=0)


def test_clipped_steps_are_no_longer_than_rate_times_threshold():
    clip = lambda g: g * (0.1 / g.norm()).clamp(max=1)
    start = torch.tensor([-3.0, 1.2], dtype=torch.float64)
    path = landscape.path(sgd, landscape.bowl, start, 20, lr=0.05, clip=clip)
    assert path.diff(dim=0).norm(dim=-1).max() <= 0.05 * 0.1 + 1e-15


# ---------------------------------------------------------------------- networks and curvature

SIZES = (3, 5, 4)


def surface(activation=torch.tanh, n=20):
    x, y = points(n, SIZES[0]), torch.arange(n) % SIZES[-1]
    out = lambda theta: landscape.network(theta, SIZES, x, activation)
    return x, y, out, lambda theta: landscape.mean_cross_entropy(out(theta), y)


def test_network_is_the_mlp():
    x, y, out, loss = surface()
    theta = points(6, landscape.parameter_count(SIZES))
    for row in theta:
        net = models.mlp(SIZES, activation=nn.Tanh).double()
        nn.utils.vector_to_parameters(row, net.parameters())
        close(out(row), net(x))
        close(loss(row), nn.functional.cross_entropy(net(x), y))
    close(out(theta)[3], out(theta[3]))
    close(loss(theta)[3], loss(theta[3]))


def test_hessian_as_torch_and_row_by_row():
    _, _, _, loss = surface()
    theta = points(3, landscape.parameter_count(SIZES))
    h = landscape.hessian(loss, theta)
    close(h[1], torch.autograd.functional.hessian(loss, theta[1]))
    close(h[2], landscape.hessian(loss, theta[2]))


def test_sharpness_is_the_largest_eigenvalue():
    f = lambda theta: (theta**2 * torch.tensor([1.0, 2.0, 5.0])).sum(-1) / 2
    close(landscape.sharpness(f, points(4, 3)), torch.full((4,), 5.0).double())
    _, _, _, loss = surface()
    theta = landscape.path(sgd, loss, points(landscape.parameter_count(SIZES)), 300, lr=0.3)[-1]
    values = torch.linalg.eigvalsh(landscape.hessian(loss, theta))
    assert_close(landscape.sharpness(loss, theta, steps=300), values[-1], rtol=1e-4, atol=0)


FLAT = {
    "constant": lambda theta: torch.ones(theta.shape[:-1]).to(theta),
    "plane": lambda theta: (theta * torch.arange(3).to(theta)).sum(-1),
    "plane along the first": lambda theta: 3 * theta[..., 0],
    "quartic at 0": lambda theta: (theta**4).sum(-1),
    "dead units": lambda theta: torch.relu(theta - 100).square().sum(-1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 1, 3)])
@pytest.mark.parametrize("name", FLAT)
def test_a_flat_surface_has_no_curvature(name, shape, dtype):
    f, theta = FLAT[name], torch.zeros(shape, dtype=dtype)
    sharpness, h = landscape.sharpness(f, theta), landscape.hessian(f, theta)
    assert torch.equal(sharpness, torch.zeros(shape[:-1], dtype=dtype))
    assert torch.equal(h, torch.zeros(*shape, 3, dtype=dtype))
    assert not landscape.hessian_index(torch.linalg.eigvalsh(h)).any()
    slope = {"plane": [0.0, 1, 2], "plane along the first": [3.0, 0, 0]}.get(name, [0.0, 0, 0])
    assert torch.equal(landscape.gradient(f, theta), torch.tensor(slope, dtype=dtype).expand(shape))
    stay = landscape.critical_points(f, theta, steps=2)
    assert torch.equal(stay, theta) == ("plane" not in name) and stay.isfinite().all()


def test_sharpness_of_a_network_with_dead_units_is_that_of_its_last_bias():
    theta = torch.tensor([-1.0] * 9 + [1.0] * 8, dtype=torch.float64)
    x, y = torch.ones(4, 2, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
    f = lambda t: landscape.mean_cross_entropy(landscape.network(t, (2, 3, 2), x, torch.relu), y)
    close(landscape.sharpness(f, theta), torch.tensor(0.5).double())
    close(torch.linalg.eigvalsh(landscape.hessian(f, theta))[-1], torch.tensor(0.5).double())


def test_sharpness_of_one_flat_and_one_steep_row_and_of_nan():
    f = lambda theta: (theta**4).sum(-1) / 12  # H = diag θ²
    theta = torch.tensor([[0.0, 0.0], [3.0, 1.0], [math.nan, 1.0]], dtype=torch.float64)
    value = landscape.sharpness(f, theta)
    close(value[:2], torch.tensor([0.0, 9.0]).double())
    assert value[2].isnan()


def test_rescaling_changes_the_sharpness_and_not_the_function():
    _, _, out, loss = surface(torch.relu)
    theta = points(landscape.parameter_count(SIZES))
    scaled = landscape.rescale(theta, SIZES, 4.0)
    close(out(scaled), out(theta))
    largest = [torch.linalg.eigvalsh(landscape.hessian(loss, p))[-1] for p in (theta, scaled)]
    assert largest[1] > 5 * largest[0]
    for factor in (0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"factor={factor} must be positive and finite"):
            landscape.rescale(theta, SIZES, factor)


def test_between_starts_and_ends_where_it_should():
    one, other = points(2, 7), points(2, 7, seed=1)
    line = landscape.interpolate(one, other, 5)
    assert line.shape == (5, 2, 7)
    close(line[0], one), close(line[-1], other), close(line[2], (one + other) / 2)


def test_newton_finds_saddles_as_well_as_minima():
    start = torch.tensor([[0.4, 0.1], [0.5, -0.2], [1.0, 0.9]], dtype=torch.float64)
    found = landscape.critical_points(landscape.double_well, start)
    close(found, torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]).double())


def test_critical_points_of_a_network_have_no_gradient():
    _, _, _, loss = surface()
    penalized = lambda theta: loss(theta) + 0.01 * theta.square().sum(-1)
    start = landscape.path(
        sgd, penalized, 0.3 * points(4, landscape.parameter_count(SIZES)), 100, lr=0.3
    )[-1]
    found = landscape.critical_points(penalized, start)
    norms = landscape.gradient(penalized, found).norm(dim=-1)
    assert (norms < 1e-10).sum() >= 2  # the others wander on


def test_index_counts_below_zero():
    values = torch.tensor([[-1.0, -1e-12, 0.5, 2.0], [1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    assert landscape.hessian_index(values).tolist() == [0.25, 0.0]
    assert landscape.hessian_index(torch.zeros(5)) == 0
    assert landscape.hessian_index(torch.tensor([-1.0, math.nan])).isnan()


def test_e31_a_minimum_along_both_axes_that_is_a_saddle():
    f = lambda theta: theta.square().sum(-1) + 3 * theta.prod(-1)  # x² + 3xy + y²
    origin, along = torch.zeros(2, dtype=torch.float64), points(50, 1)
    for axis in torch.eye(2, dtype=torch.float64):
        assert (f(along * axis) > f(origin)).all()
    assert f(torch.tensor([1.0, -1.0])) < f(origin)
    assert landscape.hessian_index(torch.linalg.eigvalsh(landscape.hessian(f, origin))) == 0.5
    close(landscape.critical_points(f, points(3, 2)), origin.expand(3, 2))


# ------------------------------------------------------------------------------ random matrices


def test_semicircle_law():
    h = landscape.gaussian_symmetric(300, 4, torch.Generator().manual_seed(0))
    close(h, h.mT)
    values = torch.linalg.eigvalsh(h).flatten().sort().values
    x = values.clamp(-2, 2)
    cdf = 0.5 + x * (4 - x**2).sqrt() / (4 * math.pi) + torch.asin(x / 2) / math.pi
    empirical = (torch.arange(len(values)) + 0.5) / len(values)
    assert (cdf - empirical).abs().max() < 0.01
    grid = torch.linspace(-2, 2, 100_001, dtype=torch.float64)
    area = torch.trapezoid(landscape.semicircle(grid), grid)
    assert_close(area.item(), 1.0, rtol=0, atol=1e-7)
    slope = torch.trapezoid(landscape.semicircle(grid) * grid**2, grid)
    assert_close(slope.item(), 1.0, rtol=0, atol=1e-6)  # variance of the entries times n


@pytest.mark.parametrize(
    "n, exact",
    [(1, 1 / 2), (2, (2 - math.sqrt(2)) / 4), (3, (math.pi - 2 * math.sqrt(2)) / (4 * math.pi))],
)
def test_share_of_matrices_without_a_negative_eigenvalue(n, exact):
    h = landscape.gaussian_symmetric(n, 200_000, torch.Generator().manual_seed(n))
    share = (torch.linalg.eigvalsh(h)[:, 0] > 0).double().mean().item()
    assert abs(share - exact) < 4 * math.sqrt(exact * (1 - exact) / 200_000)


# ----------------------------------------------------------------------------- rules and errors


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: landscape.network(torch.zeros(3), (2, 2), torch.zeros(1, 2)), "theta has 3"),
        (
            lambda: landscape.sharpness(landscape.bowl, torch.zeros(2), 0),
            "steps=0 must be positive",
        ),
    ],
)
def test_errors_say_what_is_allowed(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_every_rule_walks_on_every_surface():
    for rule in optimizers.RULES:
        for name in SURFACES:
            start = torch.tensor([0.5, -0.4], dtype=torch.float64)
            path = landscape.path(rule, getattr(landscape, name), start, 3, lr=1e-3)
            assert path.shape == (4, 2) and path.isfinite().all() and (path[0] == start).all()
