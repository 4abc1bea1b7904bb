"""Soft labels: smoothing as in torch, what teachers say, a temperature."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sweep_law import assert_law, random_data
from torch import nn

from nettrain import labels, losses
from nettrain.data import Data, Split
from nettrain.lab.sweep import Sweep
from nettrain.models import mlp
from nettrain.optimizers import momentum

exact = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)

z = torch.randn(30, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
y = torch.randint(10, (30,), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("eps", [0, 0.1, 0.9])
@pytest.mark.usefixtures("double_precision")
def test_smoothed_labels_give_torch_s_loss(eps):
    theirs = F.cross_entropy(z, y, label_smoothing=eps)
    exact(losses.cross_entropy(z, labels.smooth_all(y, eps, 10)), theirs)
    exact(losses.cross_entropy(z, labels.smooth_others(y, eps * 9 / 10, 10)), theirs)


@pytest.mark.parametrize("form", [labels.smooth_all, labels.smooth_others])
def test_smoothed_labels_are_distributions(form):
    q = form(y, 0.3, 10)
    torch.testing.assert_close(q.sum(1), torch.ones(30))
    assert torch.equal(q.argmax(1), y) and (q > 0).all()
    assert torch.equal(form(y, 0, 10), F.one_hot(y, 10).float())


def test_a_sweep_trains_on_soft_labels_and_judges_by_numbers():
    own = random_data(6)
    soft = Split(own.train.x, labels.smooth_all(own.train.y, 0.2, 3))
    work = Sweep(lambda: mlp([6, 5, 3]), momentum, Data("s", soft, own.valid, own.test), batch=4)
    twin = partial(F.cross_entropy, label_smoothing=0.2)
    other = Sweep(lambda: mlp([6, 5, 3]), momentum, own, batch=4, loss=twin)
    a, _ = work.advance(work.start([0, 1], lr=0.1), 12)
    b, _ = other.advance(other.start([0, 1], lr=0.1), 12)
    torch.testing.assert_close(a.theta, b.theta, rtol=0, atol=1e-5)
    assert torch.equal(work.evaluate(a, own.valid)[1], other.evaluate(b, own.valid)[1])


def test_soft_labels_of_teachers_are_the_mean_of_their_softened_outputs():
    logits = torch.stack([z, z.flip(0)])
    by_numpy = np.exp(logits.numpy() / 4)
    by_numpy = (by_numpy / by_numpy.sum(-1, keepdims=True)).mean(0)
    exact(labels.soft_labels(logits, 4), torch.from_numpy(by_numpy))


def test_at_a_high_temperature_distillation_matches_logits():
    T, teacher = 1e4, z.flip(0)
    student = z.clone().requires_grad_()
    out = labels.Temperature(T)(student)
    losses.cross_entropy(out, labels.soft_labels(teacher[None], T)).backward()
    centred = (z - z.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    torch.testing.assert_close(T**2 * student.grad * 30 * 10, centred, rtol=0, atol=1e-2)
    layer = labels.Temperature(T).eval()
    assert layer(z) is z


MODELS = {"temperature": (lambda: nn.Sequential(nn.Linear(6, 3), labels.Temperature(3.0)), (6,))}


@pytest.mark.parametrize("name", MODELS)
def test_a_run_is_the_same_alone_and_in_a_sweep(name):
    model, shape = MODELS[name]
    own = random_data(*shape)
    work = Sweep(model, momentum, own, batch=4, dtype=torch.float64)
    assert_law(work, *work.advance(work.start([5, 0, 5], lr=[0.1, 0.1, 0.01]), 7))


REFUSED = [
    (lambda: labels.smooth_all(y, 1, 10), r"eps=1 is outside \[0, 1\)"),
    (lambda: labels.smooth_others(y, -0.1, 10), r"eps=-0.1 is outside \[0, 1\)"),
    (lambda: labels.smooth_others(y, 0.1, 1), "classes=1 must be two or more"),
    (lambda: labels.soft_labels(z[None], 0), r"temperature=0 is outside \(0, inf\)"),
    (lambda: labels.Temperature(float("nan")), "temperature=nan is outside"),
]


@pytest.mark.parametrize("wrong, message", REFUSED)
def test_numbers_out_of_range_are_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
