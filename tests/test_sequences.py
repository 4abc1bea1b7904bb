"""The loss of sequences against torch's, in float64."""

import math
import re

import pytest
import torch
import torch.nn.functional as F

from nettrain import losses
from nettrain.sequences import token_cross_entropy

g = torch.Generator().manual_seed(0)
OUT = 3 * torch.randn(4, 6, 5, generator=g, dtype=torch.float64)
Y = torch.randint(5, (4, 6), generator=g)


def test_it_is_torchs_with_its_gradient():
    ours, theirs = OUT.clone().requires_grad_(), OUT.clone().requires_grad_()
    value, expected = token_cross_entropy(ours, Y), F.cross_entropy(theirs.movedim(-1, 1), Y)
    value.backward(), expected.backward()
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-14)


def test_it_is_the_mean_over_the_places_of_the_loss_of_examples():
    each = [losses.cross_entropy(OUT[:, t], Y[:, t]) for t in range(6)]
    torch.testing.assert_close(token_cross_entropy(OUT, Y), torch.stack(each).mean())
    assert torch.equal(token_cross_entropy(OUT[:, 0], Y[:, 0]), each[0])


def test_equal_outputs_cost_the_logarithm_of_their_number():
    assert token_cross_entropy(torch.zeros(4, 6, 5), Y).item() == pytest.approx(math.log(5))


WRONG = {
    "places and examples exchanged": lambda: losses.cross_entropy(
        OUT.transpose(0, 1).flatten(0, 1), Y.flatten()
    ),
    "the last place alone": lambda: losses.cross_entropy(OUT[:, -1], Y[:, -1]),
    "a sum over places": lambda: 6 * token_cross_entropy(OUT, Y),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_loss_is_told_apart(name):
    assert abs(WRONG[name]() - F.cross_entropy(OUT.movedim(-1, 1), Y)) > 1e-3


@pytest.mark.parametrize(
    "out, y, message",
    [
        (OUT, Y[:, :5], "labels [4, 5], outputs [4, 6, 5]"),
        (OUT, Y[:, 0], "labels [4], outputs [4, 6, 5]"),
        (OUT.movedim(-1, 1), Y, "labels [4, 6], outputs [4, 5, 6]"),
        (OUT[0, 0], Y[0, 0], "labels [], outputs [5]"),
    ],
)
def test_labels_of_another_shape_are_refused(out, y, message):
    with pytest.raises(ValueError, match=re.escape(f"shapes are {message}; give labels [n, T]")):
        token_cross_entropy(out, y)


def test_labels_that_are_not_integers_are_refused():
    with pytest.raises(TypeError, match="class numbers are integers"):
        token_cross_entropy(OUT, Y.double())
