"""Blocks against torch's own functions written out; their cost against hand counts and torch's."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from sweep_law import assert_law
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nettrain import blocks
from nettrain.blocks import conv, cost, linear
from nettrain.data import digits
from nettrain.lab.sweep import Sweep
from nettrain.models import resnet, tower
from nettrain.optimizers import sgd

g = torch.Generator().manual_seed(0)


def randn(*shape):
    return torch.randn(shape, generator=g, dtype=torch.float64)


def bn(x):
    """torch's batch norm of a training batch with scale 1 and shift 0."""
    return F.batch_norm(x, None, None, training=True)


def weights(net):
    return [p for p in net.parameters() if p.ndim > 1]


def both(A, B, x, f):
    return bn(f(F.relu(bn(f(x, A))), B))


def conv3(x, W):
    return F.conv2d(x, W, padding=1)


CASES = {  # block, input, the same from its weights
    "plain": (blocks.plain(4, 4), (3, 4, 5, 5), lambda x, A, B: F.relu(both(A, B, x, conv3))),
    "residual": (
        blocks.residual(4, 4),
        (3, 4, 5, 5),
        lambda x, A, B: F.relu(x + both(A, B, x, conv3)),
    ),
    "plain, linear": (
        blocks.plain(4, 6, layer=linear),
        (7, 4),
        lambda x, A, B: F.relu(both(A, B, x, F.linear)),
    ),
    "residual, linear": (
        blocks.residual(4, 4, layer=linear),
        (7, 4),
        lambda x, A, B: F.relu(x + both(A, B, x, F.linear)),
    ),
    "residual, stride": (
        blocks.residual(2, 3, stride=2),
        (3, 2, 5, 5),
        lambda x, A, B: F.relu(
            torch.cat([x[:, :, ::2, ::2], torch.zeros(3, 1, 3, 3)], 1)
            + bn(conv3(F.relu(bn(F.conv2d(x, A, stride=2, padding=1))), B))
        ),
    ),
    "preactivation": (
        blocks.preactivation(4),
        (3, 4, 5, 5),
        lambda x, A, B: x + conv3(F.relu(bn(conv3(F.relu(bn(x)), A))), B),
    ),
    "dense": (
        blocks.dense(4, 2),
        (3, 4, 5, 5),
        lambda x, A: torch.cat([x, conv3(F.relu(bn(x)), A)], 1),
    ),
    "dense, linear": (
        blocks.dense(4, 2, layer=linear),
        (7, 4),
        lambda x, A: torch.cat([x, F.relu(bn(x)) @ A.T], 1),
    ),
    "inception": (
        blocks.inception(4, 2, (3, 5), (1, 2), 3),
        (3, 4, 6, 6),
        lambda x, A, B, C, D, E, H: torch.cat(
            [
                F.relu(bn(F.conv2d(x, A))),
                F.relu(bn(conv3(F.relu(bn(F.conv2d(x, B))), C))),
                F.relu(bn(F.conv2d(F.relu(bn(F.conv2d(x, D))), E, padding=2))),
                F.relu(bn(F.conv2d(F.max_pool2d(x, 3, 1, 1), H))),
            ],
            1,
        ),
    ),
    "separable": (
        blocks.separable(4, 6),
        (3, 4, 5, 5),
        lambda x, A, B: F.relu(bn(F.conv2d(F.relu(bn(each_channel(x, A))), B))),
    ),
    "shuffle": (
        blocks.shuffle(16, 2),
        (3, 16, 5, 5),
        lambda x, A, B, C: F.relu(
            x
            + bn(by_groups(bn(each_channel(shuffled(F.relu(bn(by_groups(x, A, 2))), 2), B)), C, 2))
        ),
    ),
    "unnormalized": (
        blocks.unnormalized(4, start=0.25),
        (3, 4, 5, 5),
        lambda x, A, B: x + 0.25 * conv3(F.relu(conv3(F.relu(x), A)), B),
    ),
    "unnormalized, linear": (
        blocks.unnormalized(4, layer=linear),
        (7, 4),
        lambda x, A, B: x + F.linear(F.relu(F.linear(F.relu(x), A)), B),
    ),
    "shifted": (
        blocks.shifted(4),
        (3, 4, 5, 5),
        lambda x, A, B: x + conv3(F.relu(conv3(F.relu(x), A)), B),
    ),
    "squeeze_excitation": (
        blocks.squeeze_excitation(8, reduction=4),
        (3, 8, 5, 5),
        lambda x, A, B, C, D: F.relu(x + weighed(both(A, B, x, conv3), C, D)),
    ),
}


def each_channel(x, W):
    return torch.cat([conv3(x[:, c : c + 1], W[c : c + 1]) for c in range(x.shape[1])], 1)


def by_groups(x, W, groups):
    parts = zip(x.chunk(groups, 1), W.chunk(groups), strict=True)
    return torch.cat([F.conv2d(part, w) for part, w in parts], 1)


