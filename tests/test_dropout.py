"""The dropout family: masks, means and keys; averages over subnetworks."""

import io
import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from sweep_law import assert_law, random_data
from torch import nn

from nettrain import dropout as reg
from nettrain.dropout import DropConnect, Dropout, LayerDrop
from nettrain.lab import training
from nettrain.lab.sweep import Sweep
from nettrain.models import RNN, DropoutRNN, mlp
from nettrain.optimizers import momentum

exact = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)

x = torch.linspace(-2, 2, 4000, dtype=torch.float64).view(40, 100)


def dropout(keep, seed=0):
    return training.build(lambda: Dropout(keep), seed)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.8])
def test_a_unit_is_kept_with_the_given_rate_and_scaled_by_its_inverse(keep):
    y = dropout(keep)(x)
    kept = y != 0
    torch.testing.assert_close(y[kept], x[kept] / keep, rtol=1e-15, atol=0)
    assert stats.binomtest(int(kept.sum()), kept.numel(), keep).pvalue > 0.01
    assert y.dtype == x.dtype


def test_the_mean_over_many_masks_is_the_input():
    layer, row = dropout(0.5), x[:1]
    mean = torch.stack([layer(row) for _ in range(4000)]).mean(0)
    error = (mean - row).abs() / (row.abs() / 4000**0.5)  # in standard errors: √(1/keep − 1) = 1
    assert (
        error.max() < 4.5 and stats.kstest(error.flatten() ** 2, "chi2", args=(1,)).pvalue > 0.001
    )


def test_the_mask_is_a_function_of_the_key_and_the_key_counts_passes():
    layer, other = dropout(0.5, seed=9), Dropout(0.5)
    for step in range(3):
        assert layer.key.tolist() == [9, step, 0]
        other.key.copy_(torch.tensor([9, step, 0]))
        assert torch.equal(layer(x), other(x))


def test_seeds_passes_and_layers_have_masks_of_their_own():
    net = training.build(lambda: torch.nn.Sequential(Dropout(0.5), Dropout(0.5)), 3)
    masks = [net[0](x) != 0, net[0](x) != 0, net[1](x) != 0, dropout(0.5, seed=4)(x) != 0]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert stats.binomtest(int((a == b).sum()), a.numel(), 0.5).pvalue > 0.01


def test_the_gradient_passes_through_the_mask():
    layer, leaf = dropout(0.25), x.clone().requires_grad_()
    y = layer(leaf)
    y.sum().backward()
    assert torch.equal(leaf.grad, (y != 0) / 0.25)


def test_at_evaluation_nothing_is_dropped_and_nothing_counted():
    layer = dropout(0.5).eval()
    assert layer(x) is x and layer.key.tolist() == [0, 0, 0]
    assert dropout(1.0)(x) is x


def test_saved_half_way_the_masks_go_on():
    layer, file = dropout(0.5, seed=5), io.BytesIO()
    layer(x)
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = Dropout(0.5)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(layer(x), other(x))
    assert other.double().key.dtype == torch.int64


@pytest.mark.parametrize("keep", [0, -0.5, 1.1, float("nan")])
def test_a_keep_rate_outside_its_range_is_refused(keep):
    with pytest.raises(ValueError, match=rf"^keep={keep} is outside \(0, 1\]$"):
        Dropout(keep)


# ----------------------------------------------------------------- connections and layers


def check_masks(masks, keep):
    """Masks [k, n] keep with a probability, and each of them independently of the others."""
    assert stats.binomtest(int(masks.sum()), masks.numel(), keep).pvalue > 0.01
    for one, other in itertools.combinations(masks, 2):
        alike = int((one == other).sum())
        assert stats.binomtest(alike, len(one), keep**2 + (1 - keep) ** 2).pvalue > 1e-4


def test_dropconnect_is_a_linear_layer_with_a_masked_weight():
    layer, masks = training.build(lambda: DropConnect(100, 7, 0.4), 9).double(), []
    units = torch.eye(100, dtype=x.dtype)  # what a unit alone gives is its column of the weight
    for step in range(3):
        assert layer.key.tolist() == [9, step, 0]
        columns, y = layer(torch.cat([units, x])).split([100, 40])
        W = (columns - layer.bias).T
        kept = W.abs() > 1e-9
        exact(W, torch.where(kept, layer.weight / 0.4, torch.zeros(())))
        exact(y, F.linear(x, W, layer.bias))
        masks.append(kept)
    check_masks(torch.cat(masks), 0.4)  # of the 7 outputs in 3 steps
    exact(layer.eval()(x), F.linear(x, layer.weight, layer.bias))
    assert layer.key[1] == 3


