"""What the drawing functions put on the page."""

import numpy as np
import pandas as pd
import pytest

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


def test_curves_count_what_they_leave_out(table):
    table.loc[[3, 7], "loss"] = np.nan
    ax = figures.curves(table, "step", "loss", "method", log="")
    assert "2 diverged values left out" in ax.get_title(loc="right")
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
    assert ax.lines[0].get_xdata().tolist() == [0, 2]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]


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
    texts = {text.get_text().strip() for text in ax.texts}
    assert texts == {"0.001", "1", "gelu", "relu", "tanh", "5"}


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
    assert [ax.get_xscale() for ax in axes] == ["log", "linear"] and axes[0].get_yscale() == "log"
    (line,) = axes[0].get_lines()
    assert line.get_xydata().tolist() == TRIALS[["lr", "loss"]].to_numpy().tolist()
