"""Data sets with fixed splits, as tensors on the device.

No download: mnist, fashion, digits, mnist1d, spirals, moons. Network or local copy:
mnist(full=True), fashion_mnist, cifar10. Images are x [n, c, h, w] and signals [n, 1, length],
float32; y is int64.

A base (`base`) other than 0 draws again which examples of mnist, fashion and digits train, choose
and test, and draws all generated sets again. The large sets keep the splits used in publications.
"""

import gzip
import hashlib
import io
import os
import string
import tarfile
import warnings
import zlib
from dataclasses import dataclass, replace
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d
from sklearn.datasets import fetch_openml, get_data_home, load_digits, make_moons
from torch import Tensor
from torch.hub import download_url_to_file


def device() -> torch.device:
    """CUDA if there is one, else the CPU; the environment variable NETTRAIN_DEVICE overrides."""
    best = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(os.environ.get("NETTRAIN_DEVICE", best))


def base() -> int:
    """The number of this drawing of everything: NETTRAIN_BASE in the environment, 0 without it.

    Raises ValueError for anything but 0, 1, 2, ...
    """
    text = os.environ.get("NETTRAIN_BASE", "0")
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"NETTRAIN_BASE={text!r} is not one of 0, 1, 2, ...")
    return int(text)


@dataclass(frozen=True)
class Split:
    """Examples x [n, ...] and labels y [n]."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows) -> "Split":
        return Split(self.x[rows], self.y[rows])

    def to(self, *args) -> "Split":
        """Both tensors on a device, x in a dtype."""
        x = self.x.to(*args)
        return Split(x, self.y.to(x.device))


@dataclass(frozen=True)
class Data:
    """A data set: what to train on, what to choose with, what to look at once."""

    name: str
    train: Split
    valid: Split
    test: Split

    def to(self, *args) -> "Data":
        """Every split on a device or in a dtype, as Tensor.to."""
        return replace(self, **{k: getattr(self, k).to(*args) for k in ("train", "valid", "test")})

    @property
    def shape(self) -> torch.Size:
        """Shape of one example."""
        return self.train.x.shape[1:]

    def __repr__(self) -> str:
        n = " / ".join(str(len(s)) for s in (self.train, self.valid, self.test))
        return f"{self.name}: {n} examples {tuple(self.shape)} to train / choose / test with"


def _data(name, x, y, cuts) -> Data:
    """Cut x, y into three splits; scale each channel by its mean and deviation in the first."""
    x, y = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y, dtype=torch.int64)
    rest = [dim for dim in range(x.ndim) if dim != 1]
    # in float64: the order of a sum depends on the machine, and is rounded away here
    std, mean = torch.std_mean(x[: cuts[0]].double(), rest, keepdim=True)
    x = (x - mean.float()) / std.float()
    starts, ends = (0, *cuts), (*cuts, len(y))
    splits = (Split(x[a:b], y[a:b]) for a, b in zip(starts, ends, strict=True))
    return Data(name, *splits).to(device())


def _drawn(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same rows in the order of this base."""
    if base() == 0:
        return arrays
    order = _random(0).permutation(len(arrays[0]))
    return tuple(a[order] for a in arrays)


def _random(seed: int) -> np.random.RandomState:
    """Of a seed and the base; its stream is frozen, that of default_rng is not."""
    return np.random.RandomState([seed, base()] if base() else seed)


# ---- real data that come with the packages


def mnist(*, side: int = 28, full: bool = False) -> Data:
    """Handwritten digits, x [n, 1, side, side], one mean and one deviation for all pixels.

    The default is the 10,000 real digits that ship with the package (7,000 / 1,000 / 2,000), no
    download. side=14 or 7 averages blocks of pixels. full=True loads all 70,000 (50,000 / 10,000 /
    10,000). LeCun, Cortes & Burges, CC BY-SA 3.0; provenance in nettrain/mnist10k.md.
    """
    _check_side(side)
    if full:
        images, labels = _openml("MNIST", 554, (70_000, 28, 28), _SHIPPED)
        return _data(f"MNIST {side}x{side}", _pixels(images, side), labels, (50_000, 60_000))
    return _shipped(f"MNIST {side}x{side}", "mnist10k.npz", side)


