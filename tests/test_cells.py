"""What Jupyter runs, the grader and the build run too; what neither can run is told where."""

import json
import random
import re
import subprocess
import sys
import textwrap
import time

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _ext import build, dependencies
from exercises import blank, grader
from exercises.grader import Limits
from exercises.grading import child

LIMITS = Limits(seconds=20, bytes=1 << 30)
confined = pytest.mark.skipif(sys.platform != "linux", reason="the grader confines on Linux")


def solution(id="1-1"):
    return json.loads((blank.folder(id) / "solution.ipynb").read_text("utf-8"))


def code_cell(source):
    return {
        "cell_type": "code",
        "source": source,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }


def points(notebook):
    content = notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()
    result = grader.grade_content(content, "x.ipynb", seed=1, limits=LIMITS)
    return result.points, result.errors, result.problem


def outcome(*cells, ask=()):
    """(errors, answers) of cells in the student's process."""
    process = grader.Process(list(cells), LIMITS, time.monotonic() + 20)
    try:
        return process.errors, [process.call(name, ()).get("value") for name in ask]
    finally:
        process.close()


# ----------------------------------------------------------------------------- kinds

HARMLESS = [
    "%matplotlib inline\n!ls\nfoo?\nlen??\n%pwd",
    "files = !ls\nwhere = %pwd\nassert isinstance(where, str) and list(files) == [] == files.list",
    "!echo one \\\n   two\n%env A=1 \\\n",
    "x = (17\n     % 5)\nassert x == 2",
    "%%time\ny = 3",
    "assert y == 3",
    "\n\n%%time\nz = 4",
    "%%capture out --no-stderr\nprint('x')",
    "out.show()\nassert z == 4",
    "%%timeit -n 1\nx = 'a name of its own'",
    "assert x == 2",
    "%%script false --no-raise-error\nx = 'switched off'",
    "%%bash\necho hello && ls -la",
    "%%html\n<b>bold</b>",
    "%%unknown_magic\nno Python at all",
    "%%writefile helper.py\nthird = 1 / 3",
    "from helper import third",
    "%%time\n%%capture\nw = 5",
    "if w == 5:\n    %time v = 6\n    !ls",
    "assert v == 6\nu = %time 3 + 4",
    "assert u == 7",
    "import asyncio\nawait asyncio.sleep(0)\nasync def f():\n    return 8",
    "assert await f() == 8\nt = [i async for i in g()] if 0 else []",
    "get_ipython().run_line_magic('matplotlib', 'inline')\nget_ipython().system('ls')",
    "shell = get_ipython()\nshell.events.register('x', print)\nshell.config\nshell.kernel.x[0]()",
    "get_ipython().run_cell_magic('time', '', 's = 9')\nassert s == 9",
    "from IPython import get_ipython as g\ng().run_line_magic('load_ext', 'autoreload')",
    "from IPython.core.magic import register_line_magic\n@register_line_magic\ndef m(l): pass",
    "from IPython.display import display as show\ndisplay(1)\nshow(1)",
    "from __future__ import annotations",
    "def later(x: not_defined): pass",
    "    indented = 1",
    ">>> prompt = 1",
    "In [3]: numbered = 1",
    "def g():\n    raise NotImplementedError()\ng()",
    "# only a comment",
    "",
    "text = '''\n%%bash\n!ls\n'''",
    "x \\\n= 5",
]


@confined
def test_what_jupyter_runs_costs_nothing():
    notebook = solution()
    notebook["cells"] = [code_cell(s) for s in HARMLESS] + notebook["cells"]
    assert points(notebook) == (15, [], None)


@confined
@pytest.mark.parametrize("kind", ["matplotlib.pyplot as plt", "sympy", "tqdm.auto"])
def test_libraries_that_ask_for_ipython(kind):
    use = {
        "matplotlib.pyplot as plt": "plt.plot([1, 2])\nplt.show()",
        "sympy": "sympy.init_printing()",
        "tqdm.auto": "list(tqdm.auto.tqdm([1]))",
    }[kind]
    cells = ["from IPython import get_ipython", f"import {kind}\n{use}"]
    assert outcome(*cells)[0] == []


