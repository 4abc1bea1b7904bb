"""Pictures with a slider and paths that race: what is on the page, and that it moves."""

import json
import os
import re
from html import unescape

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from nettrain.lab import moving

pytestmark = pytest.mark.usefixtures("drawing")


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
    lines = re.findall(r'stroke="([^"]*)" stroke-width="1.6" stroke-dasharray="([^"]*)"', text)
    boxes = re.findall(r'stroke="([^"]*)" stroke-width="2.5" stroke-dasharray="([^"]*)"', text)
    assert lines == boxes and len(set(boxes)) == 2  # a box shows its line as it is drawn
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