def shuffled(x, groups):
    """Channel k of each group in turn."""
    size = x.shape[1] // groups
    return torch.stack([x[:, a * size + k] for k in range(size) for a in range(groups)], 1)


def weighed(x, C, D):
    """Biases are set to zero by the test."""
    s = x.mean((2, 3))
    return x * torch.sigmoid(F.relu(s @ C.T) @ D.T)[:, :, None, None]


@pytest.mark.parametrize("name", CASES)
def test_a_block_is_its_formula(name):
    block, shape, formula = CASES[name]
    block.double()
    for part in block.modules():
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
    x = randn(*shape)
    torch.testing.assert_close(block(x), formula(x, *weights(block)), rtol=0, atol=1e-12)


def test_a_shifted_block_has_a_number_before_each_part_and_one_behind_the_branch():
    block, x = blocks.shifted(4, layer=linear).double(), randn(7, 4)
    A, B = weights(block)
    numbers = [p for p in block.parameters() if p.ndim == 1]
    assert [p.tolist() for p in numbers] == [[0], [0], [0], [0], [1], [0]]
    for p in numbers:
        p.data = randn(1)
    a, b, c, d, s, e = numbers
    h = F.relu(F.linear(F.relu(x + a) + b, A) + c) + d
    torch.testing.assert_close(block(x), x + s * F.linear(h, B) + e, rtol=0, atol=1e-12)


def test_a_block_that_starts_at_zero_is_the_identity_and_moves_its_number_only():
    block, x = blocks.unnormalized(4, layer=nn.Linear, start=0).double(), randn(7, 4)
    assert torch.equal(block(x), x)
    (block(x) * randn(7, 4)).sum().backward()
    gradients = {k: p.grad.abs().max().item() for k, p in block.named_parameters()}
    assert gradients.pop("body.4.s") > 0 and set(gradients.values()) == {0.0}
    assert repr(block.body[4]) == "Scale(s=0)"


def test_squeeze_excitation_is_that_of_torchvision_written_with_convolutions():
    layer, x = blocks.SqueezeExcitation(8, reduction=4).double(), randn(3, 8, 5, 5)
    A, a, B, b = layer.parameters()
    scale = F.relu(F.conv2d(F.adaptive_avg_pool2d(x, 1), A[:, :, None, None], a))
    scale = torch.sigmoid(F.conv2d(scale, B[:, :, None, None], b))
    torch.testing.assert_close(layer(x), scale * x, rtol=0, atol=1e-14)


# ------------------------------------------------------------------------------------- cost

