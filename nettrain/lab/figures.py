"""How the book draws: colours, lines, bands, and figures that the reader moves."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

# Okabe & Ito 2008, told apart by colour-blind readers; each colour has a line style of its own
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C6D1F",
)


STYLES = (
    "",
    (4, 1.5),
    (1, 1),
    (6, 1, 1, 1),
    (3, 1, 1, 1, 1, 1),
    (8, 2),
    (2, 2),
    (5, 1, 5, 1, 1, 1),
)


def style() -> None:
    """The book's matplotlib style; call it once, in a chapter's first cell."""
    plt.rcdefaults()
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.6),
            "figure.dpi": 110,
            "figure.facecolor": "white",  # a light card: readable on light and dark pages
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": plt.cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "font.size": 10,
            "lines.linewidth": 1.6,
            "legend.frameon": False,
            "svg.hashsalt": "nettrain",  # the same file at every build
        }
    )


def looks(names: Sequence[str]) -> tuple[dict, dict]:
    """One colour and one dash pattern for each name: ({name: colour}, {name: dashes})."""
    if len(names) > len(COLOURS):
        raise ValueError(f"{len(names)} lines cannot be told apart; draw at most {len(COLOURS)}")
    return dict(zip(names, COLOURS, strict=False)), dict(zip(names, STYLES, strict=False))


def curves(
    table: pd.DataFrame, x: str, y: str, by: str, *, ax: Axes | None = None, log: str = "y"
) -> Axes:
    """Mean of y at each x over seeds, one line for each value of `by`, band = 95 % interval.

    table  tidy, with a column seed; values that are not finite are left out and counted
    log    the axes with a logarithmic scale: "", "x", "y" or "xy"
    """
    ax = ax or plt.gca()
    finite = table[np.isfinite(table[y])]
    names = list(dict.fromkeys(table[by]))
    palette, dashes = looks(names)
    sns.lineplot(
        finite, x=x, y=y, hue=by, style=by, hue_order=names, style_order=names, palette=palette,
        dashes=dashes, errorbar=("ci", 95), n_boot=500, seed=0, ax=ax,
    )  # fmt: skip
    ax.set(xlabel=x.replace("_", " "), ylabel=y.replace("_", " "))
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    ax.legend(title=None, fontsize=8.5)
    note(ax, table, y)
    return ax


def lines(table: pd.DataFrame, *, ax: Axes | None = None, **how) -> Axes:
    """One line per column against the index, with its colour and dashes; gaps are bridged."""
    ax = ax or plt.gca()
    palette, dashes = looks(list(table))
    for name, column in table.items():
        column = column.dropna()
        ax.plot(column.index, column, color=palette[name], dashes=dashes[name], label=name, **how)
    ax.legend(fontsize=8)
    return ax


def slices(table: pd.DataFrame, columns: Sequence[str], value: str, *, log: Sequence[str] = ()):
    """The value of every trial against each hyperparameter, one panel each; the axes.

    log  the columns (and the value) that have a logarithmic scale; infinite values are left out
    """
    fig, axes = plt.subplots(1, len(columns), sharey=True, figsize=(8, 2.6), squeeze=False)
    for ax, name in zip(axes[0], columns, strict=True):
        ax.plot(table[name], table[value], "o", ms=3, alpha=0.5, mew=0)
        ax.set(xlabel=name)
        if name in log:
            ax.set_xscale("log")
    axes[0, 0].set(ylabel=value.replace("_", " "))
    if value in log:
        axes[0, 0].set_yscale("log")
    return axes[0]


def parallel(
    table: pd.DataFrame,
    columns: Sequence[str],
    value: str,
    *,
    best: float = 0.1,
    log: Sequence[str] = (),
    ax: Axes | None = None,
) -> Axes:
    """Parallel coordinates: a line per trial through its hyperparameters, the best ones on top.

    best  the share of the trials, by value, that is drawn in colour
    log   the columns with a logarithmic axis; a column of other things than numbers is a list

    A trial whose value is not finite has failed: it is grey, with a gap at its value.
    """
    ax = ax or plt.gca()
    finite = table[value].where(np.isfinite(table[value].astype(float)))
    table = table.assign(**{value: finite})
    table = table.sort_values(value, ascending=False, na_position="first")
    heights = {}
    for x, name in enumerate(columns):
        column, ticks = table[name], None
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            ticks = sorted(map(str, column.unique()))
            column = column.map(lambda v, t=ticks: t.index(str(v)))
        column = np.log10(column) if name in log else column
        low, high = column.min(), column.max()
        heights[name] = (column - low) / (high - low or 1)
        ends = ticks or [f"{10**v if name in log else v:.2g}" for v in (low, high)]
        for k, text in enumerate(ends):
            y = k / max(len(ends) - 1, 1)
            ax.text(x, y, f" {text} ", fontsize=8, va="center", bbox={"fc": "w", "ec": "0.8"})
    lines = pd.DataFrame(heights).to_numpy()
    others = len(table) - min(round(best * len(table)), table[value].count())
    ax.plot(lines[:others].T, color="0.6", lw=0.5, alpha=0.4)
    ax.plot(lines[others:].T, color=COLOURS[1], lw=1.2, alpha=0.8)
    ax.set(xticks=range(len(columns)), xticklabels=columns, yticks=[])
    ax.spines["left"].set_visible(False)
    return ax


def arrow(ax: Axes, start, move, text: str = "", colour: str = COLOURS[0]) -> None:
    """An arrow from start along move, both [2], with a text at its middle."""
    start, move = np.asarray(start), np.asarray(move)
    style = {"arrowstyle": "->", "lw": 2, "color": colour, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", start + move, start, arrowprops=style)
    ax.text(*(start + move / 2), f" {text}", color=colour, va="bottom")


def note(ax: Axes, table: pd.DataFrame, y: str) -> None:
    """Write n and what the band is above the axes."""
    n = table["seed"].nunique()
    lost = table.loc[~np.isfinite(table[y]), "seed"].size
    text = f"mean and 95 % interval, n = {n} seeds" + (
        f", {lost} diverged values left out" if lost else ""
    )
    ax.set_title(text, loc="right", fontsize=8, color="0.35")
