"""Data sets: what is in them, that no split sees another, and what happens when one is missing."""

import gzip
import hashlib
import io
import json
import math
import re
import tarfile
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_moons
from sklearn.linear_model import LogisticRegression

from nettrain import data
from nettrain.data import (
    austen,
    cifar10,
    digits,
    fashion,
    fashion_mnist,
    mnist,
    mnist1d,
    moons,
    spirals,
)

GENERATED = [mnist1d, spirals, moons]
OFFLINE = [
    # data set, shape of one example, classes, sizes
    (mnist, (1, 28, 28), 10, (7_000, 1_000, 2_000)),
    (lambda: mnist(side=14), (1, 14, 14), 10, (7_000, 1_000, 2_000)),
    (lambda: mnist(side=7), (1, 7, 7), 10, (7_000, 1_000, 2_000)),
    (fashion, (1, 28, 28), 10, (7_000, 1_000, 2_000)),
    (lambda: fashion(side=7), (1, 7, 7), 10, (7_000, 1_000, 2_000)),
    (digits, (1, 8, 8), 10, (1_200, 297, 300)),
    (mnist1d, (1, 40), 10, (3_000, 1_000, 1_000)),
    (spirals, (2,), 2, (600, 200, 200)),
    (moons, (2,), 2, (600, 200, 200)),
]


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setenv("NETTRAIN_DEVICE", "cpu")


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """scikit-learn's cache, empty, and no network."""

    def no_network(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr("sklearn.datasets._openml.urlopen", no_network)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # scikit-learn waits before a retry
    monkeypatch.setattr(data, "_FASHION_FOLDER", tmp_path / "fashion-mnist")
    return tmp_path / "cache"


def splits(d):
    return d.train, d.valid, d.test


def all_of(d):
    """x and y of the three splits, one after the other."""
    return torch.cat([s.x for s in splits(d)]), torch.cat([s.y for s in splits(d)])


def same(a, b) -> bool:
    return all(torch.equal(s, t) for s, t in zip(all_of(a), all_of(b), strict=True))


def rows(x) -> list[bytes]:
    return [row.numpy().tobytes() for row in x]


def labels_and_images(n, shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 10, n, np.uint8), rng.integers(0, 256, (n, *shape), np.uint8)


# ---- every set that needs no network


@pytest.mark.parametrize("make, shape, classes, sizes", OFFLINE)
def test_shapes_types_and_sizes(make, shape, classes, sizes):
    d = make()
    assert tuple(len(s) for s in splits(d)) == sizes
    assert d.shape == shape
    for s in splits(d):
        assert s.x.dtype == torch.float32 and s.y.dtype == torch.int64
        assert s.x.shape == (len(s), *shape) and s.y.shape == (len(s),)
        assert s.x.isfinite().all()
        assert s.y.unique().tolist() == list(range(classes))


@pytest.mark.parametrize("make, shape, classes, sizes", OFFLINE)
def test_classes_are_balanced(make, shape, classes, sizes):
    for s in splits(make()):
        share = s.y.bincount(minlength=classes) / len(s)
        # four standard errors of a fair draw, and a fifth for MNIST, whose digits are not even
        tolerance = 4 * (1 / classes / len(s)) ** 0.5 + 0.2 / classes
        assert (share - 1 / classes).abs().max() < tolerance


@pytest.mark.parametrize("make, shape, classes, sizes", OFFLINE)
def test_each_channel_of_the_training_split_has_mean_0_and_deviation_1(make, shape, classes, sizes):
    x = make().train.x.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(x.mean(1), torch.zeros(len(x)).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(x.std(1), torch.ones(len(x)).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("make, shape, classes, sizes", OFFLINE)
def test_same_data_on_every_call(make, shape, classes, sizes):
    assert same(make(), make())


@pytest.mark.parametrize("make", [mnist, fashion, mnist1d, spirals, moons])
def test_no_example_stands_twice(make):
    x, _ = all_of(make())
    assert len(set(rows(x))) == len(x)


def test_scaling_looks_at_the_training_split_only():
    x = torch.randn(30, 2, 5, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[10:] = 100 * changed[10:] + 7
    a, b = (data._data("toy", v, torch.arange(30), (10, 20)) for v in (x, changed))
    assert torch.equal(a.train.x, b.train.x)
    assert not torch.equal(a.valid.x, b.valid.x)
    mean, std = x[:10].mean((0, 2), keepdim=True), x[:10].std((0, 2), keepdim=True)
    torch.testing.assert_close(a.valid.x, (x[10:20] - mean) / std)
    torch.testing.assert_close(b.test.x, (changed[20:] - mean) / std)


def test_scaling_does_not_depend_on_the_number_of_threads():
    threads = torch.get_num_threads()
    x = torch.randn(5_000, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    found = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            found.append(data._data("toy", x, torch.zeros(5_000), (4_000, 4_500)))
    finally:
        torch.set_num_threads(threads)
    assert same(*found)


def test_splits_can_be_cut_and_moved():
    d = digits()
    few = d.train[:10]
    assert len(few) == 10 and torch.equal(few.y, d.train.y[:10])
    double = d.to(torch.float64)
    assert double.test.x.dtype == torch.float64 and double.test.y.dtype == torch.int64
    assert (
        repr(d) == "Digits 8x8: 1200 / 297 / 300 examples (1, 8, 8) to train / choose / test with"
    )


def test_the_environment_chooses_the_device(monkeypatch):
    monkeypatch.setenv("NETTRAIN_DEVICE", "meta")
    assert data.device() == torch.device("meta")
    assert all(s.x.is_meta and s.y.is_meta for s in splits(moons()))
    monkeypatch.delenv("NETTRAIN_DEVICE")
    assert data.device().type == ("cuda" if torch.cuda.is_available() else "cpu")


# ---- bases


@pytest.fixture
def at_base(monkeypatch):
    def make(which, number):
        monkeypatch.setenv("NETTRAIN_BASE", str(number))
        return which()

    return make


REAL = [mnist, fashion, digits]


@pytest.mark.parametrize("which", REAL)
def test_a_base_splits_the_same_pool_in_another_way(at_base, which):
    first, other, again = (at_base(which, number) for number in (0, 1, 1))
    assert same(other, again) and not same(first, other)
    assert [len(s) for s in splits(first)] == [len(s) for s in splits(other)]
    # of the same pool: equal numbers of each class, pixels that differ by the scaling only
    labels = [all_of(d)[1].bincount() for d in (first, other)]
    assert labels[0].equal(labels[1])
    flat = [all_of(d)[0].flatten(1).double() for d in (first, other)]
    flat = [(x - x.mean()) / x.std() for x in flat]
    sums = [x.square().sum(1).sort().values for x in flat]
    torch.testing.assert_close(sums[0], sums[1], rtol=1e-3, atol=1e-3)
    # as many of the old test examples are in the new test set as chance puts there
    old, new = ({tuple(r) for r in _coarse(s)} for s in (first.test, other.test))
    share = len(first.test) / sum(map(len, splits(first)))
    expected = share * len(first.test)
    assert abs(len(old & new) - expected) < 5 * math.sqrt(expected)


def _coarse(split):
    """Each picture as bits: which pixels lie above its own mean. It survives the scaling."""
    x = split.x.flatten(1)
    return (x > x.mean(1, keepdim=True)).int().tolist()


@pytest.mark.parametrize("which", [mnist1d, spirals, moons])
def test_a_base_draws_other_data_of_the_same_kind(at_base, which):
    first, other, again = (at_base(which, number) for number in (0, 3, 3))
    assert same(other, again) and not set(rows(all_of(first)[0])) & set(rows(all_of(other)[0]))
    assert all_of(first)[1].bincount().equal(all_of(other)[1].bincount())


@pytest.mark.parametrize("text", ["-1", "one", "1.5", "", "²"])
def test_what_is_not_a_base_is_refused(at_base, text):
    with pytest.raises(ValueError, match=f"^NETTRAIN_BASE={text!r} is not one of 0, 1, 2, "):
        at_base(data.base, text)


# ---- MNIST and Fashion-MNIST


@pytest.mark.parametrize("name, make", [("mnist10k", mnist), ("fashion10k", fashion)])
def test_shipped_pictures_are_those_of_the_provenance_page(name, make):
    page = (files("nettrain") / f"{name}.md").read_text(encoding="utf-8")
    shipped = (files("nettrain") / f"{name}.npz").read_bytes()
    sha256 = re.search(r"\| sha256 \| `(\w{64})` \|", page)[1]
    assert hashlib.sha256(shipped).hexdigest() == sha256
    assert f"{len(shipped):,} bytes" in page
    counts = all_of(make())[1].bincount()
    assert f"| of each class | {', '.join(map(str, counts.tolist()))} |" in page


def test_mnist_keeps_the_order_and_the_pixels_of_the_file():
    with np.load(files("nettrain") / "mnist10k.npz") as f:
        images, labels = torch.tensor(f["images"]).double(), torch.tensor(f["labels"])
    x, y = all_of(mnist())
    assert torch.equal(y, labels.long())
    mean, std = images[:7_000].mean(), images[:7_000].std()
    torch.testing.assert_close(x[:, 0].double() * std + mean, images, rtol=0, atol=1e-4)
    assert mean / 255 == pytest.approx(0.1307, abs=1e-3)  # of all 60,000, as known
    assert std / 255 == pytest.approx(0.3081, abs=1e-3)


@pytest.mark.parametrize("side", [14, 7])
def test_a_smaller_side_is_the_mean_of_each_block(side):
    with np.load(files("nettrain") / "mnist10k.npz") as f:
        images = f["images"][7_000:7_020].astype(float)
        train = f["images"][:7_000].astype(float)
    k = 28 // side
    blocks = np.zeros((20, side, side))
    for i in range(side):
        for j in range(side):
            blocks[:, i, j] = images[:, k * i : k * (i + 1), k * j : k * (j + 1)].mean((1, 2))
    pooled = train.reshape(-1, side, k, side, k).mean((2, 4))
    expected = torch.tensor((blocks - pooled.mean()) / pooled.std(ddof=1))
    found = mnist(side=side).valid.x[:20, 0].double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("full", [False, True])
def test_mnist_refuses_another_side(full, cache):
    with pytest.raises(ValueError, match="side=10 is none of 28, 14, 7"):
        mnist(side=10, full=full)


def test_full_mnist_is_cut_where_the_official_test_set_begins(monkeypatch):
    labels, images = labels_and_images(70_000, (784,))
    table = SimpleNamespace(data=images, target=labels)
    asked = []
    monkeypatch.setattr(data, "fetch_openml", lambda **options: asked.append(options) or table)
    d = mnist(side=7, full=True)
    assert [options["data_id"] for options in asked] == [554]
    assert [len(s) for s in splits(d)] == [50_000, 10_000, 10_000]
    assert d.shape == (1, 7, 7)
    assert torch.equal(d.test.y, torch.tensor(labels[60_000:].astype(int)))


# ---- digits


def test_digits_are_scikit_learns_in_another_order():
    images, labels = load_digits().images, load_digits().target
    x, y = all_of(digits())
    order = np.random.RandomState(0).permutation(len(labels))
    mean, std = images[order[:1_200]].mean(), images[order[:1_200]].std(ddof=1)
    back = (x[:, 0].double() * std + mean).round().int().numpy()

    def pairs(images, labels):
        return sorted((i.tobytes(), int(k)) for i, k in zip(images, labels, strict=True))

    assert pairs(back, y) == pairs(images.astype(np.int32), labels)
    assert not np.array_equal(y.numpy(), labels)


# ---- Austen's novels

SHIPPED_TEXT = files("nettrain") / "austen.txt.gz"


@pytest.fixture(scope="module")
def novels() -> list[str]:
    return gzip.decompress(SHIPPED_TEXT.read_bytes()).decode("ascii").split("\f")


def read(ids) -> str:
    return "".join(data.CHARACTERS[i] for i in ids.tolist())


def assert_windows(d, novels):
    """Each split stands in its novels and in no others, in pieces that do not overlap."""
    texts = ["\f".join(novels[:4]), novels[4], novels[5]]
    for k, s in enumerate(splits(d)):
        windows = [read(x) + read(y[-1:]) for x, y in zip(s.x, s.y, strict=True)]
        starts = np.sort([texts[k].find(w) for w in windows])
        assert torch.equal(s.x[:, 1:], s.y[:, :-1]) and starts[0] >= 0
        assert (np.diff(starts) > 0).all() and not (starts % s.x.shape[1]).any()  # pieces of it
        assert starts[0] < len(texts[k]) / 4 and starts[-1] > 3 / 4 * len(texts[k])  # all over it
        for other in texts[:k] + texts[k + 1 :]:
            assert sum(w in other for w in windows) <= 1  # a phrase may come back


def test_novels_are_the_shipped_text_in_numbers(novels):
    expected = ["\f".join(novels[:4]), novels[4], novels[5]]
    for ids, text in zip(data.novels(), expected, strict=True):
        assert ids.dtype == np.int64 and "".join(data.CHARACTERS[i] for i in ids) == text


def test_shipped_novels_are_those_of_the_provenance_page(novels):
    page = (files("nettrain") / "austen.md").read_text(encoding="utf-8")
    shipped = SHIPPED_TEXT.read_bytes()
    assert re.search(r"\| sha256 \| `(\w{64})` \|", page)[1] == hashlib.sha256(shipped).hexdigest()
    text = "\f".join(novels)
    assert f"{len(shipped):,} bytes" in page and f"{len(text):,} characters" in page
    assert f"| characters of each | {', '.join(str(len(novel)) for novel in novels)} |" in page
    names = re.search(r"\| order \| (.*) \|", page)[1].split(", ")
    assert [novel[: len(name)].lower() for novel, name in zip(novels, names, strict=True)] == [
        name.lower() for name in names
    ]
    assert "".join(sorted(set(text))) == data.CHARACTERS and len(data.CHARACTERS) == 81
    assert set("".join(novels[4:])) <= set("".join(novels[:4]))  # as the page says


@pytest.mark.parametrize(
    "how, sizes, context",
    [
        ({}, (4_000, 500, 1_000), 32),
        ({"context": 64, "n": 80}, (80, 10, 20), 64),
        ({"context": 1, "n": 8}, (8, 1, 2), 1),
        ({"n": 11}, (11, 1, 2), 32),
    ],
)
def test_austen_is_windows_of_characters_and_what_follows_each(how, sizes, context):
    d = austen(**how)
    assert tuple(len(s) for s in splits(d)) == sizes and d.shape == (context,)
    for s in splits(d):
        assert s.x.dtype == s.y.dtype == torch.int64
        assert s.x.shape == s.y.shape == (len(s), context)
        assert torch.equal(s.x[:, 1:], s.y[:, :-1])
        assert 0 <= s.x.min() and s.x.max() <= 80
    assert same(d, austen(**how))
    assert repr(d).startswith(f"Austen, {context} characters: {sizes[0]} / {sizes[1]} / ")


@pytest.mark.parametrize("number", [0, 2])
def test_four_novels_train_one_chooses_one_tests_and_no_windows_overlap(at_base, novels, number):
    d = at_base(lambda: austen(context=40, n=80), number)
    assert_windows(d, novels)


def cut(text, context, n, random, *, ahead=1, stride=None):
    """Windows as `data._windows` takes them, with its parts exchanged."""
    stride = stride or context
    at = random.permutation((len(text) - context - 2) // stride)[:n, None] * stride
    at = at + np.arange(context)
    return data.Split(torch.as_tensor(text[at]), torch.as_tensor(text[at + ahead]))


WRONG_WINDOWS = {
    "labels are the characters themselves": ("_windows", partial(cut, ahead=0)),
    "labels are the next but one": ("_windows", partial(cut, ahead=2)),
    "windows overlap": ("_windows", partial(cut, stride=1)),
    "one novel chooses and tests": ("novels", lambda: NOVELS()[:2] + NOVELS()[1:2]),
    "two novels exchanged": ("novels", lambda: (NOVELS()[0], NOVELS()[2], NOVELS()[1])),
    "one shuffled text": (
        "novels",
        lambda: tuple(np.concatenate(NOVELS())[k::3] for k in range(3)),
    ),
    "the beginning of each novel": ("novels", lambda: tuple(t[: len(t) // 2] for t in NOVELS())),
}
NOVELS = data.novels


@pytest.mark.parametrize("name", [None, *WRONG_WINDOWS])
def test_wrong_windows_are_told_apart(name, novels, monkeypatch):
    monkeypatch.setattr(data, *WRONG_WINDOWS.get(name, ("_windows", cut)))
    d = austen(context=40, n=80)
    if name:
        with pytest.raises(AssertionError):
            assert_windows(d, novels)
    else:
        assert_windows(d, novels)


def test_a_base_draws_other_windows_of_the_same_novels(at_base):
    first, other, again = (at_base(austen, number) for number in (0, 1, 1))
    assert same(other, again) and not same(first, other)
    for a, b in zip(splits(first), splits(other), strict=True):
        old, new = ({read(x) for x in s.x} for s in (a, b))
        assert len(old & new) < 0.12 * len(a)  # of all windows, 4 % train, 4 % choose, 7 % test
        assert not torch.equal(a.x[:, 0], b.x[:, 0])
        frequencies = [s.x.flatten().bincount(minlength=81) / s.x.numel() for s in (a, b)]
        torch.testing.assert_close(*frequencies, rtol=0, atol=0.01)


def test_all_windows_of_a_novel_can_be_had():
    d = austen(context=256, n=7_292)  # 1,823 · 256 + 1 characters of Persuasion
    assert len(d.test) == 1_823 == (466_854 - 1) // 256
    with pytest.raises(ValueError, match=r"^n=7293 is outside \[8, 7292\], the novels "):
        austen(context=256, n=7_293)


@pytest.mark.parametrize(
    "how, message",
    [
        ({"n": 7}, r"n=7 is outside \[8, 58356\], the novels have no more for context=32"),
        ({"context": 0}, "context=0 must be at least 1 character"),
        ({"context": 500_000}, r"n=4000 is outside \[8, 0\], the novels have no more for .*"),
    ],
)
def test_austen_refuses_what_the_novels_do_not_have(how, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        austen(**how)


# ---- generated data


@pytest.mark.parametrize("make", GENERATED)
def test_another_seed_gives_other_data(make):
    (x, y), (x_other, y_other) = all_of(make(n=100)), all_of(make(n=100, seed=1))
    assert not set(rows(x)) & set(rows(x_other))
    assert torch.equal(y.bincount(), y_other.bincount())


@pytest.mark.parametrize("make", GENERATED)
def test_any_size_is_cut_into_60_20_20_percent(make):
    assert [len(s) for s in splits(make(n=101))] == [60, 20, 21]
    assert [len(s) for s in splits(make(n=10))] == [6, 2, 2]
    with pytest.raises(ValueError, match="n=9 is too few for three splits; give at least 10"):
        make(n=9)


@pytest.mark.parametrize("make", [spirals, moons])
@pytest.mark.parametrize("noise", [-0.1, float("nan")])
def test_noise_must_not_be_negative(make, noise):
    with pytest.raises(ValueError, match=f"noise={noise} must not be negative"):
        make(noise=noise)


@pytest.mark.parametrize(
    "make, numbers",
    [
        (mnist1d, [0.96836, 0.36115, 1.25011]),
        (spirals, [1.05464, 0.57076, -1.77795]),
        (moons, [1.77772, -0.05352, -1.49244]),
    ],
)
def test_generated_data_are_those_of_the_first_edition(make, numbers):
    """The first, the middle and the last number, so that no change of a library goes unseen."""
    x = all_of(make())[0].flatten()
    found = x[[0, len(x) // 2, -1]].tolist()
    assert found == pytest.approx(numbers, abs=1e-4)


@pytest.fixture
def raw(monkeypatch):
    """What is drawn, before it is scaled and cut."""
    monkeypatch.setattr(data, "_data", lambda name, x, y, cuts: (x, y))


def test_mnist1d_without_randomness_is_the_template(monkeypatch, raw):
    class Still:
        """Draws of 1/2 neither scale nor shear; draws of 0 are no noise; least padding, no move."""

        def __init__(self, seed):
            pass

        def randint(self, low, high, size):
            return np.full(size, low)

        def rand(self, *size):
            return np.full(size, 0.5)

        def randn(self, *size):
            return np.zeros(size)

    monkeypatch.setattr(np.random, "RandomState", Still)
    x, y = mnist1d(n=20)
    assert x.shape == (20, 1, 40) and y.tolist() == 2 * list(range(10))
    points, samples = np.linspace(0, 47, 72), np.linspace(0, 71, 40)
    for k, t in enumerate(data._TEMPLATES):
        t = np.append((t - t[0]) / t.std() / 6, np.zeros(36))
        stretched = np.interp(points, np.arange(48), t)
        expected = np.interp(samples, np.arange(72), stretched)
        np.testing.assert_allclose(x[k, 0], expected, atol=1e-12)
        np.testing.assert_allclose(x[k + 10, 0], expected, atol=1e-12)


def test_mnist1d_is_as_hard_as_its_authors_report():
    """Logistic regression 32 % (their table): a little above chance, far below a good network."""
    d = mnist1d()
    model = LogisticRegression(max_iter=300).fit(d.train.x[:, 0].numpy(), d.train.y.numpy())
    assert 0.25 < model.score(d.test.x[:, 0].numpy(), d.test.y.numpy()) < 0.4


def test_spirals_without_noise_lie_on_two_curves(raw):
    x, y = spirals(noise=0)
    radius = np.hypot(*x.T)
    assert 0 <= radius.min() and 0.95 < radius.max() <= 1
    angle = 3 * np.pi * radius + np.pi * y
    np.testing.assert_allclose(x, radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1))


def test_spirals_noise_is_a_deviation(raw):
    (clean, y), (noisy, y_again) = spirals(n=4_000, noise=0), spirals(n=4_000, noise=0.1)
    assert np.array_equal(y, y_again)
    np.testing.assert_allclose((noisy - clean).std(0), 0.1, rtol=0.05)


def test_moons_are_scikit_learns(raw):
    x, y = moons(seed=3)
    expected_x, expected_y = make_moons(1_000, noise=0.2, random_state=3)
    assert np.array_equal(x, expected_x) and np.array_equal(y, expected_y)


# ---- full sets: from OpenML or scikit-learn's cache


@pytest.mark.parametrize(
    "make, name, advice",
    [
        (lambda: mnist(full=True), "MNIST", "use mnist(), 10,000 real digits"),
        (fashion_mnist, "Fashion-MNIST", "install Debian's package dataset-fashion-mnist"),
        (cifar10, "CIFAR-10", "put that file into the cache's folder, or use mnist()"),
    ],
)
def test_an_error_says_what_to_do_without_network(make, name, advice, cache, monkeypatch):
    def no_network(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setattr(data, "fetch_openml", no_network)
    monkeypatch.setattr(data, "download_url_to_file", no_network)
    with pytest.raises(RuntimeError) as caught:
        make()
    text = str(caught.value)
    assert text.startswith(f"{name} is neither in scikit-learn's cache (SCIKIT_LEARN_DATA")
    assert "Name or service not known" in text and "Call again with a network" in text
    assert advice in text and "ship with nettrain" in text
    assert isinstance(caught.value.__cause__, URLError)


def test_without_network_scikit_learn_fails_as_assumed(cache):
    """The real fetch_openml, with its retries and its warnings."""
    with pytest.raises(RuntimeError, match="openml.org: <urlopen error no network>"):
        mnist(full=True)
    assert not [p for p in cache.rglob("*") if p.is_file()]


def write_openml(cache, labels, images):
    """A table as scikit-learn keeps it, with the labels as text like OpenML's; its data file."""
    folder = cache / "openml/openml.org"
    n, pixels = images.shape
    names = [f"pixel{k}" for k in range(pixels)] + ["class"]
    lines = [",".join(map(str, row)) for row in np.column_stack([images, labels])]
    arff = "\n".join(["@RELATION toy", "@DATA", *lines]).encode()
    features = [
        dict(
            index=str(k),
            name=name,
            data_type="nominal" if name == "class" else "numeric",
            is_target=str(name == "class").lower(),
            is_ignore="false",
            is_row_identifier="false",
            number_of_missing_values="0",
        )
        for k, name in enumerate(names)
    ]
    description = dict(
        id="1",
        name="toy",
        version="1",
        status="active",
        format="ARFF",
        file_id="1",
        url="https://api.openml.org/data/v1/download/1/toy.arff",
        md5_checksum=hashlib.md5(arff).hexdigest(),
        description="",
    )
    contents = {
        "api/v1/json/data/1": dict(data_set_description=description),
        "api/v1/json/data/features/1": dict(data_features=dict(feature=features)),
        "api/v1/json/data/qualities/1": dict(data_qualities=dict(quality=[])),
    }
    contents = {name: json.dumps(content).encode() for name, content in contents.items()}
    for name, content in {**contents, "data/v1/download/1/toy.arff": arff}.items():
        (folder / f"{name}.gz").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder / "data/v1/download/1/toy.arff.gz"


def test_scikit_learns_cache_is_a_local_copy(cache):
    labels, images = labels_and_images(30, (16,))
    write_openml(cache, labels, images)
    found, found_labels = data._openml("Toy", 1, (30, 4, 4), "give up")
    np.testing.assert_array_equal(found, images.reshape(30, 4, 4))
    np.testing.assert_array_equal(found_labels, labels)
    assert found.flags.writeable and found_labels.flags.writeable  # or torch warns


def test_a_damaged_copy_in_scikit_learns_cache_is_not_used(cache):
    path = write_openml(cache, *labels_and_images(30, (16,)))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"1", b"2")))
    with (
        pytest.warns(RuntimeWarning, match="Invalid cache, redownloading file to .*toy.arff.gz"),
        pytest.raises(RuntimeError, match="Toy is neither in .*no network.* or give up"),
    ):
        data._openml("Toy", 1, (30, 4, 4), "give up")
    assert not path.exists()


# ---- full sets: Fashion-MNIST from Debian's package


def idx(array) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


@pytest.fixture
def debian(monkeypatch, cache, tmp_path):
    """The four files with tiny images, 2x2, and what they hold."""
    labels, images = labels_and_images(70_000, (2, 2))
    parts = [images[:60_000], labels[:60_000], images[60_000:], labels[60_000:]]
    checksums = {}
    for name, part in zip(data._FASHION_SHA256, parts, strict=True):
        path = tmp_path / "fashion-mnist" / f"{name}.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(idx(part), 1))
        checksums[name] = hashlib.sha256(idx(part)).hexdigest()
    monkeypatch.setattr(data, "_FASHION_SHA256", checksums)
    return tmp_path / "fashion-mnist", images, labels


def test_fashion_mnist_is_read_from_debians_package(debian):
    _, images, labels = debian
    d = fashion_mnist()
    assert [len(s) for s in splits(d)] == [50_000, 10_000, 10_000]
    x, y = all_of(d)
    assert d.shape == (1, 2, 2)
    assert torch.equal(y, torch.tensor(labels.astype(int)))
    train = images[:50_000].astype(float)
    expected = (images - train.mean()) / train.std(ddof=1)
    np.testing.assert_allclose(x[:, 0].numpy(), expected, atol=1e-5)


def test_fashion_mnist_is_sought_elsewhere_when_a_file_lacks(debian):
    folder, *_ = debian
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(RuntimeError, match="Fashion-MNIST is neither in scikit-learn's cache"):
        fashion_mnist()


def test_fashion_mnist_is_read_from_any_folder_packed_or_not(debian, tmp_path):
    folder, *_ = debian
    expected, other = fashion_mnist(), tmp_path / "mine"
    folder.rename(other)
    packed = other / "train-labels-idx1-ubyte.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    for where in (other, str(other)):
        for ours, theirs in zip(splits(fashion_mnist(where)), splits(expected), strict=True):
            assert torch.equal(ours.x, theirs.x) and torch.equal(ours.y, theirs.y)
    packed.with_suffix("").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        fashion_mnist(other)
    name = "train-labels-idx1-ubyte"
    assert str(caught.value) == f"{other} has neither {name} nor {name}.gz"


def test_a_changed_file_of_fashion_mnist_is_refused(debian):
    folder, *_ = debian
    path = folder / "t10k-labels-idx1-ubyte.gz"
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[100] ^= 1
    path.write_bytes(gzip.compress(raw))
    with pytest.raises(RuntimeError) as caught:
        fashion_mnist()
    text = str(caught.value)
    assert text.startswith(f"{path} is damaged")
    assert hashlib.sha256(raw).hexdigest() in text
    assert f"expected {data._FASHION_SHA256['t10k-labels-idx1-ubyte']}" in text
    assert "apt-get install --reinstall dataset-fashion-mnist" in text


@pytest.mark.parametrize("damage", [lambda b: b[:-50], lambda b: b"no gzip", lambda b: b""])
def test_a_broken_file_of_fashion_mnist_is_refused(debian, damage):
    folder, *_ = debian
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RuntimeError, match="train-images-idx3-ubyte.gz is damaged.*expected"):
        fashion_mnist()


@pytest.mark.skipif(
    not data._FASHION_FOLDER.exists(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_debians_files_are_the_known_ones():
    paths = [data._FASHION_FOLDER / f"{name}.gz" for name in data._FASHION_SHA256]
    images, labels, test_images, test_labels = (
        data._idx(p, data._FASHION_SHA256[p.stem]) for p in paths
    )
    assert images.shape == (60_000, 28, 28) and test_images.shape == (10_000, 28, 28)
    assert np.bincount(labels).tolist() == [6_000] * 10
    assert np.bincount(test_labels).tolist() == [1_000] * 10


# ---- full sets: CIFAR-10 from its author's archive


@pytest.fixture
def archive(monkeypatch, cache, tmp_path):
    """An archive of six batches with three images each, at a file:// address."""
    labels, images = labels_and_images(18, (3, 32, 32))
    records = np.concatenate([labels[:, None], images.reshape(18, -1)], 1)
    path = tmp_path / "cifar-10-binary.tar.gz"
    names = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]
    with tarfile.open(path, "w:gz") as tar:
        for k, name in reversed(list(enumerate(names))):  # the order in the archive is no matter
            content = records[3 * k : 3 * k + 3].tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(data, "_CIFAR_URL", path.as_uri())
    monkeypatch.setattr(data, "_CIFAR_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path, images, labels


def test_cifar10_is_loaded_once_and_kept(archive, cache, monkeypatch):
    path, images, labels = archive
    d = cifar10()
    assert d.shape == (3, 32, 32)
    assert torch.equal(all_of(d)[1], torch.tensor(labels.astype(int)))
    mean = images.mean((0, 2, 3), keepdims=True)
    std = images.std((0, 2, 3), ddof=1, keepdims=True)
    np.testing.assert_allclose(all_of(d)[0].numpy(), (images - mean) / std, atol=1e-5)
    path.unlink()
    assert same(cifar10(), d)


def test_cifar10_is_not_kept_when_its_checksum_is_wrong(archive, cache, monkeypatch):
    path, *_ = archive
    found = data._CIFAR_SHA256
    monkeypatch.setattr(data, "_CIFAR_SHA256", "0" * 64)
    with pytest.raises(RuntimeError, match=f'expected "{"0" * 64}", got "{found}"'):
        cifar10()
    assert list(cache.iterdir()) == []


def test_a_damaged_copy_of_cifar10_is_refused(archive, cache):
    path, *_ = archive
    cache.mkdir()
    copy = cache / path.name
    copy.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RuntimeError) as caught:
        cifar10()
    text = str(caught.value)
    assert text.startswith(f"{copy} is damaged: sha256 ")
    assert hashlib.sha256(copy.read_bytes()).hexdigest() in text
    assert f"expected {data._CIFAR_SHA256}. Delete it and call again" in text


# ---- temporal order


def test_temporal_order_is_what_it_says():
    x, y = data.temporal_order(500, 15, seed=0)
    assert x.shape == (500, 15, 6) and (x.sum(-1) == 1).all()
    symbols = x.argmax(-1)
    carriers = [row[row < 2].tolist() for row in symbols]
    assert carriers == [[c // 2, c % 2] for c in y.tolist()]
    where = (symbols < 2).nonzero()[:, 1].view(-1, 2)
    assert where[:, 0].max() < 3 and where[:, 1].min() >= 6 and where[:, 1].max() < 9
    assert torch.bincount(y).min() > 90
    again = data.temporal_order(500, 15, seed=0)
    assert (again[0] == x).all() and (again[1] == y).all()


@pytest.mark.parametrize(
    "wrong, message", [(lambda: data.temporal_order(5, 9, 0), "length=9 is too short")]
)
def test_errors_say_what_is_allowed(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
