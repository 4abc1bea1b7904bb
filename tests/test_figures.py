"""What the drawing functions put on the page."""

import json
import os
import re
from html import unescape

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

from nettrain.lab import figures, moving


@pytest.fixture(autouse=True)
def clean():
    plt.switch_backend("agg")
    figures.style()
    yield
    plt.close("all")


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


def test_frames_hold_a_picture_and_an_alt_text_per_value():
    drawn = []
    page = moving.frames(lambda ax, v: drawn.append(v), [1, 2, 3], "K <", "Alt & text.", start=1)
    text = page.data
    alts = [unescape(a) for a in re.findall(r'<img alt="([^"]*)"', text)]
    assert drawn == [1, 2, 3] and alts == [f"Alt & text. K <: {v}." for v in (1, 2, 3)]
    assert len(re.findall(r"<img [^>]* hidden>", text)) == 2
    assert 'min="0" max="2" value="1"' in text and 'aria-valuetext="2"' in text
    labels = json.loads(unescape(re.search(r'data-labels="([^"]*)"', text)[1]))
    assert labels == ["1", "2", "3"]
    assert "http" not in text and "<script" not in text
    assert not plt.get_fignums()  # nothing is shown twice


def test_frames_take_panels_and_refuse_nothing():
    seen = []
    moving.frames(lambda axes, v: seen.append(axes.shape), [0], "x", "alt", panels=(1, 2))
    assert seen == [(2,)]
    with pytest.raises(ValueError, match="at least one value"):
        moving.frames(lambda ax, v: None, [], "x", "alt")


def test_race_draws_given_points_and_keeps_a_diverged_path_where_it_was():
    x, y = np.meshgrid(np.linspace(0, 1, 5), np.linspace(0, 2, 5))
    paths = {"a": np.array([[0, 0], [1, 2.0]]), "b": np.array([[0.5, 1], [np.nan, 1]])}
    text = moving.race((x, y, x + y), paths, "Alt text.", shown=["a"], caption="Two.").data
    found = dict(re.findall(r'<g data-name="(\w)" data-path="([^"]*)"', text))
    points = {k: np.array([p.split(",") for p in v.split()], dtype=float) for k, v in found.items()}
    left, bottom = points["a"][0]
    right, top = points["a"][1]
    assert right > left and top < bottom  # pixels count downwards
    middle = [(left + right) / 2, (bottom + top) / 2]
    np.testing.assert_allclose(points["b"], [middle, middle], atol=0.11)
    assert (
        'data-name="b"' in text and "Alt text." in text and "http://" not in text.split("svg", 1)[0]
    )
    assert text.count("checkbox") == 2 and text.count(" checked") == 1
    with pytest.raises(ValueError, match="paths of the same length"):
        moving.race((x, y, x), {}, "alt")


def test_in_a_notebook_with_a_kernel_the_slider_is_live():
    source = """
from nettrain.lab import moving
drawn = []
figure = moving.frames(lambda ax, v: drawn.append(v), [10, 20, 30], "λ", "A picture", start=1)
"""
    moved = """
figure.update()
slider = figure.children[0]
slider.value = 2
print(drawn[0], drawn[-1], slider.label)
"""
    cells = [nbformat.v4.new_code_cell(s) for s in (source, moved)]
    environment = {k: v for k, v in os.environ.items() if k != "NETTRAIN_BUILD"}
    book = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(book, timeout=120, kernel_name="python3").execute(env=environment)
    text = "".join(o.get("text", "") for o in book.cells[1].outputs)
    assert "20 30 30" in text


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
