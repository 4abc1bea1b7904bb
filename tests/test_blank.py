"""No answer leaves `blank`: not by a marker that is spelled, placed or nested in an odd way."""

import ast
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exercises import blank
from exercises.__main__ import main
from exercises.grading import files

ANSWER = {"nbgrader": {"solution": True}}


def cell(source, metadata=ANSWER, kind="code"):
    return {"cell_type": kind, "metadata": metadata, "source": source, "outputs": []}


def blanked(*cells):
    made = blank.blank({"cells": list(cells), "metadata": {}})
    return ["".join(c["source"]) for c in made["cells"]]


BEGIN, END, SECRET = "    ### BEGIN SOLUTION", "    ### END SOLUTION", "    return secret + 1"
GOOD = "\n".join(["def f(secret):", BEGIN, SECRET, END])
HANDED_OUT = "def f(secret):\n    # YOUR CODE HERE\n    raise NotImplementedError()"

SPELLED = {
    "as always": GOOD,
    "a list of lines": GOOD.splitlines(keepends=True),
    "spaces behind": GOOD.replace("SOLUTION", "SOLUTION  \t"),
    "Windows' line ends": GOOD.replace("\n", "\r\n"),
    "old Macs' line ends": GOOD.replace("\n", "\r"),
    "one hash": GOOD.replace("###", "#"),
    "no space": GOOD.replace("### ", "###"),
    "small letters": GOOD.replace("SOLUTION", "solution"),
    "an underscore": GOOD.replace(" SOLUTION", "_SOLUTION"),
    "the begin at the margin": GOOD.replace("    ### B", "### B"),
    "the end at the margin": GOOD.replace("    ### E", "### E"),
    "deeper than the answer": GOOD.replace("    ###", "        ###"),
    "a comment first": GOOD.replace("    return", "# why\n    return"),
}


@pytest.mark.parametrize("source", SPELLED.values(), ids=SPELLED)
def test_markers_are_known_however_they_are_written(source):
    assert blanked(cell(source)) == [HANDED_OUT]


def test_what_stands_around_a_region_stays():
    two = f"{GOOD}\n\nx = 1\n\n{GOOD.replace('f(', 'g(')}\ny = 2\n"
    (made,) = blanked(cell(two))
    assert made.count("raise NotImplementedError()") == 2 and "secret + 1" not in made
    assert "\n\nx = 1\n\ndef g" in made and made.endswith("\ny = 2\n")


REFUSED = {
    "not closed": (GOOD + "\n\n" + GOOD.replace(END, ""), "no ### END SOLUTION"),
    "the end alone": (GOOD + "\n" + END, "without a ### BEGIN SOLUTION"),
    "one in another": (GOOD.replace(SECRET, f"{BEGIN}\n{SECRET}"), "within a region that is not"),
    "the wrong way round": ("\n".join([END, SECRET, BEGIN]), "without a ### BEGIN SOLUTION"),
    "code before the marker": (
        "x = 1 ### BEGIN SOLUTION\ny = 2\n### END SOLUTION",
        "not a marker on",
    ),
    "code behind the marker": (GOOD + " return secret", "not a marker on a line of its own"),
    "a form feed": (
        GOOD.replace("\n    return", "\x0c    return"),
        "not a marker on a line of its",
    ),
    "nothing between": (GOOD.replace(SECRET + "\n", ""), "nothing between"),
    "no markers": ("def f(x):\n    return x", "no ### BEGIN SOLUTION"),
    "a comment alone": ("# the solution begins here\nreturn x", "no ### BEGIN SOLUTION"),
}


@pytest.mark.parametrize(("source", "says"), REFUSED.values(), ids=REFUSED)
def test_a_doubtful_region_is_refused(source, says):
    with pytest.raises(ValueError, match=says) as caught:
        blanked(cell("x = 1", {}), cell(source))
    assert "cell 2" in str(caught.value)


@pytest.mark.parametrize("kind", ["code", "markdown", "raw"])
@pytest.mark.parametrize(
    "metadata", [{}, {"nbgrader": {}}, {"nbgrader": None}, {"nbgrader": {"solution": False}}]
)
def test_an_answer_in_a_cell_that_is_none_is_refused(kind, metadata):
    with pytest.raises(ValueError, match="cell 1 holds an answer, but its metadata"):
        blanked(cell(GOOD, metadata, kind))
    without = cell(GOOD, metadata, kind)
    del without["metadata"]
    with pytest.raises(ValueError, match="cell 1 holds an answer, but its metadata"):
        blanked(without)


@pytest.mark.parametrize(
    "copy",
    [
        cell("    return secret + 1", {}),
        cell("x = 1\r\nreturn secret + 1  \r\n", {}),
        cell("Think of\n\n    return secret + 1", {}, "markdown"),
        cell("x = 1", {"hint": "return secret + 1"}),
        cell("x = 1", {"hints": [{"first": ["x", "return secret + 1\n"]}]}),
        cell("x", {}, "markdown") | {"attachments": {"a": {"text/plain": "return secret + 1"}}},
        cell("x", {}, "raw") | {"attachments": {"### BEGIN SOLUTION": {}}},
    ],
)
def test_a_line_of_an_answer_that_stands_elsewhere_is_refused(copy):
    with pytest.raises(ValueError, match="stand in the exercise too|left in the exercise"):
        blanked(cell(GOOD), copy)


