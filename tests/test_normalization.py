"""Normalization layers against torch's, in float64; and the laws of what they are for."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import special
from sweep_law import assert_law, random_data
from torch import nn
from torch.nn.utils import parametrizations
from torch.optim import swa_utils

from nettrain import normalization as norm
from nettrain import optimizers as o
from nettrain.dropout import Dropout
from nettrain.initializers import he, initialize
from nettrain.lab import training
from nettrain.lab.sweep import Sweep
from nettrain.models import mlp

g = torch.Generator().manual_seed(0)
exact = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


def randn(*shape):
    return torch.randn(shape, generator=g, dtype=torch.float64)


def gradients(out, weights, *inputs):
    return torch.autograd.grad((out * weights).sum(), inputs)


def affine(layer, *values):
    """A layer in float64 with these γ and β."""
    layer = layer.double()
    for p, value in zip(layer.parameters(), values, strict=True):
        p.data.copy_(value)
    return layer


def assert_same(ours, theirs, x):
    """Equal outputs and gradients, for the input and all parameters."""
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = ours(a), theirs(b)
    exact(y, expected)
    if not y.requires_grad:
        return
    weights = randn(*y.shape)
    mine = gradients(y, weights, a, *ours.parameters())
    exact(mine, gradients(expected, weights, b, *theirs.parameters()))


# ------------------------------------------------------------------------ batch norm

BATCHES = {
    "1-d": (nn.BatchNorm1d, (8, 5)),
    "two examples": (nn.BatchNorm1d, (2, 5)),
    "signals": (nn.BatchNorm1d, (3, 5, 4)),
    "2-d": (nn.BatchNorm2d, (3, 5, 4, 2)),
    "one image": (nn.BatchNorm2d, (1, 5, 4, 2)),
}


@pytest.mark.parametrize("rate, eps", [(0.1, 1e-5), (1.0, 1e-3), (0.0, 0.5)])
@pytest.mark.parametrize("kind", BATCHES)
def test_batch_norm_is_torchs(kind, rate, eps):
    torchs, shape = BATCHES[kind]
    gamma, beta = randn(5), randn(5)
    ours = affine(norm.BatchNorm(5, rate=rate, eps=eps), gamma, beta)
    theirs = affine(torchs(5, momentum=rate, eps=eps), gamma, beta)
    for _ in range(4):
        assert_same(ours, theirs, 3 * randn(*shape) + 2)
        exact(ours.running_mean, theirs.running_mean)
        exact(ours.running_var, theirs.running_var)
    before = ours.running_var.clone()
    assert_same(ours.eval(), theirs.eval(), randn(*shape))
    assert torch.equal(ours.running_var, before)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_the_backward_pass_by_hand_is_autograds(n):
    x, gamma, beta, dy = 3 * randn(n, 4) + 1, randn(4), randn(4), randn(n, 4)
    layer, leaf = affine(norm.BatchNorm(4), gamma, beta), x.clone().requires_grad_()
    expected = gradients(layer(leaf), dy, leaf, layer.gamma, layer.beta)
    exact(norm.batch_norm_backward(dy, x, gamma), expected)


def test_a_bias_before_batch_norm_is_cancelled():
    layer, x = norm.BatchNorm(4).double(), randn(9, 4)
    bias = torch.full((4,), 5.0, dtype=torch.float64, requires_grad=True)
    exact(layer(x + bias), layer(x))
    exact(gradients(layer(x + bias), randn(9, 4), bias)[0], torch.zeros(4).double())


def test_the_identity_is_recovered_with_eps_in_gamma():
    x = 0.01 * randn(50, 3) + 4
    mean, var = x.mean(0), x.var(0, correction=0)
    right = affine(norm.BatchNorm(3), (var + 1e-5).sqrt(), mean)
    wrong = affine(norm.BatchNorm(3), var.sqrt(), mean)
    exact(right(x), x)
    assert (wrong(x) - x).abs().max() > 1e-4


def trained(seed=0):
    net = training.build(lambda: mlp([6, 8, 7, 3], norm=norm.BatchNorm), seed).double()
    for _ in range(3):
        net(randn(5, 6))
    return net


def test_full_statistics_are_those_of_all_examples():
    net, x = trained(), randn(40, 6)
    twin = copy.deepcopy(net).train()
    expected = twin(x)  # in training mode the one batch is all there is
    result = norm.full_statistics(net.eval(), x)
    assert result is net and not any(m.training for m in net.modules())
    layers = [m for m in net if isinstance(m, norm.BatchNorm)]
    assert [m.rate for m in layers] == [0.1, 0.1]
    for m in layers:  # the running variance is the unbiased one
        m.running_var.mul_(39 / 40)
    exact(net(x), expected)


def test_full_statistics_are_torchs_cumulative_average_of_one_batch():
    net, x = trained(), randn(40, 6)
    twin = mlp([6, 8, 7, 3], norm=partial(nn.BatchNorm1d, momentum=None)).double()
    for p, q in zip(twin.parameters(), net.parameters(), strict=True):
        p.data.copy_(q)
    twin(x)
    norm.full_statistics(net, x)
    exact(net.eval()(x), twin.eval()(x))


def test_full_statistics_leave_dropout_out_and_modes_as_they_were():
    net = mlp([6, 8, 3], norm=norm.BatchNorm, keep=0.5).double()
    net[1].eval()
    modes, key = [m.training for m in net.modules()], [m for m in net if isinstance(m, Dropout)][0]
    before = key.key.clone()
    norm.full_statistics(net, randn(40, 6))
    assert [m.training for m in net.modules()] == modes and torch.equal(key.key, before)


@pytest.mark.parametrize("old", [math.nan, math.inf, 1e30])
def test_full_statistics_forget_what_was_there_and_keep_it_if_the_examples_do_not_fit(old):
    net, x = trained(), randn(40, 6)
    expected = norm.full_statistics(copy.deepcopy(net), x)
    layer = net[2] if isinstance(net[2], norm.BatchNorm) else net[1]
    assert isinstance(layer, norm.BatchNorm)
    layer.running_mean.fill_(old), layer.running_var.fill_(old)
    modes = [m.training for m in net.modules()]
    with pytest.raises(ValueError, match="one value has no variance"):
        norm.full_statistics(net, x[:1])
    exact(layer.running_mean, torch.full_like(layer.running_mean, old), equal_nan=True)
    assert [m.training for m in net.modules()] == modes and layer.rate == 0.1
    norm.full_statistics(net, x)
    for ours, theirs in zip(net.buffers(), expected.buffers(), strict=True):
        exact(ours, theirs)


def test_full_statistics_do_for_our_layers_what_update_bn_does_for_torchs():
    x = 5 + 3 * randn(64, 4)
    ours, theirs = nn.Sequential(norm.BatchNorm(4)), nn.Sequential(nn.BatchNorm1d(4)).double()
    before = copy.deepcopy(ours.double().state_dict())
    swa_utils.update_bn([x], ours)  # knows torch's layers only, as our docstring says
    assert all(torch.equal(before[k], v) for k, v in ours.state_dict().items())
    norm.full_statistics(ours, x), swa_utils.update_bn([x], theirs)
    exact(ours[0].running_mean, theirs[0].running_mean)
    exact(ours[0].running_var, theirs[0].running_var)


# ------------------------------------------------------------------------ layer norm


@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("shape", [(8, 5), (1, 5), (3, 4, 5), (5,)])
def test_layer_norm_is_torchs(shape, eps):
    gamma, beta = randn(5), randn(5)
    ours = affine(norm.LayerNorm(5, eps=eps), gamma, beta)
    theirs = affine(nn.LayerNorm(5, eps=eps), gamma, beta)
    assert_same(ours, theirs, 3 * randn(*shape) + 2)
    assert_same(ours.eval(), theirs.eval(), randn(*shape))


def test_layer_norm_is_batch_norm_on_the_other_axis():
    x = randn(7, 5)
    batch, layer = norm.BatchNorm(5).double(), norm.LayerNorm(7).double()
    exact(batch(x), layer(x.T).T)


def test_the_cell_is_torchs_cell_with_torchs_layer_norm():
    cell = norm.LayerNormCell(3, 4).double()
    cell.norm.gamma.data, cell.norm.beta.data = randn(4), randn(4)
    h = twin = randn(5, 4)
    W, U = cell.input.weight, cell.recurrent.weight
    for x in randn(6, 5, 3):
        h = cell(x, h)
        z = F.linear(x, W) + F.linear(twin, U)
        twin = torch.tanh(F.layer_norm(z, (4,), cell.norm.gamma, cell.norm.beta))
    weights = randn(5, 4)
    exact(h, twin)
    exact(gradients(h, weights, *cell.parameters()), gradients(twin, weights, *cell.parameters()))


def test_the_cell_does_not_notice_the_scale_of_its_weights():
    cell, x, h = norm.LayerNormCell(3, 4).double(), randn(5, 3), randn(5, 4)
    cell.norm.eps = 0.0
    before = cell(x, h)
    for p in (cell.input.weight, cell.recurrent.weight):
        p.data *= 100
    exact(cell(x, h), before)


# ------------------------------------------------------------------------ RMS norm, group norm

SEQUENCES = [(8, 5), (1, 5), (3, 4, 5), (5,)]
IMAGES = [(3, 6), (1, 6, 2), (2, 6, 4), (2, 6, 4, 3), (2, 6, 1, 1)]


def torchs_rms(layer):
    theirs = nn.RMSNorm(len(layer.gamma), eps=layer.eps)
    return affine(theirs, layer.gamma.data)


def torchs_group(layer):
    theirs = nn.GroupNorm(layer.groups, len(layer.gamma), eps=layer.eps)
    return affine(theirs, layer.gamma.data, layer.beta.data)


@pytest.mark.parametrize("eps", [1e-5, 0.1, torch.finfo(torch.float64).eps])
@pytest.mark.parametrize("shape", SEQUENCES)
def test_rms_norm_is_torchs(shape, eps):
    ours = affine(norm.RMSNorm(5, eps=eps), randn(5))
    assert_same(ours, torchs_rms(ours), 3 * randn(*shape) + 2)
    assert_same(ours.eval(), torchs_rms(ours), randn(*shape))


def test_rms_norms_default_eps_is_that_of_our_layers_and_not_torchs():
    x = 1e-3 * randn(4, 5)  # as small as √ε
    exact(norm.RMSNorm(5).double()(x), nn.RMSNorm(5, eps=1e-5).double()(x))
    assert (norm.RMSNorm(5).double()(x) - nn.RMSNorm(5).double()(x)).abs().max() > 0.1


@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("shape", IMAGES)
def test_group_norm_is_torchs(shape, groups, eps):
    ours = affine(norm.GroupNorm(6, groups, eps=eps), randn(6), randn(6))
    assert_same(ours, torchs_group(ours), 3 * randn(*shape) + 2)
    assert_same(ours.eval(), torchs_group(ours), randn(*shape))


def test_a_group_of_one_value_gives_its_shift():
    layer, x = affine(norm.GroupNorm(6, 6), randn(6), randn(6)), randn(3, 6)
    exact(layer(x), layer.beta.expand(3, 6))
    exact(torchs_group(layer)(x), layer.beta.expand(3, 6))  # of one example torch refuses it


def test_group_norm_lies_between_layer_norm_and_instance_norm():
    x = randn(3, 6, 4)
    layer = F.layer_norm(x, (6, 4))
    exact(norm.GroupNorm(6, 1).double()(x), layer)
    exact(norm.GroupNorm(6, 6).double()(x), F.instance_norm(x))
    exact(norm.GroupNorm(6, 1).double()(x[:, :, 0]), norm.LayerNorm(6).double()(x[:, :, 0]))


def test_rms_norm_of_examples_with_mean_zero_is_layer_norm():
    x = randn(7, 5)
    x = x - x.mean(1, keepdim=True)
    exact(norm.RMSNorm(5).double()(x), norm.LayerNorm(5).double()(x))
    assert (norm.RMSNorm(5).double()(x + 1) - norm.LayerNorm(5).double()(x + 1)).abs().max() > 0.1


@pytest.mark.parametrize(
    "layer", [norm.RMSNorm(6, eps=0.0).double(), norm.GroupNorm(6, 2, eps=0.0).double()]
)
def test_the_scale_of_an_example_is_not_noticed(layer):
    x = randn(4, 6)
    exact(layer(x * torch.tensor([1e-9, 0.5, 3.0, 1e9])[:, None].double()), layer(x))


@pytest.mark.parametrize("layer", [norm.RMSNorm(6), norm.GroupNorm(6, 2)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_comes_back(layer, dtype):
    x = (300 * randn(4, 6)).to(dtype)  # whose squares overflow in float16
    assert layer(x).dtype == dtype
    torch.testing.assert_close(layer(x), layer(x.float()).to(dtype), rtol=0, atol=0)
    with pytest.raises(TypeError, match="x is torch.int64; give floating point numbers"):
        layer(torch.ones(4, 6, dtype=torch.int64))


class WrongRMS(norm.RMSNorm):
    def __init__(self, formula):
        super().__init__(5, eps=0.1)
        affine(self, randn(5))
        self.formula = formula

    def forward(self, x):
        return self.formula(x, x.square().mean(-1, keepdim=True), self.eps) * self.gamma


class WrongGroup(norm.GroupNorm):
    def __init__(self, formula):
        super().__init__(6, 2, eps=0.1)
        affine(self, randn(6), randn(6))
        self.formula = formula

    def forward(self, x):
        return self.formula(self, x)


def grouped(layer, x, *, correction=0, places=True, after=lambda z: z):
    """Group norm with its parts exchanged."""
    z = x.unflatten(1, (layer.groups, -1))
    dims = list(range(2, z.ndim)) if places else [2]
    mean, var = z.mean(dims, keepdim=True), z.var(dims, correction=correction, keepdim=True)
    z = after(norm.normalize(z, mean, var, eps=layer.eps).view(x.shape))
    gamma, beta = (v.view(-1, *[1] * (x.ndim - 2)) for v in (layer.gamma, layer.beta))
    return gamma * z + beta


def interleaved(layer, x):
    z = x.unflatten(1, (-1, layer.groups)).transpose(1, 2).flatten(1, 2)
    back = lambda z: z.unflatten(1, (layer.groups, -1)).transpose(1, 2).flatten(1, 2)
    return grouped(layer, z, after=back)


RIGHT_AND_WRONG = {
    "rms": (WrongRMS(lambda x, ms, eps: x / (ms + eps).sqrt()), True),
    "rms: mean taken off": (
        WrongRMS(lambda x, ms, eps: norm.normalize(x, x.mean(-1, keepdim=True), ms, eps=eps)),
        False,
    ),
    "rms: eps outside of the root": (WrongRMS(lambda x, ms, eps: x / (ms.sqrt() + eps)), False),
    "rms: no root": (WrongRMS(lambda x, ms, eps: x / (ms + eps)), False),
    "rms: a sum for the mean": (WrongRMS(lambda x, ms, eps: x / (5 * ms + eps).sqrt()), False),
    "rms: over the batch": (
        WrongRMS(lambda x, ms, eps: x / (x.square().mean(0, keepdim=True) + eps).sqrt()),
        False,
    ),
    "group": (WrongGroup(grouped), True),
    "group: n − 1": (WrongGroup(partial(grouped, correction=1)), False),
    "group: each place by itself": (WrongGroup(partial(grouped, places=False)), False),
    "group: every second channel": (WrongGroup(interleaved), False),
    "group: gain before": (
        WrongGroup(lambda m, x: grouped(m, x * m.gamma[:, None])),
        False,
    ),
}


@pytest.mark.parametrize("name", RIGHT_AND_WRONG)
def test_torchs_norms_tell_wrong_ones_apart(name):
    layer, right = RIGHT_AND_WRONG[name]
    torchs = torchs_rms if isinstance(layer, norm.RMSNorm) else torchs_group
    x = randn(4, 6, 5) + 1
    if right:
        assert_same(layer, torchs(layer), x)
    else:
        with pytest.raises(AssertionError):
            assert_same(layer, torchs(layer), x)


# ------------------------------------------------------------------------ squashed, not normalized

SQUASHED = {"tanh": norm.DynamicTanh, "erf": norm.DynamicErf}


def squashed(kind, *, alpha=0.7):
    """A layer in float64 with random γ, β and, for erf, a random shift."""
    layer = SQUASHED[kind](5, alpha=alpha).double()
    for p in (layer.gamma, layer.beta, *([layer.shift] if kind == "erf" else [])):
        p.data = randn(*p.shape)
    return layer


@pytest.mark.parametrize("alpha", [0.125, 0.5, 2.0])
@pytest.mark.parametrize("shape", SEQUENCES)
@pytest.mark.parametrize("kind", SQUASHED)
def test_a_squashed_number_is_numpys_and_its_slope_the_formulas(kind, shape, alpha):
    layer, x = squashed(kind, alpha=alpha), 3 * randn(*shape)
    z, gamma = alpha * x.numpy(), layer.gamma.detach().numpy()
    if kind == "tanh":
        value, slope = np.tanh(z), 1 / np.cosh(z) ** 2
    else:
        z = z + layer.shift.item()
        value, slope = special.erf(z), 2 / math.sqrt(math.pi) * np.exp(-(z**2))
    a, weights = x.clone().requires_grad_(), randn(*shape)
    y = layer(a)
    exact(y, torch.as_tensor(gamma * value + layer.beta.detach().numpy()))
    dx, d_alpha, d_gamma, d_beta = gradients(y, weights, a, layer.alpha, layer.gamma, layer.beta)
    inner = weights.numpy() * gamma * slope
    exact(dx, torch.as_tensor(inner * alpha))
    exact(d_alpha, torch.as_tensor([(inner * x.numpy()).sum()]))
    exact(d_gamma, (weights * torch.as_tensor(value)).reshape(-1, 5).sum(0))
    exact(d_beta, weights.reshape(-1, 5).sum(0))
    if kind == "erf":
        exact(gradients(layer(x), weights, layer.shift)[0], torch.as_tensor([inner.sum()]))


@pytest.mark.parametrize("kind", SQUASHED)
def test_small_numbers_pass_a_squashing_along_a_line_and_large_ones_stop(kind):
    layer, x = SQUASHED[kind](5, alpha=0.5).double(), randn(4, 5)
    slope = 0.5 if kind == "tanh" else 1 / math.sqrt(math.pi)
    torch.testing.assert_close(layer(1e-4 * x), slope * 1e-4 * x, rtol=1e-7, atol=0)
    exact(layer(1e4 * x), x.sign())
    exact(gradients(layer(big := (1e4 * x).requires_grad_()), randn(4, 5), big)[0], 0 * x)


def test_the_starts_are_those_of_the_papers():
    for kind, letters in (("tanh", {"alpha"}), ("erf", {"alpha", "shift"})):
        layer = SQUASHED[kind](5)
        values = {k: p.tolist() for k, p in layer.named_parameters()}
        assert values.keys() == {"gamma", "beta"} | letters
        assert values["gamma"] == [1] * 5 and values["beta"] == [0] * 5
        assert values["alpha"] == [0.5] and values.get("shift", [0]) == [0]
        assert repr(layer).endswith("(5, alpha=0.5)")


@pytest.mark.parametrize("kind", SQUASHED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_squashing_in_half_precision_is_computed_in_float32(kind, dtype):
    layer, x = SQUASHED[kind](6), randn(4, 6).to(dtype)
    torch.testing.assert_close(layer(x), layer(x.float()).to(dtype), rtol=0, atol=0)
    with pytest.raises(TypeError, match="x is torch.int64; give floating point numbers"):
        layer(torch.ones(4, 6, dtype=torch.int64))


# ------------------------------------------------------------------------ weight norm


@pytest.mark.parametrize(
    "layer, shape", [(nn.Linear(4, 3), (5, 4)), (nn.Conv2d(2, 3, 3), (2, 2, 5, 6))]
)
def test_weight_norm_is_torchs(layer, shape):
    layer = layer.double()
    ours = norm.weight_norm(copy.deepcopy(layer))
    theirs = parametrizations.weight_norm(copy.deepcopy(layer))
    x = randn(*shape)
    exact(ours(x), layer(x))
    for net in (ours, theirs):
        net.parametrizations.weight.original0.data *= 1.7
        net.parametrizations.weight.original1.data += 0.1
    shapes = [[tuple(p.shape) for p in net.parameters()] for net in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert_same(ours, theirs, x)


def test_weight_norm_of_a_unit_has_length_g_and_a_gradient_across_v():
    layer = norm.weight_norm(nn.Linear(4, 3).double())
    g, v = (layer.parametrizations.weight.original0, layer.parametrizations.weight.original1)
    g.data = torch.tensor([[1.0], [2.0], [0.5]]).double()
    exact(layer.weight.norm(dim=1), g.flatten())
    _, dv = gradients(layer(randn(5, 4)), randn(5, 3), g, v)
    exact((dv * v).sum(1), torch.zeros(3).double())


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_weight_norm_takes_the_length_of_what_one_output_channel_sums(d, transposed, groups):
    kind = [nn.Conv1d, nn.Conv2d, nn.Conv3d, *norm.TRANSPOSED][d - 1 + 3 * transposed]
    layer = kind(6, 12, 2, groups=groups, bias=False).double()
    x, plain = randn(2, 6, *[4] * d), copy.deepcopy(layer)
    norm.weight_norm(layer)
    exact(layer(x), plain(x))
    g, factor = layer.parametrizations.weight.original0, randn(12).exp()
    assert g.numel() == 12
    with torch.no_grad():
        g.mul_(factor.view(g.shape))
    exact(layer(x), plain(x) * factor.view(-1, *[1] * d))  # each output channel on its own
    exact(layer.weight.square().sum(), g.square().sum())


def test_an_assigned_weight_is_the_layers_weight():
    for layer in (nn.Linear(4, 3), nn.ConvTranspose2d(4, 6, 3, groups=2)):
        W = torch.randn(layer.weight.shape, generator=g)
        layer = norm.weight_norm(layer)
        layer.weight = W
        torch.testing.assert_close(layer.weight, W)
        with pytest.raises(ValueError, match=r"^units \[0, 1, .*no direction"):
            layer.weight = torch.zeros_like(W)
        torch.testing.assert_close(layer.weight, W)


# ------------------------------------------------------------------------ local response norm


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("shape", [(2, 6, 3, 4), (2, 6, 5)])
def test_local_response_norm_is_torchs_with_alpha_times_n(n, shape):
    ours = norm.LocalResponseNorm(n, k=1.5, alpha=0.3, beta=0.6).double()
    theirs = nn.LocalResponseNorm(n, alpha=0.3 * n, beta=0.6, k=1.5)
    assert_same(ours, theirs, 2 * randn(*shape))
    leaf, twin, weights = (x := randn(*shape)).requires_grad_(), x, randn(*shape)
    exact(gradients(ours(leaf), weights, leaf), gradients(theirs(twin), weights, twin))


def test_local_response_norm_is_its_sum():
    x, c = randn(2, 7), 7
    ours = norm.LocalResponseNorm(5, k=2.0, alpha=1e-2, beta=0.75)
    expected = x.clone()
    for p in range(c):
        energy = (x[:, max(0, p - 2) : min(c, p + 3)] ** 2).sum(1)
        expected[:, p] = x[:, p] / (2 + 1e-2 * energy) ** 0.75
    exact(ours(x), expected)


def test_the_defaults_are_alexnets():
    theirs = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    x = 30 * randn(2, 8, 3, 3)
    exact(norm.LocalResponseNorm()(x), theirs(x))


# ------------------------------------------------------------------------ in a sweep


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.output = norm.LayerNormCell(2, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.output(h)


def weighted():
    net = mlp([6, 5, 3])
    return nn.Sequential(*(norm.weight_norm(m) if isinstance(m, nn.Linear) else m for m in net))


def convolutions():
    middle = [norm.BatchNorm(2), nn.ReLU(), norm.LocalResponseNorm(3)]
    return nn.Sequential(nn.Conv2d(1, 2, 3), *middle, nn.Flatten(), nn.Linear(8, 3))


def grouped_convolutions():
    layers = [nn.Conv2d(1, 4, 3), norm.GroupNorm(4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)]
    return nn.Sequential(*layers)


def transposed():
    up = norm.weight_norm(nn.ConvTranspose2d(2, 4, 2, groups=2))
    return nn.Sequential(nn.Conv2d(1, 2, 3), up, nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))


flat, images, signals = random_data(6), random_data(1, 4, 4), random_data(5, 2)
NETS = {
    "batch norm": (partial(mlp, [6, 5, 4, 3], norm=partial(norm.BatchNorm, rate=0.3)), flat),
    "batch norm and dropout": (partial(mlp, [6, 5, 3], norm=norm.BatchNorm, keep=0.7), flat),
    "batch norm, 2-d, and local response norm": (convolutions, images),
    "layer norm": (partial(mlp, [6, 5, 3], norm=norm.LayerNorm), flat),
    "RMS norm": (partial(mlp, [6, 5, 3], norm=norm.RMSNorm), flat),
    "dynamic tanh": (partial(mlp, [6, 5, 3], norm=norm.DynamicTanh), flat),
    "dynamic erf": (partial(mlp, [6, 5, 3], norm=norm.DynamicErf), flat),
    "group norm": (partial(mlp, [6, 6, 4, 3], norm=partial(norm.GroupNorm, groups=2)), flat),
    "group norm, 2-d": (grouped_convolutions, images),
    "layer-normalized recurrent cell": (Reader, signals),
    "weight norm": (weighted, flat),
    "weight norm, transposed": (transposed, images),
    "initialized": (lambda: initialize(mlp([6, 5, 3], norm=norm.BatchNorm), he), flat),
}


@pytest.mark.parametrize("name", NETS)
def test_a_row_of_a_sweep_is_that_run_alone(name):
    model, data = NETS[name]
    work = Sweep(model, o.momentum, data, batch=4, dtype=torch.float64)
    assert_law(work, *work.advance(work.start(seeds=[0, 5, 0], lr=[0.05, 0.1, 0.01]), 12))


# ------------------------------------------------------------------------ refusals


class Zero(nn.Module):
    weight = torch.zeros(3, 4)


REFUSED = [
    (lambda: norm.BatchNorm(0), "d=0 must be a positive"),
    (lambda: norm.BatchNorm(3, eps=-1), r"eps=-1 is outside \[0, inf\)"),
    (lambda: norm.BatchNorm(3, rate=1.5), r"rate=1.5 is outside \[0, 1\]"),
    (lambda: norm.BatchNorm(3)(torch.ones(2, 4)), r"shape \[2, 4\], but d=3: \[n, d, ...\]"),
    (lambda: norm.BatchNorm(3)(torch.ones(3)), r"shape \[3\], but d=3"),
    (lambda: norm.BatchNorm(3)(torch.ones(1, 3)), r"shape \[1, 3\]: one value has no variance"),
    (lambda: norm.LayerNorm(-2), "d=-2 must be"),
    (lambda: norm.LayerNorm(3, eps=float("nan")), "eps=nan is outside"),
    (lambda: norm.LayerNorm(1)(torch.ones(2, 3)), r"shape \[2, 3\], but d=1: \[..., d\]"),
    (lambda: norm.RMSNorm(0), "d=0 must be a positive"),
    (lambda: norm.RMSNorm(3, eps=-1), r"eps=-1 is outside \[0, inf\)"),
    (lambda: norm.RMSNorm(1)(torch.ones(2, 3)), r"shape \[2, 3\], but d=1: \[..., d\]"),
    (lambda: norm.RMSNorm(1)(torch.tensor(1.0)), r"shape \[\], but d=1: \[..., d\]"),
    (lambda: norm.DynamicTanh(0), "d=0 must be a positive"),
    (lambda: norm.DynamicTanh(3, alpha=0), r"alpha=0 is outside \(0, inf\)"),
    (lambda: norm.DynamicErf(3, alpha=math.nan), r"alpha=nan is outside \(0, inf\)"),
    (lambda: norm.DynamicTanh(1)(torch.ones(2, 3)), r"shape \[2, 3\], but d=1: \[..., d\]"),
    (lambda: norm.DynamicErf(1)(torch.tensor(1.0)), r"shape \[\], but d=1: \[..., d\]"),
    (lambda: norm.GroupNorm(0, 1), "d=0 must be a positive"),
    (lambda: norm.GroupNorm(6, 4), "groups=4 does not divide d=6 channels"),
    (lambda: norm.GroupNorm(6, 0), "groups=0 does not divide d=6 channels"),
    (lambda: norm.GroupNorm(6, 2, eps=-1), r"eps=-1 is outside \[0, inf\)"),
    (lambda: norm.GroupNorm(6, 2)(torch.ones(2, 4)), r"shape \[2, 4\], but d=6: \[n, d, ...\]"),
    (lambda: norm.GroupNorm(6, 2)(torch.ones(6)), r"shape \[6\], but d=6: \[n, d, ...\]"),
    (lambda: norm.full_statistics(mlp([2, 2]), torch.ones(3, 2)), "Sequential has no BatchNorm"),
    (lambda: norm.weight_norm(nn.ReLU()), r"ReLU has no weight \[n_out, n_in, ...\]"),
    (lambda: norm.weight_norm(nn.BatchNorm1d(3)), "BatchNorm1d has no weight"),
    (lambda: norm.weight_norm(Zero()), r"units \[0, 1, 2\] have no direction: all zero"),
    (lambda: norm.LocalResponseNorm(0), "n=0, k=2.0, alpha=0.0001: give n ≥ 1"),
    (lambda: norm.LocalResponseNorm(5, k=0), "k=0"),
    (lambda: norm.LocalResponseNorm(5, alpha=-1), "alpha=-1"),
    (lambda: norm.LocalResponseNorm()(torch.ones(3)), r"shape \[3\]; give \[m, c, ...\]"),
]


@pytest.mark.parametrize("wrong, message", REFUSED)
def test_errors_say_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
