"""The grader under attack: no submission gains a point, or costs more than its own limits."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import exercises
from exercises import blank, grader
from exercises.__main__ import main
from exercises.grader import Limits
from exercises.grading import report
from exercises.grading.files import notebook_name
from exercises.laws import IDS, judge, load, local

HERE = Path(exercises.__file__).parent
SOLUTION = str(HERE / "ex1_1" / "solution.ipynb")
TIGHT = Limits(seconds=5, call_seconds=1, bytes=500 << 20, notebook_bytes=1 << 20)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the grader confines on Linux")


def source(id="1-1", name="exercise"):
    file = notebook_name(id) if name == "exercise" else f"{name}.ipynb"
    return json.loads((blank.folder(id) / file).read_text("utf-8"))


def with_cell(code, *, name="exercise", last=True):
    """A notebook with one more code cell, in front of or behind all others."""
    notebook = source(name=name)
    cell = {"cell_type": "code", "source": code, "metadata": {}, "outputs": []}
    notebook["cells"].insert(len(notebook["cells"]) if last else 0, cell)
    return notebook


def graded(tmp_path, notebook, limits=TIGHT):
    path = tmp_path / "submission.ipynb"
    path.write_text(json.dumps(notebook), "utf-8")
    return grader.grade(path, seed=1, limits=limits)


def test_links_do_not_lead_around_what_is_hidden(tmp_path, victim, monkeypatch):
    """As when the package lies in the lib of a virtual environment, to which lib64 is a link."""
    secret = victim / "lib" / "secret"
    secret.mkdir(parents=True)
    for folder in (secret, secret.parent):
        (folder / "file").write_text("whole")
    (victim / "lib64").symlink_to("lib")
    (victim / "loop").symlink_to(".")
    plan = grader.plan_for

    def with_victim(*args):
        made = plan(*args)
        made |= {"hidden": str(secret.resolve())}
        return made | {"readable": [*made["readable"], str(victim.resolve())]}

    monkeypatch.setattr(grader, "plan_for", with_victim)
    code = "def tried(n):\n    try: return len(open(paths[n]).read())\n    except OSError: return 0"
    paths = [f"{victim}/{p}/file" for p in ("lib", "lib64", "lib/secret", "lib64/secret")]
    process = grader.Process([f"paths = {paths}\n{code}"], TIGHT, time.monotonic() + 20)
    found = [process.call("tried", (n,))["value"] for n in range(4)]
    process.close()
    if process.steps["landlock"] is not True:
        pytest.skip(f"no Landlock: {process.steps}")
    assert found == [5, 5, 0, 0]


@cache
def prevented():
    return grader.probe(TIGHT)


def test_this_system_prevents_what_it_can():
    """Where the kernel has user namespaces and Landlock, everything is prevented."""
    process = grader.Process([], TIGHT, time.monotonic() + 20)
    process.close()
    assert prevented().keys() == grader.FORBIDDEN.keys()
    assert prevented()["memory"] and process.steps["limits"] is True
    if process.steps["namespaces"] is True and process.steps["landlock"] is True:
        open_ = {k for k, ok in prevented().items() if not ok}
        assert open_ <= (set() if process.steps["user"] is True or os.getuid() else {"processes"})


def test_nothing_is_marked_where_nothing_works():
    assert grader.workable(TIGHT) == TIGHT
    with pytest.raises(RuntimeError, match="not even an honest submission would work here: "):
        grader.workable(Limits(seconds=5, bytes=40 << 20))


@pytest.mark.skipif(os.getuid() != 0, reason="only root has another user to offer")
def test_python_that_others_cannot_read(tmp_path, monkeypatch):
    plan = grader.plan_for

    def with_private_python(folder, limits, channel):
        made = plan(folder, limits, channel)
        return made | {"private": []} if made["user"] else made  # nobody stands before /root

    if not plan(tmp_path, TIGHT, 3)["private"]:
        pytest.skip("this Python lies open")
    monkeypatch.setattr(grader, "plan_for", with_private_python)
    assert grader.workable(TIGHT) == replace(TIGHT, other_user=False)


def test_what_is_not_prevented_is_said():
    text = report.enforced({"network": True, "disk": False})
    assert "cannot: open network connections." in text
    assert "NOT prevented on this system: a submission can fill the disk." in text


# ----------------------------------------------------------------------------- marks


@pytest.mark.parametrize("id", IDS)
def test_a_solution_gets_all_points_and_a_blank_none(id, tmp_path):
    limits = Limits(seconds=60)
    solution = graded(tmp_path, source(id, "solution"), limits)
    assert (solution.points, solution.problem) == (load(id).points, None)
    assert f"{id}-words" in solution.texts and solution.texts[f"{id}-words"].startswith("**")
    empty = graded(tmp_path, source(id), limits)
    assert empty.points == 0 and len(empty.marks) == len(load(id).laws) and not empty.errors
    assert all("is not written yet" in mark.message for mark in empty.marks)
    assert empty.texts == {}


def test_same_submission_and_seed_same_marks(tmp_path):
    notebook = with_cell("half_life = lambda rho: 1 / (1 - rho)", name="solution")
    one, two = (graded(tmp_path, notebook) for _ in range(2))
    assert one.record() | {"seconds": 0} == two.record() | {"seconds": 0}
    assert one.points == 14 and grader.Result.of(one.record()) == one


def test_one_broken_function_costs_its_own_laws_only(tmp_path):
    for code in ("while True: pass", "import os; os._exit(0)", "return bytearray(1 << 31)"):
        cell = f"def half_life(rho):\n    {code}"
        limits = replace(TIGHT, seconds=30)  # a busy machine restarts the process slowly
        assert graded(tmp_path, with_cell(cell, name="solution"), limits).points == 14


def test_magics_and_cells_with_errors_do_not_harm(tmp_path):
    cells = "%matplotlib inline\n!ls\nfoo?\nimport numpy as np", "%%time\nx = 1", "1 / 0", "x = ("
    notebook = source(name="solution")
    for cell in cells:
        extra = {"cell_type": "code", "source": cell, "metadata": {}, "outputs": []}
        notebook["cells"].insert(0, extra)
    result = graded(tmp_path, notebook)
    assert result.points == 15
    assert result.errors == [
        "code cell 1, line 1: SyntaxError: '(' was never closed",
        "code cell 2, line 1: ZeroDivisionError: division by zero",
    ]


# ----------------------------------------------------------------------------- attacks

ATTACKS = {
    "exit": "import os; os._exit(0)",
    "system exit": "import sys; sys.exit('full marks')",
    "exit in a function": "import os\nvelocity = weights = lambda *a: os._exit(0)",
    "endless loop": "while True: pass",
    "endless loop in a function": "def weights(t, rho):\n    while True: pass",
    "deaf to signals": """
        import signal
        for s in range(1, 65):
            try: signal.signal(s, signal.SIG_IGN)
            except Exception: pass
        while True: signal.pause()""",
    "fork bomb": """
        import os
        while True:
            try: os.fork()
            except OSError: pass""",
    "threads": """
        import threading, time
        while True: threading.Thread(target=time.sleep, args=(1000,)).start()""",
    "memory bomb": "x = []\nwhile True: x.append(bytearray(10_000_000))",
    "memory bomb in many processes": """
        import os, time
        for _ in range(8):
            if os.fork() == 0:
                x = b"1" * 300_000_000
                time.sleep(1000)
        time.sleep(1000)""",
    "daemon": """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while True: time.sleep(1)
            os._exit(0)""",
    "gigabytes of output": "while True: print('x' * 1_000_000)",
    "gigabytes of raw output": "import os\nwhile True: os.write(1, b'x' * 1_000_000)",
    "a huge file": "f = open('x', 'wb')\nwhile True: f.write(bytes(10_000_000))",
    "many files": """
        i = 0
        while True:
            i += 1
            open(f'f{i}', 'wb').write(bytes(1_000_000))""",
    "flooded channel": """
        import os
        for fd in range(3, 50):
            try:
                while True: os.write(fd, b'x' * 1_000_000)
            except OSError: pass""",
    "forged answers": """
        import os
        for fd in range(3, 50):
            try: os.write(fd, b'{"ran": []}\\n' + b'{"value": 1.0, "points": 99}\\n' * 100)
            except OSError: pass""",
    "answers that are no answers": """
        import os
        for fd in range(3, 50):
            try: os.write(fd, b'[' * 100_000 + b'\\n')
            except OSError: pass""",
    "forged marks on stdout": "print('{\"points\": 11}')\nmarks = {'1-1': 11}",
    "closed descriptors": "import os; os.closerange(0, 100)",
    "patched numpy": """
        import numpy as np
        np.allclose = np.isclose = lambda *a, **k: True
        np.asarray = np.array = lambda *a, **k: 1""",
    "patched torch and sympy": """
        import sys, types
        for name in ("torch", "sympy", "numpy.testing"):
            fake = types.ModuleType(name)
            fake.__getattr__ = lambda n: (lambda *a, **k: True)
            sys.modules[name] = fake""",
    "patched exercises": """
        import sys, types
        import exercises
        exercises.check = lambda *a, **k: print("11 of 11 points")
        for name in ("exercises.laws", "exercises.grader", "exercises.ex1_1.laws"):
            sys.modules[name] = types.SimpleNamespace(judge=lambda *a: 11)""",
    "patched json": """
        import json
        json.dumps = lambda *a, **k: '{"value": true, "holds": true}'
        json.loads = lambda *a, **k: {"call": "weights", "args": [2, 0.5]}""",
    "patched builtins": """
        import builtins
        builtins.callable = builtins.isinstance = lambda *a: True
        builtins.len = lambda x: 1""",
    "stack inspection": """
        import sys
        frame = sys._getframe()
        while frame:
            for name, value in list(frame.f_locals.items()) + list(frame.f_globals.items()):
                if callable(value) and name in ("send", "call", "to_data"):
                    frame.f_globals[name] = lambda *a: {"value": 1.0}
            frame = frame.f_back""",
    "objects in memory": """
        import gc
        for o in gc.get_objects():
            if isinstance(o, dict) and "points" in o: o["points"] = 99""",
    "the solution read": """
        import json, glob
        from pathlib import Path
        import numpy as np
        for p in ["{solution}"] + glob.glob("/**/ex1_1/solution.ipynb", recursive=True):
            try: cells = json.loads(Path(p).read_text("utf-8"))["cells"]
            except OSError: continue
            for c in cells:
                try: exec("".join(c["source"]), globals())
                except Exception: pass""",
    "the laws imported": """
        import sys
        sys.modules.pop("exercises")
        sys.path.insert(0, "{root}")
        try:
            from exercises.ex1_1.laws import recursion, np
            weights = lambda t, rho: recursion(-np.eye(t), 1 - rho, rho)[-1]
        except Exception: pass""",
    "the solution through /proc": """
        import glob, json
        from pathlib import Path
        import numpy as np
        for p in glob.glob("/proc/*/cwd/") + glob.glob("/proc/*/root{root}/"):
            try: cells = json.loads(Path(p, "exercises/ex1_1/solution.ipynb").read_text())["cells"]
            except OSError: continue
            for c in cells:
                try: exec("".join(c["source"]), globals())
                except Exception: pass""",
    "writing outside": "open('{victim}/file', 'w').write('x')",
    "a link to outside": """
        import os
        os.symlink('{victim}/file', 'link')
        open('link', 'w').write('x')""",
    "deleting the grader's files": """
        import shutil
        for path in ('{victim}', '{root}/exercises', '/tmp'): shutil.rmtree(path, True)""",
    "the grader's memory": """
        import os
        for pid in (1, os.getppid(), {pid}):
            try: open(f'/proc/{pid}/mem', 'r+b').write(b'x')
            except OSError: pass""",
    "killing the grader": """
        import os
        for pid in (os.getppid(), {pid}, -1):
            try: os.kill(pid, 9)
            except (OSError, ProcessLookupError): pass""",
    "raised limits": """
        import resource
        for kind in range(16):
            try: resource.setrlimit(kind, (-1, -1))
            except Exception: pass
        x = []
        while True: x.append(bytearray(10_000_000))""",
    "a socket": """
        import socket
        socket.create_connection(("127.0.0.1", {port})).send(b"solution, please")""",
    "a server": """
        import socket
        s = socket.create_server(("0.0.0.0", 0)); s.accept()""",
    "namespaces": """
        import ctypes
        c = ctypes.CDLL(None)
        c.unshare(0x10020000); c.mount(b"none", b"/", b"tmpfs", 0, b""); c.umount2(b"/proc", 2)""",
    "a crash": "import ctypes; ctypes.string_at(0)",
    "deep recursion": "f = lambda: f()\nf()",
    "recursion in C": "import sys; sys.setrecursionlimit(10**9)\nf = lambda: f()\nf()",
    "a hanging end": """
        import atexit, time, threading
        atexit.register(time.sleep, 1000)
        threading.Thread(target=time.sleep, args=(1000,)).start()""",
    "standard streams": "import sys; sys.stdout = sys.stderr = sys.stdin = None; input()",
    "a huge answer": "import numpy as np\nweights = start_weight = lambda *a: np.ones(10**7)",
    "a huge integer": "half_life = mean_age = lambda r: 10**5000",
    "a cyclic answer": "x = []\nx.append(x)\nweights = velocity = half_life = lambda *a: x",
    "a deep answer": """
        x = 1.0
        for _ in range(100_000): x = [x]
        weights = half_life = lambda *a: x""",
    "NaN": "half_life = mean_age = start_weight = lambda *a: float('nan')",
    "infinity": "half_life = mean_age = start_weight = lambda *a: float('inf')",
    "always equal": """
        class Equal(float):
            __eq__ = __le__ = __ge__ = lambda *a: True
            __sub__ = __rsub__ = lambda *a: 0.0
            __array_priority__ = 1e9
        half_life = mean_age = start_weight = lambda *a: Equal(7)""",
    "an array of lies": """
        class Lie:
            shape = (); ndim = 0
            def __array__(self, *a, **k): raise SystemExit
            __float__ = __array__
        half_life = mean_age = start_weight = lambda *a: Lie()""",
    "an exception of lies": """
        class Lie(BaseException):
            def __str__(self): raise SystemExit
        def half_life(rho): raise Lie""",
    "an error that pretends to be a mark": """
        class Mark(Exception): pass
        def half_life(rho): raise Mark('holds: true, points: 11')""",
    "a lie about the precision": """
        import json
        import numpy as np
        dumps = json.dumps
        def lie(x, *a, **k):
            if isinstance(x, dict) and "value" in x:
                x["precision"] = "bfloat16"
            return dumps(x, *a, **k)
        json.dumps = lie
        half_life = lambda rho: 1.005 * np.log(2) / -np.log(rho)
        mean_age = lambda rho: np.float32(1.005 * rho / (1 - rho))""",
    "a precision that is none": """
        import json
        dumps = json.dumps
        json.dumps = lambda x, *a, **k: dumps(x | {"precision": [{}]}, *a, **k)
        half_life = lambda rho: 1.0""",
    "a transformer that never ends": "get_ipython().run_cell('!x\\n' * 20_000)",
    "a patched IPython": """
        import IPython, IPython.core.inputtransformer2 as t
        t.TransformerManager.transform_cell = lambda *a: "while True: pass"
        get_ipython().run_cell = get_ipython().run_line_magic = lambda *a: 11
        get_ipython = IPython.get_ipython = None""",
    "a file in place of a library": """
        for name in ("numpy", "json", "socket", "exercises", "IPython"):
            open(f"{name}.py", "w").write("points = 11")""",
    "a name of lies": "half_life = type('x', (), {'__call__': property(lambda s: 1/0)})()",
}


NEEDS = {  # where the system prevents less, these would do real harm, or would rightly pay
    "the solution read": "solutions",
    "the laws imported": "solutions",
    "the solution through /proc": "solutions",
    "writing outside": "outside",
    "a link to outside": "outside",
    "deleting the grader's files": "outside",
    "namespaces": "outside",
    "killing the grader": "signals",
    "the grader's memory": "signals",
    "fork bomb": "processes",
    "threads": "processes",
    "many files": "disk",
    "a socket": "network",
}


@pytest.fixture
def victim():
    """A folder with a file that any user may write, but no submission."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "file").write_text("whole")
        for path in (folder / "file", folder):
            path.chmod(0o777)
        yield folder


