"""Augmentation: exact cases, another interpolation in float64, and laws of the random layer."""

import itertools
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from sweep_law import assert_law, random_data
from torch import nn

from nettrain import augmentation as a
from nettrain import draws
from nettrain.augmentation import Augment
from nettrain.lab import training
from nettrain.lab.sweep import Sweep
from nettrain.models import mlp
from nettrain.optimizers import momentum

exact = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


def pictures(n=4, c=2, h=7, w=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, c, h, w, generator=g, dtype=torch.float64)


def each(*values):
    return torch.tensor(values, dtype=torch.float64)


# ------------------------------------------------------------------------ exact cases


@pytest.mark.parametrize("side", [6, 7])
def test_quarter_turns_are_torch_s(side):
    x = pictures(5, 2, side, side)
    turned = a.rotate(x, each(0, 90, 180, 270, -90))
    for i, k in enumerate([0, 1, 2, 3, -1]):
        exact(turned[i], x[i].rot90(k, (1, 2)))


@pytest.mark.parametrize("down, right", [(0, 0), (1, 0), (0, -2), (3, 2), (-6, 1), (9, 9)])
def test_a_shift_by_whole_pixels_rolls_and_fills(down, right):
    x = pictures(2, 1, 6, 8)
    rolled = x.roll((down, right), (2, 3))
    rows, columns = torch.arange(6) - down, torch.arange(8) - right
    inside = ((rows >= 0) & (rows < 6))[:, None] & ((columns >= 0) & (columns < 8))
    by = each(down, right).expand(2, 2)
    exact(a.shift(x, by), rolled.where(inside, torch.zeros(())))
    exact(a.shift(x, by, fill=-3.0), rolled.where(inside, torch.tensor(-3.0)))


def test_half_a_pixel_is_the_mean_of_two():
    x = pictures(1, 1, 1, 5)
    exact(a.shift(x, each(0, -0.5)[None])[..., :-1], (x[..., 1:] + x[..., :-1]) / 2)


@pytest.mark.parametrize("axis", [-1, -2])
def test_flipped_twice_is_unchanged_and_only_some_are_flipped(axis):
    x, some = pictures(), torch.tensor([True, False, True, False])
    y = a.flip(x, some, axis)
    assert torch.equal(y[0], x[0].flip(axis)) and torch.equal(y[1], x[1])
    assert torch.equal(a.flip(y, some, axis), x)


def test_zoom_by_one_changes_nothing_and_by_three_enlarges_the_middle():
    x = pictures(2, 1, 9, 9)
    exact(a.zoom(x, each(1, 1)), x)
    y = a.zoom(x, each(3, 3))
    exact(y[:, :, 1::3, 1::3], x[:, :, 3:6, 3:6])
    exact(a.zoom(y, each(1 / 3, 1 / 3))[:, :, 3:6, 3:6], x[:, :, 3:6, 3:6])


def test_noise_is_the_draw_of_the_key():
    x, key = pictures(), torch.tensor([1, 2, 3])
    exact(a.noise(x, 0.5, key), x + 0.5 * draws.normal(key, x.shape))
    z = draws.normal(key, torch.Size([100_001])).double()
    assert stats.kstest(z.numpy(), "norm").pvalue > 0.01 and z.isfinite().all()
    p, q = z[:50_000], z[50_001:]  # the two numbers of each pair
    assert stats.pearsonr(p, q).pvalue > 0.01 and stats.pearsonr(p**2, q**2).pvalue > 0.01


# ------------------------------------------------------------------------ another interpolation


