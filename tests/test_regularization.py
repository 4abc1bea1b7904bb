"""Dropout: its masks, its mean and its key."""

import io

import pytest
import torch
from scipy import stats

from nettrain import draws, training
from nettrain.regularization import Dropout

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


def test_the_mask_is_the_draw_of_the_key_and_the_key_counts_passes():
    layer = dropout(0.5, seed=9)
    for step in range(3):
        assert layer.key.tolist() == [9, step, 0]
        mask = draws.uniform(torch.tensor([9, step, 0]), x.shape) < 0.5
        assert torch.equal(layer(x) != 0, mask)


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
