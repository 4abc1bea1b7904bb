"""Scaling and whitening against scikit-learn, and as laws."""

import math
from functools import partial

import pytest
import torch
from sklearn import preprocessing as sk
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from nettrain import preprocessing as pre

g = torch.Generator().manual_seed(0)
exact = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


def mixed(n=60, d=5):
    """Correlated features of very different scale and mean."""
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    A = torch.randn(d, d, generator=g, dtype=torch.float64)
    return (x @ A) * 10.0 ** torch.arange(-2, d - 2) + 7


x, new = mixed(), mixed(9)
constant = torch.cat([x, torch.full((60, 1), 0.1, dtype=torch.float64)], 1)
duplicate = torch.cat([x, x[:, :1]], 1)
wide = mixed(4, 7)
digits = torch.tensor(load_digits().data)
TABLES = {"mixed": x, "constant": constant, "duplicate": duplicate, "wide": wide, "digits": digits}
FITS = {
    "min-max": pre.min_max,
    "min-max -1, 1": partial(pre.min_max, low=-1.0, high=1.0),
    "standardize": pre.standardize,
    "pca": pre.pca_whitening,
    "pca eps": partial(pre.pca_whitening, eps=0.1),
    "zca": pre.zca_whitening,
    "zca eps": partial(pre.zca_whitening, eps=0.1),
}
SAME_AS = [
    (pre.min_max, sk.MinMaxScaler()),
    (partial(pre.min_max, low=-1.0, high=1.0), sk.MinMaxScaler((-1, 1))),
    (partial(pre.min_max, low=2.0, high=2.5), sk.MinMaxScaler((2, 2.5))),
    (pre.standardize, sk.StandardScaler()),
]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("fit, theirs", SAME_AS)
def test_scalings_are_scikit_learns(fit, theirs, name):
    table = TABLES[name]
    ours, z = fit(table), theirs.fit_transform(table.numpy())
    exact(ours.transform(table), torch.tensor(z))
    exact(ours.inverse(torch.tensor(z)), torch.tensor(theirs.inverse_transform(z)))
    other = table[:3] * 1.5 + 1
    exact(ours.transform(other), torch.tensor(theirs.transform(other.numpy())))


def test_pca_whitening_is_scikit_learns_up_to_signs_and_the_divisor():
    theirs = PCA(whiten=True, svd_solver="full").fit(x.numpy())
    z, expected = pre.pca_whitening(x).transform(new), torch.tensor(theirs.transform(new.numpy()))
    expected *= math.sqrt(len(x) / (len(x) - 1))  # theirs divides by n − 1
    exact(z * (z[0] * expected[0]).sign(), expected)


# ------------------------------------------------------------------------ laws


def covariance(z):
    return (z - z.mean(0)).T @ (z - z.mean(0)) / len(z)


def test_what_each_map_promises():
    z = pre.min_max(x, -2, 5).transform(x)
    exact(z.amin(0), torch.full((5,), -2.0).double())
    exact(z.amax(0), torch.full((5,), 5.0).double())
    z = pre.standardize(x).transform(x)
    exact(z.mean(0), torch.zeros(5).double())
    exact(z.var(0, correction=0), torch.ones(5).double())
    for fit in (pre.pca_whitening, pre.zca_whitening):
        z = fit(x).transform(x)
        exact(z.mean(0), torch.zeros(5).double(), atol=1e-8)
        exact(covariance(z), torch.eye(5).double(), atol=1e-8)