def test_outputs_attachments_and_widgets_do_not_tell_an_answer():
    solved = cell(GOOD, {}) | {"metadata": ANSWER, "outputs": [{"text": "return secret + 1"}]}
    words = cell("The proof.", ANSWER, "markdown") | {"attachments": {"a": {"image/png": "A"}}}
    shown = cell("f(1)", {}) | {"outputs": [{"text": "return secret + 1"}], "execution_count": 3}
    made = blank.blank(
        {"cells": [solved, words, shown], "metadata": {"widgets": {"x": "return secret + 1"}}}
    )
    text = json.dumps(made)
    assert "secret + 1" not in text and "attachments" not in text and "proof" not in text
    assert made["cells"][1]["source"] == ["YOUR ANSWER HERE"]
    assert made["cells"][2]["execution_count"] is None


line = st.sampled_from(
    ["", "x = 1", "    y = 2", "    return z * 3", "# why", "\tif deep:", "else:", "import math"]
)
marker = st.sampled_from(
    [
        "### BEGIN SOLUTION",
        "### END SOLUTION",
        "    ### BEGIN SOLUTION  ",
        "\t# end solution",
        "#BEGIN_SOLUTION",
        "x = 1  ### END SOLUTION",
        "### BEGIN  SOLUTION",
    ]
)
secret = st.integers(1000, 9999).map(lambda n: f"    secret_{n} = {n}")
ending = st.sampled_from(["\n", "\r\n", "\r"])
region = st.tuples(st.lists(secret, max_size=2), st.sampled_from(["\n", "\r\n"])).map(
    lambda x: x[1].join(["    ### BEGIN SOLUTION", *x[0], "### END SOLUTION"])
)
lines = st.lists(st.one_of(line, region, st.one_of(marker, secret)), max_size=6)
sources = st.builds(lambda parts, end: end.join(parts), lines, ending)
cells = st.lists(
    st.builds(
        cell,
        sources | sources.map(lambda s: s.splitlines(keepends=True)),
        st.sampled_from([ANSWER, ANSWER, ANSWER, {}, {"nbgrader": None}, {"tags": ["book"]}]),
        st.sampled_from(["code", "code", "markdown", "raw"]),
    ),
    max_size=4,
)


def regions(text):
    """The lines between markers, found in another way than `blank` does."""
    inside, found = False, []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        words = line.replace("_", " ").upper().split()
        joined = " ".join(words)
        if "BEGIN SOLUTION" in joined:
            inside = True
        elif "END SOLUTION" in joined:
            inside = False
        elif inside and "secret" in line:
            found.append(line.strip())
    return found


@settings(max_examples=200)
@given(cells)
def test_nothing_that_is_handed_out_holds_a_marker_or_an_answer(made):
    try:
        out = blank.blank({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4})
    except ValueError:
        return  # the author is told
    kept = [c for c in made if "book" not in c["metadata"].get("tags", [])]
    answers = [x for c in kept for x in regions("".join(c["source"]))]
    words = [c for c in kept if c["cell_type"] != "code" and c["metadata"] == ANSWER]
    text = json.dumps(out)
    assert not re.search("(?i)(begin|end)[ _]*solution", text)
    assert not any(answer in text for answer in answers)
    blanks = [c for c in out["cells"] if c["source"] == ["YOUR ANSWER HERE"]]
    assert len(blanks) == len(words) and len(out["cells"]) == len(kept)


@settings(max_examples=100)
@given(st.lists(secret, min_size=1, max_size=3), ending, st.integers(0, 3))
def test_a_blank_is_python_wherever_the_markers_stand(answer, end, indent):
    begin, close = " " * (4 * indent) + "### BEGIN SOLUTION", "### END SOLUTION"
    (made,) = blanked(cell(end.join(["def f():", begin, *answer, close])))
    body = ast.parse(made).body[0].body
    assert ast.unparse(body) == "raise NotImplementedError()"


def test_no_exercise_is_written_if_one_cannot_be(tmp_path, monkeypatch):
    for id in ("1-1", "1-2"):
        folder = tmp_path / f"ex{id.replace('-', '_')}"
        folder.mkdir()
        good = cell(GOOD if id == "1-1" else GOOD.replace(END, ""))
        (folder / "solution.ipynb").write_text(json.dumps({"cells": [good], "metadata": {}}))
    monkeypatch.setattr(files, "EXERCISES", tmp_path)
    monkeypatch.setattr(blank, "IDS", ("1-1", "1-2"))
    with pytest.raises(SystemExit, match=r"ex1_2/solution\.ipynb: no ### END SOLUTION"):
        main(["blank"])
    assert not list(tmp_path.glob("*/exercise.ipynb"))