@pytest.mark.parametrize(("name", "attack"), ATTACKS.items(), ids=ATTACKS.keys())
def test_an_attack_gains_nothing_and_leaves_nothing(name, attack, tmp_path, victim):
    if name in NEEDS and not prevented()[NEEDS[name]]:
        pytest.skip(f"this system lets a submission {grader.FORBIDDEN[NEEDS[name]]}")
    before = set(grader.descendants(os.getpid()))  # torch's compiler keeps some after other tests
    with socket.create_server(("127.0.0.1", 0)) as server:
        for word, value in {
            "solution": SOLUTION,
            "root": HERE.parent,
            "victim": victim,
            "pid": os.getpid(),
            "port": server.getsockname()[1],
        }.items():
            attack = attack.replace(f"{{{word}}}", str(value))
        code = textwrap.dedent(attack)
        compile(code, "attack", "exec")
        result = graded(tmp_path, with_cell(code))
        assert result.points == 0 and len(result.marks) == 10
        assert result.seconds < 5 * TIGHT.seconds  # it is stopped, not waited for
        server.settimeout(0)
        if name == "a socket":
            with pytest.raises(BlockingIOError):
                server.accept()
    assert (victim / "file").read_text() == "whole"
    assert set(grader.descendants(os.getpid())) <= before
    assert not list(Path("/tmp").glob("submission-*/f1"))


