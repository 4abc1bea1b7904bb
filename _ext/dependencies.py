"""What a chapter depends on: the modules of nettrain that it imports, through others too."""

import ast
import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# what puts records into words: the build does it again for every page, without running a lecture
WORDS = {"lab.cards", "lab.replications", "lab.pooling"}
RUN_PYTHON = ("time", "timeit", "capture", "prun")  # magics


def syntax(source: str) -> list[ast.AST]:
    """All nodes of a cell's Python, that in magics which run Python too.

    Raises SyntaxError for what Jupyter would not run.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager  # not on a GPU's machine

        tree = ast.parse(TransformerManager().transform_cell(source))
    nodes = list(ast.walk(tree))
    for node in list(nodes):
        match node:
            case ast.Call(ast.Attribute(attr="run_cell_magic"), [name, _, body]):
                pass
            case ast.Call(ast.Attribute(attr="run_line_magic"), [name, body]):
                pass
            case _:
                continue
        if all(isinstance(x, ast.Constant) for x in (name, body)) and name.value in RUN_PYTHON:
            nodes += syntax(body.value)
    return nodes


def imported(source: str) -> set[str]:
    """The modules of nettrain that a module or a cell imports; raises SyntaxError."""
    found = set()
    for node in syntax(source):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # a relative import can only be one of the package
            base = ".".join(filter(None, ["nettrain" if node.level else "", node.module]))
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    parts = [name.split(".")[1:] for name in found if name.startswith("nettrain.")]
    names = {".".join(part[:k]) for part in parts for k in (1, 2)}
    return {name for name in names if file_of(name).exists()}


def file_of(module: str) -> Path:
    """Where a module of nettrain stands: "lab.sweep" in nettrain/lab/sweep.py."""
    return ROOT / "nettrain" / f"{module.replace('.', '/')}.py"


def closure(names: set[str], apart: set[str] = frozenset()) -> set[str]:
    """These modules and all that they import, through any number of steps.

    apart  modules that are only counted, with what they import, where `names` has them

    Raises ValueError for a module that is not Python.
    """
    seen, todo = set(), set(names)
    while todo:
        name = todo.pop()
        seen.add(name)
        try:
            todo |= imported(file_of(name).read_text()) - seen - apart
        except SyntaxError as error:
            where = f"{file_of(name).relative_to(ROOT)}, line {error.lineno}"
            raise ValueError(f"{where}: {error.msg}") from None
    return seen


def digest(paths) -> str:
    h = hashlib.sha256()
    for path in sorted(paths):
        h.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return h.hexdigest()