C, PIXELS, NORM = 32, 14 * 14, 2  # channels, places, parameters of a norm per channel
HAND = {  # block of 32 channels on 14x14: parameters, multiply-adds, by hand
    "plain": (blocks.plain(C, C), 2 * (9 * C * C + NORM * C), 2 * 9 * C * C * PIXELS),
    "residual": (blocks.residual(C, C), 2 * (9 * C * C + NORM * C), 2 * 9 * C * C * PIXELS),
    "stride": (
        blocks.residual(C, 2 * C, stride=2),
        9 * C * 2 * C + 9 * 2 * C * 2 * C + 2 * NORM * 2 * C,
        (9 * C * 2 * C + 9 * 2 * C * 2 * C) * PIXELS // 4,
    ),
    "preactivation": (blocks.preactivation(C), 2 * (9 * C * C + NORM * C), 18 * C * C * PIXELS),
    "dense": (blocks.dense(C, 12), NORM * C + 9 * C * 12, 9 * C * 12 * PIXELS),
    "inception": (
        blocks.inception(C, 8, (12, 16), (2, 4), 4),
        32 * 8 + 32 * 12 + 9 * 12 * 16 + 32 * 2 + 25 * 2 * 4 + 32 * 4 + 2 * (8 + 12 + 16 + 2 + 8),
        (32 * 8 + 32 * 12 + 9 * 12 * 16 + 32 * 2 + 25 * 2 * 4 + 32 * 4) * PIXELS,
    ),
    "separable": (blocks.separable(C, C), 9 * C + C * C + 2 * NORM * C, (9 * C + C * C) * PIXELS),
    "shuffle": (
        blocks.shuffle(C, 4),
        C * 8 // 4 + 9 * 8 + 8 * C // 4 + NORM * (8 + 8 + C),
        (C * 8 // 4 + 9 * 8 + 8 * C // 4) * PIXELS,
    ),
    "squeeze_excitation": (
        blocks.squeeze_excitation(C),
        2 * (9 * C * C + NORM * C) + (C * 2 + 2) + (2 * C + C),
        2 * 9 * C * C * PIXELS + 2 * C * 2,
    ),
}


@pytest.mark.parametrize("name", HAND)
def test_cost_is_counted_as_by_hand_and_as_by_torch(name):
    block, parameters, multiply_adds = HAND[name]
    x = torch.zeros(2, C, 14, 14)
    assert cost(block, x) == (parameters, multiply_adds)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block(x)
    assert counter.get_total_flops() == 2 * len(x) * multiply_adds  # it counts both operations


def test_cost_of_the_papers():
    """Table 1 of Szegedy et al. 2015, Table 6 of He et al. 2016, Table 4 of Howard et al. 2017."""
    first = blocks.inception(192, 64, (96, 128), (16, 32), 32)
    assert round(cost(first, torch.zeros(1, 192, 28, 28)).multiply_adds / 1e6) == 128
    x = torch.zeros(1, 3, 32, 32)
    found = [cost(resnet(n), x).parameters / 1e6 for n in (3, 5, 7, 9, 18)]
    assert [round(p, 2) for p in found] == [0.27, 0.46, 0.66, 0.85, 1.73]
    assert cost(resnet(3, block=blocks.plain), x) == cost(resnet(3), x)
    k, c, pixels = 3, 512, 14**2  # the ratio 1/c_out + 1/k² of MobileNet's eq. 5
    x = torch.zeros(1, c, 14, 14)
    apart, full = cost(blocks.separable(c, c), x), cost(conv(c, c), x)
    assert full.multiply_adds == k**2 * c**2 * pixels
    assert apart.multiply_adds / full.multiply_adds == pytest.approx(1 / c + 1 / k**2, rel=1e-12)


def test_cost_leaves_the_network_as_it_was():
    net = nn.Sequential(blocks.plain(3, 3), nn.Dropout())
    net[1].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    cost(net, torch.ones(2, 3, 4, 4))
    assert [m.training for m in net] == [True, False]
    assert not any(m._forward_hooks for m in net.modules())
    for k, v in net.state_dict().items():
        assert torch.equal(v, before[k])


# ----------------------------------------------------------------------------- whole networks


@pytest.mark.parametrize("block", [blocks.plain, blocks.residual])
@pytest.mark.parametrize("depth", [2, 4, 8])
def test_tower_has_as_many_layers_of_weights_as_it_says(depth, block):
    net = tower(6, 5, depth, 3, block=block)
    layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
    assert len(layers) == depth and net(torch.zeros(2, 2, 3)).shape == (2, 3)
    assert cost(net, torch.zeros(1, 6)).multiply_adds == 6 * 5 + (depth - 2) * 25 + 5 * 3


@pytest.mark.parametrize("block", [blocks.plain, blocks.residual])
def test_resnet_has_6n_plus_2_layers_and_halves_the_image_twice(block):
    net = resnet(3, block=block, channels=(4, 8, 16), c_in=1)
    layers = [m for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert len(layers) == 20 and net(torch.zeros(2, 1, 12, 12)).shape == (2, 10)
    sizes = [net[: k + 1](torch.zeros(2, 1, 12, 12)).shape[1:] for k in (2, 5, 8, 11)]
    assert [tuple(s) for s in sizes] == [(4, 12, 12), (4, 12, 12), (8, 6, 6), (16, 3, 3)]


def test_a_residual_block_whose_last_norm_has_scale_zero_is_the_identity_on_positive_inputs():
    block, x = blocks.residual(4, 4).double(), randn(3, 4, 5, 5).abs()
    nn.init.zeros_(block[0].body[-1].gamma)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: blocks.shuffle(12, 2), "c=12 is not a multiple of 4 · groups=8"),
        (lambda: blocks.Scale(float("inf")), r"start=inf is outside \(-inf, inf\)"),
        (lambda: blocks.Pad(4, 3), "c_out=3 is less than c_in=4: zeros can only be added"),
        (
            lambda: blocks.SqueezeExcitation(8),
            "c=8 is less than reduction=16: no unit is left between",
        ),
        (lambda: tower(6, 5, 3), "depth=3 must be even and at least 2: two layers, two per block"),
        (lambda: resnet(0), "n=0 must be at least 1 block per stage"),
    ],
)
def test_errors_name_the_argument(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        wrong()


@pytest.mark.parametrize("block", [partial(blocks.unnormalized, start=0.5), blocks.shifted])
def test_blocks_without_norms_are_the_same_alone_and_in_a_sweep(block):
    source = digits().to(torch.float64)
    ends = lambda: (nn.Linear(64, 5), nn.Linear(5, 10))
    model = lambda: nn.Sequential(nn.Flatten(), (e := ends())[0], block(5, layer=linear), e[1])
    sweep = Sweep(model, sgd, source, batch=32, dtype=torch.float64)
    assert_law(sweep, *sweep.advance(sweep.start([1, 2], lr=[0.1, 0.3]), 4))


def test_a_tower_is_the_same_alone_and_in_a_sweep():
    source, model = digits().to(torch.float64), lambda: tower(64, 5, 6, block=blocks.residual)
    sweep = Sweep(model, sgd, source, batch=32, dtype=torch.float64)
    assert_law(sweep, *sweep.advance(sweep.start([1, 2], lr=[0.1, 0.3]), 4))