def test_reading_the_solution_would_pay_without_confinement():
    """The attack is a real one: only the confinement stands against it."""
    code = textwrap.dedent(ATTACKS["the solution read"]).replace("{solution}", SOLUTION)
    names = {"__name__": "__main__"}
    exec(code.replace('+ glob.glob("/**/ex1_1/solution.ipynb", recursive=True)', ""), names)
    assert all(not judge(law, local(names), 1).message for law in load("1-1").laws)


NOT_A_NOTEBOOK = {"nbformat": 3, "worksheets": []}
FILES = {
    "nothing": (b"", "not JSON"),
    "not UTF-8": ("{'é': 1}".encode("latin-1"), "not UTF-8"),
    "UTF-16": (json.dumps(NOT_A_NOTEBOOK).encode("utf-16"), "not UTF-8"),
    "no JSON": (b"half_life = 6.6", "not JSON"),
    "deep JSON": (b"[" * 100_000, "not JSON"),
    "format 3 without cells": (json.dumps(NOT_A_NOTEBOOK).encode(), "not a notebook"),
    "a list": (b"[]", "not a notebook"),
    "too many values": (b"[" + b"{}," * 4_000_001 + b"0]", "Clear the outputs"),
    "strange cells": (b'{"cells": [1, 2]}', "no source text"),
    "strange source": (b'{"cells": [{"cell_type": "code", "source": {}}]}', "no source text"),
    "no exercise": (b'{"cells": []}', "which exercise"),
    "an unknown exercise": (
        b'{"cells": [{"cell_type": "code", "source": "check(\\"7-7\\", globals())"}]}',
        "which exercise",
    ),
    "too large": (b" " * ((16 << 20) + 1), "at most 16 MB are read. Clear the outputs"),
}


