"""Losses against torch's and scikit-learn's, values and gradients, alone and in a sweep."""

import math
import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from torch.func import grad, vmap

from nettrain import losses

g = torch.Generator().manual_seed(0)
y = torch.tensor([0, 3, 1, 2, 2])
out = 2 * torch.randn(5, 4, generator=g, dtype=torch.float64)
exact = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)

TWINS = {
    losses.squared: lambda o, y: 2 * F.mse_loss(o, torch.eye(4).double()[y]),
    losses.brier: lambda o, y: 2 * F.mse_loss(F.softmax(o, 1), torch.eye(4).double()[y]),
    losses.hinge: lambda o, y: 4 * F.multi_margin_loss(o, y),
}


@pytest.mark.parametrize("loss", TWINS, ids=lambda f: f.__name__)
def test_a_loss_and_its_gradient_are_torchs(loss):
    torch.testing.assert_close(loss(out, y), TWINS[loss](out, y), rtol=1e-14, atol=0)
    leaf = out.clone().requires_grad_()
    (expected,) = torch.autograd.grad(TWINS[loss](leaf, y), leaf)
    torch.testing.assert_close(grad(loss)(out, y), expected, rtol=0, atol=1e-15)
    rows = vmap(grad(loss))(torch.stack([2 * out, out]), torch.stack([y.flip(0), y]))
    torch.testing.assert_close(rows[1], expected, rtol=0, atol=1e-15)


def test_the_loss_of_soft_labels_is_torch_s_and_of_one_hot_labels_that_of_numbers():
    z = torch.randn(30, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y = torch.randint(10, (30,), generator=torch.Generator().manual_seed(3))
    q = z.flip(0).softmax(1)
    exact(losses.cross_entropy(z, q), F.cross_entropy(z, q))
    exact(losses.cross_entropy(z, F.one_hot(y, 10).double()), losses.cross_entropy(z, y))


def test_brier_of_two_classes_is_scikit_learns():
    two, labels = out[:, :2], torch.tensor([0, 1, 1, 0, 1])
    expected = brier_score_loss(labels, two.softmax(1)[:, 1])
    assert losses.brier(two, labels).item() == pytest.approx(expected, rel=1e-12)


numbers = st.lists(st.integers(-200, 200).map(lambda k: k / 4), min_size=3, max_size=3)  # exact


@given(numbers, st.integers(0, 2))
def test_laws_of_a_loss(o, label):
    """Not negative; brier at most 1; hinge is 0 just if the label leads by 1, and a bound."""
    o, label = torch.tensor([o], dtype=torch.float64), torch.tensor([label])
    s, b, h = (loss(o, label).item() for loss in (losses.squared, losses.brier, losses.hinge))
    assert s >= 0 and 0 <= b <= 1 and h >= 0
    others = o[0][[c for c in range(3) if c != label]]
    lead = (o[0, label] - others.max()).item()
    assert (h == 0) == (lead >= 1) and h >= (lead < 0)


# ------------------------------------------------------------------------- ensembles

MEMBERS = 3 * torch.randn(5, 3, 4, generator=g, dtype=torch.float64)
SOFT = torch.randn(5, 4, generator=g, dtype=torch.float64).softmax(1)


@pytest.mark.parametrize("labels", [y, SOFT], ids=["classes", "soft labels"])
def test_of_an_ensemble_it_is_the_sum_over_its_members_with_their_gradients(labels):
    leaf = MEMBERS.clone().requires_grad_()
    value = losses.ensemble_cross_entropy(leaf, labels)
    exact(value, sum(F.cross_entropy(MEMBERS[:, m], labels) for m in range(3)))
    (found,) = torch.autograd.grad(value, leaf)
    for m in range(3):
        alone = MEMBERS[:, m].clone().requires_grad_()
        exact(found[:, m], torch.autograd.grad(F.cross_entropy(alone, labels), alone)[0])


def test_of_an_ensemble_in_use_it_is_that_of_the_mean_probability():
    p = MEMBERS.softmax(2).mean(1)
    expected = -p[torch.arange(5), y].log().mean()
    exact(losses.ensemble_cross_entropy(p.log(), y), expected)


def test_an_ensemble_s_loss_refuses_outputs_of_another_shape():
    with pytest.raises(ValueError, match=r"^outputs have shape \[5\]; give \[n, classes\]$"):
        losses.ensemble_cross_entropy(MEMBERS[:, 0, 0], y)


# ------------------------------------------------------------------------ sequences

_g = torch.Generator().manual_seed(0)
TEXT = 3 * torch.randn(4, 6, 5, generator=_g, dtype=torch.float64)
PLACES = torch.randint(5, (4, 6), generator=_g)


def test_of_tokens_it_is_torchs_with_its_gradient():
    ours, theirs = TEXT.clone().requires_grad_(), TEXT.clone().requires_grad_()
    value, expected = (
        losses.token_cross_entropy(ours, PLACES),
        F.cross_entropy(theirs.movedim(-1, 1), PLACES),
    )
    value.backward(), expected.backward()
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-14)


