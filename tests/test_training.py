"""One run: seeds, batches, evaluation and the loop against the same loop written out."""

import itertools
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nettrain import clipping, losses, schedules
from nettrain.data import Data, Split
from nettrain.dropout import Dropout
from nettrain.lab import training
from nettrain.lab.adapter import Optimizer
from nettrain.lab.sweep import Sweep, sweep
from nettrain.models import mlp
from nettrain.optimizers import momentum

g = torch.Generator().manual_seed(0)


def split(n):
    return Split(torch.randn(n, 6, generator=g).double(), torch.randint(3, (n,), generator=g))


data = Data("random", split(22), split(9), split(5))
fit = partial(training.fit, data=data, batch=4, show=False)


def net(seed=0, **kw):
    return training.build(partial(mlp, [6, 5, 3], **kw), seed).double()


def weights(model):
    return nn.utils.parameters_to_vector(model.parameters())


# ------------------------------------------------------------------------ build


def test_a_seed_is_a_network():
    assert torch.equal(weights(net(1)), weights(net(1)))
    assert not torch.equal(weights(net(1)), weights(net(2)))


def test_build_leaves_every_global_generator_alone(monkeypatch):
    for module in (torch.cuda, torch.mps):
        monkeypatch.setattr(module, "manual_seed", lambda *_: pytest.fail("reseeded"))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda *_: pytest.fail("reseeded"))
    before = torch.get_rng_state()
    net(1)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ZeroDivisionError):
        training.build(lambda: torch.rand(1) + 1 / 0, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_build_gives_every_random_layer_its_key():
    model = training.build(lambda: nn.Sequential(Dropout(0.5), mlp([6, 5, 4, 3], keep=0.5)), 7)
    keys = [m.key.tolist() for m in model.modules() if isinstance(m, Dropout)]
    assert keys == [[7, 0, 0], [7, 0, 1], [7, 0, 2]]


# ------------------------------------------------------------------------ batches


def test_an_epoch_is_a_permutation_without_its_remainder():
    stream = training.batches(22, 4, seed=3)
    epochs = [torch.stack(list(itertools.islice(stream, 5))) for _ in range(3)]
    for epoch, rows in enumerate(epochs):
        assert rows.shape == (5, 4) and len(rows.unique()) == 20 and rows.max() < 22
        order = training.order(torch.tensor(3), epoch, 22)
        assert torch.equal(rows.flatten(), order[:20])
        assert order.sort().values.tolist() == list(range(22))
    assert not torch.equal(epochs[0], epochs[1])
    other = torch.stack(list(itertools.islice(training.batches(22, 4, seed=4), 5)))
    assert not torch.equal(epochs[0], other)


@pytest.mark.parametrize("batch", [0, 23])
def test_a_batch_must_fit_into_the_data(batch):
    with pytest.raises(ValueError, match=rf"^batch={batch} is outside \[1, 22\], the number of"):
        training.steps_per_epoch(22, batch)
    assert training.steps_per_epoch(22, 22) == 1 and training.steps_per_epoch(22, 1) == 22


# ------------------------------------------------------------------------ evaluate


@pytest.mark.parametrize("mode", [True, False])
def test_evaluate_measures_in_evaluation_mode_and_restores_the_mode(mode):
    model = net(norm=nn.BatchNorm1d, keep=0.5).train(mode)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    loss, accuracy = training.evaluate(model, data.valid)
    assert {m.training for m in model.modules()} == {mode}
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    p = model.eval()(data.valid.x).softmax(-1)
    right = [p[i].argmax() == y for i, y in enumerate(data.valid.y)]
    assert accuracy == sum(right) / len(right)
    logs = [-p[i, y].log() for i, y in enumerate(data.valid.y)]
    assert loss == pytest.approx(sum(logs).item() / len(logs), rel=1e-12)


def test_without_classes_there_is_no_accuracy():
    numbers = Split(data.valid.x, data.valid.x[:, :3] ** 2)
    loss, accuracy = training.evaluate(net(), numbers, F.mse_loss)
    assert accuracy != accuracy and loss > 0


# ------------------------------------------------------------------------ fit


def test_fit_is_the_plain_loop():
    model, twin = net(), net()
    rate = partial(schedules.cosine, total=12)
    clip = partial(clipping.by_norm, threshold=0.3)
    opt = Optimizer(model.parameters(), momentum, lr=0.2)
    table = fit(model, optimizer=opt, steps=12, every=3, seed=5, schedule=rate, clip=clip)
    opt = torch.optim.SGD(twin.parameters(), momentum=0.9, lr=0.2)
    losses, rows = [], []
    for step, i in zip(range(1, 13), training.batches(22, 4, seed=5), strict=False):
        opt.param_groups[0]["lr"] = rate(0.2)(step - 1)
        opt.zero_grad()
        losses.append(F.cross_entropy(twin(data.train.x[i]), data.train.y[i]))
        losses[-1].backward()
        norm = torch.stack([p.grad.norm() for p in twin.parameters()]).norm()
        for p in twin.parameters():
            p.grad.mul_(min(1, 0.3 / norm))
        opt.step()
        if step % 3 == 0:
            mean = torch.stack(losses[-3:]).mean().item()
            rows.append((step, step / 5, mean, *training.evaluate(twin, data.valid)))
    torch.testing.assert_close(weights(model), weights(twin), rtol=0, atol=1e-12)
    columns = ["step", "epoch", "train_loss", "valid_loss", "valid_accuracy"]
    pd.testing.assert_frame_equal(table, pd.DataFrame(rows, columns=columns), rtol=1e-10)


def test_fit_reports_every_epoch_unless_told_otherwise():
    model = net()
    opt = Optimizer(model.parameters(), momentum)
    assert fit(model, optimizer=opt, steps=13)["step"].tolist() == [5, 10, 13]
    assert fit(model, optimizer=opt, steps=3)["step"].tolist() == [3]  # less than an epoch
    assert model.training


def test_the_last_row_of_fit_is_the_mean_of_the_steps_left():
    one, every = (
        fit(m, optimizer=Optimizer(m.parameters(), momentum), steps=7, every=e)["train_loss"]
        for m, e in ((net(), 5), (net(), 1))
    )
    assert one.tolist() == pytest.approx([every[:5].mean(), every[5:].mean()], rel=1e-12)


def test_a_fit_and_a_sweep_have_the_same_defaults():
    single = Data("", *(s.to(torch.float32) for s in (split(130), split(9), split(5))))
    model, how = net().float(), {"steps": np.int64(5), "show": False}
    alone = training.fit(model, single, Optimizer(model.parameters(), momentum), **how)
    assert alone["step"].tolist() == [2, 4, 5]  # an epoch has two batches of 63, 64 or 65
    table = sweep(partial(mlp, [6, 5, 3]), momentum, single, seeds=[0], **how)
    pd.testing.assert_frame_equal(table[alone.columns], alone, rtol=1e-5)
    work = Sweep(partial(mlp, [6, 5, 3]), momentum, single)
    _, first = work.advance(work.start([0]), 2)
    assert first.tolist() == pytest.approx([alone["train_loss"][0]], rel=1e-5)


@pytest.mark.parametrize("name", ["steps", "every"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "3"])
def test_fit_needs_a_step(name, value):
    model = net()
    before = weights(model).clone()
    arguments = {"steps": 5} | {name: value}
    with pytest.raises(ValueError, match=f"^{name}={value!r} must be a positive integer$"):
        fit(model, optimizer=Optimizer(model.parameters(), momentum), **arguments)
    assert torch.equal(weights(model), before)


def with_labels(change):
    return Data("", data.train, Split(data.valid.x, change(data.valid.y)), data.test)


WRONG_LABELS = [  # (labels, what is said)
    (lambda y: y.double(), TypeError, r"torch.float64 of shape \[9\].*integers: y.long\(\)$"),
    (lambda y: y.float()[:, None], TypeError, r"torch.float32 of shape \[9, 1\].*y.long\(\)$"),
    (lambda y: y[:, None], ValueError, r"shape \[9, 1\], but there are 9 examples: give \[n\]$"),
    (lambda y: y == 0, TypeError, "torch.bool; class numbers are integers"),
    (lambda y: y + 1, ValueError, r"valid labels\[\d\] is 3, but with 3 outputs they are 0 ... 2$"),
    (lambda y: y - 1, ValueError, r"valid labels\[\d\] is -1, but with 3 outputs they are 0"),
    (lambda y: F.one_hot(y, 3) * 0.5, ValueError, r"\[0\] is \[.*\], but soft labels .* sum to 1$"),
    (lambda y: F.one_hot(y, 3) * torch.nan, ValueError, r"valid labels\[0\] is \[nan"),
    (lambda y: F.one_hot(y, 4).double(), TypeError, r"\[9, 4\], but soft .* shape \[9, 3\]$"),
]


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.squared, losses.hinge])
@pytest.mark.parametrize("labels, error, message", WRONG_LABELS)
def test_labels_that_do_not_fit_are_refused_before_the_first_step(labels, error, message, loss):
    model = net()
    before, wrong = weights(model).clone(), with_labels(labels)
    opt = Optimizer(model.parameters(), momentum)
    with pytest.raises(error, match=message):
        training.fit(model, wrong, opt, batch=4, steps=5, loss=loss, show=False)
    assert torch.equal(weights(model), before) and model.training
    with pytest.raises(error, match=message):
        Sweep(partial(mlp, [6, 5, 3]), momentum, wrong, batch=4, loss=loss)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.squared, losses.hinge])
