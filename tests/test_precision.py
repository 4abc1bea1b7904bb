"""Numbers of every dtype and size: what is computed from them against the same in float64.

x = 2^k y for a y of usual size: a power of two is exact in every dtype, so that the truth of x is
that of y, scaled, and needs no numbers beyond float64.
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import preprocessing as sk
from sklearn.decomposition import PCA
from torch import nn
from torch.testing import assert_close

from nettrain import augmentation, clipping, draws, landscape, precision
from nettrain import normalization as norm
from nettrain.lab import training
from nettrain.preprocessing import min_max, pca_whitening, standardize, zca_whitening

HALVES = (torch.float16, torch.bfloat16)
DTYPES = (*HALVES, torch.float32, torch.float64)
LARGEST = {torch.float16: 12, torch.bfloat16: 120, torch.float32: 120, torch.float64: 1000}
SMALLEST = {torch.float16: -8, torch.bfloat16: -110, torch.float32: -110, torch.float64: -1000}
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_half = pytest.mark.parametrize("dtype", HALVES, ids=str)


def numbers(seed, *shape):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64)


@st.composite
def sized(draw, dtype, *shape):
    """(y, k) with y normal, rounded to the dtype, and 2^k y within the range of the dtype."""
    y = numbers(draw(st.integers(0, 2**31)), *(shape or (draw(st.integers(1, 40)),)))
    return y.to(dtype), draw(st.integers(SMALLEST[dtype], LARGEST[dtype]))


def times(y, k):
    """2^k y, exactly."""
    return y * 2.0 ** (k // 2) * 2.0 ** (k - k // 2)


def rounding(dtype, factor=1.0):
    return {"rtol": factor * torch.finfo(dtype).eps, "atol": 0.0}


# ------------------------------------------------------------------------ clipping and norms


@each_dtype
@given(data=st.data())
def test_a_norm_is_that_of_float64_at_every_size(dtype, data):
    y, k = data.draw(sized(dtype, 3, 7))
    for dim in (None, 0, -1, (0, 1)):
        ours = precision.norm(times(y, k), dim)
        theirs = torch.linalg.vector_norm(y.double(), dim=dim, keepdim=True)
        assert ours.dtype == precision.wide(y).dtype
        assert_close(times(ours, -k).double(), theirs, **rounding(ours.dtype, 8))


@each_dtype
@given(data=st.data(), b=st.floats(0.01, 100))
def test_by_norm_is_its_closed_form_at_every_size(dtype, data, b):
    y, k = data.draw(sized(dtype))
    b = times(b, k)
    clipped, length = clipping.by_norm(times(y, k), b), y.double().norm().item()
    assert clipped.dtype == dtype
    want = y.double() * min(1.0, times(b, -k) / length)
    tiny = times(torch.finfo(dtype).smallest_normal, -k)  # below it there are fewer digits
    assert_close(times(clipped.double(), -k), want, rtol=4 * torch.finfo(dtype).eps, atol=tiny)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_clipping_keeps_every_bit_of_gradients_of_usual_size(dtype):
    for n in (1, 3, 100, 1007):
        g = numbers(n, n).to(dtype)
        for b in (0.1, 1.0, 10.0, 1e3):
            plain = g * (b / torch.linalg.vector_norm(g)).clamp(max=1)
            assert torch.equal(clipping.by_norm(g, b), plain)


def test_gradients_beyond_the_range_of_their_norm():
    largest = torch.finfo(torch.float32).max
    for size in (1e20, 1e38, largest, 1e-24, 1e-38):
        b = min(size / 10, 1.0)
        clipped = clipping.by_norm(torch.full((100,), size), b)
        assert_close(clipped, torch.full((100,), b / 10), rtol=1e-6, atol=1e-45)
    assert torch.equal(clipping.by_norm(g := torch.full((100,), 1e-24), 1.0), g)
    assert torch.equal(clipping.by_norm(g := torch.full((100,), largest), math.inf), g)


@each_dtype
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_without_a_direction_becomes_nan(dtype, bad):
    clipped = clipping.by_norm(torch.tensor([1.0, bad, 0.0], dtype=dtype), 1.0)
    assert clipped.isnan().all() and clipped.dtype == dtype
    by_value = clipping.by_value(torch.tensor([3.0, bad], dtype=dtype), -1, 2)
    assert by_value[0] == 2 and (by_value[1].isnan() or by_value[1] in (-1, 2))


@each_dtype
def test_nothing_and_zero_are_clipped_to_themselves(dtype):
    for g in (torch.zeros(0, dtype=dtype), torch.zeros(4, dtype=dtype)):
        for clip in (
            partial(clipping.by_norm, threshold=1),
            partial(clipping.by_value, low=0, high=1),
        ):
            assert torch.equal(clip(g), g) and clip(g).dtype == dtype


# ------------------------------------------------------------------------ normalization layers


@each_half
@given(data=st.data())
@pytest.mark.parametrize(
    "ours, theirs", [(norm.LayerNorm, nn.LayerNorm), (norm.BatchNorm, nn.BatchNorm1d)]
)
def test_layers_in_half_precision_are_torchs(ours, theirs, dtype, data):
    y, k = data.draw(sized(dtype, 6, 16))
    x = times(y, min(k, 55))  # beyond, the variance is too large for float32
    ours, theirs = ours(16).to(dtype), theirs(16).to(dtype)
    z = ours(x)
    assert z.dtype == dtype
    assert_close(z, theirs(x), rtol=2 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)
    for a, b in zip(ours.buffers(), list(theirs.buffers())[:2], strict=False):
        assert_close(a, b, rtol=4 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)
    ours.eval(), theirs.eval()
    assert_close(ours(x), theirs(x), rtol=4 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)


@each_half
def test_local_response_norm_and_the_backward_pass_in_half_precision(dtype):
    x, dy = (400 * numbers(0, 2, 6, 3, 3)).to(dtype), numbers(1, 2, 6, 3, 3).to(dtype)
    layer = norm.LocalResponseNorm()
    truth = layer(x.double()).to(dtype)
    assert layer(x).dtype == dtype
    assert_close(layer(x), truth, **rounding(dtype, 2))
    x, dy, gamma = x.flatten(1), dy.flatten(1), numbers(2, 54).to(dtype)
    ours = norm.batch_norm_backward(dy, x, gamma)
    truth = norm.batch_norm_backward(dy.double(), x.double(), gamma.double())
    for a, b in zip(ours, truth, strict=True):
        assert a.dtype == dtype
        assert_close(a.double(), b, rtol=4 * torch.finfo(dtype).eps, atol=1e-6)


def test_eps_is_far_above_a_small_variance_as_in_torch_and_a_variance_too_large_gives_zeros():
    for size in (1e-24, 1e-3, 1e15):
        x = (size * numbers(0, 4, 8)).float()
        assert_close(norm.LayerNorm(8)(x), nn.LayerNorm(8)(x), rtol=1e-5, atol=1e-30)
        assert_close(norm.BatchNorm(8)(x), nn.BatchNorm1d(8)(x), rtol=1e-5, atol=1e-30)
    for layer in (norm.LayerNorm(8), norm.BatchNorm(8)):
        assert not layer((1e30 * numbers(0, 4, 8)).float()).any()


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")  # torch's, of an empty tensor
@pytest.mark.parametrize("layer", [norm.BatchNorm(3), norm.LayerNorm(3), norm.LocalResponseNorm()])
def test_layers_refuse_integers_and_take_an_empty_batch(layer):
    with pytest.raises(TypeError, match="^x is torch.int64; give floating point numbers"):
        layer(torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"^x is a ndarray; give a tensor: torch.as_tensor\(x\)"):
        layer(np.ones((2, 3)))
    assert layer.eval()(torch.zeros(0, 3)).shape == (0, 3)


@each_dtype
@given(data=st.data())
def test_weight_norm_computes_what_the_layer_did_at_every_size(dtype, data):
    y, k = data.draw(sized(dtype, 3, 4, 2))
    layer = nn.Conv1d(4, 3, 2, bias=False).to(dtype)
    layer.weight.data = times(y, k)
    before = layer.weight.detach().clone()
    norm.weight_norm(layer)
    assert_close(layer.weight.detach(), before, **rounding(dtype, 4))
    g = layer.parametrizations.weight.original0
    assert g.dtype == dtype
    length = y.double().flatten(1).norm(dim=1)
    assert_close(times(g.double().flatten(), -k), length, rtol=4 * torch.finfo(dtype).eps, atol=0)
    layer.weight.double().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, 6e4])
def test_weight_norm_refuses_a_unit_without_a_length_and_changes_nothing(value):
    layer = nn.Linear(4, 3).half()
    layer.weight.data[1] = value
    with pytest.raises(ValueError, match=r"^units \[1\] have no direction: .* torch.float16$"):
        norm.weight_norm(layer)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


# ------------------------------------------------------------------------ preprocessing


def table(dtype, seed, n=60, d=3):
    """Features of different deviation and mean, rounded to the dtype."""
    return (numbers(seed, n, d) * torch.tensor([1.0, 0.3, 0.02][:d]) + 0.5).to(dtype)


FITS = {
    "min-max": (min_max, sk.MinMaxScaler()),
    "min-max -1, 1": (partial(min_max, low=-1.0, high=1.0), sk.MinMaxScaler((-1, 1))),
    "standardize": (standardize, sk.StandardScaler()),
}


@each_dtype
@pytest.mark.parametrize("name", FITS)
@given(data=st.data())
def test_scalings_of_every_size_are_scikit_learns(name, dtype, data):
    fit, theirs = FITS[name]
    seed, k = data.draw(st.integers(0, 2**31)), data.draw(sized(dtype))[1]
    y = table(dtype, seed)
    mapped = fit(times(y, k))
    z = mapped.transform(times(y, k))
    assert z.dtype == dtype
    eps = torch.finfo(dtype).eps
    truth = torch.tensor(theirs.fit_transform(y.double().numpy()))
    single = torch.finfo(torch.float32).eps if dtype != torch.float64 else eps
    assert_close(z.double(), truth, rtol=eps, atol=100 * single)  # means are 25 deviations off
    back = times(mapped.inverse(z).double(), -k)
    assert_close(back, y.double(), rtol=8 * eps, atol=8 * eps)


@each_dtype
@pytest.mark.parametrize("fit", [pca_whitening, zca_whitening])
@given(data=st.data())
def test_whitenings_of_every_size_are_scikit_learns(fit, dtype, data):
    seed, k = data.draw(st.integers(0, 2**31)), data.draw(sized(dtype))[1]
    y = table(dtype, seed)
    z = fit(times(y, k)).transform(times(y, k)).double()
    assert z.shape == y.shape
    theirs = PCA(whiten=True, svd_solver="full").fit(y.double().numpy())
    truth = torch.tensor(theirs.transform(y.double().numpy())) * math.sqrt(60 / 59)
    if fit is zca_whitening:
        truth = truth @ torch.tensor(theirs.components_)
    else:
        truth = truth * (truth * z).sum(0).sign()
    eps = torch.finfo(dtype).eps
    assert_close(z, truth, rtol=eps, atol=max(eps, 1e-4) if dtype != torch.float64 else 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("ratio", [0.3, 5e-3, 1e-5])
def test_a_direction_is_kept_however_many_examples_there_are(dtype, ratio):
    for n in (50, 5_000, 300_000):
        x = numbers(n, n, 2) * torch.tensor([1.0, ratio])
        for fit in (pca_whitening, zca_whitening):
            z = fit(x.to(dtype)).transform(x.to(dtype)).double()
            assert_close(z.var(0, correction=0), torch.ones(2).double(), rtol=1e-2, atol=0)


def test_features_of_very_different_units_are_all_kept():
    x = (numbers(0, 500, 3) * torch.tensor([1.0, 1e-6, 1e7])).float()
    z = pca_whitening(x).transform(x).double()
    assert_close(z.T @ z / 500, torch.eye(3).double(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n, offset", [(100, 0), (100_000, 0), (1000, 100)])
def test_a_direction_that_rounding_made_is_left_out(dtype, n, offset):
    a, b = (numbers(n, n, 2) + offset).to(dtype).unbind(1)
    for third in (a, a + b, 0.1 * a, a - 3 * b):  # rounded to the dtype
        assert pca_whitening(torch.stack([a, b, third], 1)).W.shape == (3, 2)


def test_few_examples_far_from_zero_span_one_direction_less():
    """A mean that is rounded is one more direction, if the examples are centred only once."""
    for seed in range(200):
        x = numbers(seed, 11, 40) + 1e7 * (1 + numbers(seed, 40).abs())
        assert pca_whitening(x).W.shape == (40, 10)


NEARLY = [
    (torch.float64, 0.1 + 0.0 * numbers(0, 100)),
    (torch.float64, torch.tensor([0.1, 0.3 - 0.2, 0.7 - 0.6]).double().repeat(30)),
    (torch.float64, 1e8 + 1e-8 * numbers(0, 100)),
    (torch.float64, -1e200 * (1 + 1e-16 * numbers(0, 100))),
    (torch.float32, 1e8 + 5 * numbers(0, 100)),
    (torch.float32, 1e20 * (1 + 4e-8 * numbers(0, 100))),
    (torch.float16, 1000 + 0.3 * numbers(0, 100)),
    (torch.float16, torch.tensor([0.0, 6e-8]).repeat(50)),  # subnormal numbers
    (torch.float32, torch.linspace(0, 1e-39, 100)),
]


@pytest.mark.parametrize("dtype, column", NEARLY)
def test_what_only_rounding_spreads_is_constant(dtype, column):
    column = column.to(dtype)
    x = torch.stack([column, table(dtype, 0, len(column), 1)[:, 0]], 1)
    for fit, value in ((standardize, 0), (min_max, 0), (partial(min_max, low=-1, high=1), -1)):
        mapped = fit(x)
        z = mapped.transform(x)
        assert (z[:, 0] - value).abs().max() <= 8 * torch.finfo(dtype).eps
        assert z[:, 1].double().std() > 0.1
        back = mapped.inverse(z)[:, 0]
        info = torch.finfo(dtype)
        assert_close(back, column, rtol=8 * info.eps, atol=info.tiny)
    assert pca_whitening(x).W.shape == (2, 1)


def test_what_spreads_by_more_than_rounding_is_not_constant():
    """As scikit-learn decides."""
    for value in (1e-24, 0.1, 1e8):
        x = (value * (1 + 1e-6 * numbers(0, 50, 1))).float()
        theirs = sk.StandardScaler().fit_transform(x.double().numpy())
        ours = standardize(x.double()).transform(x.double())
        assert_close(ours, torch.tensor(theirs), rtol=0, atol=1e-6)
        assert standardize(x).transform(x).std() > 0.9


def test_spreads_beyond_the_largest_number_are_refused():
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([[1.0, 1], [1, -1]], dtype=dtype) * torch.finfo(dtype).max
        for fit in (standardize, min_max, pca_whitening, zca_whitening):
            with pytest.raises(
                ValueError, match=rf"^features \[1\] of x spread .* {dtype}; divide"
            ):
                fit(x)
    x = (2e-39 * numbers(0, 5000, 2)).float()
    with pytest.raises(ValueError, match="too little or much for torch.float32; multiply it"):
        pca_whitening(x)
    with pytest.raises(ValueError, match="low=-1e[+]308 and high=1e[+]308 do not form an interval"):
        min_max(x, -1e308, 1e308)
    with pytest.raises(
        ValueError, match=r"features \[0, 1\] have a scale that is not in \(0, inf\)"
    ):
        min_max(1e-20 * numbers(0, 9, 2).float(), 0, 1e38)
    with pytest.raises(TypeError, match="^x is torch.uint8; give floating"):
        standardize(numbers(0, 9, 2)).transform(torch.ones(3, 2, dtype=torch.uint8))


def test_arrays_and_tables_are_told_how_to_become_tensors():
    pd = pytest.importorskip("pandas")
    array = np.random.default_rng(0).random((5, 2))
    mapped = standardize(torch.as_tensor(array))
    for fit in (
        standardize,
        min_max,
        pca_whitening,
        zca_whitening,
        mapped.transform,
        mapped.inverse,
    ):
        with pytest.raises(TypeError, match=r"^x is a ndarray; .*torch.as_tensor\(x\)$"):
            fit(array)
        with pytest.raises(
            TypeError, match=r"x is a DataFrame; .*torch.as_tensor\(x.to_numpy\(\)\)$"
        ):
            fit(pd.DataFrame(array))
        with pytest.raises(TypeError, match="^x is a list; give a tensor"):
            fit(array.tolist())


# ------------------------------------------------------------------------ pictures


def pictures(n=3, h=28, w=28, seed=0):
    return torch.rand(n, 2, h, w, generator=torch.Generator().manual_seed(seed))


CHANGES = {
    "rotate": lambda x: augmentation.rotate(x, torch.tensor([30.0, -100.0, 5.0])),
    "zoom": lambda x: augmentation.zoom(x, torch.tensor([1.0, 2.5, 0.4])),
    "shift": lambda x: augmentation.shift(x, torch.tensor([[1.0, 2.0], [-0.5, 40.0], [3.3, 0.0]])),
    "flip": lambda x: augmentation.flip(x, torch.tensor([True, False, True])),
}


@each_half
@pytest.mark.parametrize("side", [5, 28, 200])
@pytest.mark.parametrize("name", CHANGES)
def test_pictures_of_half_precision_change_as_in_float32(name, side, dtype):
    x = pictures(h=side, w=side + 1).to(dtype)
    y = CHANGES[name](x)
    assert y.dtype == dtype
    assert torch.equal(y, CHANGES[name](x.float()).to(dtype))


@pytest.mark.parametrize("name", CHANGES)
def test_pictures_of_bytes_are_rounded(name):
    x = (256 * pictures()).to(torch.uint8)
    y = CHANGES[name](x)
    assert y.dtype == torch.uint8
    assert (y.double() - CHANGES[name](x.double())).abs().max() < 0.5 + 1e-3


@pytest.mark.parametrize("dtype", [*DTYPES, torch.uint8], ids=str)
@pytest.mark.parametrize("h, w", [(1, 1), (28, 28), (3, 300)])
def test_changes_by_nothing_give_the_picture_back(dtype, h, w):
    x = (256 * pictures(h=h, w=w)).to(dtype)
    ones, zeros = torch.ones(3), torch.zeros(3)
    assert torch.equal(augmentation.zoom(x, ones), x)
    assert torch.equal(augmentation.rotate(x, zeros), x)
    assert torch.equal(augmentation.shift(x, torch.zeros(3, 2)), x)
    assert augmentation.rotate(x[:0], zeros[:0]).shape == (0, 2, h, w)


@pytest.mark.parametrize("dtype", [*HALVES, torch.int64, torch.uint8], ids=str)
def test_angles_and_shifts_of_every_dtype(dtype):
    x, by = pictures().double(), torch.tensor([[1, 2], [0, 3], [4, 0]])
    assert torch.equal(augmentation.shift(x, by.to(dtype)), augmentation.shift(x, by.double()))
    turned = augmentation.rotate(x, torch.tensor([90, 45, 0]).to(dtype))
    assert_close(turned, augmentation.rotate(x, torch.tensor([90.0, 45, 0])), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [*HALVES, torch.uint8], ids=str)
def test_the_random_layer_keeps_the_dtype_and_changes_as_in_float32(dtype):
    x = (256 * pictures()).to(dtype)
    build = partial(
        training.build, lambda: augmentation.Augment(rotate=15, shift=1, flip=0.5, zoom=1.2), 3
    )
    y, truth = build()(x), build()(x.float())
    assert y.dtype == dtype and not torch.equal(y, x)
    assert torch.equal(y, (truth.round() if dtype == torch.uint8 else truth).to(dtype))


def test_shifts_without_end_leave_the_background_and_nan_is_seen():
    x = pictures()
    for fill in (0.0, -0.4242):
        far = torch.tensor([[math.inf, 0], [0, -math.inf], [1e30, 1e30]])
        assert torch.equal(augmentation.shift(x, far, fill=fill), torch.full_like(x, fill))
    y = augmentation.rotate(x, torch.tensor([0.0, math.nan, 0.0]))
    assert y[1].isnan().all() and torch.equal(y[::2], x[::2])
    bytes_ = (255 * x).to(torch.uint8)
    assert not augmentation.rotate(bytes_, torch.tensor([math.nan] * 3)).any()


@each_half
def test_noise_keeps_the_dtype(dtype):
    x, key = pictures().to(dtype), torch.tensor([1, 2, 3])
    y = augmentation.noise(x, 0.5, key)
    assert torch.equal(y, (x.float() + 0.5 * draws.normal(key, x.shape)).to(dtype))


@pytest.mark.parametrize(
    "change, error, message",
    [
        (lambda: augmentation.noise(pictures().byte(), 0.1, torch.tensor([1, 2])), TypeError,
         r"^x is torch.uint8; give floating point numbers, as x.float\(\) / 255$"),
        (lambda: CHANGES["rotate"](pictures().long()), TypeError, "^x is torch.int64; give float"),
        (lambda: CHANGES["zoom"](pictures().numpy()), TypeError, "^x is a ndarray; give a tensor"),
        (lambda: CHANGES["shift"](pictures()[0]), ValueError, r"^x has shape \[2, 28, 28\]; give"),
        (lambda: augmentation.zoom(pictures().byte(), torch.ones(3), fill=-0.4), ValueError,
         r"^fill=-0.4 is outside \[0, 255\], the values of torch.uint8$"),
    ],
)  # fmt: skip
def test_other_pictures_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        change()


# ------------------------------------------------------------------------ curvature


@pytest.mark.parametrize("scale", [1e-300, 1e-24, 1.0, 1e20, 1e300])
def test_sharpness_of_every_size(scale):
    f = lambda theta: (theta**2 * torch.tensor([1.0, 2.0, 5.0]).double()).sum(-1) * (scale / 2)
    sharpness = landscape.sharpness(f, numbers(0, 4, 3))
    assert_close(sharpness / scale, torch.full((4,), 5.0).double(), rtol=1e-9, atol=0)
    if 1e-30 < scale < 1e30:
        single = landscape.sharpness(f, numbers(0, 4, 3).float())
        assert_close(single / scale, torch.full((4,), 5.0), rtol=1e-5, atol=0)


@each_dtype
def test_a_line_is_computed_in_float32_and_keeps_the_dtype(dtype):
    one, other = numbers(0, 2, 7).to(dtype)
    line = landscape.interpolate(one, other, 301)
    assert line.dtype == dtype and torch.equal(line[0], one) and torch.equal(line[-1], other)
    s = torch.linspace(0, 1, 301, dtype=torch.float64)[:, None]
    truth = (1 - s) * one.double() + s * other.double()
    eps = max(torch.finfo(dtype).eps, 1e-15)
    assert_close(line.double(), truth, rtol=2 * eps, atol=4e-7 if dtype != torch.float64 else 1e-14)
    with pytest.raises(TypeError, match="^one is torch.int64; give floating point"):
        landscape.interpolate(torch.ones(2, dtype=torch.int64), torch.zeros(2))