def test_of_tokens_it_is_the_mean_over_the_places_of_the_loss_of_examples():
    each = [losses.cross_entropy(TEXT[:, t], PLACES[:, t]) for t in range(6)]
    torch.testing.assert_close(losses.token_cross_entropy(TEXT, PLACES), torch.stack(each).mean())
    assert torch.equal(losses.token_cross_entropy(TEXT[:, 0], PLACES[:, 0]), each[0])


def test_of_tokens_equal_outputs_cost_the_logarithm_of_their_number():
    assert losses.token_cross_entropy(torch.zeros(4, 6, 5), PLACES).item() == pytest.approx(
        math.log(5)
    )


WRONG_OF_TOKENS = {
    "places and examples exchanged": lambda: losses.cross_entropy(
        TEXT.transpose(0, 1).flatten(0, 1), PLACES.flatten()
    ),
    "the last place alone": lambda: losses.cross_entropy(TEXT[:, -1], PLACES[:, -1]),
    "a sum over places": lambda: 6 * losses.token_cross_entropy(TEXT, PLACES),
}


@pytest.mark.parametrize("name", WRONG_OF_TOKENS)
def test_a_wrong_loss_of_tokens_is_told_apart(name):
    assert abs(WRONG_OF_TOKENS[name]() - F.cross_entropy(TEXT.movedim(-1, 1), PLACES)) > 1e-3


@pytest.mark.parametrize(
    "out, y, message",
    [
        (TEXT, PLACES[:, :5], "labels [4, 5], outputs [4, 6, 5]"),
        (TEXT, PLACES[:, 0], "labels [4], outputs [4, 6, 5]"),
        (TEXT.movedim(-1, 1), PLACES, "labels [4, 6], outputs [4, 5, 6]"),
        (TEXT[0, 0], PLACES[0, 0], "labels [], outputs [5]"),
    ],
)
def test_tokens_of_another_shape_are_refused(out, y, message):
    with pytest.raises(ValueError, match=re.escape(f"shapes are {message}; give labels [n, T]")):
        losses.token_cross_entropy(out, y)


def test_tokens_that_are_not_integers_are_refused():
    with pytest.raises(TypeError, match="class numbers are integers"):
        losses.token_cross_entropy(TEXT, PLACES.double())


def test_calibration_error_by_hand():
    """Two answers at 0.95, one right, and one right answer at 0.55: (2 · 0.45 + 0.45) / 3."""
    sure, right = torch.tensor([0.95, 0.95, 0.55]), torch.tensor([True, False, True])
    assert losses.calibration_error(sure, right).item() == pytest.approx(0.45)
    assert losses.calibration_error(sure, right, bins=1).item() == pytest.approx(0.45 / 3)


def test_who_is_always_certain_is_off_by_his_errors():
    right = torch.tensor([True] * 7 + [False] * 3)
    assert losses.calibration_error(torch.ones(10), right).item() == pytest.approx(0.3)


def test_answers_that_are_right_as_often_as_said_are_calibrated():
    sure = torch.rand(200_000, generator=g, dtype=torch.float64)
    right = torch.rand(200_000, generator=g, dtype=torch.float64) < sure
    assert losses.calibration_error(sure, right).item() < 0.005