TOLD = {
    "a name": ("x = 1\n\nnothing", "line 3: NameError: name 'nothing' is not defined"),
    "no Python": ("x = 1\nx = = 2", "line 2: SyntaxError: invalid syntax"),
    "not closed": ("x = (1,\n2", "line 1: SyntaxError: '(' was never closed"),
    "with magics": ("%pwd\n!ls\nx = = 2", "line 3: SyntaxError: invalid syntax"),
    "blank lines first": ("\n\n%pwd\n1 / 0", "line 4: ZeroDivisionError: division by zero"),
    "in a function": ("def f():\n    return 1 / 0\n\nf()", "line 2: ZeroDivisionError"),
    "in a magic's body": ("%%time\nx = 1\n1 / 0", "line 3: ZeroDivisionError"),
    "in a line magic": ("x = 1\n%time 1 / 0", "line 2: ZeroDivisionError"),
    "a magic too late": ("# why\n%%bash\n", "line 2: UsageError: %%bash must be the first line"),
    "a null character": ("x = '\0'", "SyntaxError: source code string cannot contain null bytes"),
    "an await": ("await 3", "line 1: TypeError: object int can't be used in 'await'"),
    "an exit": ("x = 1\nexit()", "line 2: SystemExit"),
    "tabs": ("if 1:\n\tx = 1\n        y = 1", "line 3: TabError"),
}


@confined
@pytest.mark.parametrize(("source", "says"), TOLD.values(), ids=TOLD)
def test_what_does_not_run_is_told_with_its_cell_and_line(source, says):
    errors, answers = outcome("x = 0", source, "y = lambda: 5", ask="y")
    assert answers == [5] and len(errors) == 1
    assert errors[0].startswith("code cell 2") and says in errors[0]


def test_without_ipython_plain_python_runs_and_magics_are_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython.core.inputtransformer2", None)
    notebook = child.Notebook({})
    notebook.run("x = 1", 1)
    with pytest.raises(SyntaxError, match="to read magics the grader needs IPython"):
        notebook.run("x = !ls", 2)
    assert notebook.namespace["x"] == 1


# ----------------------------------------------------------------------------- against IPython

PIECES = """
x = 1
y = x + 1
%pwd
!true
!true \\
  more
files = !true
where = %pwd
z = (17
 % 5)
%time t = 2
u = %time 2 + 1
len?
await asyncio.sleep(0)
def f(a):
    %pwd
    return a % 2
text = '''
%pwd
'''
for i in range(2):
    !true
get_ipython().run_line_magic("pwd", "")
undefined_name
b = a = 3 %2
c = [1,
%pwd
w \\
 = 5
""".strip()
STARTS = ["", "", "", "\n", "%%time\n", "%%capture\n", "%%timeit -n 1 -r 1\n", "%%script true\n"]

ORACLE = """
import asyncio, json, os, sys
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.ast_node_interactivity = "none"
shell = InteractiveShell.instance()
shell.history_manager.enabled = False
shell.system = shell.getoutput = lambda *args, **kwargs: []
quiet, out = open(os.devnull, "w"), sys.stdout
found = []
for source in json.load(sys.stdin):
    shell.user_ns["asyncio"] = asyncio
    before = set(shell.user_ns)
    sys.stdout = sys.stderr = quiet
    ok = shell.run_cell(source).success
    sys.stdout = out
    new = set(shell.user_ns) - before
    found.append([ok, sorted(name for name in new if name[0] != "_")])
    for name in new:
        del shell.user_ns[name]
print(json.dumps(found))
"""


def generated(n):
    """n cells made of lines and blocks, some broken, as IPython's users write them."""
    blocks = re.split(r"\n(?![ '%\n](?:[ m%]|')|%pwd\n(?:'''|w)| )", PIECES)
    draw = random.Random(5)
    return [
        draw.choice(STARTS) + "\n".join(draw.choices(blocks, k=draw.randint(1, 4)))
        for _ in range(n)
    ]


