"""What a chapter uses of the package: small packages by hand, and what a lecture really calls."""

import importlib
import json
import sys
import textwrap
from pathlib import Path

import pytest

from _ext import dependencies
from _ext.dependencies import reached, slice_of

FILES = {
    "__init__": "",
    "a": """
        '''Words.'''
        from nettrain import b
        from nettrain.b import helper as other
        from nettrain.lab.c import Thing

        LIMIT = 3
        ONE, (TWO, *REST) = 1, (2, 3, 4)
        TABLE = {"plain": lambda x: plain(x)}

        def plain(x):
            '''Docstring.'''
            return x + LIMIT

        def through():
            return b.first() + other()

        def late():
            from nettrain.b import second
            return second()

        class Child(Thing):
            def method(self):
                return ONE

        def whole():
            return getattr(b, "sec" + "ond")

        def own():
            return globals()["plain"]

        def unused():
            return TWO
        """,
    "b": """
        STATE = []
        if True:
            STATE.append(1)

        def helper():
            return STATE

        def first():
            return 1

        def second():
            return 2
        """,
    "lab.c": """
        from nettrain.b import first as handed_on

        class Base:
            pass

        class Thing(Base):
            pass

        PAIRS = {}
        PAIRS["one"] = Base
        """,
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three modules; a function that writes one with something replaced."""
    monkeypatch.setattr(dependencies, "ROOT", tmp_path)

    def write(name, old="", new=""):
        path = tmp_path / "nettrain" / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = textwrap.dedent(FILES[name])
        assert old in text
        path.write_text(text.replace(old, new))

    for name in FILES:
        write(name)
    return write


@pytest.mark.parametrize(
    "cell, names",
    [
        ("from nettrain.a import LIMIT", {"a.LIMIT"}),  # imported: it will be used
        ("from nettrain import a\na.plain(1)", {"a.plain", "a.LIMIT"}),
        ("from nettrain import a as x\nx.TABLE", {"a.TABLE", "a.plain", "a.LIMIT"}),
        ("from nettrain.a import through", {"a.through", "b.first", "b.helper", "b.STATE"}),
        ("from nettrain.a import late", {"a.late", "b.second"}),
        ("from nettrain.a import Child", {"a.Child", "a.ONE", "a.TWO", "a.REST", "lab.c.Thing"}),
        ("from nettrain.lab import c\nc.PAIRS", {"lab.c.PAIRS"}),
        ("from nettrain.lab.c import handed_on", {"b.first"}),
        ("import nettrain.b\nnettrain.b.first()", {"b.first", "b.second", "b.helper"}),
        ("from nettrain.a import whole", {"a.whole", "b.first", "b.second", "b.helper"}),
        ("from nettrain.a import own", {"a.own", "a.plain", "a.unused", "a.TWO", "a.REST"}),
        ("from nettrain import b\nf = b", {"b.first", "b.second", "b.helper", "b.STATE"}),
        ("%time from nettrain.b import first", {"b.first"}),
        ("from nettrain.a import nothing_like_it", {"a.plain", "a.unused", "a.whole"}),
    ],
)
def test_what_a_cell_uses(package, cell, names):
    found = {".".join(name) for name, nodes in reached([cell]).items() if name[1] and nodes}
    assert names <= found
    if not cell.startswith(("import", "from nettrain.a import own", "from nettrain.a import noth")):
        extra = {"lab.c.Base", "b.STATE", "lab.c.PAIRS"}  # by statements that define nothing
        assert found <= names | extra


@pytest.mark.parametrize(
    "cell, name, old, new, changes",
    [
        ("from nettrain.a import plain", "a", "x + LIMIT", "x - LIMIT", True),
        ("from nettrain.a import plain", "a", "LIMIT = 3", "LIMIT = 4", True),
        ("from nettrain.a import plain", "a", "return TWO", "return ONE", False),
        ("from nettrain.a import plain", "a", "Docstring", "Other words", False),
        ("from nettrain.a import plain", "a", "'''Words.'''", "'''Others.'''  # remark", False),
        ("from nettrain.a import plain", "b", "STATE.append(1)", "STATE.append(2)", True),
        ("from nettrain.a import plain", "lab.c", 'PAIRS["one"] = Base', "PAIRS.clear()", True),
        ("from nettrain.a import plain", "b", "return 2", "return 3", False),
        ("from nettrain.a import late", "b", "return 2", "return 3", True),
        ("from nettrain.a import whole", "b", "return 2", "return 3", True),
        (
            "from nettrain.a import Child",
            "lab.c",
            "class Base:\n    pass",
            "class Base:\n    k = 1",
            True,
        ),
    ],
)
def test_a_slice_changes_with_what_is_used_only(package, cell, name, old, new, changes):
    before = slice_of([cell], set())
    assert slice_of([cell], set()) == before
    package(name, old, new)
    assert (slice_of([cell], set()) != before) == changes


def test_a_new_definition_that_nobody_uses_changes_nothing(package, tmp_path):
    before = slice_of(["from nettrain.a import plain"], set())
    with (tmp_path / "nettrain" / "a.py").open("a") as file:
        file.write("\ndef new():\n    return plain(0)\n")
    assert slice_of(["from nettrain.a import plain"], set()) == before


def test_modules_apart_count_where_a_cell_names_them(package):
    cell = "from nettrain.a import through"
    assert ("b", "first") in reached([cell]) and ("b", "first") not in reached([cell], {"b"})
    assert ("b", "first") in reached([cell + "\nfrom nettrain.b import first"], {"b"})
    before = slice_of([cell], {"b"})
    package("b", "return 1", "return 9")
    assert slice_of([cell], {"b"}) == before == slice_of([cell], set(), without={"b"})


@pytest.mark.parametrize("name", ["b.npz", "b.txt.gz"])
def test_data_that_is_read_counts(package, tmp_path, name):
    file = tmp_path / "nettrain" / name
    file.write_bytes(b"one")
    package("b", "return 1", f"return {name!r}")
    cells = ["from nettrain.b import first"], ["from nettrain.b import second"]
    before = [slice_of(c, set()) for c in cells]
    file.write_bytes(b"two")
    assert [slice_of(c, set()) == h for c, h in zip(cells, before, strict=True)] == [False, True]


def test_all_that_a_lecture_calls_is_reached(monkeypatch, tmp_path):
    """The first cells of a lecture with sweeps, contests and claims, watched."""
    from benchmarks import cells

    root = Path(__file__).parents[1]
    book = json.loads((root / "chapters" / "losses.ipynb").read_text())
    sources = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    sources = [cells.MAGIC.sub(r"\1pass", s) for s in sources[:3]]
    work = textwrap.dedent("""
        from nettrain import data, models
        from nettrain.lab import evidence, protocol
        from nettrain.optimizers import adam, sgd
        how = dict(steps=60, every=60, grid={"lr": [0.01, 0.1]})
        seeds = dict(tuning_seeds=evidence.tuning_seeds(2), seeds=evidence.seeds(2))
        methods = {"a": dict(rule=adam), "b": dict(rule=sgd)}
        some = data.mnist(side=7)
        runs, _ = protocol.contest(methods, lambda: models.mlp([49, 10]), some, **seeds, **how)
        wide = evidence.paired(runs, "test_loss")
        evidence.Claim("T", "s", "m").judge((wide["a"], wide["b"]), "s")
        """)
    sources.append(work)
    found = reached(sources)
    called = set()

    def note(frame, event, _):
        path, name = frame.f_code.co_filename, frame.f_code.co_qualname.split(".")[0]
        if event == "call" and path.startswith(str(root / "nettrain")):
            called.add((path, name))

    for inside, _ in found:  # so that bodies of classes and modules are not watched
        importlib.import_module(f"nettrain.{inside}")
    space = {}
    sys.setprofile(note)
    try:
        for source in sources:
            exec(compile(source, "cell", "exec"), space)
    finally:
        sys.setprofile(None)
    functions = {
        (".".join(Path(path).relative_to(root / "nettrain").with_suffix("").parts), name)
        for path, name in called
        if not name.startswith("<")
    }
    assert len(functions) > 40 and functions <= found.keys()
