"""Initial weights against torch.nn.init, and their variance against the law."""

import copy
import math
from functools import partial

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from nettrain import blocks
from nettrain import initializers as init
from nettrain import normalization as norm
from nettrain.lab import training
from nettrain.models import RNN, cnn, mlp

SHAPES = [(300, 200), (40, 500), (32, 16, 3, 3), (24, 8, 5)]


def seeded(k=0):
    return torch.Generator().manual_seed(k)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1), (3, 2, 1, 4, 5)])
def test_fan_is_torchs(shape):
    assert init.fan(shape) == nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))


def test_fan_counts_the_products_of_a_layer():
    """n_in: how many inputs an output sums; n_out: how many outputs an inner pixel feeds."""
    layer = init.initialize(nn.Conv2d(2, 3, (3, 5), padding=(1, 2), bias=False), init.constant)
    layer.weight.data.fill_(1.0)
    x = torch.zeros(1, 2, 9, 11)
    x[0, 0, 4, 5] = 1
    n_in, n_out = init.fan(layer.weight.shape)
    assert layer(x).count_nonzero() == n_out
    assert layer(torch.ones_like(x))[0, 0, 4, 5] == n_in


SAME_AS = [
    (partial(init.constant, value=0.3), lambda w, g: nn.init.constant_(w, 0.3)),
    (init.constant, lambda w, g: nn.init.zeros_(w)),
    (init.gaussian, lambda w, g: nn.init.normal_(w, 0, 0.1, generator=g)),
    (partial(init.gaussian, std=2), lambda w, g: nn.init.normal_(w, 0, 2, generator=g)),
    (init.gaussian_in_out, lambda w, g: nn.init.xavier_normal_(w, generator=g)),
    (partial(init.uniform, r=0.4), lambda w, g: nn.init.uniform_(w, -0.4, 0.4, generator=g)),
    (init.xavier_tanh, lambda w, g: nn.init.xavier_uniform_(w, generator=g)),
    (init.xavier_logistic, lambda w, g: nn.init.xavier_uniform_(w, 4, generator=g)),
    (init.he, lambda w, g: nn.init.kaiming_normal_(w, generator=g)),
    (init.gaussian_in, lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="linear", generator=g)),
    (init.orthogonal, lambda w, g: nn.init.orthogonal_(w, generator=g)),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ours, theirs", SAME_AS)
def test_the_numbers_are_torchs(ours, theirs, shape):
    w, expected = ours(shape, generator=seeded(7)), theirs(torch.empty(shape), seeded(7))
    torch.testing.assert_close(w, expected, rtol=2e-6, atol=2e-6)
    assert w.is_contiguous()


# ------------------------------------------------------------------------ laws


def variance(scheme, shape):
    n_in, n_out = init.fan(shape)
    return {
        init.gaussian: 0.01,
        init.uniform: 0.01 / 3,
        init.gaussian_in: 1 / n_in,
        init.gaussian_in_out: 2 / (n_in + n_out),
        init.xavier_tanh: 2 / (n_in + n_out),
        init.xavier_logistic: 32 / (n_in + n_out),
        init.he: 2 / n_in,
        init.orthogonal: 1 / max(shape[0], n_in),
    }[scheme]


random = [init.gaussian, init.gaussian_in, init.gaussian_in_out, init.uniform, init.xavier_tanh]
random += [init.xavier_logistic, init.he, init.orthogonal]
flat = {init.uniform, init.xavier_tanh, init.xavier_logistic}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scheme", random, ids=lambda s: s.__name__)
def test_mean_and_variance_follow_the_law(scheme, shape):
    w, v = scheme(shape, generator=seeded(1)).double().flatten(), variance(scheme, shape)
    n, excess = len(w), -1.2 if scheme in flat else 0.0
    assert abs(w.mean()) < 4 * math.sqrt(v / n)
    assert abs(w.var() / v - 1) < 4 * math.sqrt((2 + excess) / n)