def test_class_numbers_may_be_of_any_integer_type(loss, dtype):
    out = net()(data.valid.x)
    assert torch.equal(loss(out, data.valid.y.to(dtype)), loss(out, data.valid.y))


@pytest.mark.parametrize("loss", [losses.squared, losses.brier, losses.hinge])
def test_losses_refuse_class_numbers_that_are_not_integers(loss):
    with pytest.raises(TypeError, match="give integers"):
        loss(net()(data.valid.x), data.valid.y.double())


class ByView(nn.Module):
    """Refuses an empty batch: it has no length of an example to find."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 3)

    def forward(self, x):
        return self.body(x.view(len(x), -1))


def test_labels_are_checked_on_an_example_not_on_nothing():
    model = ByView().double()
    table = fit(model, optimizer=Optimizer(model.parameters(), momentum), steps=2)
    assert table["step"].tolist() == [2]


def test_another_loss_has_labels_of_its_own():
    model, wrong = net(), with_labels(lambda y: y.double())
    numbers = Data("", *(Split(s.x, s.x[:, :3]) for s in (wrong.train, wrong.valid, wrong.test)))
    opt = Optimizer(model.parameters(), momentum)
    training.fit(model, numbers, opt, batch=4, steps=5, loss=F.mse_loss, show=False)


def test_fit_trains_with_batch_statistics_and_masks():
    model = net(norm=nn.BatchNorm1d, keep=0.5).eval()
    fit(model, optimizer=Optimizer(model.parameters(), momentum), steps=7)
    assert model[2].num_batches_tracked == 7 and model[4].key.tolist() == [0, 7, 0]


def test_clipping_sees_all_gradients_as_one_vector():
    params = [nn.Parameter(torch.zeros(s)) for s in ((2,), (3,), (1, 1))]
    params[0].grad, params[2].grad = torch.tensor([3.0, 0.0]), torch.tensor([[-4.0]])
    training.clip_gradients(params, lambda g: g / g.norm())
    assert params[0].grad.tolist() == pytest.approx([0.6, 0]) and params[1].grad is None
    assert params[2].grad.tolist() == [[pytest.approx(-0.8)]]


def test_a_bar_ends_where_it_said(monkeypatch):
    monkeypatch.delenv("NETTRAIN_BUILD", raising=False)
    bars, bar = [], training.progress
    monkeypatch.setattr(training, "progress", lambda *how: bars.append(bar(*how)) or bars[-1])
    model = net()
    opt = Optimizer(model.parameters(), momentum)
    training.fit(model, data, opt, steps=7, every=3, batch=4)
    how = {"seeds": [0, 1], "lr": [0.1, 0.2], "steps": 7, "every": 3, "batch": 4}
    sweep(partial(mlp, [6, 5, 3]), momentum, data.to(torch.float32), **how)
    assert [(bar.n, bar.total) for bar in bars] == [(7, 7), (4 * 7, 4 * 7)]


def test_progress_is_silent_while_the_book_is_built(monkeypatch, capsys):
    for value, silent in (("1", True), (None, False)):
        monkeypatch.delenv("NETTRAIN_BUILD", raising=False)
        if value:
            monkeypatch.setenv("NETTRAIN_BUILD", value)
        with training.progress(3, "training") as bar:
            bar.update()
        assert (capsys.readouterr().err == "") is silent
    assert training.progress(3, "training", show=False).disable
