"""Nothing is made on the CPU in between where the data lie elsewhere.

torch's device "meta" has shapes and no numbers, on any machine, and refuses tensors of another
device as a GPU does. So a mistake of this kind shows without a GPU; whether a GPU's numbers are
right does not.
"""

from functools import partial

import pytest
import torch
from torch import nn
from torch.func import vmap

from nettrain import augmentation, blocks, clipping, data, draws, losses, models, penalties
from nettrain import dropout as r
from nettrain import normalization as n
from nettrain import optimizers as o
from nettrain.lab import training
from nettrain.lab.adapter import Optimizer
from nettrain.lab.sweep import Sweep

META = torch.device("meta")
DIGITS = data.mnist(side=14)
every_rule = pytest.mark.parametrize("rule", o.RULES, ids=lambda rule: rule.__name__)
SIZES = [196, 8, 10]


def with_layer(layer):
    return lambda: nn.Sequential(nn.Flatten(), nn.Linear(196, 8), layer(), nn.Linear(8, 10))


def residual():
    return nn.Sequential(blocks.residual(1, 4), nn.Flatten(), nn.Linear(4 * 196, 10))


def augmented():
    change = augmentation.Augment(rotate=9, flip=0.5, shift=1, zoom=1.1, noise=0.1)
    return nn.Sequential(change, *models.mlp(SIZES))


MODELS = {
    "mlp": partial(models.mlp, SIZES),
    "cnn": models.cnn,
    "residual block": residual,
    "rnn": lambda: nn.Sequential(nn.Flatten(1, 2), models.RNN(14, 8, 10)),
    "rnn with masks": lambda: nn.Sequential(
        nn.Flatten(1, 2), models.DropoutRNN(14, 8, 10, keep=0.5, masks=r.variational_masks)
    ),
    "batch normalization": with_layer(lambda: n.BatchNorm(8)),
    "layer normalization": with_layer(lambda: n.LayerNorm(8)),
    "dropout": with_layer(lambda: r.Dropout(0.5)),
    "dropped connections": with_layer(lambda: r.DropConnect(8, 8, keep=0.5)),
    "dropped layers": with_layer(lambda: r.LayerDrop(nn.Linear(8, 8), 0.5)),
    "augmentation": augmented,
}
LOSSES = {"cross-entropy": losses.cross_entropy} | {
    f.__name__: f for f in (losses.squared, losses.brier, losses.hinge)
}


def elsewhere(x, shape=None):
    return torch.empty(x.shape if shape is None else shape, dtype=x.dtype, device=META)


def step(model, rule=o.adam, **how) -> None:
    """One step of two runs, and their evaluation."""
    work = Sweep(model, rule, DIGITS, batch=4, **how)
    runs = work.start([0, 1])
    x, y = DIGITS.train.x[:4], DIGITS.train.y[:4]
    theta, t = elsewhere(runs.theta), torch.empty((), dtype=torch.float64, device=META)
    buffers = {k: elsewhere(b) for k, b in runs.buffers.items()}
    state = tuple(map(elsewhere, runs.state))
    batch = elsewhere(x, (2, *x.shape)), elsewhere(y, (2, 4))
    one = vmap(work._step, in_dims=(0, 0, 0, 0, 0, 0, None))
    theta, _, buffers, loss = one(theta, state, buffers, {}, *batch, t)
    assert theta.device == loss.device == META
    work._net.eval()
    loss, right = vmap(work._measure, in_dims=(0, 0, None, None))(
        theta, buffers, elsewhere(x), elsewhere(y)
    )
    assert loss.device == right.device == META


@every_rule
def test_rules(rule):
    step(MODELS["mlp"], rule)


@pytest.mark.parametrize("model", MODELS)
def test_models(model):
    step(MODELS[model])


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss):
    step(MODELS["mlp"], loss=LOSSES[loss])


def test_clipping_and_penalties():
    step(MODELS["mlp"], clip=partial(clipping.by_norm, threshold=1.0))
    step(MODELS["mlp"], penalties.penalized(o.sgd, penalties.elastic_net))
    step(MODELS["mlp"], penalties.decayed(o.adam))


def test_orders_and_draws():
    keys = torch.empty(3, 2, dtype=torch.int64, device=META)
    assert training.order(keys[:, 0], 1, 7).device == META
    for draw in (draws.uniform, draws.normal):
        assert draw(keys[0], torch.Size([4])).device == META


@every_rule
def test_the_adapter(rule):
    net = models.mlp(SIZES).to(META)
    for p in net.parameters():
        p.grad = torch.empty_like(p)
    opt = Optimizer(net.parameters(), rule)
    for _ in range(2):
        opt.step()
    tensors = [x for p in net.parameters() for name, x in opt.state[p].items() if name != "t"]
    assert all(x.device == META for x in tensors)


def test_the_check_sees_a_layer_that_makes_a_tensor_on_the_cpu():
    class Shift(nn.Module):
        def forward(self, x):
            return x + torch.ones(8)

    with pytest.raises(RuntimeError, match="device cpu"):
        step(with_layer(Shift))