def fashion(*, side: int = 28) -> Data:
    """Pictures of clothes of ten kinds, x [n, 1, side, side], 7,000 / 1,000 / 2,000.

    10,000 of Fashion-MNIST's training images ship with the package, no download, with the sizes and
    splits of `mnist`. Xiao, Rasul & Vollgraf 2017, MIT licence; provenance in
    nettrain/fashion10k.md. `fashion_mnist` has all 70,000.
    """
    _check_side(side)
    return _shipped(f"Fashion-MNIST {side}x{side}", "fashion10k.npz", side)


def _check_side(side: int) -> None:
    if side not in (28, 14, 7):
        raise ValueError(f"side={side} is none of 28, 14, 7")


def _shipped(name: str, file: str, side: int) -> Data:
    with np.load(files("nettrain") / file) as f:
        images, labels = _drawn(f["images"], f["labels"])
    return _data(name, _pixels(images, side), labels, (7_000, 8_000))


def _pixels(images: np.ndarray, side: int) -> Tensor:
    """[n, 28, 28] -> [n, 1, side, side], means over blocks."""
    return F.avg_pool2d(torch.as_tensor(images)[:, None].float(), 28 // side)


def digits() -> Data:
    """scikit-learn's small handwritten digits, x [n, 1, 8, 8], 1,200 / 297 / 300.

    Shuffled first, so that all 13 writers appear in every split. Alpaydin & Kaynak 1998.
    """
    images, labels = _drawn(load_digits().images, load_digits().target)
    order = np.random.RandomState(0).permutation(len(labels))
    return _data("Digits 8x8", images[order, None], labels[order], (1_200, 1_497))


# The characters of `austen`: a character's place here is its number.
CHARACTERS = (
    f"\n\f !\"&'()*,-.{string.digits}:;?{string.ascii_uppercase}[]_{string.ascii_lowercase}"
)


def austen(*, context: int = 32, n: int = 4_000) -> Data:
    """Jane Austen's six novels by characters: x [n, context], and y [n, context] what follows each.

    Numbers of `CHARACTERS`, 0 ... 80, int64; y[i, t] stands after x[i, t]. n windows of four novels
    train, n / 8 of Northanger Abbey choose, n / 4 of Persuasion test; none overlaps another. Public
    domain; ships with the package, provenance in nettrain/austen.md. Raises ValueError for a
    context below 1, for n < 8 and for more windows than the novels have.
    """
    if context < 1:
        raise ValueError(f"context={context} must be at least 1 character")
    texts, counts = novels(), (n, n // 8, n // 4)
    most = min((len(text) - 1) // context * part for text, part in zip(texts, (1, 8, 4)))
    if not 8 <= n <= most:
        raise ValueError(
            f"n={n} is outside [8, {most}], the novels have no more for context={context}"
        )
    random = _random(0)
    splits = (_windows(text, context, m, random) for text, m in zip(texts, counts, strict=True))
    return Data(f"Austen, {context} characters", *splits).to(device())


def novels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The text of Austen's novels, what trains, chooses and tests: numbers of `CHARACTERS`, int64.

    Emma, Mansfield Park, Pride and Prejudice, and Sense and Sensibility, with a form feed between
    them; Northanger Abbey; Persuasion.
    """
    text = np.frombuffer(gzip.decompress((files("nettrain") / "austen.txt.gz").read_bytes()), "u1")
    ends = np.flatnonzero(text == ord("\f"))  # parts the novels
    ids = np.searchsorted(np.frombuffer(CHARACTERS.encode(), "u1"), text)
    return ids[: ends[3]], ids[ends[3] + 1 : ends[4]], ids[ends[4] + 1 :]


def _windows(text: np.ndarray, context: int, n: int, random: np.random.RandomState) -> Split:
    """n of the pieces that a text is cut into, in random order."""
    pieces = random.permutation((len(text) - 1) // context)[:n]
    at = pieces[:, None] * context + np.arange(context)
    return Split(torch.as_tensor(text[at]), torch.as_tensor(text[at + 1]))


# ---- generated data: 60 % / 20 % / 20 %, classes balanced


def mnist1d(*, n: int = 5_000, seed: int = 0) -> Data:
    """MNIST-1D: signals of length 40 that stand for the ten digits, x [n, 1, 40].

    A template of 12 points is padded, stretched to 72, scaled and moved around the circle;
    correlated noise fills the padding, white noise lies over all; then a shear, and 40 samples.
    Greydanus & Kobak, arXiv:2011.14439: their templates and strengths, our random numbers.
    """
    _check_sample(n)
    random = _random(seed)
    y = np.arange(n) % 10

    t = (_TEMPLATES - _TEMPLATES.mean(1, keepdims=True)) / _TEMPLATES.std(1, keepdims=True)
    t = (t - t[:, :1]) / 6  # begins and ends at 0
    padding = random.randint(36, 61, (n, 1))
    at = np.linspace(0, 1, 72) * (11 + padding)  # place of each of the 72 points in 12 + padding
    x = np.stack([np.interp(a, np.arange(13), [*t[k], 0]) for a, k in zip(at, y, strict=True)])

    x *= 1 + 0.4 * (random.rand(n, 1) - 0.5)
    moved = (np.arange(72) - random.randint(0, 48, (n, 1))) % 72
    x, at = np.take_along_axis(x, moved, 1), np.take_along_axis(at, moved, 1)

    x = np.where(at < 12, x, gaussian_filter1d(0.25 * random.randn(n, 72), 2))
    x += 0.02 * random.randn(n, 72)
    x -= 0.75 * (random.rand(n, 1) - 0.5) * np.linspace(-0.5, 0.5, 72)

    samples = np.linspace(0, 71, 40)
    x = np.stack([np.interp(samples, np.arange(72), row) for row in x])
    return _data("MNIST-1D", x[:, None], y, _shares(n))


# From github.com/greydanus/mnist1d, Apache 2.0.
_TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)


def spirals(*, n: int = 1_000, noise: float = 0.03, seed: int = 0) -> Data:
    """Two spirals of 1½ turns, one inside the other, x [n, 2].  After Lang & Witbrock 1988.

    noise  deviation of each coordinate, where the spirals end at radius 1 and pass 1/3 apart
    """
    _check_sample(n, noise)
    random = _random(seed)
    y = np.arange(n) % 2
    radius = np.sqrt(random.rand(n))  # √: about as many points on each piece of the same length
    angle = 3 * np.pi * radius + np.pi * y
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return _data("Spirals", x + noise * random.randn(n, 2), y, _shares(n))


def moons(*, n: int = 1_000, noise: float = 0.2, seed: int = 0) -> Data:
    """Two half circles that interlock, x [n, 2], from scikit-learn.

    noise  deviation of each coordinate, where the half circles have radius 1
    """
    _check_sample(n, noise)
    x, y = make_moons(n, noise=noise, random_state=_random(seed))
    return _data("Moons", x, y, _shares(n))


def _shares(n: int) -> tuple[int, int]:
    return n * 3 // 5, n * 4 // 5


def _check_sample(n: int, noise: float = 0.0) -> None:
    if n < 10:
        raise ValueError(f"n={n} is too few for three splits; give at least 10")
    if not noise >= 0:
        raise ValueError(f"noise={noise} must not be negative")


# ---- real data in full: from a local copy, else from the network


def fashion_mnist(folder: str | Path | None = None) -> Data:
    """Pictures of ten kinds of clothes, x [n, 1, 28, 28], 50,000 / 10,000 / 10,000.

    folder  where the authors' four IDX files are, packed (.gz) or not; None: from Debian's package
            dataset-fashion-mnist where it is installed, else by scikit-learn from OpenML or its
            cache

    `fashion` has 10,000 of them without a download. Xiao, Rasul & Vollgraf 2017, MIT licence.
    Raises FileNotFoundError for a folder that lacks a file and RuntimeError for a damaged one.
    """
    place = _FASHION_FOLDER if folder is None else Path(folder)
    paths = [place / f"{name}.gz" for name in _FASHION_SHA256]
    if folder is not None:
        paths = [path if path.exists() else path.with_suffix("") for path in paths]
        if lacks := [path.name for path in paths if not path.exists()]:
            raise FileNotFoundError(f"{folder} has neither {lacks[0]} nor {lacks[0]}.gz")
    if all(path.exists() for path in paths):
        parts = [_idx(path, _FASHION_SHA256[path.name.removesuffix(".gz")]) for path in paths]
        images, labels = np.concatenate(parts[::2]), np.concatenate(parts[1::2])
    else:
        advice = f"install Debian's package dataset-fashion-mnist, or {_SHIPPED}"
        images, labels = _openml("Fashion-MNIST", 40_996, (70_000, 28, 28), advice)
    return _data("Fashion-MNIST", images[:, None], labels, (50_000, 60_000))


def cifar10() -> Data:
    """Small colour photographs of ten kinds, x [n, 3, 32, 32], 45,000 / 5,000 / 10,000.

    From the author's own archive (170 MB), kept beside scikit-learn's cache. Krizhevsky 2009, with
    the split of He et al. 2016.
    """
    batches = [f"cifar-10-batches-bin/data_batch_{k}.bin" for k in range(1, 6)]
    batches += ["cifar-10-batches-bin/test_batch.bin"]
    with tarfile.open(fileobj=io.BytesIO(_archive())) as tar:
        parts = [np.frombuffer(tar.extractfile(name).read(), np.uint8) for name in batches]
    rows = np.concatenate(parts).reshape(-1, 1 + 3 * 32 * 32)  # label; red, green, blue
    images = rows[:, 1:].reshape(-1, 3, 32, 32)
    return _data("CIFAR-10", images, rows[:, 0], (45_000, 50_000))


_SHIPPED = "use mnist(), 10,000 real digits that ship with nettrain"
_CACHE = "scikit-learn's cache (SCIKIT_LEARN_DATA, else ~/scikit_learn_data)"

_FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_FASHION_SHA256 = {  # of the unpacked files: Debian packs them again
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_CIFAR_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"


def _openml(name: str, data_id: int, shape: tuple, advice: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of an OpenML table in its order, which is training images, then test ones.

    scikit-learn compares the md5 and keeps whole files only; it fetches a damaged copy again.
    """
    number = {"dtype": np.float32}  # labels as categories: scikit-learn 1.9 fails with pandas 3.1
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "A network error occurred")  # the error tells it
            table = fetch_openml(data_id=data_id, as_frame=False, read_csv_kwargs=number)
    except (OSError, EOFError, ValueError, HTTPException) as error:
        raise RuntimeError(
            f"{name} is neither in {_CACHE} nor to be had from openml.org: {error}. Call again "
            f"with a network, or copy the cache's folder openml from where it worked, or {advice}."
        ) from error
    return np.array(table.data).reshape(shape), np.array(table.target)  # pandas' are read-only


def _idx(path: Path, sha256: str) -> np.ndarray:
    """The array in an IDX file: 0, 0, 8 for bytes, number of axes, sizes, bytes."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        found = hashlib.sha256(raw).hexdigest()
    except (OSError, EOFError, zlib.error) as error:
        found = f"none, for it cannot be unpacked ({error})"
    if found != sha256:
        raise RuntimeError(
            f"{path} is damaged: sha256 of its content {found}, expected {sha256}. Get it again, "
            "as by apt-get install --reinstall dataset-fashion-mnist"
        )
    sizes = np.frombuffer(raw, ">i4", raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(sizes)


def _archive() -> bytes:
    """CIFAR-10's archive, downloaded if it is not there; torch keeps only a whole, right file."""
    try:
        path = Path(get_data_home()) / "cifar-10-binary.tar.gz"
        if not path.exists():
            download_url_to_file(_CIFAR_URL, str(path), _CIFAR_SHA256)
        content = path.read_bytes()
    except (OSError, RuntimeError, HTTPException) as error:
        raise RuntimeError(
            f"CIFAR-10 is neither in {_CACHE} nor to be had from {_CIFAR_URL}: {error}. Call again "
            f"with a network, or put that file into the cache's folder, or {_SHIPPED}."
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != _CIFAR_SHA256:
        raise RuntimeError(
            f"{path} is damaged: sha256 {found}, expected {_CIFAR_SHA256}. Delete it and call again"
        )
    return content


# ------------------------------------------------------------------------ a task of long range


def temporal_order(n: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sequences whose class is the order of two symbols far from the end.  -> [n, T, 6], [n]

    A symbol is one of six, one-hot: the first two carry the answer, four are distractors. One
    carrier stands in the first fifth, one about the middle; the class, 0 ... 3, says which two
    they were, in order. Hochreiter & Schmidhuber 1997; Pascanu et al. 2013.

    Raises ValueError for fewer than 10 symbols.
    """
    if length < 10:
        raise ValueError(f"length={length} is too short; give at least 10")
    generator = torch.Generator().manual_seed(seed)
    symbols = torch.randint(2, 6, (n, length), generator=generator)
    y = torch.randint(0, 4, (n,), generator=generator)
    rows, fifth = torch.arange(n), length // 5
    symbols[rows, torch.randint(0, fifth, (n,), generator=generator)] = y // 2
    middle = torch.randint(2 * fifth, 3 * fifth, (n,), generator=generator)
    symbols[rows, middle] = y % 2
    return torch.nn.functional.one_hot(symbols, 6).float(), y