@pytest.mark.parametrize("scheme", [s for s in random if s is not init.orthogonal])
def test_the_distribution_is_the_named_one(scheme):
    shape = SHAPES[0]
    w = scheme(shape, generator=seeded(2)).flatten().numpy() / math.sqrt(variance(scheme, shape))
    r = math.sqrt(3)
    law = stats.uniform(-r, 2 * r) if scheme in flat else stats.norm()
    assert stats.kstest(w, law.cdf).pvalue > 0.01


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6), (4, 3, 3, 3), (20, 2, 2, 2)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    W = init.orthogonal(shape, generator=seeded(3)).flatten(1).double()
    small = W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W
    torch.testing.assert_close(small, torch.eye(len(small)).double(), rtol=0, atol=1e-6)


def test_orthogonal_is_evenly_distributed():
    """The first entry of a Haar-distributed Q of size d: its square is Beta(1/2, (d − 1)/2)."""
    g = seeded(4)
    first = [init.orthogonal((4, 4), generator=g)[0, 0].item() for _ in range(2000)]
    assert stats.kstest([q**2 for q in first], stats.beta(0.5, 1.5).cdf).pvalue > 0.01
    assert stats.binomtest(sum(q > 0 for q in first), 2000).pvalue > 0.01


@pytest.mark.parametrize("scheme", random, ids=lambda s: s.__name__)
def test_the_generator_alone_decides(scheme):
    state = torch.get_rng_state()
    a, b, c = (scheme((8, 6), generator=seeded(k)) for k in (5, 5, 6))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(state, torch.get_rng_state())


# ------------------------------------------------------------------------ a whole network


@pytest.mark.parametrize("model", [partial(mlp, [20, 30, 10]), cnn, partial(RNN, 3, 8, 2)])
def test_initialize_sets_every_layer_and_zero_biases(model):
    net = init.initialize(model(), init.he, generator=seeded(8))
    layers = [m for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    g = seeded(8)
    for layer in layers:
        assert torch.equal(layer.weight, init.he(layer.weight.shape, generator=g))
        assert layer.bias is None or not layer.bias.any()


def test_initialize_leaves_other_parameters_dtype_and_identity():
    net = mlp([20, 30, 10], norm=nn.BatchNorm1d).double()
    net[2].weight.data.fill_(3.0)
    before = [id(p) for p in net.parameters()]
    assert init.initialize(net, init.he) is net
    assert [id(p) for p in net.parameters()] == before
    assert (net[2].weight == 3).all() and net[1].weight.dtype == torch.float64


def test_a_seed_decides_the_weights_of_a_run():
    model = lambda: init.initialize(mlp([6, 5, 3]), init.orthogonal)  # noqa: E731
    a, b, c = (training.build(model, seed)[1].weight for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize(
    "parametrize",
    [norm.weight_norm, parametrizations.weight_norm, partial(parametrizations.weight_norm, dim=1)],
)
@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv2d(4, 6, 3, groups=2)], ids=str)
def test_a_parametrized_weight_gets_the_schemes_numbers(layer, parametrize):
    plain = init.initialize(copy.deepcopy(layer), init.he, generator=seeded(1))
    net = nn.Sequential(parametrize(copy.deepcopy(layer).double()), nn.ReLU())
    before = [id(p) for p in net.parameters()]
    init.initialize(net, init.he, generator=seeded(1))
    torch.testing.assert_close(net[0].weight.float(), plain.weight, rtol=1e-6, atol=0)
    assert [id(p) for p in net.parameters()] == before and not net[0].bias.any()
    v = net[0].parametrizations.weight.original1
    assert v.dtype == torch.float64 and v.requires_grad


def test_two_parametrizations_of_weight_and_bias():
    layer = norm.weight_norm(nn.Linear(4, 3))
    for kind in ("weight", "bias"):
        parametrize.register_parametrization(layer, kind, Negated())
    W = torch.randn(3, 4, generator=seeded())
    init.initialize(layer, lambda shape, generator: W)
    torch.testing.assert_close(layer.weight, W)
    assert not layer.bias.any()
    with torch.no_grad():  # the layer has its own copy of what the scheme gave
        layer.parametrizations.weight.original1.fill_(7.0)
    assert (W != 7).all()


class Negated(nn.Module):
    def forward(self, x):
        return -x

    right_inverse = forward


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


