"""What the drawing functions put on the page."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from nettrain.lab import figures

pytestmark = pytest.mark.usefixtures("drawing")


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    rows = [
        {"method": m, "seed": s, "step": t, "loss": 2.0**-t + 0.1 * rng.random()}
        for m in ("a", "b")
        for s in range(8)
        for t in range(5)
    ]
    return pd.DataFrame(rows)


def test_curves_draw_means_with_bands_and_say_n(table):
    ax = figures.curves(table, "step", "loss", "method")
    means = table.groupby(["method", "step"])["loss"].mean()
    for line, name in zip(ax.lines[:2], ("a", "b")):
        np.testing.assert_allclose(line.get_ydata(), means[name], rtol=1e-12)
    assert len(ax.collections) == 2  # a band each
    assert ax.get_title(loc="right") == "mean and 95 % interval, n = 8 seeds"
    assert ax.get_yscale() == "log" and ax.get_xscale() == "linear"
    assert len({line.get_color() for line in ax.lines[:2]}) == 2
    assert len({str(line._unscaled_dash_pattern) for line in ax.lines[:2]}) == 2


def ends(band):
    """The lower and the upper end of a filled area at each x, from left to right."""
    corners = pd.DataFrame(band.get_paths()[0].vertices, columns=["x", "y"]).groupby("x")["y"]
    return corners.min().to_numpy(), corners.max().to_numpy()


def test_the_band_of_curves_holds_95_percent_of_bootstrapped_means():
    losses = dict(zip("ab", np.random.default_rng(2).exponential(size=(2, 32, 10)), strict=True))
    index = pd.MultiIndex.from_product([range(32), range(10)], names=["seed", "step"])
    columns = pd.DataFrame({m: loss.ravel() for m, loss in losses.items()}, index)
    table = columns.rename_axis("method", axis=1).stack().rename("loss").reset_index()
    ax = figures.curves(table, "step", "loss", "method")
    # resamples of the sorted values, the same 500 for each x and at every build; and others
    first, other = np.random.default_rng(0), np.random.default_rng(1)
    first = np.stack([first.integers(0, 32, 32) for _ in range(500)])
    other, away = other.integers(0, 32, (10_000, 32)), []
    for line, band, loss in zip(ax.lines, ax.collections, losses.values(), strict=False):
        assert same_color(band.get_facecolor()[0, :3], line.get_color())
        np.testing.assert_allclose(line.get_ydata(), loss.mean(0), rtol=1e-12)
        truth = np.percentile(np.sort(loss, 0)[first].mean(1), [2.5, 97.5], axis=0)
        np.testing.assert_allclose(ends(band), truth, rtol=1e-12)
        truth = np.percentile(loss[other].mean(1), [2.5, 97.5], axis=0)
        away.append((ends(band) - truth) / (loss.std(0) / np.sqrt(32)))
    # in standard errors: 500 resamples are off by some 0.12, 90 % would be off by 0.3
    assert np.abs(np.mean(away, axis=(0, 2))).max() < 0.15 and np.abs(away).max() < 0.5


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
def test_curves_count_what_they_leave_out(table, lost):
    table.loc[[3, 7], "loss"] = lost
    ax = figures.curves(table, "step", "loss", "method", log="")
    title = "mean and 95 % interval, n = 8 seeds, 2 diverged values left out"
    assert ax.get_title(loc="right") == title
    assert np.isfinite(ax.lines[0].get_ydata()).all() and ax.get_yscale() == "linear"


def test_every_line_has_its_own_colour_and_dashes():
    names = [f"m{i}" for i in range(8)]
    colours, dashes = figures.looks(names)
    assert len(set(colours.values())) == len(set(dashes.values())) == 8
    with pytest.raises(ValueError, match="9 lines cannot be told apart"):
        figures.looks([*names, "m8"])


def test_lines_bridge_gaps():
    table = pd.DataFrame({"a": [1.0, np.nan, 3.0], "b": [2.0, 2.0, 2.0]}, index=[0, 1, 2])
    ax = figures.lines(table)
    assert ax.lines[0].get_xydata().tolist() == [[0, 1], [2, 3]]
    assert ax.lines[1].get_xydata().tolist() == [[0, 2], [1, 2], [2, 2]]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]


def test_an_arrow_goes_from_its_start_along_its_move():
    ax = plt.gca()
    ax.set(xlim=(0, 8), ylim=(0, 8))
    figures.arrow(ax, [1.0, 2.0], [4.0, -1.0], "g")
    head, text = ax.texts
    ax.figure.canvas.draw()
    path = ax.transData.inverted().transform(head.arrow_patch.get_path().vertices)
    np.testing.assert_allclose(path[0], [1, 2], atol=1e-9)
    np.testing.assert_allclose(path[2], [5, 1], atol=0.05)  # short of it by the width of the line
    assert text.get_position() == (3.0, 1.5) and text.get_text().strip() == "g"


# ------------------------------------------------------------------------------- searches

TRIALS = pd.DataFrame(
    {
        "lr": [0.001, 0.01, 0.1, 1.0, 0.1],
        "act": ["relu", "tanh", "relu", "tanh", "gelu"],
        "loss": [4.0, 3.0, 1.0, 2.0, 5.0],
    }
)


def test_parallel_coordinates_go_through_the_values_and_show_the_best_on_top():
    ax = figures.parallel(TRIALS, ["lr", "act", "loss"], "loss", best=0.4, log=["lr"])
    lines = [line.get_ydata().tolist() for line in ax.get_lines()]
    # from worst to best; lr by its logarithm, act in alphabetical order
    assert np.allclose(lines[0], [2 / 3, 0, 1]) and np.allclose(lines[-1], [2 / 3, 0.5, 0])
    colours = [line.get_color() for line in ax.get_lines()]
    assert colours[:3] == ["0.6"] * 3 and colours[3:] == [figures.COLOURS[1]] * 2
    texts = {text.get_text().strip(): text.get_position() for text in ax.texts}
    assert texts == {
        "0.001": (0, 0), "1": (2, 0),  # the highest rate and the lowest loss have the same text
        "gelu": (1, 0), "relu": (1, 0.5), "tanh": (1, 1),
        "5": (2, 1),
    }  # fmt: skip
    assert [text.get_position() for text in ax.texts[:2]] == [(0, 0), (0, 1)]
    assert ax.get_xticks().tolist() == [0, 1, 2] and ax.get_yticks().size == 0
    assert [text.get_text() for text in ax.get_xticklabels()] == ["lr", "act", "loss"]
    assert not ax.spines["left"].get_visible()


def test_parallel_coordinates_show_the_best_tenth():
    table = pd.DataFrame({"x": 1.0, "loss": np.arange(20.0)})
    ax = figures.parallel(table, ["x", "loss"], "loss")
    assert [line.get_color() for line in ax.get_lines()].count("0.6") == 18
    assert {line.get_ydata()[0] for line in ax.get_lines()} == {0.0}  # a column of one value


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("best, coloured", [(0, 0), (0.1, 1), (0.5, 4), (1, 6)])
def test_failed_trials_are_never_drawn_as_the_best(lost, best, coloured):
    table = pd.DataFrame({"x": np.arange(8.0), "loss": [3, lost, 1, 2, lost, 0, 4, 5]})
    ax = figures.parallel(table, ["x", "loss"], "loss", best=best)
    assert len(ax.get_lines()) == 8
    found = [line.get_ydata()[1] * 5 for line in ax.get_lines() if line.get_color() != "0.6"]
    assert found == pytest.approx(sorted(range(coloured), reverse=True))
    grey = [line.get_ydata()[1] for line in ax.get_lines() if line.get_color() == "0.6"]
    assert np.isnan(grey).sum() == 2  # drawn, with a gap at the loss


def test_parallel_coordinates_of_yes_and_no_and_of_failures_alone():
    table = pd.DataFrame({"norm": [True, False, True], "loss": [np.nan] * 3})
    ax = figures.parallel(table, ["norm"], "loss")
    assert [line.get_ydata().tolist() for line in ax.get_lines()] == [[1], [0], [1]]
    assert {line.get_color() for line in ax.get_lines()} == {"0.6"}


def test_slices_draw_every_trial_in_every_panel():
    axes = figures.slices(TRIALS, ["lr", "act"], "loss", log=["lr", "loss"])
    assert [ax.get_xscale() for ax in axes] == ["log", "linear"]
    assert {ax.get_yscale() for ax in axes} == {"log"}
    assert [ax.get_xlabel() for ax in axes] == ["lr", "act"]
    assert [ax.get_ylabel() for ax in axes] == ["loss", ""]
    assert {ax.get_ylim() for ax in axes} == {axes[0].get_ylim()}
    (line,) = axes[0].get_lines()
    assert line.get_xydata().tolist() == TRIALS[["lr", "loss"]].to_numpy().tolist()
