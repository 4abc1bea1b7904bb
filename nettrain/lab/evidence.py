"""How a claim becomes a verdict: stated first, then judged by an interval over paired seeds."""

import html
import json
import platform
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.resources import files

import numpy as np
import pandas as pd
import torch
from scipy.stats import bootstrap

from nettrain.data import base

METADATA = "nettrain.verdict"  # where a notebook's output holds the record, for the book to collect


def seeds(n: int = 32) -> range:
    """n seeds to judge with, other ones for every base (`data.base`)."""
    first = 100_000 * base()
    return range(first, first + n)


def tuning_seeds(n: int = 4) -> range:
    """n seeds to tune with, none of which is in `seeds`."""
    start = seeds(0).start + 50_000
    return range(start, start + n)


def interval(x, statistic: Callable = np.mean, level: float = 0.95) -> tuple[float, float, float]:
    """(statistic, low, high): a bootstrap interval of 10,000 resamples of x [n].

    BCa (Efron 1987) for the mean, percentile for other statistics, whose jackknife may be constant,
    and where BCa is not finite since squares of x overflow or vanish. Values that are equal up to
    rounding, 10⁻¹² of the largest, have no spread to estimate: their range is the interval.
    Raises ValueError for fewer than two values, for values that are not finite and for a statistic
    of them that is not.
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
    how = {"n_resamples": 10_000, "confidence_level": level, "rng": 0}
    with warnings.catch_warnings(action="ignore"):  # of squares too large or too small
        if statistic is np.mean:
            found = bootstrap((x,), statistic, method="BCa", **how).confidence_interval
            if np.isfinite(found).all():
                return center, *map(float, found)
        found = bootstrap((x,), statistic, method="percentile", **how).confidence_interval
    return center, *map(float, found)


def standard_error(x, statistic: Callable = np.mean) -> float:
    """Of the mean of x [n], std(x) / √n; of other statistics, over 10,000 bootstrap resamples."""
    x = np.asarray(x, dtype=float)
    if statistic is np.mean:
        return float(x.std(ddof=1) / np.sqrt(len(x)))
    how = {"n_resamples": 10_000, "method": "percentile", "rng": 0}
    return float(bootstrap((x,), statistic, **how).standard_error)


def paired(table: pd.DataFrame, value: str, by: str = "method") -> pd.DataFrame:
    """The value that each run ends with: a row per seed, a column per method, so rows are pairs."""
    last = table.groupby([by, "seed"], sort=False)["step"].transform("max")
    wide = table[table["step"] == last].pivot(index="seed", columns=by, values=value)
    return wide[list(dict.fromkeys(table[by]))]


def verdict(low: float, high: float, margin: float, predicts: str = "above") -> str:
    """What an interval of an effect says about the claim that it is "above" or "within" a margin.

    "Within" is the claim that two things are alike: an interval inside the margins supports it.
    """
    inside, outside = -margin <= low and high <= margin, low > margin or high < -margin
    if predicts == "within":
        return "supported" if inside else "contradicted" if outside else "undecided"
    if outside:
        return "supported" if low > margin else "contradicted"
    return "no difference that matters" if inside else "undecided"


@dataclass(frozen=True)
class Claim:
    """A claim as it stands before its experiment.

    id       its row of the seed map and a letter: "A19a"
    says     the source's sentence in our words
    measure  the quantity, arranged so that the claim predicts it to lie above +margin
    margin   below this the difference does not matter; unit: of measure and margin
    predicts "above", or "within" for the claim that there is no difference that matters
    """

    id: str
    says: str
    measure: str
    margin: float = 0.0
    unit: str = ""
    predicts: str = "above"

    def __post_init__(self):
        if not self.margin >= 0:
            raise ValueError(f"claim {self.id}: margin={self.margin} must not be negative")
        if self.predicts not in ("above", "within"):
            raise ValueError(f"claim {self.id}: predicts={self.predicts!r} is not above or within")
        text = f"{self.says} Measured by: {self.measure}."
        if self.margin and self.predicts == "within":
            text += f" The claim predicts a value within ±{self.margin:g}{self._unit}."
        elif self.margin:
            text += f" A difference within ±{self.margin:g}{self._unit} does not matter."
        _show(f"Claim {self.id}. {text}", _card("claim", f"Claim {self.id}.", text), None)

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def judge(self, pairs: dict | tuple, scope: str, statistic: Callable = np.mean) -> dict:
        """Judge by paired values over seeds, print the verdict and return its record.

        pairs      (a, b): two arrays [n], paired by seed, where a − b is the measure; or, for a
                   claim that may depend on a condition, {condition: (a, b)}
        scope      data, model, steps, in one sentence
        statistic  np.mean; np.median where tails are heavy
        """
        if isinstance(pairs, tuple):
            pairs = {"": pairs}
        conditions = {name: self._condition(name, *ab, statistic) for name, ab in pairs.items()}
        found = {c["verdict"] for c in conditions.values()}
        overall = found.pop() if len(found) == 1 else "depends"
        return self._record(overall, conditions, scope)

    def _condition(self, name, a, b, statistic) -> dict:
        a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        if a.shape != b.shape:
            where = f"claim {self.id} {name}".strip()
            raise ValueError(f"{where}: {a.shape} and {b.shape} values cannot be paired")
        effect, low, high = interval(a - b, statistic)
        error = standard_error(a - b, statistic)
        own = {"a": float(statistic(a)), "b": float(statistic(b))}
        says = verdict(low, high, self.margin, self.predicts)
        found = {"effect": effect, "error": error, "low": low, "high": high, "n": len(a)}
        return found | own | {"verdict": says}

    def exact(self, holds: bool, error: float, tolerance: float, scope: str) -> dict:
        """Judge an exact claim: true or false by a proof or a float64 computation."""
        overall = "true" if holds else "false"
        conditions = {"": {"error": float(error), "tolerance": tolerance, "verdict": overall}}
        return self._record(overall, conditions, scope)

    def _record(self, overall, conditions, scope) -> dict:
        record = asdict(self) | {
            "verdict": overall,
            "conditions": conditions,
            "scope": scope,
            "device": _device(),
        }
        lines = [self._line(name, c) for name, c in conditions.items()]
        head = f"{self.id}: {overall}."
        body = " ".join(lines)
        text = f"{head} {body} {scope}"
        _show(text, _card(overall, head, *lines, scope), record)
        return record

    def _line(self, name, c) -> str:
        start = f"{name}: {c['verdict']}, " if name else ""
        if "tolerance" in c:
            return f"{start}Error {c['error']:.2g}, tolerance {c['tolerance']:.2g}."
        span = f"{c['effect']:.3g}{self._unit} [{c['low']:.3g}, {c['high']:.3g}]"
        return f"{start}{span}, n = {c['n']} pairs ({c['a']:.3g} against {c['b']:.3g})."


def committed() -> dict[str, dict]:
    """The committed verdicts, {claim id: record}; `make evidence` writes them."""
    return json.loads((files("nettrain") / "evidence.json").read_text())


def second_look() -> dict[str, dict]:
    """Verdicts with other sets of seeds: {chapter: {"seeds": {set: {claim: verdict}}}}."""
    return json.loads((files("nettrain") / "second_look.json").read_text())


def moved(records: dict[str, dict], looks: dict[str, dict]) -> pd.DataFrame:
    """Claims whose verdict another set of seeds changed: the verdict, then one column per set."""
    table = pd.DataFrame({"verdict": {claim: r["verdict"] for claim, r in records.items()}})
    for look in looks.values():
        for name, verdicts in look["seeds"].items():
            table.loc[list(verdicts), f"seeds {name}"] = list(verdicts.values())
    others = table.drop(columns="verdict").sort_index(axis=1)
    changed = others.notna() & others.ne(table["verdict"], axis=0)
    return table[["verdict"]].join(others.fillna("not repeated"))[changed.any(axis=1)].sort_index()


def summary(records: dict[str, dict]) -> str:
    """All verdicts in Markdown: claim, verdict, measure, effects with interval and n, chapter."""
    lines = []
    for name, r in sorted(records.items()):
        unit = f" {r['unit']}" if r["unit"] else ""
        chapter = r["chapter"].split("/")[-1]
        lines += [f"**{name}: {r['verdict']}.** {r['says']} ([{chapter}]({chapter}.ipynb))", ""]
        margin = "predicted within" if r["predicts"] == "within" else "margin"
        margin = f" ({margin} ±{r['margin']:g}{unit})" if r["margin"] else ""
        lines.append(f"- *{r['measure']}*{margin}")
        for condition, c in r["conditions"].items():
            start = f"{condition}: " if condition else ""
            if "tolerance" in c:
                lines.append(f"- {start}error {c['error']:.2g}, tolerance {c['tolerance']:.2g}")
                continue
            span = f"{c['effect']:.3g}{unit} [{c['low']:.3g}, {c['high']:.3g}], n = {c['n']}"
            lines.append(f"- {start}{span}" + (f", {c['verdict']}" if condition else ""))
        lines.append("")
    return "\n".join(lines)


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()})"


def _card(kind: str, head: str, *lines: str) -> str:
    body = "".join(f"<div>{html.escape(line)}</div>" for line in lines)
    name = kind.replace(" ", "-")
    return f'<div class="nt-verdict nt-{name}"><strong>{html.escape(head)}</strong>{body}</div>'


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
