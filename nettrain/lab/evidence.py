"""A claim, stated before its experiment, and what the paired seeds of one base say about it."""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from importlib.resources import files

import numpy as np
import pandas as pd
import torch
from scipy.stats import bootstrap
from scipy.stats import t as student

from nettrain.data import base
from nettrain.lab import cards, pooling

METADATA = "nettrain.verdict"  # where a notebook's output holds the record, for the book to collect


def seeds(n: int = 32) -> range:
    """n seeds to judge with, other ones for every base (`data.base`)."""
    first = 100_000 * base()
    return range(first, first + n)


def tuning_seeds(n: int = 4) -> range:
    """n seeds to tune with, none of which is in `seeds`."""
    start = seeds(0).start + 50_000
    return range(start, start + n)


def tried(*levels) -> tuple:
    """The levels of a factor that an experiment is tried at: the first one, or all of them.

        for times in tried(1, 5):    # budgets

    The book's own base, 0, is what a reader sees, and tries the first one only; other bases, which
    are drawn to judge claims, try all. So does base 0 where NETTRAIN_ALL is set to 1.
    """
    return levels if base() or os.environ.get("NETTRAIN_ALL") == "1" else levels[:1]


def interval(x, statistic: Callable = np.mean, level: float = 0.95) -> tuple[float, float, float]:
    """(statistic, low, high) of x [n].

    Student's interval, x̄ ± t s / √n with n − 1 degrees of freedom, for the mean; the percentiles of
    10,000 bootstrap resamples for other statistics. Values that are equal up to rounding, 10⁻¹² of
    the largest, have no spread to estimate: their range is the interval. Raises ValueError for
    fewer than two values, for values that are not finite and for a statistic of them that is not.
    """
    x = np.asarray(x, dtype=float)
    if x.ndim != 1 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"an interval needs two or more finite values, not {x}")
    with np.errstate(over="ignore"):
        center, spread = float(statistic(x)), np.ptp(x)
    if not np.isfinite(center):
        raise ValueError(f"the statistic of {x} is {center}: the values are too large")
    if spread <= 1e-12 * abs(x).max():
        return center, min(center, float(x.min())), max(center, float(x.max()))
    if statistic is np.mean:
        half = student.ppf((1 + level) / 2, len(x) - 1) * standard_error(x)
        return center, center - half, center + half
    how = {"n_resamples": 10_000, "confidence_level": level, "rng": 0, "method": "percentile"}
    found = bootstrap((x,), statistic, **how).confidence_interval
    return center, *map(float, found)


def standard_error(x, statistic: Callable = np.mean) -> float:
    """Of the mean of x [n], s / √n; of other statistics, over 10,000 bootstrap resamples."""
    x = np.asarray(x, dtype=float)
    if statistic is np.mean:
        scale = abs(x - x.mean()).max() or 1.0  # so that no square overflows or vanishes
        return float(scale * ((x - x.mean()) / scale).std(ddof=1) / np.sqrt(len(x)))
    how = {"n_resamples": 10_000, "method": "percentile", "rng": 0}
    return float(bootstrap((x,), statistic, **how).standard_error)


def paired(table: pd.DataFrame, value: str, by: str = "method") -> pd.DataFrame:
    """The last value of each run; a row per seed and a column per method, so rows are pairs."""
    last = table.groupby([by, "seed"], sort=False)["step"].transform("max")
    wide = table[table["step"] == last].pivot(index="seed", columns=by, values=value)
    return wide[list(dict.fromkeys(table[by]))]


APART = " | "  # between the levels in the name of a condition