@pytest.mark.parametrize(("content", "says"), FILES.values(), ids=FILES.keys())
def test_a_file_that_is_no_notebook(content, says, tmp_path):
    path = tmp_path / "submission.ipynb"
    path.write_bytes(content)
    result = grader.grade(path, seed=1, limits=replace(TIGHT, notebook_bytes=16 << 20))
    assert result.points == 0 and says in result.problem and not result.failed


def test_a_notebook_of_200_mb_is_not_read(tmp_path):
    path = tmp_path / "submission.ipynb"
    with open(path, "wb") as f:
        f.truncate(200 << 20)  # a file with a hole
    assert "200 MB; at most 64 MB" in grader.grade(path, seed=1).problem


def test_what_is_no_plain_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    problem = lambda path: grader.grade(path, seed=1, limits=TIGHT).problem
    assert problem(tmp_path / "pipe") == "this is not a plain file"
    assert problem(tmp_path) == "this is not a plain file"
    assert "No such file" in problem(tmp_path / "missing")
    assert problem(Path("/dev/zero")) == "this is not a plain file"


def test_strange_metadata_and_code_points_do_not_stop_the_grader(tmp_path):
    notebook = source()
    for cell in notebook["cells"]:
        cell["metadata"] = ["no", "dict"]
    notebook["cells"][2]["source"] = ["\ud800 \x00", "\u202e"]
    notebook["cells"][3]["source"] = "x = '\ud800\x00'"
    result = graded(tmp_path, notebook)
    assert result.points == 0 and result.exercise == "1-1" and "Error" in result.errors[0]
    assert list(result.texts) == ["1-1 text 1"]
    report.feedback(result).encode("utf-8")


