"""Runs that draw their own training examples."""

import pytest
import torch
from torch import nn

from nettrain import data
from nettrain.lab import training
from nettrain.lab.sweep import Sweep
from nettrain.optimizers import sgd
from nettrain.resampling import Own, numbered

digits = data.mnist(side=7)


def net(size=30):
    return nn.Sequential(Own(digits.train, size), nn.Flatten(), nn.Linear(49, 10))


def test_a_number_becomes_an_image_of_its_class_and_no_image_comes_twice():
    few = numbered(digits, 30)
    own = training.build(net, 3)[0]
    x = own(few.train.x)
    assert len(own.rows.unique()) == 30
    assert torch.equal(digits.train.y[own.rows], few.train.y)
    assert torch.equal(x, digits.train.x[own.rows])
    assert torch.bincount(few.train.y).tolist() == [3] * 10


def test_images_pass_unchanged():
    own = training.build(net, 0)[0]
    assert torch.equal(own(digits.valid.x), digits.valid.x)


def test_a_seed_decides_what_is_drawn():
    rows = [training.build(net, seed)[0].rows for seed in (0, 0, 1)]
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])


def test_all_of_the_examples_can_be_drawn():
    split = data.Split(torch.arange(6.0)[:, None, None], torch.tensor([1, 0, 1, 0, 0, 1]))
    own = Own(split, 6)
    assert sorted(own.rows.tolist()) == list(range(6))


def test_a_row_of_a_sweep_trains_on_its_own_examples():
    work = Sweep(net, sgd, numbered(digits, 30), batch=10, dtype=torch.float64)
    runs, _ = work.advance(work.start([4, 5], lr=0.1), 7)
    alone, _ = work.advance(work.start([5], lr=0.1), 7)
    torch.testing.assert_close(runs.theta[1], alone.theta[0], rtol=0, atol=1e-12)
    assert not torch.equal(runs.buffers["0.rows"][0], runs.buffers["0.rows"][1])
    # the same as plain gradient steps on the drawn images
    own = training.build(net, 5).double()
    x, y = digits.train.x[own[0].rows].double(), numbered(digits, 30).train.y
    stream = training.batches(30, 10, 5)
    for _ in range(7):
        i = next(stream)
        loss = nn.functional.cross_entropy(own[2](x[i].flatten(1)), y[i])
        for p, g in zip(own[2].parameters(), torch.autograd.grad(loss, own[2].parameters())):
            p.data -= 0.1 * g
    flat = nn.utils.parameters_to_vector(own[2].parameters())
    torch.testing.assert_close(alone.theta[0], flat, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [0, 5, 25])
def test_sizes_that_are_no_multiple_of_the_classes_are_refused(size):
    with pytest.raises(ValueError, match=f"size={size}"):
        numbered(digits, size)


def test_more_examples_than_there_are_is_refused():
    with pytest.raises(ValueError, match="rarest class"):
        Own(digits.train, 7_000)