def test_zca_is_the_symmetric_root_and_the_nearest_whitening():
    white = pre.zca_whitening(x)
    C = covariance(x)
    torch.testing.assert_close(white.W, white.W.T, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(white.W_inverse @ white.W_inverse, C, rtol=1e-8, atol=1e-8)
    centred = x - x.mean(0)
    distance = (white.transform(x) - centred).norm()
    Q = torch.linalg.qr(torch.randn(5, 5, generator=g, dtype=torch.float64)).Q
    for other in (white.transform(x) @ Q, pre.pca_whitening(x).transform(x)):
        exact(covariance(other), torch.eye(5).double(), atol=1e-8)
        assert distance < (other - centred).norm()


def test_pca_columns_stand_in_the_order_of_falling_variance():
    white = pre.pca_whitening(x)
    variances = ((x - x.mean(0)) @ (white.W / white.W.norm(dim=0))).var(0, correction=0)
    assert (variances.diff() < 0).all()


def test_eps_damps_each_direction_by_its_variance():
    z = pre.pca_whitening(x, eps=0.1).transform(x)
    variances = torch.linalg.eigvalsh(covariance(x)).flip(0)
    exact(covariance(z), torch.diag(variances / (variances + 0.1)), atol=1e-8)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("fit", FITS)
def test_inverse_brings_back_what_was_fitted(fit, name):
    table = TABLES[name]
    mapped = FITS[fit](table)
    z = mapped.transform(table)
    assert z.isfinite().all()
    torch.testing.assert_close(mapped.inverse(z), table, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("fit", FITS)
def test_a_map_is_for_new_examples_too_and_changes_nothing(fit):
    before = x.clone()
    mapped = FITS[fit](x)
    torch.testing.assert_close(mapped.inverse(mapped.transform(new)), new, rtol=1e-8, atol=1e-8)
    whole = mapped.transform(x)
    exact(mapped.transform(x[3:4]), whole[3:4])
    assert torch.equal(x, before)


# ------------------------------------------------------------------------ unusual input


def test_a_constant_feature_becomes_zero_and_comes_back():
    for fit, value in ((pre.standardize, 0.0), (pre.min_max, 0.0), (FITS["min-max -1, 1"], -1.0)):
        mapped = fit(constant)
        z = mapped.transform(constant)
        assert (z[:, -1] == value).all()
        assert (mapped.inverse(z)[:, -1] - 0.1).abs().max() < 1e-15
    for fit in (pre.pca_whitening, pre.zca_whitening):
        z = fit(constant).transform(constant)
        expected = fit(x).transform(x)
        exact(z[:, :5].abs(), expected.abs(), atol=1e-8)
        assert z.shape[1] == 5 or (z[:, 5] == 0).all()


def test_a_duplicate_feature_or_too_few_examples_leave_directions_out():
    white = pre.pca_whitening(duplicate)
    exact(covariance(white.transform(duplicate)), torch.eye(5).double(), atol=1e-8)
    few = pre.pca_whitening(wide)  # 4 examples span 3 directions
    exact(covariance(few.transform(wide)), torch.eye(3).double(), atol=1e-8)
    C = covariance(pre.zca_whitening(duplicate).transform(duplicate))
    torch.testing.assert_close(C @ C, C, rtol=1e-8, atol=1e-8)  # a projection of rank 5
    assert C.trace().item() == pytest.approx(5)
    z = pre.standardize(duplicate).transform(duplicate)
    assert torch.equal(z[:, 0], z[:, 5])


def test_single_precision_is_kept():
    for fit in FITS.values():
        mapped = fit(digits.float())
        z = mapped.transform(digits.float())
        assert z.dtype == torch.float32 and z.isfinite().all()
        torch.testing.assert_close(mapped.inverse(z).double(), digits, rtol=1e-3, atol=1e-3)


def holed(value):
    bad = x.clone()
    bad[3, 1], bad[5, 4] = value, value
    return bad


REFUSED = [
    (x[:1], ValueError, r"^x has 1 example\(s\); a spread needs two or more$"),
    (x[:0], ValueError, r"x has 0 example\(s\)"),
    (x[0], ValueError, r"x has shape \[5\]; give \[n, d\]"),
    (x[:, :0], ValueError, r"x has shape \[60, 0\]; give \[n, d\]"),
    (holed(math.nan), ValueError, r"^features \[1, 4\] of x have NaN or infinite values"),
    (holed(-math.inf), ValueError, r"features \[1, 4\]"),
    ((9 * x).long(), TypeError, "x is torch.int64; give floating point"),
]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("bad, error, message", REFUSED)
def test_every_fit_refuses_what_has_no_spread_or_no_numbers(fit, bad, error, message):
    with pytest.raises(error, match=message):
        FITS[fit](bad)


MORE = [
    (lambda: pre.min_max(x, 1, 1), "low=1 and high=1 do not form an interval"),
    (lambda: pre.min_max(x, 0, math.nan), "low=0 and high=nan"),
    (lambda: pre.pca_whitening(x, eps=-1), r"eps=-1 is outside \[0, inf\)"),
    (lambda: pre.zca_whitening(x, eps=math.nan), r"eps=nan is outside"),
    (lambda: pre.pca_whitening(torch.ones(5, 3)), "no spread in any direction"),
    (lambda: pre.standardize(x).transform(x[:, :3]), r"shape \[60, 3\].*fitted for \[m, 5\]"),
    (lambda: pre.min_max(x).inverse(x[0]), r"shape \[5\].*fitted for \[m, 5\]"),
    (lambda: pre.pca_whitening(x).transform(x.T), r"fitted for \[m, 5\]"),
    (lambda: pre.pca_whitening(duplicate).inverse(duplicate), r"fitted for \[m, 5\]"),
]


@pytest.mark.parametrize("wrong, message", MORE)
def test_errors_say_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.parametrize("value", [0.1, 1 / 3, -1e9 / 7, 1e-300])
@pytest.mark.parametrize("n", [3, 49, 1000])
def test_a_constant_is_exactly_zero_whatever_its_mean_rounds_to(n, value):
    column = torch.full((n, 1), value, dtype=torch.float64)
    for fit in (pre.standardize, pre.min_max):
        assert (fit(column).transform(column) == 0).all()
