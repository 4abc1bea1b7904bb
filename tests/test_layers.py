"""The arrows of the package: who may import what, read from the source."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

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
SEARCH = {"searchers", "trials", "budgets", "importance", "bayesian", "nas", "spaces", "data"}


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


def words(name):
    """Every name and attribute that a file uses or imports."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name.split(".")[-1]


def users(*wanted):
    return {name for name in FILES if not set(wanted).isdisjoint(words(name))}


@pytest.mark.parametrize("name", sorted(FILES.keys() - LAB))
def test_an_algorithm_does_not_know_the_lab(name):
    assert not inside(name) & LAB
    if name not in SEARCH:
        assert outside(name) <= {"torch"}


@pytest.mark.parametrize("name", ["optimizers", "schedules", "precision", "draws"])
def test_the_lowest_files_import_nothing_of_the_package(name):
    assert inside(name) == set()


def test_a_model_knows_layers_and_data_know_nothing():
    assert inside("models") <= {"dropout", "normalization", "initializers", "blocks", "draws"}
    assert inside("data") == inside("lab.evidence") == inside("lab.figures") == set()
    assert inside("lab.adapter") == {"optimizers", "lab.recording"}


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
    assert "default_generator" not in words(name) or name == "lab.training"


def test_every_file_is_in_the_map_of_the_package():
    rows = nettrain.__doc__.split("\n")
    columns = {row[k:].split()[0] for row in rows for k in (0, 49) if row[k:].split()}
    assert {name.removeprefix("lab.") for name in FILES} <= columns
