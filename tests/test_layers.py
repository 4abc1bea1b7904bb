"""The arrows of the package: who may import what, read from the source."""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

import nettrain

PACKAGE = Path(nettrain.__file__).parent
FILES = {
    ".".join(p.relative_to(PACKAGE).with_suffix("").parts): p
    for folder in (PACKAGE, PACKAGE / "lab")
    for p in folder.glob("*.py")
    if p.stem != "__init__"
}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
LAB = {name for name in FILES if name.startswith("lab.")}
# searches also use numpy, scipy and pandas, data sets scikit-learn
SEARCH = {
    "searchers",
    "trials",
    "budgets",
    "importance",
    "bayesian",
    "nas",
    "spaces",
    "data",
    "replays",
}


def imports(name):
    """Every module that a file imports, anywhere in it, as dotted names."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: write the whole name of the package"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(name):
    """The files of the package that a file imports."""
    parts = [x.split(".")[1:] for x in imports(name) if x.split(".")[0] == "nettrain"]
    return {next(m for k in (2, 1) if (m := ".".join(part[:k])) in FILES) for part in parts}


def outside(name):
    return {x.split(".")[0] for x in imports(name)} - {"nettrain"} - sys.stdlib_module_names


def words(tree):
    """Every name and attribute that a tree uses or imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name.split(".")[-1]


def users(*wanted):
    return {name for name in FILES if not set(wanted).isdisjoint(words(TREES[name]))}


@pytest.mark.parametrize("name", sorted(FILES.keys() - LAB))
def test_an_algorithm_does_not_know_the_lab(name):
    assert not inside(name) & LAB
    if name not in SEARCH:
        assert outside(name) <= {"torch"}


@pytest.mark.parametrize("name", ["optimizers", "schedules", "precision", "draws", "checks"])
def test_the_lowest_files_import_nothing_of_the_package(name):
    assert inside(name) == set()


def test_a_model_knows_layers_and_data_know_nothing():
    layers = {"dropout", "normalization", "initializers", "blocks", "draws"}
    assert inside("models") <= layers | {"checks"}
    assert inside("data") == inside("lab.pooling") == inside("lab.figures") == set()
    assert inside("lab.evidence") == {"data", "lab.cards", "lab.pooling"}
    assert inside("lab.cards") == {"lab.forest", "lab.replications"}
    assert inside("lab.forest") == set()
    assert inside("lab.replications") == {"lab.pooling"}
    rules = {"averaging", "groups", "optimizers"}
    assert inside("lab.applying") == rules
    assert inside("lab.adapter") == rules | {"lab.applying", "lab.recording"}


def test_no_imports_in_a_circle():
    order = list(TopologicalSorter({name: inside(name) for name in FILES}).static_order())
    assert set(order) == FILES.keys()  # static_order raises CycleError otherwise


def test_only_the_sweep_knows_rows():
    assert users("vmap", "functional_call", "Runs") == {"lab.sweep"}


def test_only_the_figures_know_matplotlib():
    drawing = {name for name in FILES if outside(name) & {"matplotlib", "seaborn"}}
    assert drawing == {"lab.figures", "lab.moving"}


GLOBAL_SEEDS = {"torch.manual_seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all"}
GLOBAL_SEEDS |= {"np.random.seed", "numpy.random.seed", "random.seed"}


@pytest.mark.parametrize("name", sorted(FILES))
def test_randomness_is_an_argument(name):
    used = {ast.unparse(n) for n in ast.walk(TREES[name]) if isinstance(n, ast.Attribute)}
    assert not used & GLOBAL_SEEDS
    # training.build borrows the global generator and gives it back as it was
    assert "default_generator" not in words(TREES[name]) or name == "lab.training"


def shown():
    """The words that chapters, exercises, benchmarks and the build use, print or name in a text."""
    root, found = PACKAGE.parent, set()
    for path in [*root.glob("chapters/*.ipynb"), *root.glob("exercises/*/*.ipynb")]:
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code":
                source = TransformerManager().transform_cell(cell.source)
                tree = ast.parse(source)
                found |= set(words(tree))  # and names for getattr
                found |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
            else:
                named = re.findall(r"`([^`\n]+)`|:pyobject: (\S+)", cell.source)
                found |= set(re.findall(r"\w+", " ".join(map(" ".join, named))))
    for folder in ("exercises", "benchmarks", "_ext"):
        for path in (root / folder).rglob("*.py"):
            found |= set(words(ast.parse(path.read_text("utf-8"))))
    return found


def test_every_public_name_is_shown_or_used_by_what_is_shown():
    definitions = [(name, node) for name, tree in TREES.items() for node in tree.body]
    bodies = {}  # {(module, name): the words of its definition}
    for module, node in definitions:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bodies[module, node.name] = set(words(node))
        elif isinstance(node, ast.Assign):
            for target in (t for t in node.targets if isinstance(t, ast.Name)):
                bodies[module, target.id] = set(words(node.value))
    reached, more = set(), shown()
    while more:
        new = {key for key in bodies.keys() - reached if key[1] in more}
        reached |= new
        more = set().union(*(bodies[key] for key in new))
    unused = {".".join(key) for key in bodies.keys() - reached}
    assert not unused, f"only tests use {', '.join(sorted(unused))}"
    assert len(bodies) > 300


def test_every_file_is_in_the_map_of_the_package():
    rows = nettrain.__doc__.split("\n")
    columns = {row[k:].split()[0] for row in rows for k in (0, 49) if row[k:].split()}
    assert {name.removeprefix("lab.") for name in FILES} <= columns