def hooked(layer):
    return prune.l1_unstructured(layer, "weight", 0.5)


def doubled(layer):
    parametrize.register_parametrization(layer, "weight", Doubled())
    return layer


CANNOT = [
    (norm.weight_norm, init.constant, ValueError, r"units \[0, 1, 2\] have no direction"),
    (parametrizations.weight_norm, init.constant, ValueError, "its parametrization makes them NaN"),
    (doubled, init.he, ValueError, "Doubled does not implement right_inverse"),
    (hooked, init.he, TypeError, "computed by a hook; give a parameter or a parametrization"),
]


@pytest.mark.parametrize("wrap, scheme, error, message", CANNOT)
def test_a_weight_that_cannot_be_assigned_is_refused_before_anything_changes(
    wrap, scheme, error, message
):
    net = nn.Sequential(nn.Linear(5, 4), wrap(nn.Linear(4, 3)))
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(error, match=rf"^1\.weight .*{message}"):
        init.initialize(net, scheme)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_each_group_is_a_convolution_of_its_own(groups):
    layer = nn.Conv2d(8, 16, 3, groups=groups)
    init.initialize(layer, init.orthogonal, generator=seeded(4))
    g = seeded(4)
    for part in layer.weight.chunk(groups):
        assert torch.equal(part, init.orthogonal((16 // groups, 8 // groups, 3, 3), generator=g))
    init.initialize(layer, lambda shape, generator: torch.full(shape, float(init.fan(shape)[1])))
    x = torch.zeros(1, 8, 5, 5)
    x[0, 0, 2, 2] = 1  # feeds as many outputs as the scheme was told
    assert layer(x).count_nonzero() == layer.weight[0, 0, 0, 0]


REFUSED = [
    (lambda: init.fan((5,)), ValueError, r"shape=\[5\] is not \[n_out, n_in, \*kernel\]"),
    (lambda: init.he((5, 0)), ValueError, r"shape=\[5, 0\] is not"),
    (lambda: init.orthogonal((5,)), ValueError, r"shape=\[5\] is not"),
    (lambda: init.gaussian((5, 4), -0.1), ValueError, r"std=-0.1 is outside \[0, inf\)"),
    (lambda: init.gaussian((5, 4), math.nan), ValueError, r"std=nan is outside \[0, inf\)"),
    (lambda: init.uniform((5, 4), math.inf), ValueError, r"r=inf is outside \[0, inf\)"),
    (lambda: init.initialize(nn.ReLU(), init.he), ValueError, "ReLU has no linear or convolution"),
    (
        lambda: init.initialize(nn.Sequential(nn.ConvTranspose2d(1, 1, 3)), init.he),
        TypeError,
        "'0' is a transposed convolution",
    ),
    (
        lambda: init.initialize(nn.Linear(4, 3), lambda shape, generator: torch.zeros(4, 3)),
        ValueError,
        r"\[4, 3\] for a weight of shape \[3, 4\]",
    ),
]


@pytest.mark.parametrize("wrong, error, message", REFUSED)
def test_errors_say_what_is_wrong(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


def branched(depth, block=blocks.shifted):
    middle = [block(6, layer=nn.Linear) for _ in range(depth)]
    return nn.Sequential(nn.Linear(7, 6), *middle, nn.ReLU(), nn.Linear(6, 3))


class Three(nn.Sequential):
    """A branch of three layers."""

    def __init__(self, n, layer):
        body = nn.Sequential(layer(n, n), nn.ReLU(), layer(n, n), nn.ReLU(), layer(n, n))
        super().__init__(blocks.Residual(body))


@pytest.mark.parametrize("depth", [1, 4, 9])
@pytest.mark.parametrize("block, layers", [(blocks.shifted, 2), (Three, 3)])
def test_fixup_scales_a_branch_and_empties_its_last_layer(depth, block, layers):
    net = init.fixup(branched(depth, block), generator=seeded(3))
    same = init.initialize(branched(depth, block), init.he, generator=seeded(3))
    kinds = lambda part: [m for m in part.modules() if isinstance(m, nn.Linear)]
    factor = depth ** (-1 / (2 * layers - 2))
    pairs = list(zip(kinds(net), kinds(same), strict=True))
    assert torch.equal(pairs[0][0].weight, pairs[0][1].weight)
    for k, (ours, he) in enumerate(pairs[1:-1]):
        share = 0 if k % layers == layers - 1 else factor
        torch.testing.assert_close(ours.weight, share * he.weight)
    assert not pairs[-1][0].weight.any() and pairs[-1][1].weight.any()
    assert not any(m.bias.any() for m in kinds(net))


@pytest.mark.parametrize("block, layers", [(blocks.shifted, 2), (Three, 3)])
def test_with_fixup_a_step_changes_the_branches_as_much_at_any_depth(block, layers):
    """The sum over branches of the squared gradient of their last weights, with any last layer."""
    x, sizes = torch.randn(200, 7, generator=seeded(1)).double(), {}
    for depth in (4, 64):
        nets = [init.fixup(branched(depth, block), generator=seeded(k)).double() for k in range(8)]
        for net in nets:
            net[-1].weight.data = init.he((3, 6), generator=seeded(5)).double()
            net(x).square().mean().backward()
        last = [p for net in nets for k, p in net.named_parameters() if not p.any() and p.ndim > 1]
        assert len(last) == 8 * depth
        sizes[depth] = sum(p.grad.square().sum().item() for p in last)
    assert sizes[64] / sizes[4] == pytest.approx(1, rel=0.15)  # 16 with He weights in the branches


@pytest.mark.parametrize(
    "net, counts",
    [
        (mlp([7, 6, 3]), r"\[\]"),
        (nn.Sequential(blocks.Residual(nn.Linear(6, 6)), nn.Linear(6, 3)), r"\[1\]"),
    ],
)
def test_fixup_wants_branches_of_two_layers_and_changes_nothing_else(net, counts):
    before = [p.clone() for p in net.parameters()]
    with pytest.raises(ValueError, match=f"^branches of {counts} layers: give residual branches"):
        init.fixup(net)
    assert all(map(torch.equal, before, net.parameters()))


DEEP = [mlp([7, 6, 4, 3]), mlp([7, *[6] * 8, 3], norm=norm.BatchNorm)]


@pytest.mark.parametrize("scheme", [init.orthogonal, init.gaussian_in])
@pytest.mark.parametrize("net", DEEP)
def test_mirrored_weights_make_a_linear_function(net, scheme):
    """Affine behind a batch norm, which takes away a mean: so compare differences."""
    net = init.looks_linear(net.double(), scheme, generator=seeded(2)).train()
    x = torch.randn(40, 7, generator=seeded(1), dtype=torch.float64)
    A, y = torch.cat([x, torch.ones(40, 1, dtype=torch.float64)], 1), net(x)
    fitted = A @ torch.linalg.lstsq(A, y).solution
    torch.testing.assert_close(fitted, y, rtol=0, atol=1e-9)
    assert y.std() > 0.1
    random = init.initialize(net, init.he, generator=seeded(2))(x)
    assert (A @ torch.linalg.lstsq(A, random).solution - random).abs().max() > 1e-3


def test_mirrored_weights_are_orthogonal_and_a_draw_of_the_generator():
    nets = [init.looks_linear(mlp([7, 6, 4, 3]), generator=seeded(5)) for _ in range(2)]
    first, middle, last = (m.weight for m in nets[0] if isinstance(m, nn.Linear))
    assert all(map(torch.equal, nets[0].parameters(), nets[1].parameters()))
    assert torch.equal(first[:3], -first[3:]) and torch.equal(last[:, :2], -last[:, 2:])
    assert torch.equal(middle[:2], -middle[2:]) and torch.equal(middle[:, :3], -middle[:, 3:])
    torch.testing.assert_close(first[:3] @ first[:3].T, torch.eye(3))
    assert all(m.bias.abs().max() == 0 for m in nets[0] if isinstance(m, nn.Linear))


@pytest.mark.parametrize("net", [mlp([7, 5, 3]), mlp([7, 3])])
def test_mirrored_units_come_in_pairs(net):
    with pytest.raises(ValueError, match="mirrored units need one layer or more, even sizes"):
        init.looks_linear(net)