def test_the_mean_over_all_masks_of_the_weights_is_the_layer():
    layer, row = training.build(lambda: DropConnect(2, 2, 0.3), 0).double(), x[0, :2]
    mean = 0
    for bits in itertools.product([0, 1], repeat=4):
        m = torch.tensor(bits, dtype=torch.float64).view(2, 2)
        p = 0.3 ** m.sum() * 0.7 ** (4 - m.sum())
        mean = mean + p * F.linear(row, layer.weight * m / 0.3, layer.bias)
    exact(mean, layer.eval()(row))


def test_layer_drop_keeps_or_skips_the_layer_for_each_example():
    layer, masks = training.build(lambda: LayerDrop(nn.Linear(100, 100), 0.7), 4).double(), []
    for _ in range(5):
        y = layer(x)
        kept = (y != x).all(1)
        assert torch.equal(y[~kept], x[~kept])
        exact(y[kept], x[kept] + layer.layer(x[kept]) / 0.7)
        masks.append(kept)
    check_masks(torch.stack(masks), 0.7)
    exact(layer.eval()(x), x + layer.layer(x))
    pictures = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    convolution = training.build(lambda: LayerDrop(nn.Conv2d(3, 3, 1), 0.5), 0)
    assert convolution(pictures).shape == pictures.shape


# ----------------------------------------------------------------- recurrent networks

sequences = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
KINDS = (reg.naive_masks, reg.nonrecurrent_masks, reg.variational_masks)


@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_masks_have_the_rate_and_the_scale(kind):
    masks = kind(torch.tensor([3, 1, 0]), 0.8, torch.zeros(200, 20, 3), 40)
    assert [m.shape for m in masks] == [(200, 20, 3), (200, 20, 40), (200, 20, 40)]
    for place, m in zip(("inputs", "states", "outputs"), masks, strict=True):
        if kind is reg.nonrecurrent_masks and place == "states":
            assert (m == 1).all()
            continue
        once = m[:, 0] if kind is reg.variational_masks else m  # the others repeat it
        torch.testing.assert_close(once.unique(), torch.tensor([0, 1.25]))
        assert stats.binomtest(int((once > 0).sum()), once.numel(), 0.8).pvalue > 0.01


def test_the_three_kinds_differ_in_what_they_repeat():
    naive, zaremba, gal = (
        torch.cat(kind(torch.tensor([0, 0, 0]), 0.5, sequences, 50)[1:], -1) for kind in KINDS
    )
    assert all((gal[:, t] == gal[:, 0]).all() for t in range(5))
    assert not any((naive[:, t] == naive[:, 0]).all() for t in range(1, 5))
    assert torch.equal(zaremba[..., 50:], naive[..., 50:])
    assert not (gal[0] == gal[1]).all()  # each sequence its own


@pytest.mark.parametrize("kind", KINDS)
def test_a_recurrent_network_with_masks_is_that_recursion(kind):
    net = training.build(lambda: DropoutRNN(3, 4, 2, 0.6, masks=kind), 7).double()
    i, s, o = kind(torch.tensor([7, 0, 0]), 0.6, sequences, 4)
    out = net(sequences)
    W, b, U = net.input.weight, net.input.bias, net.recurrent.weight
    h = torch.zeros(6, 4, dtype=torch.float64)
    for t in range(5):
        h = torch.tanh((s[:, t] * h) @ U.T + (i[:, t] * sequences[:, t]) @ W.T + b)
    exact(out, net.output(o[:, 4] * h))
    assert net.key.tolist() == [7, 1, 0]
    plain = training.build(lambda: RNN(3, 4, 2), 7).double()
    exact(net.eval()(sequences), plain(sequences))
    assert net.key[1] == 1


# ----------------------------------------------------------------- in a sweep


