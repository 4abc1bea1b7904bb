"""Losses against torch's and scikit-learn's, values and gradients, alone and in a sweep."""

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
