"""No mark, no answer and nothing that a human has typed is lost, whatever is run, or killed."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import exercises
from exercises import blank, grader
from exercises.__main__ import arguments, main
from exercises.grading import report, table
from exercises.grading.files import write_whole
from exercises.grading.journal import Journal
from exercises.laws import IDS, Mark, load

ROOT = Path(__file__).parents[1]
KILLED = Path(__file__).with_name("killed.py")
HAND = "free text (by hand)"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is graded on Windows")


def result(file="anna.ipynb", digest="one", right=True, **more):
    laws = load("1-1").laws
    marks = [Mark(law, None if right else "wrong") for law in laws]
    return grader.Result(file, "1-1", marks=marks, digest=digest, **more)


def written(results, seed=7, into=None):
    """(table with results, what was written)"""
    into = into or table.Table()
    rows, _ = into.merge(results, seed, {})
    return into, {row["file"]: [row] for row in rows}


def saved(tmp_path, content):
    path = tmp_path / "marks.csv"
    path.write_bytes(content)
    return table.read(path)


def typed(made, file, column, value):
    if column not in made.head:
        made._insert(len(made.head), column)
    made.set(next(r for r in made.rows if made.get(r, "file") == file), column, value)


def column(made, name):
    return {made.get(row, "file"): made.get(row, name) for row in made.rows}


# ----------------------------------------------------------------------------- the table


def test_what_a_human_typed_stays_when_the_same_is_graded_again():
    made, before = written([result(), result("ben.ipynb")])
    typed(made, "anna.ipynb", HAND, "4.5")
    typed(made, "ben.ipynb", "remark", "see me, é, 李")
    made.rows.append(["mean", *[""] * (len(made.head) - 2), "4.5"])
    rows, changed = made.merge([result(), result("carl.ipynb")], 7, before)
    assert changed == [] and [row["file"] for row in rows] == ["anna.ipynb", "carl.ipynb"]
    assert list(column(made, "file")) == ["anna.ipynb", "ben.ipynb", "mean", "carl.ipynb"]
    assert column(made, HAND)["anna.ipynb"] == "4.5"
    assert column(made, "remark")["ben.ipynb"] == "see me, é, 李"
    assert column(made, "points")["carl.ipynb"] == "15"


def test_a_mark_by_hand_stays_with_a_submission_that_changed_and_says_so():
    made, before = written([result(), result("ben.ipynb")])
    typed(made, "anna.ipynb", HAND, "4.5")
    _, changed = made.merge([result(digest="two"), result("ben.ipynb", "two")], 7, before)
    assert changed == ["anna.ipynb"]  # nobody has marked ben by hand
    assert column(made, HAND)["anna.ipynb"] == "4.5"
    assert column(made, table.CHANGED) == {"anna.ipynb": "yes", "ben.ipynb": ""}
    _, changed = made.merge([result(digest="two")], 7, before)
    assert column(made, table.CHANGED)["anna.ipynb"] == "yes"  # until a human deletes it
    typed(made, "anna.ipynb", table.CHANGED, "")
    _, changed = made.merge([result(digest="two")], 7, before)
    assert column(made, table.CHANGED)["anna.ipynb"] == "" and changed == []


def test_a_cell_of_ours_that_a_human_changed_moves_to_a_column_of_its_own():
    made, before = written([result(right=False)])
    law = table.law_columns(result())[0]
    for name, value in {"points": "5", "problem": "was ill", law: "2"}.items():
        typed(made, "anna.ipynb", name, value)
    for _ in range(2):  # the second time there is nothing to move
        made.merge([result(right=False)], 7, before)
        for name, value, ours in (
            ("points", "5", "0"),
            ("problem", "was ill", ""),
            (law, "2", "0"),
        ):
            assert column(made, f"{name} (by hand)")["anna.ipynb"] == value
            assert column(made, name)["anna.ipynb"] == ours
    assert made.head.index("points (by hand)") == made.head.index("points") + 1
    typed(made, "anna.ipynb", "points", "6")
    made.merge([result(right=False)], 7, before)
    assert column(made, "points (by hand)")["anna.ipynb"] == "5; 6"


def test_marks_of_the_laws_that_changed_are_not_taken_for_a_humans():
    made, before = written([result()])
    rows, _ = made.merge([result(digest="two", right=False)], 8, before)
    assert column(made, "points")["anna.ipynb"] == "0" and "points (by hand)" not in made.head
    before["anna.ipynb"] += rows
    other = grader.Result("anna.ipynb", None, problem="this is not a notebook", digest="three")
    made.merge([other], 8, before)
    law = table.law_columns(result())[0]
    assert column(made, law)["anna.ipynb"] == "" and not any(
        "by hand)" in c for c in made.head[4:-6]
    )


SAVED = {  # how spreadsheets write the same table
    "as it was": lambda text: text.encode(),
    "LibreOffice": lambda text: text.replace("\r\n", "\n").encode(),
    "Excel, UTF-8": lambda text: text.encode("utf-8-sig"),
    "Excel in Germany": lambda text: semicolons(text).encode("utf-8-sig"),
    "Excel in Germany, ANSI": lambda text: semicolons(text).encode("cp1252"),
    "Excel, latin-1": lambda text: text.encode("latin-1"),
    "Excel's Unicode text": lambda text: semicolons(text, "\t").encode("utf-16"),
    "Excel's first line": lambda text: b"sep=;\r\n" + semicolons(text).encode(),
    "all cells quoted": lambda text: quoted(text).encode(),
    "empty lines": lambda text: text.replace("\r\n", "\r\n\r\n").encode() + b"\r\n;;\r\n"[:2],
}


def semicolons(text, delimiter=";"):
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(csv.reader(io.StringIO(text)))
    return out.getvalue()


def quoted(text):
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(csv.reader(io.StringIO(text)))
    return out.getvalue()


@pytest.mark.parametrize("save", SAVED.values(), ids=SAVED)
def test_a_table_comes_back_from_a_spreadsheet(save, tmp_path):
    made, before = written([result("zoë.ipynb"), result("a; b, c.ipynb")])
    typed(made, "zoë.ipynb", HAND, "4,5")
    typed(made, "a; b, c.ipynb", "remark; by me, é", "sehr gut, weiter so; ja\nzwei Zeilen")
    back = saved(tmp_path, save(made.text()))
    assert (back.head, back.rows) == (made.head, made.rows)
    back.merge([result("zoë.ipynb"), result("a; b, c.ipynb")], 7, before)
    assert (back.head, back.rows) == (made.head, made.rows)
    write_whole(tmp_path / "marks.csv", back.text())
    again = table.read(tmp_path / "marks.csv")
    assert again == back  # the delimiter and the byte-order mark stay too


def test_what_a_spreadsheet_makes_of_numbers_and_letters_is_known(tmp_path):
    made, before = written([result("李.ipynb", seconds=3.45)])
    typed(made, "李.ipynb", HAND, "4")
    typed(made, "李.ipynb", "points", "15,00")
    typed(made, "李.ipynb", "exercise", "01. Jan")
    typed(made, "李.ipynb", "seconds", "Mrz 45")
    back = saved(tmp_path, made.text().encode("cp1252", "replace"))
    back.merge([result("李.ipynb", seconds=3.45)], 7, before)
    (row,) = back.rows
    ours = [back.get(row, c) for c in ("file", "exercise", "points", "seconds", HAND)]
    assert ours == ["李.ipynb", "1-1", "15", "3.45", "4"]
    assert "points (by hand)" not in back.head


def test_an_older_table_without_versions_is_taken_over(tmp_path):
    made, _ = written([result()])
    typed(made, "anna.ipynb", HAND, "4.5")
    keep = [i for i, c in enumerate(made.head) if c not in ("version", table.CHANGED)]
    old = table.Table([made.head[i] for i in keep], [[row[i] for i in keep] for row in made.rows])
    back = saved(tmp_path, old.text().encode())
    _, changed = back.merge([result()], 7, {})
    assert column(back, table.CHANGED)["anna.ipynb"] == "unknown" and changed == ["anna.ipynb"]
    assert column(back, HAND)["anna.ipynb"] == "4.5"


def test_no_cell_of_the_table_is_a_formula():
    text = written([grader.Result("=HYPERLINK(1).ipynb", None, problem="=1+1")])[0].text()
    assert text.split("\r\n")[1].startswith("'=HYPERLINK(1)") and ",'=1+1," in text


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from(["anna", "ben", "sum", ""]), cells, cells), max_size=4),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
    st.integers(0, 3),
)
def test_whatever_a_human_types_is_there_afterwards(tmp_path_factory, rows, delimiter, bom, at):
    made, before = written([result("anna"), result("ben")])
    made.delimiter, made.bom = delimiter, bom
    made._insert(at, "mine")
    for file, one, two in rows:
        row = ["", *[""] * (len(made.head) - 1)]
        for name, value in (("file", file), ("mine", one), (HAND, two)):
            made.set(row, name, value)
        made.rows.append(row)
    path = tmp_path_factory.mktemp("table") / "marks.csv"
    write_whole(path, made.text())
    back = table.read(path)
    back.merge([result("anna", "two"), result("carl")], 7, before)
    found = [(back.get(r, "mine"), back.get(r, HAND)) for r in back.rows]
    for _, one, two in rows:
        if one or two:
            assert (one, two) in found


# ----------------------------------------------------------------------------- the journal


def record(file, key="k"):
    return result(file).record() | {"key": key}


def done(path, seed=None):
    journal = Journal(path, seed)
    journal.close()
    return sorted(file for file, _ in journal.done)


def test_runs_that_share_a_journal_lose_nothing(tmp_path):
    path = tmp_path / "journal"
    one = Journal(path, 7)
    one.add(record("a"))
    two = Journal(path, None)
    assert two.seed == 7 and two.known("a", "k") == result("a")
    one.add(record("b"))
    assert two.known("b", "k") and not two.known("b", "another") and not one.known("c", "k")
    two.add(record("c"))
    one.close()
    two.close()
    assert done(path) == ["a", "b", "c"]


def test_another_seed_keeps_the_marks_of_the_first(tmp_path):
    path = tmp_path / "journal"
    for seed in (1, 2):
        journal = Journal(path, seed)
        journal.add(record(f"file {seed}"))
        journal.close()
    assert done(path) == ["file 2"] and done(path, 1) == ["file 1"]


@pytest.mark.parametrize(
    "tail", [b'{"file": "torn', b"\0" * 100, b'{"file": 1}\n', b"[]\n\n", b'{"row": 3}\n{"marks"']
)
def test_a_torn_journal_goes_on(tail, tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path, 7)
    journal.add(record("a"))
    journal.close()
    path.write_bytes(path.read_bytes() + tail)
    journal = Journal(path, None)
    journal.add(record("b"))
    journal.close()
    assert done(path) == ["a", "b"] and tail.strip(b"\n") in path.read_bytes()


def test_a_journal_torn_in_its_first_line_goes_on(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b'{"seed": 1')
    journal = Journal(path, None)
    journal.add(record("a"))
    journal.close()
    assert done(path) == ["a"]


def test_threads_write_whole_lines(tmp_path):
    journal = Journal(tmp_path / "journal", 7)
    names = [f"{i}" for i in range(40)]
    threads = [threading.Thread(target=journal.add, args=(record(n),)) for n in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert done(tmp_path / "journal") == sorted(names)


def test_graders_that_are_killed_lose_no_mark(tmp_path):
    """Three at a time on one table, killed at random moments, while a human fills it in."""
    for i in range(24):
        (tmp_path / f"{i:02}.ipynb").write_text("x" * i)
    command = [sys.executable, str(KILLED), "graders", str(tmp_path), "20"]
    env = os.environ | {"PYTHONPATH": str(Path(exercises.__file__).parents[1])}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    journal = (tmp_path / "marks.csv.journal").read_bytes()
    kept = [(tmp_path / f"after-{i}").read_bytes() for i in range(20)]
    assert all(journal.startswith(x) for x in kept) and len(set(kept)) > 8
    final = table.read(tmp_path / "marks.csv")
    assert sorted(column(final, "file")) == [str(p) for p in sorted(tmp_path.glob("*.ipynb"))]
    for file, cells in json.loads((tmp_path / "typed.json").read_text()).items():
        for name, (value, version) in cells.items():
            place = name if name == HAND else f"{name} (by hand)"
            assert value in column(final, place)[file].split("; ")
            if column(final, "version")[file] != version:
                assert column(final, table.CHANGED)[file] == "yes"
    for file in tmp_path.glob("*.ipynb"):  # the newest version is the one that counts
        assert column(final, "version")[str(file)] == f"v{len(file.read_text())}"
    text = (tmp_path / "marks" / "free_text.html").read_text()
    assert all(str(p) in text for p in tmp_path.glob("*.ipynb"))


# ----------------------------------------------------------------------------- the command


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """The command `grade` in a folder with anna.ipynb, whose marking runs no code."""

    def marked(content, file, *, seed, exercise, limits):
        seen.append(file)
        return result(file, grader.hashlib.sha256(content).hexdigest()[:12], texts={"w": file})

    seen = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grader, "workable", lambda limits: limits)
    monkeypatch.setattr(grader, "probe", lambda limits: {})
    monkeypatch.setattr(grader, "grade_content", marked)
    Path("anna.ipynb").write_text("{}")
    return seen


OPTIONS = {
    "no jobs": (["--jobs", "0"], "argument --jobs: '0'; a whole number from 1 to 1024"),
    "negative jobs": (["--jobs=-2"], "argument --jobs: '-2'; a whole number from 1"),
    "half a job": (["--jobs", "0.5"], "argument --jobs: '0.5'; a whole number"),
    "no time": (["--seconds", "0"], "argument --seconds: '0'; a number from 0.1 to 86400"),
    "negative time": (["--seconds=-3"], "argument --seconds: '-3'"),
    "no number": (["--seconds", "nan"], "argument --seconds: 'nan'"),
    "for ever": (["--seconds", "inf"], "argument --seconds: 'inf'"),
    "a word": (["--call-seconds", "long"], "argument --call-seconds: 'long'"),
    "no call": (["--call-seconds", "0"], "argument --call-seconds: '0'"),
    "no memory": (["--megabytes", "0"], "argument --megabytes: '0'"),
    "negative memory": (["--megabytes=-1"], "argument --megabytes: '-1'"),
    "too much memory": (["--megabytes", "9" * 30], "from 1 to 1048576 is allowed"),
    "no notebook": (["--notebook-megabytes", "0"], "argument --notebook-megabytes: '0'"),
    "a negative seed": (["--seed=-1"], "argument --seed: '-1'; a whole number from 0"),
    "a seed that is none": (["--seed", "x"], "argument --seed: 'x'"),
    "no exercise": (["--exercise", "9-9"], "argument --exercise: invalid choice: '9-9'"),
    "a folder for the table": (["--csv", "folder"], "argument --csv: folder is a folder"),
    "the table below a file": (["--csv", "anna.ipynb/x.csv"], "argument --csv: anna.ipynb cannot"),
    "a submission as table": (["--csv", "anna.ipynb"], "argument --csv: anna.ipynb cannot be"),
    "a device": (["--csv", "/dev/null"], "argument --csv: /dev/null is not a plain file"),
    "a picture": (
        ["--csv", "picture"],
        "argument --csv: picture cannot be used: it is not a table",
    ),
    "a file for the pages": (
        ["--feedback", "anna.ipynb"],
        "argument --feedback: anna.ipynb cannot",
    ),
    "pages below a file": (["--feedback", "anna.ipynb/x"], "argument --feedback: anna.ipynb/x"),
    "pages where a file is": (["--csv", "taken.csv"], "argument --feedback: taken cannot be"),
    "a journal that is a folder": (["--csv", "a.csv"], "argument --csv: the journal a.csv.journal"),
    "a journal that is none": (["--csv", "b.csv"], "it is not a journal: it has no line of JSON"),
    "a journal of another kind": (["--csv", "c.csv"], "it is not a journal: no line has the seed"),
    "a journal with no seed": (["--csv", "d.csv"], "its seed is 'x'; a whole number"),
}


@pytest.mark.parametrize(("more", "says"), OPTIONS.values(), ids=OPTIONS)
def test_an_option_that_cannot_be_used_is_named_before_work_starts(more, says, quick, capsys):
    Path("folder").mkdir()
    Path("taken").write_text("mine")
    Path("picture").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    Path("a.csv.journal").mkdir()
    Path("b.csv.journal").write_text("my diary\n")
    Path("c.csv.journal").write_text('{"cells": []}\n')
    Path("d.csv.journal").write_text('{"seed": "x", "version": "y"}\n')
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    with pytest.raises(SystemExit) as caught:
        main(["grade", "anna.ipynb", "--csv", "marks.csv", *more])
    assert says in f"{capsys.readouterr().err}{caught.value}" and quick == []
    assert {p: p.read_bytes() for p in before} == before


def test_a_missing_file_is_named_before_work_starts(quick, capsys):
    with pytest.raises(SystemExit):
        main(["grade", "anna.ipynb", "missing.ipynb", "--csv", "marks.csv"])
    assert "argument FILE: missing.ipynb does not exist" in capsys.readouterr().err and not quick
    Path("lost.ipynb").symlink_to("nowhere")  # a submission, and none that can be marked
    main(["grade", "anna.ipynb", "lost.ipynb", "--csv", "marks.csv"])
    problem = column(table.read(Path("marks.csv")), "problem")["lost.ipynb"]
    assert problem == "the file cannot be opened: No such file or directory"


@pytest.mark.parametrize("field", ["seconds", "call_seconds", "bytes", "processes", "reply_bytes"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "1", None])
def test_limits_are_checked(field, value):
    with pytest.raises(ValueError, match=f"{field}={value!r}; a positive number is allowed"):
        grader.Limits(**{field: value})


def test_limits_that_let_nothing_work_are_told(tmp_path, monkeypatch):
    def nothing(limits):
        raise RuntimeError("not even an honest submission would work here: out of memory")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grader, "workable", nothing)
    Path("anna.ipynb").write_text("{}")
    with pytest.raises(SystemExit, match="--megabytes 9, --seconds 60 and --call-seconds 10"):
        main(["grade", "anna.ipynb", "--csv", "marks.csv", "--megabytes", "9"])


@pytest.mark.parametrize("name", ["marks", "marks.csv", ".csv", "a.b.c", "new/marks", "two words"])
def test_any_name_of_a_table_will_do(name, quick):
    main(["grade", "anna.ipynb", "--csv", name])
    main(["grade", "anna.ipynb", "--csv", name])
    assert quick == ["anna.ipynb"] and list(column(table.read(Path(name)), "file")) == quick
    folders = [p for p in Path(name).parent.iterdir() if p.is_dir() and p.name != "new"]
    assert [len(list(p.iterdir())) for p in folders] == [3]
    assert not list(Path().rglob("*.part"))


def test_a_late_submission_changes_nothing_else(quick, capsys):
    Path("ben.ipynb").write_text("[]")
    main(["grade", "anna.ipynb", "ben.ipynb", "--csv", "marks.csv"])
    made = table.read(Path("marks.csv"))
    typed(made, "anna.ipynb", HAND, "4.5")
    write_whole(Path("marks.csv"), made.text())
    Path("late.ipynb").write_text("0")
    main(["grade", "late.ipynb", "--csv", "marks.csv"])
    after = table.read(Path("marks.csv"))
    assert after.rows[:2] == made.rows and list(column(after, "file"))[2:] == ["late.ipynb"]
    words = Path("marks/free_text.html").read_text()
    assert all(f"<h3>{n}.ipynb</h3>" in words for n in ("anna", "ben", "late"))
    assert "CHANGED" not in capsys.readouterr().err
    Path("anna.ipynb").write_text("{} ")
    main(["grade", "anna.ipynb", "--csv", "marks.csv"])
    assert "CHANGED since marked by hand, read again: anna.ipynb" in capsys.readouterr().err
    assert column(table.read(Path("marks.csv")), HAND)["anna.ipynb"] == "4.5"


def test_a_table_that_a_human_spoils_meanwhile_is_left_alone(quick, monkeypatch):
    marked = grader.grade_content

    def spoiling(*args, **kwargs):
        Path("marks.csv").write_text("something else")
        return marked(*args, **kwargs)

    monkeypatch.setattr(grader, "grade_content", spoiling)
    with pytest.raises(SystemExit, match="What is marked is safe in marks.csv.journal"):
        main(["grade", "anna.ipynb", "--csv", "marks.csv"])
    assert Path("marks.csv").read_text() == "something else"
    Path("marks.csv").rename("else")
    main(["grade", "anna.ipynb", "--csv", "marks.csv"])
    assert quick == ["anna.ipynb"]


def test_a_full_disk_is_told_and_costs_no_mark(quick, monkeypatch):
    from exercises import __main__

    def full(path, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(__main__, "write_whole", full)
        with pytest.raises(SystemExit, match="No space left on device\nWhat is marked is safe in"):
            main(["grade", "anna.ipynb", "--csv", "marks.csv"])
    main(["grade", "anna.ipynb", "--csv", "marks.csv"])
    assert quick == ["anna.ipynb"] and Path("marks.csv").exists()


def test_a_failure_of_the_grader_is_not_kept(quick, monkeypatch):
    fails = lambda content, file, **more: grader.Result(file, None, problem="no", failed=True)
    with monkeypatch.context() as patch:
        patch.setattr(grader, "grade_content", fails)
        main(["grade", "anna.ipynb", "--csv", "marks.csv"])
    assert column(table.read(Path("marks.csv")), "problem") == {"anna.ipynb": "no"}
    main(["grade", "anna.ipynb", "--csv", "marks.csv"])
    assert quick == ["anna.ipynb"]
    assert column(table.read(Path("marks.csv")), "points") == {"anna.ipynb": "15"}


def test_the_largest_notebook_is_an_option(quick):
    Path("anna.ipynb").write_bytes(b" " * ((1 << 20) + 1))
    main(["grade", "anna.ipynb", "--csv", "marks.csv", "--notebook-megabytes", "1"])
    says = column(table.read(Path("marks.csv")), "problem")["anna.ipynb"]
    assert "at most 1 MB are read" in says and "--notebook-megabytes" in says
    main(["grade", "anna.ipynb", "--csv", "marks.csv", "--notebook-megabytes", "2"])
    assert quick == ["anna.ipynb"]
    assert arguments(["grade", "anna.ipynb", "--csv", "x"]).notebook_megabytes == 64


# ----------------------------------------------------------------------------- files


def test_a_second_fetch_keeps_the_work(tmp_path, capsys):
    main(["fetch", str(tmp_path)])
    assert capsys.readouterr().err == ""
    work = tmp_path / "exercise_1-2.ipynb"
    work.write_text("MY WORK")
    (tmp_path / "exercise_1-3.ipynb").unlink()
    (tmp_path / "exercise_1-4.ipynb").unlink()
    (tmp_path / "exercise_1-4.ipynb").symlink_to("nowhere")
    (tmp_path / "exercise_1-5.ipynb").unlink()
    (tmp_path / "exercise_1-5.ipynb").mkdir()
    main(["fetch", str(tmp_path)])
    said = capsys.readouterr().err
    assert work.read_text() == "MY WORK"
    assert [id for id in IDS if f"{id}.ipynb is there already and stays as it is" in said] == [
        "1-2",
        "1-4",
        "1-5",
    ]
    fetched = (tmp_path / "exercise_1-3.ipynb").read_bytes()
    assert fetched == (blank.folder("1-3") / "exercise_1-3.ipynb").read_bytes()
    with pytest.raises(SystemExit):
        main(["fetch", str(work)])
    assert "argument folder:" in capsys.readouterr().err and work.read_text() == "MY WORK"
    with pytest.raises(SystemExit, match="argument folder: .*Not a directory"):
        main(["fetch", str(work / "below")])


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to("file")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            write_whole(path, "new" * 1000)
    assert path.read_text() == "old"
    write_whole(link, "new \udcff")
    assert link.is_symlink() and path.read_text() == "new \\udcff"
    assert path.stat().st_mode & 0o777 == 0o640


def test_pages_of_feedback_say_what_a_grader_could_not_do():
    page = report.feedback(grader.Result("a.ipynb", None, problem="it <broke>", failed=True))
    assert "Not marked:</strong> it &lt;broke&gt;" in page


# ----------------------------------------------------------------------------- pages


def marked(file, broken, **more):
    """A result in which the laws of these names fail."""
    found = [
        Mark(law, broken.get(law.name), f"{law.part}(0.5)" if law.name in broken else None)
        for law in load("1-1").laws
    ]
    return grader.Result(file, "1-1", marks=found, digest="one", **more)


def test_what_does_not_run_stands_first_and_no_law_twice():
    law = next(x for x in load("1-1").laws if x.part == "half_life")
    errors = ["code cell 2, line 1: SyntaxError: expected ':'"]
    broken = {law.name: "half_life(0.5) = 3, but it is 1. `x_1` at θ_2 ^2."}
    one = marked("ada/x.ipynb", broken, errors=errors, texts={"1-1-words": "$a_1$"})
    text = report.feedback(one)
    places = [text.index(x) for x in ("Code cell 2, line 1", "14 of 15 points", "b. The weights")]
    assert places == sorted(places)
    assert text.count(report.pretty(law.statement)) == 1
    assert "up to 6 more" in text and "<td>by a human, of 6</td>" in text
    assert "<td>d.</td><td>Memory</td><td>1 of 2</td>" in text and "✗ d1 0/1" in text
    assert "<code>half_life(0.5)</code>" in text and text.count("<summary>Hint") == 2
    assert "<code>x_1</code> at θ<sub>2</sub> <sup>2</sup>" in text and "<math" in text
    assert "<h3>a. The proof" in text and ">1-1-words<" not in text
    row = table.cells_of(one, 7)
    assert row["problem"] == errors[0] and row["1-1 d1"] == "0" and row["1-1 b1"] == "2"
    assert table.cells_of(marked("a", {}, errors=errors), 7)["problem"] == ""


def test_feedback_links_to_the_lecture_and_to_the_parts_of_the_exercise():
    text, config = report.feedback(marked("x.ipynb", {})), (ROOT / "_config.yml").read_text("utf-8")
    address = re.search(r"url: https://github.com/([\w-]+)/(\w+)", config)
    assert report.BOOK == f"https://{address[1]}.github.io/{address[2]}/"
    links = re.findall(r'href="([^"]+)"', text)
    exercise, lecture = "exercises/ex1_1/statement.html", "chapters/optimizers.html"
    for place in (lecture, exercise, exercise + "#b-the-weights"):
        assert report.BOOK + place in links
        page = ROOT / place.partition(".html")[0]
        assert any(page.with_suffix(end).exists() for end in (".md", ".ipynb"))
    assert report.anchor("c. From ℓ₂ to AdamW’s") == "c-from-l2-to-adamws"


PRETTY = {
    "w_t and θ_{t−1}": "w<sub>t</sub> and θ<sub>t−1</sub>",
    "Δθ_T = ρ^(T−1)": "Δθ<sub>T</sub> = ρ<sup>T−1</sup>",
    "start_weight(2) and x_12": "start_weight(2) and x_12",
    "`a_1 < b`": "<code>a_1 &lt; b</code>",
    "one ` alone": "one ` alone",
}


@pytest.mark.parametrize(("text", "html"), PRETTY.items())
def test_small_letters_and_code_are_shown_as_such(text, html):
    assert report.pretty(text) == html


HOSTILE = {
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "a picture": "![x](https://example.org/x.png)",
    "a link to a script": "[x](javascript:alert(1))",
    "HTML in a formula": r"$\text{<script>alert(1)</script>} x$",
    "a broken formula": r"$\frac{$ and $$\begin{x}$$",
    "an endless formula": "$" + r"\frac{1}{" * 3000 + "$",
    "deep brackets": "[" * 15000,
    "deep quotes": ">" * 15000,
    "many stars": "*a " * 6000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_an_answer_in_words_can_do_nothing(text):
    html = report.rendered(text)
    assert "<script" not in html and "<img" not in html and 'href="javascript' not in html


def test_words_are_shown_beside_question_solution_and_rubric():
    with_words = marked("ada.ipynb", {}, texts={"1-1-words": "By **induction**.", "other": "x"})
    text = report.free_text([with_words, marked("bob.ipynb", {})], {"ada.ipynb": "4.5"})
    for part in ("Exercise 1-1, a. The proof", "Prove that", "<summary>Solution", "No answer: bob"):
        assert part in text
    assert "<strong>induction</strong>" in text and 'max="6" value="4.5"' in text
    assert "The exercise has no such question." in text and "1-1-words</h2>" not in text


def test_the_class_page_shows_first_what_most_fail():
    laws = load("1-1").laws
    slip = lambda law: Mark(law, "2 is wrong. The sign.", "f(2)", "The sign.")
    results = [marked(f"{i}.ipynb", {laws[0].name: "no"} if i < 2 else {}) for i in range(4)]
    for r in results[:3]:
        r.marks[4] = slip(laws[4])
    text = report.of_class([*results, grader.Result("z.ipynb", None, problem="no notebook")])
    assert text.index("<td>d1</td>") < text.index("<td>b1</td>") < text.index("<td>b2</td>")
    assert "25%" in text and "The sign. (3 of 4)" in text and "Not marked by these laws: z" in text


def test_pages_do_without_the_books_libraries(monkeypatch):
    report.reader.cache_clear()
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    try:
        assert report.rendered("a < *b*") == "<pre>a &lt; *b*</pre>"
    finally:
        report.reader.cache_clear()


# ----------------------------------------------------------------------------- points for words


def given(tmp_path, *rows):
    path = tmp_path / "points.csv"
    text = io.StringIO()
    csv.writer(text).writerows([["file", "version", "question", "points", "remark"], *rows])
    path.write_text("\ufeff" + text.getvalue(), "utf-8")
    return path


def put_in(tmp_path, *rows):
    path = given(tmp_path, *rows)
    return main(["points", str(path), "--csv", str(tmp_path / "marks.csv")])


def test_points_for_words_come_back_as_a_column(tmp_path, capsys):
    made, _ = written([result("ada"), result("bob"), result("cy")])
    typed(made, "bob", HAND, "2")
    write_whole(tmp_path / "marks.csv", made.text())
    rows = (
        ["ada", "vone", "q1", "4.5", "good"],
        ["ada", "vone", "q2", "1", ""],
        ["cy", "vx", "q", "3", ""],
    )
    assert put_in(tmp_path, *rows) == 0 and "2 rows filled" in capsys.readouterr().err
    after = table.read(tmp_path / "marks.csv")
    assert column(after, HAND) == {"ada": "5.5", "bob": "2", "cy": "3"}
    assert column(after, table.REMARK)["ada"] == "good"
    assert column(after, table.CHANGED) == {"ada": "", "bob": "", "cy": "yes"}  # another version
    assert put_in(tmp_path, *rows) == 0  # once more: nothing changes
    assert table.read(tmp_path / "marks.csv") == after


def test_points_that_a_human_typed_stay(tmp_path, capsys):
    made, _ = written([result("ada")])
    typed(made, "ada", HAND, "4,50")
    write_whole(tmp_path / "marks.csv", made.text())
    assert put_in(tmp_path, ["ada", "vone", "q", "3", "x"], ["nobody", "", "q", "1", ""]) == 1
    said = capsys.readouterr().err
    assert "ada: has 4,50 points already, which stay; not put in: 3" in said
    assert "nobody: there is no such row" in said
    after = table.read(tmp_path / "marks.csv")
    assert column(after, HAND)["ada"] == "4,50" and column(after, table.REMARK)["ada"] == "x"
    assert put_in(tmp_path, ["ada", "", "q", "many", ""], ["ada", "", "q", "-1", ""]) == 1
    assert "'many' is not a number" in capsys.readouterr().err


def test_points_need_a_table(tmp_path):
    with pytest.raises(SystemExit, match="argument --csv: .* does not exist"):
        put_in(tmp_path, ["ada", "", "q", "1", ""])
    write_whole(tmp_path / "marks.csv", written([result("ada")])[0].text())
    with pytest.raises(SystemExit, match="points.csv holds no points"):
        put_in(tmp_path)


def test_long_names_of_laws_in_an_older_table_become_short():
    made, _ = written([result(right=False)])
    longer = {v: k for k, v in table.short_columns().items()}
    old = [longer.get(c, c) for c in made.head]
    at = made.head.index("1-1 d1")
    assert old[at] == "1-1 half_life_halves_the_weight"
    before = table.Table(old, [list(row) for row in made.rows])
    rows = [dict(zip(old, made.rows[0]))]
    before.rows[0][at] = "1"  # by a human
    before._insert(0, "mine")
    before.merge([result(right=False)], 7, {"anna.ipynb": rows})
    assert before.head[0] == "mine" and "1-1 half_life_halves_the_weight" not in before.head
    assert column(before, "1-1 d1 (by hand)")["anna.ipynb"] == "1"
    assert [c for c in before.head if c.endswith("(by hand)")] == ["1-1 d1 (by hand)", HAND]
