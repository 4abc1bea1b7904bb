"""Which tests use a function of the package, read from the source of the tests.

A test uses what its body names, and what the fixtures, helpers and tables name that it mentions.
What no test names is tested through the functions of its module that are built on it.
"""

import ast
from collections import defaultdict
from functools import cache

from _ext import build, dependencies

Tests = dict[str, set[str]]  # file -> its tests


def imports(tree: ast.Module) -> dict[str, str]:
    """What a file calls the package's things: {"o": "optimizers", "adam": "optimizers.adam"}."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nettrain":
            inside = node.module.removeprefix("nettrain").removeprefix(".")
            for alias in node.names:
                found[alias.asname or alias.name] = f"{inside}.{alias.name}".removeprefix(".")
    return found


def words(node: ast.AST) -> set[str]:
    """Every name in a piece of code, an argument's too (a fixture is one), and `module.name`."""
    found = set()
    for n in ast.walk(node):
        if isinstance(n, ast.Name):
            found.add(n.id)
        elif isinstance(n, ast.arg):
            found.add(n.arg)
        elif isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name):
            found.add(f"{n.value.id}.{n.attr}")
    return found


def definitions(tree: ast.Module) -> dict[str, set[str]]:
    """The words of each function, class and assignment at the top of a file."""
    found = defaultdict(set)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] |= words(node)
        elif isinstance(node, ast.Assign):
            for name in set().union(*(words(target) for target in node.targets)):
                found[name] |= words(node.value)
    return dict(found)


def reached(name: str, defined: dict[str, set[str]]) -> set[str]:
    """All words of a definition, and of the definitions that these name, and so on."""
    seen, todo = set(), {name}
    while todo:
        seen |= todo
        todo = set().union(*(defined.get(word, set()) for word in todo)) - seen
    return seen


@cache
def uses() -> dict[str, Tests]:
    """{"optimizers.adam": {"test_optimizers": {"test_adam_is_torchs", ...}}}, for all the tests."""
    found = defaultdict(lambda: defaultdict(set))
    for path in sorted((build.ROOT / "tests").glob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        ours, defined = imports(tree), definitions(tree)
        for test in (name for name in defined if name.startswith("test_")):
            for word in reached(test, defined):
                first, *rest = word.split(".")
                if first in ours:
                    found[".".join([ours[first], *rest])][path.stem].add(test)
    return {thing: dict(tests) for thing, tests in found.items()}


def tests(module: str, name: str) -> Tests:
    """The tests of a function or class (for a method, of its class), by file."""
    name = name.split(".")[0]
    if found := uses().get(f"{module}.{name}"):
        return found
    defined = definitions(ast.parse(dependencies.file_of(module).read_text("utf-8")))
    found = defaultdict(set)
    for user in (user for user in defined if name in reached(user, defined)):
        for file, some in uses().get(f"{module}.{user}", {}).items():
            found[file] |= some
    if not found:
        raise ValueError(f"no test uses {module}.{name}, nor anything in {module}.py built on it")
    return dict(found)


def breadth(file: str, module: str) -> int:
    """How many things of a module a file of tests uses."""
    return sum(file in found for thing, found in uses().items() if thing.startswith(f"{module}."))


def chief(module: str, name: str) -> str:
    """The one of these files that uses most of the module; the others need it in passing."""
    return max(tests(module, name), key=lambda file: breadth(file, module))