def test_cells_run_where_ipython_runs_them_and_define_the_same_names(tmp_path):
    import asyncio

    sources = generated(200)
    command = [sys.executable, "-c", ORACLE]
    done = subprocess.run(
        command, input=json.dumps(sources), capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    ran = 0
    for source, (ok, names) in zip(sources, json.loads(done.stdout), strict=True):
        notebook = child.Notebook({"asyncio": asyncio})
        notebook.namespace["get_ipython"] = lambda shell=notebook.shell: shell
        before = set(notebook.namespace)
        try:
            notebook.run(source, 1)
            ours, error = True, None
        except Exception as caught:
            ours, error = False, caught
        finally:
            if notebook._loop:
                notebook._loop.close()
        found = sorted(set(notebook.namespace) - before - {"__builtins__"})
        if "%%" in source and "await" in source:  # of which IPython allows one at a time
            continue
        if "%%capture" not in source:  # within it IPython shows an error and goes on
            assert ours == ok, (source, error)
        assert found == names, (source, error)
        ran += ok
    assert 60 < ran < 190  # both kinds are there


# ----------------------------------------------------------------------------- files


@confined
def test_a_byte_order_mark_and_large_outputs_cost_nothing():
    assert points(b"\xef\xbb\xbf" + json.dumps(solution()).encode())[0] == 15
    notebook = solution()
    cell = next(c for c in notebook["cells"] if c["cell_type"] == "code")
    data = {"image/png": "A" * 19_000_000}
    cell["outputs"] = [{"output_type": "display_data", "metadata": {}, "data": data}]
    assert points(notebook)[0] == 15


@confined
def test_the_old_format_counts():
    old = nbformat.convert(nbformat.reads(json.dumps(solution()), 4), 3)
    assert points(old)[0] == 15


def test_copied_and_long_answers_are_not_lost():
    cells = [
        {"kind": "markdown", "source": "first", "about": {"grade_id": "words"}},
        {"kind": "markdown", "source": "second", "about": {"grade_id": "words"}},
        {"kind": "raw", "source": "x" * 30_000, "about": {}},
    ]
    texts = grader.free_text(cells, "1-1")
    assert list(texts.values())[:2] == ["first", "second"] and len(texts) == 3
    assert list(texts.values())[2].endswith("x [cut here, of 30000 characters]")
    many = grader.free_text([cells[0] | {"source": f"text {i}"} for i in range(200)], "1-1")
    assert len(many) == grader.MOST_TEXTS + 1 and "see the notebook" in many["more"]


text = st.text(max_size=40) | st.sampled_from(
    ['check("1-1", globals())', "%%bash\nx", "x = !ls", "\ud800", "\0", "\ufeffx", "a\r\nb\x0c"]
)
source = text | st.lists(text, max_size=3)
data = st.dictionaries(st.sampled_from(["text/plain", "image/png", "x/y"]), text, max_size=2)
metadata = st.dictionaries(
    st.sampled_from(["tags", "nbgrader", "name", "collapsed"]),
    st.none() | st.booleans() | text | st.lists(text) | st.dictionaries(text, text | st.none()),
    max_size=2,
)
output = st.one_of(
    st.fixed_dictionaries(
        {"output_type": st.just("stream"), "name": st.just("stdout"), "text": source}
    ),
    st.fixed_dictionaries(
        {"output_type": st.just("display_data"), "data": data, "metadata": metadata}
    ),
    st.fixed_dictionaries(
        {
            "output_type": st.just("error"),
            "ename": text,
            "evalue": text,
            "traceback": st.lists(text),
        }
    ),
)
attachments = st.dictionaries(text, data, max_size=1)
cell = st.one_of(
    st.fixed_dictionaries(
        {
            "cell_type": st.just("code"),
            "source": source,
            "metadata": metadata,
            "outputs": st.lists(output, max_size=2),
            "execution_count": st.none() | st.integers(0, 9),
        }
    ),
    st.fixed_dictionaries(
        {"cell_type": st.sampled_from(["markdown", "raw"]), "source": source, "metadata": metadata},
        optional={"attachments": attachments},
    ),
)
notebooks = st.fixed_dictionaries(
    {
        "nbformat": st.just(4),
        "nbformat_minor": st.integers(0, 4),
        "metadata": metadata.filter(lambda x: "name" not in x),
        "cells": st.lists(cell, max_size=5),
    }
)


@settings(max_examples=60)
@given(notebooks, st.booleans(), st.sampled_from([None, "1-1"]))
def test_any_notebook_gives_a_result_with_a_problem_or_its_cells(came, made, bom, id):
    content = b"\xef\xbb\xbf" * bom + json.dumps(made).encode()
    came.clear()
    result = grader.grade_content(content, "x.ipynb", seed=1, exercise=id)
    assert not result.failed and result.digest
    code = ["".join(c["source"]) for c in made["cells"] if c["cell_type"] == "code"]
    if result.problem is None:
        assert came == [code]  # every cell of code comes to its process, as it is
        assert grader.Result.of(json.loads(json.dumps(result.record()))) == result
    else:
        assert id is None and "no cell says which exercise this is" in result.problem


@settings(max_examples=25)
@given(notebooks)
def test_these_notebooks_are_valid(made):
    plain = lambda c: not any("\ud800" in t for t in c["source"])  # nbformat cannot write them
    made["cells"] = [c | {"metadata": {}} for c in made["cells"] if plain(c)]
    nbformat.validate(made | {"metadata": {}})


@pytest.fixture(scope="module")
def came():
    """The cells of code that come to the student's process, which is not started."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grader, "mark", lambda result, code, *rest: seen.append(code))
        yield seen


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda x: (
        st.lists(x, max_size=3)
        | st.dictionaries(
            st.sampled_from(["cells", "source", "cell_type", "metadata", "worksheets", "input"]), x
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(JUNK | st.binary(max_size=60))
def test_any_file_gives_a_result(came, made):
    content = made if isinstance(made, bytes) else json.dumps(made).encode()
    result = grader.grade_content(content, "x.ipynb", seed=1)
    assert result.problem and not result.failed


def test_a_fault_of_the_grader_costs_one_submission(monkeypatch):
    def broken(*args):
        raise OSError("no space left")

    monkeypatch.setattr(grader, "mark", broken)
    content = json.dumps(solution()).encode()
    result = grader.grade_content(content, "x.ipynb", seed=1)
    assert result.failed and result.problem == "the grader itself failed: OSError: no space left"


# ----------------------------------------------------------------------------- the build

IMPORTS = {
    "a line that begins with %": "x = (17\n     % 5)\nfrom nettrain import optimizers",
    "help": "from nettrain import optimizers\noptimizers.adam?",
    "a shell assignment": "files = !ls\nfrom nettrain import optimizers",
    "a continued magic": "%pip install -q \\\n  optuna\nfrom nettrain import optimizers",
    "a cell magic": "%%time\n\nfrom nettrain import optimizers",
    "cell magics in one another": "%%time\n%%capture out\nfrom nettrain.optimizers import *",
    "a line magic": "%time from nettrain import optimizers",
    "await": "await f()\nimport nettrain.optimizers as o",
    "brackets": "from nettrain import (\n    optimizers as o,\n)",
    "in a function": "def f():\n    %pwd\n    from nettrain import optimizers",
    "relative": "from . import optimizers",
}


@pytest.mark.parametrize("code", IMPORTS.values(), ids=IMPORTS)
def test_the_build_finds_what_a_cell_imports(code):
    assert dependencies.imported(code) == {"optimizers"}


def test_the_build_does_not_read_what_is_no_python():
    for code in (
        "%%bash\nfrom nettrain import optimizers",
        "%%script false --no-raise-error\nfrom nettrain import optimizers",
        "'''\nfrom nettrain import optimizers\n'''",
        "!python -c 'from nettrain import optimizers'",
    ):
        assert dependencies.imported(code) == set()


def test_the_build_tells_which_cell_it_cannot_read(monkeypatch, tmp_path):
    cells = ["%%bash\necho 'it'", "x = 1\nx = = 2"]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    with pytest.raises(ValueError, match=r"code cell 2, line 2: invalid syntax: x = = 2"):
        build.key(made)
    (tmp_path / "nettrain").mkdir()
    (tmp_path / "nettrain" / "one.py").write_text("x = (")
    nbformat.write(made, tmp_path / "two.ipynb")
    for module in (build, dependencies):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"nettrain/one\.py, line 1: '\(' was never closed"):
        dependencies.closure({"one"})
    monkeypatch.setattr(build, "BUILD", tmp_path)
    monkeypatch.setattr(build, "chapters", lambda: ["two"])
    with pytest.raises(SystemExit, match="two: code cell 2, line 2"):
        build.execute()


@pytest.mark.parametrize("source", [textwrap.dedent(s) for s in HARMLESS])
def test_the_build_reads_all_that_the_grader_runs(source):
    dependencies.imported(source)
