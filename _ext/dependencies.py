"""What a chapter depends on: what it uses of nettrain, through any number of steps."""

import ast
import copy
import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
# what puts records into words: the build does it again for every page, without running a lecture
WORDS = {"lab.cards", "lab.forest", "lab.replications", "lab.pooling"}
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


# ------------------------------------------------------------------- what of a module is used

Name = tuple[str, str]  # module, name of one of its definitions


@dataclass(frozen=True)
class Module:
    """A file's top level: definitions by name, what its imports bind, and all other statements.

    imports  name -> (module of nettrain, name in it, or None where the name is the module itself)
    """

    definitions: dict[str, list[ast.AST]]
    imports: dict[str, tuple[str, str | None]]
    others: list[ast.AST]


def bindings(node: ast.AST) -> dict[str, tuple[str, str | None]]:
    """What an import statement binds to modules of nettrain and to names in them."""
    found = {}
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.startswith("nettrain."):
                module = alias.name.removeprefix("nettrain.")
                # `import nettrain.x` binds `nettrain`: any of its names may be used
                found[alias.asname or alias.name] = (module, None)
    elif isinstance(node, ast.ImportFrom):
        base = ".".join(filter(None, ["nettrain" if node.level else "", node.module]))
        if base == "nettrain" or base.startswith("nettrain."):
            inside = base.removeprefix("nettrain").removeprefix(".")
            for alias in node.names:
                module = f"{inside}.{alias.name}".removeprefix(".")
                there = file_of(module).exists()
                found[alias.asname or alias.name] = (
                    (module, None) if there else (inside, alias.name)
                )
    return found


def module(source: str) -> Module:
    """The top level of Python source."""
    definitions, imports, others = defaultdict(list), {}, []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= bindings(node)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            definitions[node.name].append(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name | ast.expr)]
            if all(isinstance(n, ast.Name | ast.Tuple | ast.List | ast.Starred) for n in names):
                for n in names:
                    if isinstance(n, ast.Name):
                        definitions[n.id].append(node)
            else:  # X[k] = ... changes what stands elsewhere
                others.append(node)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            others.append(node)  # all that is no docstring
    return Module(definitions, imports, others)


def used(node: ast.AST, imports: dict[str, tuple[str, str | None]]) -> tuple[set[str], set[Name]]:
    """(names that a statement mentions, names of other modules; `*` stands for all of one)."""
    nodes = list(ast.walk(node))
    imports = imports | {k: v for n in nodes for k, v in bindings(n).items()}
    plain, others, attributes = set(), set(), set()
    for n in nodes:
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name):
            if imports.get(n.value.id, ("", ""))[1] is None:  # module.name
                others.add((imports[n.value.id][0], n.attr))
                attributes.add(n.value)
    for n in nodes:
        if isinstance(n, ast.Name) and n not in attributes:
            plain.add(n.id)
            if n.id in imports:
                inside, name = imports[n.id]
                others.add((inside, name or "*"))
        elif isinstance(n, ast.Import):
            others |= {(inside, "*") for inside, _ in bindings(n).values()}
        elif isinstance(n, ast.ImportFrom):
            others |= {(inside, name) for inside, name in bindings(n).values() if name}
    return plain, others


def reached(sources: list[str], apart: set[str] = frozenset()) -> dict[Name, list[ast.AST]]:
    """What these sources use of nettrain: {(module, name): its statements}, through any number of
    steps.

    A name is used where a used statement mentions it. A module that is used as a value, as in
    `getattr(stopping, rule)` or `globals()`, is used whole; statements that define nothing count as
    soon as their module is imported, under the name "".

    apart  as in `closure`
    """
    found: dict[Name, list[ast.AST]] = {}
    names = closure(set().union(*map(imported, sources)), apart)
    modules = {name: module(file_of(name).read_text()) for name in names}
    todo: list[tuple[str, ast.AST]] = []
    for name, m in modules.items():
        found[name, ""] = m.others
        todo += [(name, node) for node in m.others]
    own = [ast.Module([n for n in syntax(s) if isinstance(n, ast.stmt)], []) for s in sources]
    imports = {k: v for tree in own for n in ast.walk(tree) for k, v in bindings(n).items()}
    todo += [("", tree) for tree in own]
    while todo:
        inside, node = todo.pop()
        here = modules.get(inside, Module({}, imports, []))
        plain, others = used(node, here.imports)
        wanted = {(inside, n) for n in plain & here.definitions.keys()} | others
        if "globals" in plain:
            wanted.add((inside, "*"))
        while wanted:
            where, name = wanted.pop()
            if where not in modules or (where, name) in found:
                continue
            there = modules[where]
            if name in there.definitions:
                found[where, name] = there.definitions[name]
                todo += [(where, n) for n in there.definitions[name]]
            elif name in there.imports:  # handed on
                wanted.add((there.imports[name][0], there.imports[name][1] or "*"))
            else:  # all of it, or a name that only running tells
                found[where, name] = []
                wanted |= {(where, n) for n in there.definitions}
    return found


def without_words(tree: ast.AST, beside: tuple[str, ...] = ()) -> str:
    """A syntax tree without docstrings, positions and what claims say besides their statement."""
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Claim":
            node.keywords = [k for k in node.keywords if k.arg not in beside]
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body[0].value.value = ""
    return ast.dump(tree)


class _Silent(ast.NodeTransformer):
    """Texts become empty ones."""

    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node):
        return ast.Constant("")


def without_messages(tree: ast.AST, beside: tuple[str, ...] = ()) -> str:
    """The same, also without what errors say: no number depends on it."""
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            _Silent().generic_visit(node)
    return without_words(tree, beside)


def slice_of(
    sources: list[str],
    apart: set[str],
    without: set[str] = frozenset(),
    text: Callable[[ast.AST], str] = without_words,
) -> str:
    """A hash of what these sources use of nettrain, without words, and of the data they read.

    apart    as in `closure`
    without  modules that do not count
    text     what counts of a definition
    """
    h = hashlib.sha256()
    for (inside, name), nodes in sorted(reached(sources, apart | without).items()):
        if inside in without:
            continue
        found = "\0".join([inside, name, *map(text, nodes)])
        h.update(found.encode() + b"\0")
        shipped = [p for kind in ("*.npz", "*.txt.gz") for p in (ROOT / "nettrain").glob(kind)]
        for path in sorted(shipped):
            if path.name in found:
                h.update(path.read_bytes())
    return h.hexdigest()


def digest(paths) -> str:
    h = hashlib.sha256()
    for path in sorted(paths):
        h.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return h.hexdigest()