def test_answers_in_words_are_found_without_metadata(tmp_path):
    notebook = source()
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        if cell["source"] == ["YOUR ANSWER HERE"]:
            cell["source"] = "By induction."
    assert graded(tmp_path, notebook).texts == {"1-1 text 1": "By induction."}


def test_a_file_name_that_is_no_text(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.ipynb"
    Path(os.fsdecode(path)).write_text("{}")
    main(["grade", os.fsdecode(path), "--csv", str(tmp_path / "marks.csv"), "--jobs", "1"])
    assert "this is not a notebook" in (tmp_path / "marks.csv").read_text("utf-8")


# ----------------------------------------------------------------------------- reports


def test_reports_escape_what_a_submission_says(tmp_path):
    evil = "<script>alert(1)</script>"
    notebook = with_cell(f"def half_life(rho):\n    raise ValueError({evil!r} + '\\x1b[2J')")
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("solution") and cell["cell_type"] == "markdown":
            cell["source"] = evil
            cell["metadata"]["nbgrader"]["grade_id"] = evil
    result = graded(tmp_path, notebook)
    for page in (report.feedback(result), report.free_text([result])):
        page = page.replace(f"<script>{report.SAVE}</script>", "")
        assert "<script" not in page and "&lt;script&gt;" in page and "\x1b" not in page
    assert evil in [m.message for m in result.marks if m.law.part == "half_life"][0]


def test_pages_have_their_own_names():
    names = {
        report.page_name(f) for f in ("a/x.ipynb", "b/x.ipynb", "c/a/x.ipynb", "../../x.ipynb")
    }
    assert len(names) == 4 and all(n.replace("-", "").replace(".", "").isalnum() for n in names)


# ----------------------------------------------------------------------------- a class


@pytest.fixture
def submissions(tmp_path):
    """A class of eight: two solutions, two blanks, wrong ones, attacks."""
    sleeper = with_cell("import time\nhalf_life = lambda r: time.sleep(60)", name="solution")
    notebooks = {
        "anna": source(name="solution"),
        "ben": source(),
        "carl": with_cell("import os; os._exit(0)"),
        "dora": with_cell("half_life = lambda rho: 1 / (1 - rho)", name="solution"),
        "emil": with_cell("import os\nwhile True: os.fork()"),
        "fay": source("1-5", "solution"),
        "gus": source("1-2"),
        "hana": sleeper,
    }
    files = []
    for name, notebook in notebooks.items():
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "exercise.ipynb")
        files[-1].write_text(json.dumps(notebook), "utf-8")
    return files


