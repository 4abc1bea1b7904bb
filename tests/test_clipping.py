"""Clipping against torch.nn.utils, and the printed rule that enlarges gradients."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from nettrain import clipping

close = partial(assert_close, rtol=1e-12, atol=0)
vectors = st.lists(st.floats(-1e3, 1e3).filter(lambda x: x == 0 or abs(x) > 1e-6), min_size=1)
vectors = vectors.map(lambda v: torch.tensor(v, dtype=torch.float64))


def torch_clips(clip, g):
    p = nn.Parameter(torch.zeros_like(g))
    p.grad = g.clone()
    clip([p])
    return p.grad


@given(g=vectors, b=st.floats(0, 10))
def test_by_value_as_torch(g, b):
    close(
        clipping.by_value(g, -b, b),
        torch_clips(partial(nn.utils.clip_grad_value_, clip_value=b), g),
    )


def test_by_value_has_two_ends():
    g = torch.tensor([-5.0, -0.5, 0.0, 0.5, 5.0])
    close(clipping.by_value(g, -1, 2), torch.tensor([-1.0, -0.5, 0.0, 0.5, 2.0]))


@given(g=vectors, b=st.floats(0.1, 10))
def test_by_norm_as_torch(g, b):
    large = 1e7  # torch adds 1e-6 to the norm, which vanishes beside a large one
    theirs = torch_clips(partial(nn.utils.clip_grad_norm_, max_norm=b * large), g * large)
    assert_close(clipping.by_norm(g * large, b * large), theirs, rtol=1e-11, atol=0)


@given(g=vectors, b=st.floats(0.01, 100))
def test_by_norm_shortens_to_the_threshold_and_keeps_the_direction(g, b):
    norm, clipped = g.norm(), clipping.by_norm(g, b)
    if norm <= b:
        close(clipped, g)
    else:
        close(clipped.norm().item(), b)
        close((clipped @ g / (clipped.norm() * norm)).item(), 1.0)


def test_by_value_turns_the_gradient():
    g = torch.tensor([10.0, 1.0])
    turned = clipping.by_value(g, -1, 1)
    assert torch.cosine_similarity(g, turned, dim=0) < 0.8


def test_a_zero_gradient_stays_zero():
    assert (clipping.by_norm(torch.zeros(3), 1) == 0).all()
    assert (clipping.by_value(torch.zeros(3), -1, 1) == 0).all()


def test_nothing_is_changed_in_place():
    g = torch.tensor([3.0, 4.0])
    clipping.by_norm(g, 1), clipping.by_value(g, -1, 1)
    assert g.tolist() == [3, 4]


def printed(g, b):
    """Eq. 1.25 as it stands in the chapter: compares ‖g‖² with b, then makes the norm b."""
    return g if g @ g <= b else b / g.norm() * g


@pytest.mark.parametrize(
    "norm, b, wrong, right",
    [
        (3.0, 4.0, 4.0, 3.0),  # enlarges a gradient that is below the threshold
        (0.6, 0.5, 0.6, 0.5),  # leaves one that is above it
        (3.0, 1.0, 1.0, 1.0),
    ],
)
def test_e05_the_squared_norm_clips_at_the_wrong_place(norm, b, wrong, right):
    g = norm * torch.tensor([0.6, -0.8], dtype=torch.float64)
    close(printed(g, b).norm().item(), wrong)
    close(clipping.by_norm(g, b).norm().item(), right)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda g: clipping.by_value(g, 1, 2), r"clipping interval \[1, 2\] must contain 0"),
        (lambda g: clipping.by_value(g, 1, -1), r"clipping interval \[1, -1\] must contain 0"),
        (
            lambda g: clipping.by_value(g, float("nan"), 1),
            r"clipping interval \[nan, 1\] must contain 0",
        ),
        (lambda g: clipping.by_norm(g, 0), "threshold=0 must be positive"),
        (lambda g: clipping.by_norm(g, float("nan")), "threshold=nan must be positive"),
    ],
)
def test_errors_say_what_is_allowed(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        wrong(torch.ones(2))


@pytest.mark.parametrize(
    "g, message",
    [
        (
            torch.ones(2, dtype=torch.int64),
            "g is torch.int64; give floating point numbers, as g.float()",
        ),
        (np.ones(2), "g is a ndarray; give a tensor: torch.as_tensor(g)"),
        ([1.0, 2.0], "g is a list; give a tensor: torch.as_tensor(g)"),
    ],
)
def test_what_is_no_tensor_of_floats_is_refused(g, message):
    for clip in (
        partial(clipping.by_norm, threshold=1),
        partial(clipping.by_value, low=-1, high=1),
    ):
        with pytest.raises(TypeError) as caught:
            clip(g)
        assert str(caught.value) == message


def test_each_of_many_gradients_is_clipped_by_its_own_norm():
    g = torch.tensor([[3e20, 4e20], [0.3, 0.4], [0.0, 0.0], [3e-30, 4e-30]])
    many = torch.vmap(partial(clipping.by_norm, threshold=1.0))(g)
    assert_close(many, torch.stack([clipping.by_norm(row, 1.0) for row in g]), rtol=0, atol=0)
    assert_close(
        many.double().norm(dim=1), torch.tensor([1.0, 0.5, 0, 5e-30]).double(), rtol=1e-6, atol=0
    )
