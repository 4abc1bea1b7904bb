"""The kit for a GPU, without one: a dry run as on a bare machine, kills, failures, merging."""

import ast
import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import nbformat
import pytest

from _ext import pages
from benchmarks import cells, gpu

ROOT = Path(gpu.__file__).parent.parent
# what a machine with a GPU lacks: it has no Jupyter
ABSENT = ("IPython", "ipykernel", "ipywidgets", "jupyter_book", "myst_nb", "nbclient", "nbformat")
ABSENT += ("sphinx", "jupyter_client", "jupyter_core", "jupyter_cache", "traitlets")
PRESENT = {"torch", "numpy", "scipy", "pandas", "sklearn", "seaborn", "matplotlib", "tqdm", "sympy"}


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """Processes started from here find no Jupyter package."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {ABSENT}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "bare"))


def kit(out, *arguments):
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", out, "--device", "cpu", "--tiny"]
    command = [str(word) for word in (*command, *arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.compiler
def test_the_dry_run_on_a_bare_machine(bare, tmp_path):
    done = kit(tmp_path / "out", "--minutes", 8)
    assert done.returncode == 0, done.stdout + (tmp_path / "out" / "log.txt").read_text()[-3000:]
    rows = {part: gpu.lines(tmp_path / "out" / f"{part}.jsonl") for part in (*gpu.SHARES, "parts")}
    assert [(r["part"], r["ended"]) for r in rows["parts"]] == [(p, "done") for p in gpu.SHARES]
    assert len(rows["tests"]) > 5 and {r["outcome"] for r in rows["tests"]} == {"passed"}
    assert rows["step"][0]["compiled ms"] > 0 and rows["sweep"][-1]["compiled"]
    for part, base in (("chapters", 0), ("bases", 1)):
        assert [(r["base"], r["cells"], r["error"]) for r in rows[part]] == [(base, 2, None)] * 2
    how = json.loads((tmp_path / "out" / "machine.json").read_text())
    assert how["device"] == "cpu" and how["machine"]["torch"] and how["code"]
    assert len(list((tmp_path / "out").iterdir())) == 8  # no more files come back from a machine


def test_what_is_killed_costs_only_itself(tmp_path):
    out = tmp_path / "out"
    done = kit(out, "--minutes", 0.05, "--parts", "tests", "chapters")
    assert done.returncode == 1
    parts = {r["part"]: r["ended"] for r in gpu.lines(out / "parts.jsonl")}
    assert list(parts) == ["tests", "chapters"] and "killed after" in parts["tests"]
    cut = [r["chapter"] for r in gpu.lines(out / "chapters.jsonl") if "killed" in r["ended"]]
    words = [f"{len(cut)} lectures did not end well"] * bool(cut)
    words += [f"{2 - len(cut)} not started"] * (len(cut) < 2)
    assert parts["chapters"] == ", ".join(words)


@pytest.fixture
def options(tmp_path):
    return Namespace(out=tmp_path, device="cpu", tiny=True, minutes=1, parts=["tests", "step"])


def test_a_job_that_fails_says_how_and_one_that_is_killed_takes_its_children_along(options):
    failing = gpu.Job([sys.executable, "-c", "import sys; print('why'); sys.exit(3)"], options)
    failing.wait(30)
    assert failing.ended == "failed (3)" and "why" in (options.out / "log.txt").read_text()
    code = (
        "import subprocess as s; p = s.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    )
    parent = gpu.Job([sys.executable, "-c", code], options)
    while not (pid := (options.out / "log.txt").read_text().split()[-1]).isdigit():
        time.sleep(0.05)
    parent.wait(0.1)
    assert parent.ended.startswith("killed after")
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child of a killed job lives on")


def test_a_part_that_fails_is_named_and_the_next_one_runs(options, monkeypatch, capsys):
    ran = []

    class Fake:
        def __init__(self, command, options):
            self.part = command[command.index("--part") + 1]
            ran.append(self.part)

        def wait(self, seconds):
            self.ended = "failed (1)" if self.part == "tests" else "done"

    monkeypatch.setattr(gpu, "Job", Fake)
    assert gpu.everything(options) == 1
    assert ran == ["tests", "step"]
    assert [r["ended"] for r in gpu.lines(options.out / "parts.jsonl")] == ["failed (1)", "done"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--out DIR says where the results go"),
        (["--out", "x"], "torch finds no CUDA device; a dry run needs --device cpu"),
        (["--out", "x", "--device", "cpu", "--minutes", "-1"], "--minutes -1.0 is not a positive"),
        (["--out", "FULL", "--device", "cpu"], "holds results already; give another folder"),
        (["--out", "x", "--parts", "speed"], "invalid choice: 'speed'"),
    ],
)
def test_arguments_are_refused_before_work_starts(
    tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "has_cuda", lambda: False)
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "machine.json").write_text("{}")
    with pytest.raises(SystemExit):
        gpu.main(arguments)
    assert message in capsys.readouterr().err and not (tmp_path / "x").exists()


# ------------------------------------------------------------------------------------ cells


def notebook(path, *sources):
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# T"), *map(nbformat.v4.new_code_cell, sources)]
    )
    nbformat.write(book, path)
    return path


CELLS = (
    "try:\n    import nettrain\nexcept ImportError:\n    %pip install nettrain\nx = 1",
    "import warnings\nfrom IPython.display import HTML, display\nwarnings.warn('odd')\nHTML('a')",
    "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
    "from nettrain.lab.evidence import Claim\nimport numpy as np\n"
    "claim = Claim('A19a', 'So it is.', 'a - b', 0.5, 'points')\n"
    "claim.judge((np.arange(8.) + 2, np.arange(8.)), 'here')",
    "import __main__\nassert __main__.x == x == 1\nclass Wrong:\n"
    "    def _repr_html_(self):\n        raise KeyError('drawn')\nWrong()",
    "y = 2",
)


def test_cells_run_without_a_kernel_and_report_what_happened(bare, tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.cells", notebook(tmp_path / "n.ipynb", *CELLS)]
    done = subprocess.run([*command, report], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    found = json.loads(report.read_text())
    assert (found["cells"], found["of"], found["peak_mb"]) == (4, 6, None)
    assert found["warnings"] == ["UserWarning: odd"]
    (record,) = found["records"]
    assert record["id"] == "A19a" and record["conditions"][""]["state"] == "above"
    assert (found["error"]["cell"], found["error"]["type"]) == (5, "KeyError")
    assert "<cell 5>" in found["error"]["trace"] and found["seconds"] > 0


def test_the_first_cells_only(bare, tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.cells", notebook(tmp_path / "n.ipynb", *CELLS)]
    done = subprocess.run([*command, report, "--cells", "2"], cwd=ROOT)
    found = json.loads(report.read_text())
    assert done.returncode == 0 and (found["cells"], found["of"], found["error"]) == (2, 2, None)


def test_numbers_without_figures(bare, tmp_path):
    draws = "from nettrain.lab import moving\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\n"
    draws += "plt.gca().set_title('$\\\\no$')"  # an error, once it is drawn
    book = notebook(tmp_path / "n.ipynb", draws, "moving.frames(print, 'no', 'such', 'figure')")
    for more, done in (([], 0), (["--numbers"], 2)):
        report = tmp_path / "report.json"
        command = [sys.executable, "-m", "benchmarks.cells", book, report, *more]
        subprocess.run(command, cwd=ROOT, capture_output=True)
        assert json.loads(report.read_text())["cells"] == done


def test_a_package_that_is_not_there_is_told_apart_from_an_error(bare, tmp_path):
    report = tmp_path / "report.json"
    book = notebook(tmp_path / "n.ipynb", "x = 1", "from ipykernel import kernelapp", "y = 2")
    command = [sys.executable, "-m", "benchmarks.cells", book, report]
    assert subprocess.run(command, cwd=ROOT).returncode == 0
    found = json.loads(report.read_text())
    assert (found["cells"], found["lacks"], found["error"]) == (1, "ipykernel", None)


def test_every_lecture_imports_only_what_a_bare_machine_has():
    for name, _ in gpu.jobs("chapters", Namespace(tiny=False)):
        for cell in nbformat.read(ROOT / "chapters" / f"{name}.ipynb", 4).cells:
            if cell.cell_type != "code":
                continue
            for node in ast.walk(ast.parse(cells.MAGIC.sub(r"\1pass", cell.source))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) else []
                tops = {n.split(".")[0] for n in names} - sys.stdlib_module_names
                more = {"optuna"} if name == "choices" else set()  # it is told as lacking
                assert tops <= PRESENT | {"nettrain", "IPython"} | more, f"{name}: {tops}"


# ----------------------------------------------------------------------------------- merging


def measured(folder, **rows):
    """A folder as the kit leaves it on a GPU."""
    folder.mkdir()
    machine = {"cpu": "c", "gpu": "NVIDIA H100", "threads": 1, "python": "3.12", "torch": "2.11"}
    how = {"date": "2026-12-01", "device": "cuda", "tiny": False, "minutes": 8, "code": "ab"}
    gpu.write_json(folder / "machine.json", how | {"machine": machine})
    for part, some in rows.items():
        for row in some:
            gpu.append(folder / f"{part}.jsonl", row)
        gpu.append(folder / "parts.jsonl", {"part": part, "seconds": 7.0, "ended": "done"})
    return folder


LECTURE = {"chapter": "losses", "base": 0, "ended": "failed (1)", "notebook": "losses", "cells": 3}
LECTURE |= {"of": 9, "seconds": 4.0, "wall_s": 5.0, "peak_mb": 812.5, "warnings": ["w"]}
LECTURE |= {"records": [], "error": {"cell": 4, "type": "ValueError", "trace": "t\nt"}}
TEST = {"test": "test_a_rule[adam]", "outcome": "failed", "seconds": 1.0, "error": "E\nE  no"}


def test_results_are_merged_part_by_part_and_a_torn_line_is_left_out(tmp_path, capsys):
    file = tmp_path / "cuda.json"
    file.write_text(json.dumps({"imports": {"rows": [1]}, "sweep_throughput": {"rows": [2]}}))
    bad = {"model": "x", "error": "OutOfMemoryError: full"}
    first = measured(tmp_path / "a", sweep=[{"model": "m"}, bad, {"model": "n"}], tests=[TEST])
    with (first / "sweep.jsonl").open("a") as torn:
        torn.write('{"model": "o", "ra')
    gpu.merge([first, measured(tmp_path / "b", chapters=[LECTURE])], file)
    found = json.loads(file.read_text())
    assert found["imports"] == {"rows": [1]}
    assert found["sweep_throughput"]["rows"] == [{"model": "m"}, {"model": "n"}]
    assert found["sweep_throughput"]["failed"] == [bad]
    assert found["tests"]["rows"] == [TEST | {"error": "E  no"}]
    assert found["chapters"]["seconds"] == 7.0 and found["chapters"]["date"] == "2026-12-01"
    assert found["chapters"]["rows"][0]["error"] == "cell 4: ValueError"


@pytest.mark.parametrize("change", [{"device": "cpu"}, {"tiny": True}])
def test_a_dry_run_is_not_merged(tmp_path, change):
    folder = measured(tmp_path / "a", tests=[TEST])
    how = json.loads((folder / "machine.json").read_text())
    gpu.write_json(folder / "machine.json", how | change)
    with pytest.raises(SystemExit, match="is a dry run .* not a measurement"):
        gpu.merge([folder], tmp_path / "cuda.json")
    with pytest.raises(SystemExit, match="holds no results: it has no machine.json"):
        gpu.merge([tmp_path], tmp_path / "cuda.json")
    assert not (tmp_path / "cuda.json").exists()


def test_the_page_on_performance_shows_what_was_measured(tmp_path, monkeypatch):
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "cpu.json").write_text("{}")
    monkeypatch.setattr(pages.build, "ROOT", tmp_path)
    assert "neither tests nor lectures of this edition" in pages.on_a_gpu()
    sweep = [{"model": "m", "ratio": 2.0, "runs": 1, "share of peak": 0.5, "compiled": False}]
    sweep += [{"model": "m", "runs": 1, "JAX": 3.0}, {"model": "x", "error": "E: full"}]
    folder = measured(tmp_path / "a", sweep=sweep, tests=[TEST], chapters=[LECTURE])
    gpu.merge([folder], results / "cuda.json")
    assert pages.on_a_gpu() == (
        "On a GPU (NVIDIA H100, 2026-12-01): 0 of 1 tests of the device agree with the CPU, "
        "0 of 1 lectures run to their end."
    )
    text = pages.performance()
    assert "2026-12-01, NVIDIA H100, 1 thread, Python 3.12, torch 2.11" in text
    assert "0 of 1 tests agree with the CPU. Not: `test_a_rule[adam]` (failed)." in text
    assert "| losses | 0 | 5 | 812 | 3 of 9 | 0 | 1 | failed (1), cell 4: ValueError |" in text
    assert "| JAX |" in text and "| 3 |" in text and "Failed: model x, error E: full." in text
    assert os.environ.get("NETTRAIN_DEVICE") == "cpu"