@dataclass(frozen=True)
class Claim:
    """A claim as it stands before its experiment.

    id        its row of the seed map and a letter: "A19a"
    says      the source's sentence in our words
    measure   the quantity, arranged so that the claim predicts it to lie above +margin
    margin    below this the difference does not matter; unit: of measure and margin
    predicts  "above", or "within" if the claim says that there is no difference that matters
    over      "all" conditions; "some", if the claim says that there is a case; or the levels of
              the one that decides, ("SGD", "cosine")
    factors   what its conditions differ in, ("rule", "schedule"); or with the levels that each is
              tried at, {"data": ("digits", "clothes"), "budget": ("×1", "×5")}: then a page may
              show some of the conditions (`tried`)
    reads     the result as a sentence, "the loss is {} <lower|higher>": {} becomes the effect with
              its interval, <a|b> a word for either sign
    because   why the margin has this size
    redrawn   what must be drawn again for the claim to be tested again, besides weights and order
    nearest   the nearest published experiment, and whether it agrees
    source    who says so; a part of the textbook or the slides if not given
    """

    id: str
    says: str
    measure: str
    margin: float = 0.0
    unit: str = ""
    _: KW_ONLY
    predicts: str = "above"
    over: str | tuple[str, ...] = "all"
    factors: tuple[str, ...] | Mapping[str, Sequence[str]] = ()
    levels: tuple[tuple[str, ...], ...] = ()  # of each factor, if they are given
    reads: str = ""
    because: str = ""
    redrawn: str = ""
    nearest: str = ""
    source: str = ""

    def __post_init__(self):
        if not self.margin >= 0:
            raise ValueError(f"claim {self.id}: margin={self.margin} must not be negative")
        if self.predicts not in ("above", "within"):
            raise ValueError(f"claim {self.id}: predicts={self.predicts!r} is not above or within")
        if isinstance(self.factors, Mapping):
            object.__setattr__(self, "levels", tuple(map(tuple, self.factors.values())))
            object.__setattr__(self, "factors", tuple(self.factors))
        if isinstance(self.factors, str):
            raise ValueError(f"claim {self.id}: factors={self.factors!r}: give a tuple of names")
        primary = isinstance(self.over, tuple) and len(self.over) == len(self.factors) > 0
        if self.over not in ("all", "some") and not primary:
            levels = f"one level for each of {self.factors}" if self.factors else "no levels"
            raise ValueError(f"claim {self.id}: over={self.over!r} is not all, some or {levels}")
        if self.reads and ("{}" not in self.reads or self.reads.count("<") > 1):
            raise ValueError(f"claim {self.id}: reads={self.reads!r} has no {{}} or two <a|b>")
        _show(f"Claim {self.id}. {cards.stated(asdict(self))}", cards.claim(asdict(self)), None)

    def judge(self, pairs: dict | tuple, scope: str, statistic: Callable = np.mean) -> dict:
        """The effects of this base, shown beside what all bases say; returns the record.

        pairs      (a, b): two arrays [n], paired by seed, where a − b is the measure, or an array
                   and a number that it is held against; for a claim with factors
                   {levels: (a, b)}, levels one string or a tuple of them
        scope      data, model, steps, in one sentence
        statistic  np.mean; np.median where tails are heavy

        Raises ValueError for arrays that cannot be paired and for levels that do not belong to the
        claim's factors.
        """
        pairs = {(): pairs} if isinstance(pairs, tuple) else pairs
        pairs = {(k,) if isinstance(k, str) else tuple(k): ab for k, ab in pairs.items()}
        for levels in pairs:
            if len(levels) != len(self.factors) or any("|" in level for level in levels):
                raise ValueError(
                    f"claim {self.id}: {levels} does not name one level, without |, for each of "
                    f"the factors {self.factors}"
                )
            for factor, level, known in zip(self.factors, levels, self.levels):
                if level not in known:
                    raise ValueError(f"claim {self.id}: {factor}={level!r} is none of {known}")
        if isinstance(self.over, tuple) and self.over not in pairs and not self.levels:
            raise ValueError(f"claim {self.id}: over={self.over} is not among {list(pairs)}")
        if not pairs:
            raise ValueError(f"claim {self.id}: there is nothing to judge")
        names = {levels: APART.join(levels) for levels in pairs}
        conditions = {
            names[k]: self._condition(names[k], *ab, statistic) for k, ab in pairs.items()
        }
        return self._record({"statistic": statistic.__name__, "conditions": conditions}, scope)

    def _condition(self, name, a, b, statistic) -> dict:
        a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        fixed = b.ndim == 0
        if a.shape != b.shape and not fixed:
            where = f"claim {self.id} {name}".strip()
            raise ValueError(f"{where}: {a.shape} and {b.shape} values cannot be paired")
        effect, low, high = interval(a - b, statistic)
        error = standard_error(a - b, statistic) if high > low else 0.0
        same = effect == error == 0 and not fixed
        word = "degenerate" if same else pooling.place(low, high, self.margin)
        found = {"effect": effect, "error": error, "low": low, "high": high, "n": len(a)}
        found |= {"a": float(statistic(a)), "b": float(statistic(b)), "state": word}
        return found | ({"fixed": True} if fixed else {})

    def exact(self, holds: bool, error: float, tolerance: float, scope: str) -> dict:
        """Judge an exact claim: true or false by a proof or a float64 computation."""
        conditions = {"": {"error": float(error), "tolerance": float(tolerance)}}
        return self._record({"verdict": str(bool(holds)).lower(), "conditions": conditions}, scope)

    def _record(self, found: dict, scope: str) -> dict:
        record = asdict(self) | found | {"scope": scope, "device": _device()}
        if not self.levels:
            del record["levels"]
        record = json.loads(json.dumps(record))  # tuples as lists, as where it is stored
        _show(cards.told(record), cards.verdict(record), record)
        return record


def committed() -> dict[str, dict]:
    """What base 0 found, {claim id: record}; `make evidence` writes it."""
    return json.loads((files("nettrain") / "evidence.json").read_text())


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()})"


def _show(text: str, card: str, record: dict | None) -> None:
    """Print; in a notebook display a card, with the record beside it for the book to collect."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        get_ipython = lambda: None  # noqa: E731
    if get_ipython() is None or not hasattr(get_ipython(), "kernel"):
        print(text)
        return
    bundle = {"text/plain": text, "text/html": card}
    display(bundle, metadata={METADATA: record} if record else None, raw=True)
