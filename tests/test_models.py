"""The models against the same networks written out, or torch's own."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nettrain import losses
from nettrain.data import Data, Split
from nettrain.dropout import Dropout
from nettrain.lab.sweep import Sweep
from nettrain.models import RNN, Ensemble, cnn, mlp
from nettrain.optimizers import sgd

g = torch.Generator().manual_seed(0)


def randn(*shape):
    return torch.randn(shape, generator=g, dtype=torch.float64)


def test_mlp_is_its_formula():
    net, x = mlp([6, 5, 4, 3], activation=nn.Tanh).double(), randn(7, 2, 3)
    (A, a), (B, b), (C, c) = (layer.parameters() for layer in net if isinstance(layer, nn.Linear))
    expected = torch.tanh(torch.tanh(x.flatten(1) @ A.T + a) @ B.T + b) @ C.T + c
    torch.testing.assert_close(net(x), expected, rtol=0, atol=1e-14)
    assert [tuple(p.shape) for p in net.parameters()] == [(5, 6), (5,), (4, 5), (4,), (3, 4), (3,)]


def test_mlp_puts_norm_before_and_dropout_after_each_activation():
    net = mlp([6, 5, 4, 3], norm=nn.BatchNorm1d, keep=0.5)
    hidden = [nn.Linear, nn.BatchNorm1d, nn.ReLU, Dropout]
    assert [type(m) for m in net] == [nn.Flatten, *hidden, *hidden, nn.Linear]
    assert [m.bias is None for m in net if isinstance(m, nn.Linear)] == [True, True, False]
    assert [m.num_features for m in net if isinstance(m, nn.BatchNorm1d)] == [5, 4]


def test_mlp_of_two_sizes_is_linear():
    assert [type(m) for m in mlp([6, 3], norm=nn.BatchNorm1d, keep=0.5)] == [nn.Flatten, nn.Linear]


@pytest.mark.parametrize("side, rest", [(14, 3), (28, 7), (7, 1), (4, 1)])
def test_cnn_is_its_formula(side, rest):
    net, x = cnn((2, 3), side=side, classes=4).double(), randn(5, 1, side, side)
    A, a, B, b, C, c = net.parameters()
    h = F.max_pool2d(F.relu(F.conv2d(x, A, a, padding=1)), 2)
    h = F.max_pool2d(F.relu(F.conv2d(h, B, b, padding=1)), 2)
    assert h.shape == (5, 3, rest, rest)
    torch.testing.assert_close(net(x), h.flatten(1) @ C.T + c, rtol=0, atol=1e-14)


def test_rnn_is_torchs_rnn():
    net, twin, x = RNN(3, 4, 2).double(), nn.RNN(3, 4, batch_first=True).double(), randn(5, 6, 3)
    twin.weight_ih_l0 = net.input.weight
    twin.weight_hh_l0 = net.recurrent.weight
    twin.bias_ih_l0 = net.input.bias
    nn.init.zeros_(twin.bias_hh_l0)  # one bias is enough
    expected = net.output(twin(x)[1][0])
    torch.testing.assert_close(net(x), expected, rtol=0, atol=1e-14)


def test_an_ensemble_puts_out_its_members_and_in_use_the_log_of_their_mean():
    nets, x = [mlp([6, 5, 3]).double() for _ in range(4)], 30 * randn(7, 6)
    both, z = Ensemble(nets), torch.stack([net(x) for net in nets], 1)
    assert torch.equal(both(x), z)
    mean = both.eval()(x)
    torch.testing.assert_close(mean.exp(), z.softmax(2).mean(1), rtol=1e-13, atol=0)
    assert mean.isfinite().all()  # also where every member's probability underflows
    far = Ensemble([nn.Linear(2, 2).double()]).eval()
    with torch.no_grad():
        far.nets[0].weight.fill_(0), far.nets[0].bias.copy_(torch.tensor([0.0, -2000.0]))
    assert far(randn(1, 2))[0].tolist() == [0, -2000]


def test_members_of_an_ensemble_train_as_if_alone():
    """Members that begin as one network does take its way."""
    made, split = mlp([6, 5, 3]), Split(randn(40, 6), torch.arange(40) % 3)
    net, data = lambda: copy.deepcopy(made), Data("40 points", split, split, split)
    alone, side_by_side = (
        Sweep(model, sgd, data, batch=8, loss=loss, dtype=torch.float64)
        for model, loss in [
            (net, losses.cross_entropy),
            (lambda: Ensemble(net() for _ in range(3)), losses.ensemble_cross_entropy),
        ]
    )
    one, several = (work.advance(work.start([0], lr=0.3), 20)[0] for work in (alone, side_by_side))
    torch.testing.assert_close(several.theta.view(3, -1), one.theta.expand(3, -1))
    for a, b in zip(alone.evaluate(one, data.test), side_by_side.evaluate(several, data.test)):
        torch.testing.assert_close(a, b)
    assert not torch.equal(one.theta, alone.start([0], lr=0.3).theta)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: Ensemble([]), "nets is empty; an ensemble needs at least one network"),
        (lambda: mlp([6]), r"sizes=\[6\] needs an input and an output size at least"),
        (lambda: mlp([6, 5, 3], keep=1.5), r"keep=1.5 is outside \(0, 1\]"),
        (lambda: mlp([6, 5, 3], keep=0), r"keep=0 is outside \(0, 1\]"),
        (lambda: cnn((8, 16, 32), side=7), "side=7 is too small for 3 poolings"),
    ],
)
def test_errors_name_the_argument(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        wrong()