WANTED = {"anna": 15, "ben": 0, "carl": 0, "dora": 14, "emil": 0, "fay": 18, "gus": 0, "hana": 14}


def command(tmp_path, files, *more):
    options = ["--csv", tmp_path / "marks.csv", "--jobs", 2, "--seconds", 30, "--call-seconds", 2]
    options = ["grade", *files, *options, "--megabytes", 500, *more]
    return [str(x) for x in options]


def marks(tmp_path):
    with open(tmp_path / "marks.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    return {Path(row["file"]).parent.name: int(row["points"]) for row in rows}, rows


def test_a_class_is_graded_killed_and_resumed(submissions, tmp_path, capsys):
    journal = tmp_path / "marks.csv.journal"
    start = [sys.executable, "-m", "exercises", *command(tmp_path, submissions)]
    env = os.environ | {"PYTHONPATH": str(HERE.parent)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = subprocess.Popen(start, env=env, **quiet)
    while run.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 4):
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    before = journal.read_bytes()
    done = before.count(b"\n") - 1
    assert 3 <= done < len(submissions)
    seed = json.loads(before.split(b"\n")[0])["seed"]
    journal.write_bytes(before + b'{"file": "torn')  # as a kill in the middle of a line leaves it

    assert main(command(tmp_path, submissions)) == 0
    said = capsys.readouterr().err
    assert f"8 submissions, {done} of them marked before; seed {seed}" in said
    points, rows = marks(tmp_path)
    assert points == WANTED and {row["seed"] for row in rows} == {str(seed)}
    assert {row["exercise"] for row in rows} == {"1-1", "1-2", "1-5"}
    fine = next(row for row in rows if "anna" in row["file"])
    assert fine["1-1 d1"] == "1" and fine["free text (by hand)"] == ""

    pages = {p.name: p.read_text("utf-8") for p in (tmp_path / "marks").glob("*.html")}
    assert len(pages) == len(submissions) + 2
    assert "The same recursion" in pages["free_text.html"]
    dora = next(text for name, text in pages.items() if name.startswith("dora"))
    assert "14 of 15 points" in dora and "about 1/e" in dora

    main(command(tmp_path, submissions[:2]))  # nothing changed: nothing runs again
    assert "2 submissions, 2 of them marked before" in capsys.readouterr().err
    submissions[0].write_text(json.dumps(source()), "utf-8")
    main(command(tmp_path, submissions[:2]))  # a new version of a submission is marked again
    assert "2 submissions, 1 of them marked before" in capsys.readouterr().err
    assert marks(tmp_path)[0] == WANTED | {"anna": 0}  # the others' rows stay
    text = (tmp_path / "marks" / "free_text.html").read_text("utf-8")
    assert f"<h3>{submissions[5]}</h3>" in text and f"<h3>{submissions[0]}</h3>" not in text


def test_another_seed_marks_again(submissions, tmp_path, capsys):
    for seed, kept in ((1, 0), (1, 1), (2, 0)):
        main(command(tmp_path, submissions[:1], "--seed", seed))
        assert (
            f"1 submissions, {kept} of them marked before; seed {seed}" in capsys.readouterr().err
        )


def test_the_notebooks_for_students(tmp_path):
    main(["fetch", str(tmp_path / "class")])
    names = sorted(p.name for p in (tmp_path / "class").iterdir())
    assert names == [f"exercise_{id}.ipynb" for id in IDS]
