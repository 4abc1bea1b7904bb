"""The models against the same networks written out, or torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nettrain.dropout import Dropout
from nettrain.models import RNN, cnn, mlp

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


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: mlp([6]), r"sizes=\[6\] needs an input and an output size at least"),
        (lambda: mlp([6, 5, 3], keep=1.5), r"keep=1.5 is outside \(0, 1\]"),
        (lambda: mlp([6, 5, 3], keep=0), r"keep=0 is outside \(0, 1\]"),
        (lambda: cnn((8, 16, 32), side=7), "side=7 is too small for 3 poolings"),
    ],
)
def test_errors_name_the_argument(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        wrong()
