"""No mark, no answer and nothing that a human has typed is lost, whatever is run, or killed."""

import csv
import io
import json
import os
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