def by_torch(x, A, b, fill):
    """warp by grid_sample, whose coordinates run from −1 to 1 and are (column, row)."""
    h, w = x.shape[2:]
    to_pixels = torch.diag(each((w - 1) / 2, (h - 1) / 2))  # (column, row) from −1 to 1 -> pixels
    swap = torch.tensor([[0.0, 1], [1, 0]], dtype=x.dtype)
    matrix = torch.linalg.inv(to_pixels) @ swap @ A @ swap @ to_pixels
    move = torch.linalg.inv(to_pixels) @ swap @ b[:, :, None]
    grid = F.affine_grid(torch.cat([matrix, move], 2), list(x.shape), align_corners=True)
    return F.grid_sample(x - fill, grid, align_corners=True) + fill


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 9), st.integers(2, 9), st.floats(-400, 400), st.floats(0.2, 4),
    st.floats(-9, 9), st.floats(-9, 9), st.floats(-2, 2),
)  # fmt: skip
def test_warp_is_torch_s_grid_sample(h, w, angle, factor, down, right, fill):
    x, b = pictures(3, 2, h, w), each(down, right) * each(1, 0.5, -1)[:, None]
    A = a.turn(angle * each(1, -1, 0.3), factor * each(1, 1, 1))
    torch.testing.assert_close(
        a.warp(x, A, b, fill=fill), by_torch(x, A, b, fill), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("angle", [-30.0, 17.0, 100.0])
def test_rotation_inside_the_image_is_scipy_s(angle):
    x = pictures(1, 1, 12, 12)
    x[..., :3], x[..., -3:], x[:, :, :3], x[:, :, -3:] = 0, 0, 0, 0  # scipy treats the edge apart
    theirs = ndimage.rotate(x[0, 0].numpy(), angle, reshape=False, order=1)
    exact(a.rotate(x, each(angle))[0, 0], torch.from_numpy(theirs))


# ------------------------------------------------------------------------ the random layer

STRENGTHS = [
    {"rotate": 40.0}, {"flip": 0.5}, {"zoom": 1.5}, {"shift": 2.0}, {"noise": 0.3},
    {"rotate": 10.0, "flip": 0.3, "zoom": 1.2, "shift": 1.0, "noise": 0.1, "fill": -0.4},
]  # fmt: skip


def augment(seed=3, **how):
    return training.build(lambda: Augment(**how), seed)


@pytest.mark.parametrize("how", STRENGTHS, ids=str)
def test_a_run_is_the_same_alone_and_in_a_sweep(how):
    own = random_data(1, 5, 5)
    model = lambda: nn.Sequential(Augment(**how), mlp([25, 6, 3], keep=0.7))
    work = Sweep(model, momentum, own, batch=4, dtype=torch.float64)
    assert_law(work, *work.advance(work.start([5, 0, 5], lr=[0.1, 0.1, 0.01]), 7))


@pytest.mark.parametrize("how", STRENGTHS, ids=str)
def test_images_passes_and_seeds_differ_and_evaluation_changes_nothing(how):
    x = pictures(1, 1, 8, 8).expand(40, -1, -1, -1)
    layer = augment(**how)
    first, second = layer(x), layer(x)
    assert len(first.unique(dim=0)) > 1 and layer.key.tolist() == [3, 2, 0]
    assert not torch.equal(first, second) and not torch.equal(first, augment(4, **how)(x))
    assert torch.equal(first, augment(**how)(x))
    assert layer.eval()(x) is x and layer.key[1] == 2
    assert first.dtype == torch.float64


def seen(layer, n=3000):
    """What a layer does to n images: angle, ln factor, down, right, whether mirrored, each [n].

    The images hold the coordinates of their pixels, so that a changed one says where it looked:
    M p + c with M = F A, c = F b, where F is a mirror or not.
    """
    at = torch.arange(9, dtype=torch.float64) - 4
    y = layer(torch.stack(torch.meshgrid(at, at, indexing="ij")).expand(n, -1, -1, -1))
    c = y[:, :, 4, 4]
    M = torch.stack([y[:, :, 5, 4] - c, y[:, :, 4, 5] - c], 2)
    mirrored = torch.linalg.det(M) < 0
    M[mirrored, 1], c[mirrored, 1] = -M[mirrored, 1], -c[mirrored, 1]
    angle, zoom = torch.atan2(M[:, 0, 1], M[:, 0, 0]).rad2deg(), -torch.linalg.det(M).log() / 2
    torch.testing.assert_close(M, a.turn(angle, zoom.exp()), rtol=0, atol=1e-5)
    down, right = -torch.linalg.solve(M, c).T  # it is moved after it was turned
    return angle, zoom, down, right, mirrored


@pytest.mark.parametrize(
    "how",
    [{"rotate": 40.0}, {"flip": 0.3}, {"zoom": 1.5}, {"shift": 2.0},
     {"rotate": 40.0, "flip": 0.7, "zoom": 1.5, "shift": 1.0}],
    ids=str,
)  # fmt: skip
def test_each_strength_has_its_law_and_what_is_off_stays_off(how):
    *changes, mirrored = seen(augment(**how))
    limits = how.get("rotate", 0), math.log(how.get("zoom", 1)), *2 * [how.get("shift", 0)]
    for change, limit in zip(changes, limits, strict=True):
        assert change.abs().max() < limit + 1e-5
        if limit:
            assert stats.kstest(change / limit, "uniform", (-1, 2)).pvalue > 0.01
    flips = stats.binomtest(int(mirrored.sum()), len(mirrored), how.get("flip", 0))
    assert flips.pvalue > 0.01
    random = [c for c, limit in zip(changes, limits, strict=True) if limit]
    random += [mirrored.double()] if "flip" in how else []
    for one, other in itertools.combinations(random, 2):
        assert stats.pearsonr(one, other).pvalue > 0.01


def test_noise_is_gaussian_for_every_pixel_and_of_its_own_draws():
    x, how = pictures(2, 1, 1, 1).repeat(2000, 1, 1, 1), {"flip": 0.5, "noise": 0.3}
    z = ((augment(**how)(x) - x) / 0.3).flatten()
    assert stats.kstest(z, "norm").pvalue > 0.01
    mirrored = seen(augment(**how | {"noise": 0.0}), len(x))[-1].double()
    for other in (mirrored, mirrored.flip(0), z.roll(1), z.roll(2000)):
        assert stats.pearsonr(z, other).pvalue > 0.01


def test_what_comes_from_outside_has_the_given_value():
    x = torch.full((30, 1, 6, 6), -0.4)
    torch.testing.assert_close(augment(rotate=180.0, zoom=2.0, shift=5.0, fill=-0.4)(x), x)


@pytest.mark.parametrize(
    "name, value",
    [("rotate", -1), ("rotate", 181), ("flip", 1.5), ("flip", -0.1), ("zoom", 0.9), ("zoom", 0),
     ("shift", -1), ("noise", -0.1), ("noise", math.inf), ("shift", math.nan)],
)  # fmt: skip
def test_a_strength_outside_its_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"^{name}={value} is outside \["):
        Augment(**{name: value})


def test_a_background_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="fill=nan must be a finite number"):
        Augment(rotate=3, fill=math.nan)


def test_mixup_mixes_images_and_labels_by_the_same_share():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, 1, 4, 5, generator=g, dtype=torch.float64)
    y = torch.eye(3, dtype=torch.float64)
    share, partner = torch.tensor([1.0, 0.25, 0.0], dtype=torch.float64), torch.tensor([2, 0, 1])
    mixed, labels = a.mixup(x, y, share, partner)
    for i, (b, k) in enumerate(zip(share.tolist(), partner.tolist(), strict=True)):
        torch.testing.assert_close(mixed[i], b * x[i] + (1 - b) * x[k])
        torch.testing.assert_close(labels[i], b * y[i] + (1 - b) * y[k])
    assert labels.sum(1).tolist() == [1, 1, 1]


def test_mixup_refuses_class_numbers():
    x, y = torch.zeros(2, 1, 3, 3), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="soft labels"):
        a.mixup(x, y, torch.ones(2), y)