RANDOM = {
    "connections": (
        lambda: nn.Sequential(DropConnect(6, 5, 0.6), nn.ReLU(), nn.Linear(5, 3)),
        (6,),
    ),
    "layers": (lambda: nn.Sequential(LayerDrop(nn.Linear(6, 6), 0.6), nn.Linear(6, 3)), (6,)),
} | {k.__name__: (partial(DropoutRNN, 3, 4, 3, 0.6, masks=k), (5, 3)) for k in KINDS}


@pytest.mark.parametrize("name", RANDOM)
def test_a_run_is_the_same_alone_and_in_a_sweep(name):
    model, shape = RANDOM[name]
    own = random_data(*shape)
    work = Sweep(model, momentum, own, batch=4, dtype=torch.float64)
    assert_law(work, *work.advance(work.start([5, 0, 5], lr=[0.1, 0.1, 0.01]), 7))


# ----------------------------------------------------------------- averages over subnetworks


def test_subnetworks_are_all_the_masks():
    assert sorted(map(tuple, reg.subnetworks(3).tolist())) == list(
        itertools.product([False, True], repeat=3)
    )
    assert len(set(map(tuple, reg.subnetworks(12).tolist()))) == 2**12


def test_the_exact_mean_is_the_sum_over_masks():
    f = lambda m: torch.stack([m.prod(1), (m @ torch.arange(4.0, dtype=m.dtype)).exp()], 1)
    brute = 0
    for bits in itertools.product([0.0, 1.0], repeat=4):
        m = torch.tensor([bits], dtype=torch.float64)
        brute = brute + 0.7 ** sum(bits) * 0.3 ** (4 - sum(bits)) * f(m / 0.7)[0]
    exact(reg.exact_mean(f, 4, 0.7), brute)


def test_of_a_linear_layer_the_exact_mean_is_weight_scaling_and_of_a_deep_net_it_is_not():
    V = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    linear, deep = (lambda m: m @ V), (lambda m: torch.relu(m @ V))
    one = torch.ones(1, 12, dtype=torch.float64)
    exact(reg.exact_mean(linear, 12, 0.3), linear(one)[0])
    assert (reg.exact_mean(deep, 12, 0.3) - deep(one)[0]).abs().max() > 0.1


def test_monte_carlo_comes_to_the_exact_mean_and_leaves_the_network_as_it_was():
    net = training.build(lambda: mlp([100, 6, 3], keep=0.7), 2).double().eval()
    net[3].key[1] = 5  # as after five steps
    h, last = net[:3](x[:1]), net[-1]
    mean = reg.exact_mean(lambda m: last(h * m).softmax(-1), 6, 0.7)
    with torch.no_grad():
        passes = reg.monte_carlo(net, x[:1].expand(500, -1), 20).softmax(-1).flatten(0, 1)
    error = (passes.mean(0) - mean) / passes.std(0) * 10_000**0.5
    assert error.abs().max() < 4 and passes.std(0).min() > 0
    assert net[3].key.tolist() == [2, 5, 0] and not any(m.training for m in net.modules())
    exact(reg.monte_carlo(net, x, 3), reg.monte_carlo(net, x, 3))


def test_monte_carlo_leaves_batch_norm_at_its_running_statistics():
    net = training.build(lambda: nn.Sequential(nn.BatchNorm1d(100), Dropout(0.5)), 0)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    reg.monte_carlo(net, x.float(), 2)
    assert net.training and net[0].training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


# ----------------------------------------------------------------- refusals

REFUSED = [
    (lambda: DropConnect(3, 2, 0), r"keep=0 is outside \(0, 1\]"),
    (lambda: LayerDrop(nn.Identity(), 1.5), r"keep=1.5 is outside \(0, 1\]"),
    (lambda: DropoutRNN(3, 2, 2, -1), r"keep=-1 is outside \(0, 1\]"),
    (lambda: reg.exact_mean(lambda m: m, 3, 0.0), r"keep=0.0 is outside"),
    (lambda: reg.subnetworks(17), r"n=17 is outside \[1, 16\]"),
    (lambda: reg.monte_carlo(nn.Linear(3, 2), x, 5), "0 random layers, passes=5"),
    (lambda: reg.monte_carlo(Dropout(0.5), x, 0), "1 random layers, passes=0"),
]


@pytest.mark.parametrize("wrong, message", REFUSED)
def test_numbers_out_of_range_are_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
