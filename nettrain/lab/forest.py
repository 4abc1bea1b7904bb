"""Effects beside their margin as small pictures in a page: SVG that stretches with its place."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

HEIGHT = 18  # pixels of a line


@dataclass(frozen=True)
class Row:
    """An effect with its interval, the effects of its bases, and what it says of the claim.

    side  "for", "against", "same" (a difference that does not matter) or "open"
    """

    effect: float
    low: float
    high: float
    bases: tuple[float, ...]
    side: str


@dataclass(frozen=True)
class Axis:
    """Where effects are drawn: from low to high, with the margin in between."""

    low: float
    high: float
    margin: float
    unit: str
    words: tuple[str, str, str]  # what it means to be left of the margin, inside and right of it

    def _at(self, value: float) -> str:
        value = min(max(value, self.low), self.high)
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"

    def plot(self, row: Row) -> str:
        """One line: the margin as a zone, zero, the bases as dots, the interval as a bar."""
        at, middle = self._at, HEIGHT - 7
        zone = f"{100 * 2 * self.margin / (self.high - self.low):.2f}%"
        dots = "".join(f'<circle class="nt-base" cx="{at(e)}" cy="4" r="2"/>' for e in row.bases)
        return (
            f'<svg class="nt-row nt-{row.side}" width="100%" height="{HEIGHT}" aria-hidden="true">'
            # colors for where the page's style sheet is missing, as under a live cell on Colab
            f'<rect class="nt-zone" fill="#8884" x="{at(-self.margin)}" width="{zone}" '
            f'height="{HEIGHT}"/>'
            f'<line class="nt-zero" stroke="#888" x1="{at(0)}" x2="{at(0)}" y2="{HEIGHT}"/>'
            f'<line class="nt-bar" stroke="#666" x1="{at(row.low)}" x2="{at(row.high)}" '
            f'y1="{middle}" y2="{middle}"/>'
            f'{dots}<circle class="nt-mean" cx="{at(row.effect)}" cy="{middle}" r="4.5"/></svg>'
        )

    def ends(self, room: float = 0.15) -> str:
        """What stands under the lines: the margin's numbers, and words for either side.

        Only zero, if the margin is less than this share of the axis: two numbers would overlap.
        """
        far = 2 * self.margin / (self.high - self.low) > room
        marks = [-self.margin, self.margin] if far else [0.0]
        ticks = "".join(
            # as far to its own left as along the axis, so that none is cut at an end
            f'<span style="left:{self._at(v)};transform:translateX(-{self._at(v)})">'
            f"{tick(v, self.unit)}</span>"
            for v in marks
        )
        left, inside, right = map(html.escape, self.words)
        inside = f"<span>▒ {inside}</span>" if self.margin else "<span></span>"
        return (
            f'<div class="nt-axis" aria-hidden="true"><div class="nt-ticks">{ticks}</div>'
            f'<div class="nt-ends"><span>← {left}</span>{inside}<span>{right} →</span></div></div>'
        )


def axis(rows: Sequence[Row], record: dict) -> Axis:
    """An axis that holds all intervals and the margin of a claim's record."""
    margin = record["margin"]
    low = min([0.0, -margin, *(row.low for row in rows)])
    high = max([0.0, margin, *(row.high for row in rows)])
    pad = 0.04 * (high - low) or 1.0
    return Axis(low - pad, high + pad, margin, record["unit"], _words(record))


def _words(record: dict) -> tuple[str, str, str]:
    if record["predicts"] == "within":
        return "differs", "as claimed", "differs"
    choice = re.search(r"<(.*)\|(.*)>", record["reads"])
    left, right = (choice[2], choice[1]) if choice else ("against the claim", "for it")
    return left, "too small to matter", right


def tick(value: float, unit: str) -> str:
    """A number of an axis: 0.5 doublings are "×1.41", -0.5 "÷1.41"."""
    for name, factor in (("doublings", 2.0), ("decades", 10.0)):
        if unit.startswith(name):
            return f"{'÷' if value < 0 else '×'}{factor ** abs(value):.3g}"
    return f"{value:.3g}".replace("-", "−")
