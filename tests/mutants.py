"""Small mutations of code, one at a time: an operator, constant, comparison or sign changed.

    python -m tests.mutants nettrain/sweep.py                  40 random ones; which tests notice?
    python -m tests.mutants nettrain/sweep.py --from tune --count 20 --tests tests/test_sweep.py

Every mutant is tried in a copy of the checkout, so the files here stay as they are. A run that
takes longer than --seconds counts as noticed: the mutant never ends.
"""

import argparse
import ast
import copy
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APART = (".*", "_build", "__pycache__", "*.egg-info")  # of the checkout, not copied
SLOW = ("book", "browser", "colab", "pages", "grader", "exercises")  # they test no algorithm
TRUTH = "only its truth is asked, and -True is true"
# {module: {the changed line, or the mutant without its line, or this and a part of its line:
# why no user can see a change}}
EQUIVALENT = {
    "budgets": {
        ("-1 for 0 in `0`", "return runs[0][:0]"): "each run has length one: [:-1] and [:0] of it "
        "are both empty",
    },
    "protocol": {
        ("right only in `a + b`", "if a > 0 else"): "where it is used, a is 0",
        "GtE in `lowest > ALIVE * trivial`": "a measured loss that is exactly twice another",
    },
    "pooling": {
        ("-1 for 0 in `0`", "return differ[0]"): "where it is used, the list has one element",
    },
    "searchers": {
        ("-1 for 0 in `0`", "engine.draw(1, "): "the only row drawn is the last one too",
        "minus in `return same and all((t.config is c for t, c in zip(trials, self.configs)))`": (
            TRUTH
        ),
    },
    "study": {
        "LtE in `done < trials`": "when all trials are done none begins, and `break` ends the loop",
        ("59 for 60 in `60`", "timeout=60"): "any time to wait for a dying executor is a guess",
        ("61 for 60 in `60`", "no room for"): "where a message cuts a long line",
    },
    "recording": {
        "return done[-1](*args)": "the last of one element is the first",
        "return -(str(self.graph) == str(other.graph) and mine.keys() == theirs.keys() and "
        "all((_identical(x, theirs[name]) for name, x in mine.items())))": TRUTH,
        "return -(same and torch.allclose(x, y, rtol=0, atol=0, equal_nan=True))": TRUTH,
    },
    "sweep": {
        "first = parts[-1]": "`advance` joins pieces of one selection: equal t, equal names",
        "row = runs.theta[-1].numel() * runs.theta.element_size()": "rows are equally long",
        "step, changed = (vmap(self._step, in_dims=(0, 0, 0, -1, 0, 0, None)), set())": "a "
        "hyperparameter is [R]: its last dimension is its first",
        "return -(isinstance(value, plain) or (isinstance(value, list | tuple | set) and "
        "all(map(is_plain, value))))": TRUTH,
        "return -all(map(is_plain, value.values()))": TRUTH,
    },
    "training": {
        "out = net.eval()(data.train.x[:2])": "only the number of outputs is read",
    },
}

OPERATORS = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
}
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.LtE: (ast.Lt,),
    ast.GtE: (ast.Gt,),
}


def variants(node):
    """Copies of one node with one thing changed, each with a word on what was changed."""
    if isinstance(node, ast.BinOp):
        for operator in OPERATORS.get(type(node.op), ()):
            yield operator.__name__, ast.BinOp(node.left, operator(), node.right)
        yield "left only", node.left
        yield "right only", node.right
    elif isinstance(node, ast.Compare):
        for operator in COMPARISONS.get(type(node.ops[0]), ()):
            yield operator.__name__, ast.Compare(node.left, [operator()], node.comparators)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "no minus", node.operand
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for value in (node.value + 1, node.value - 1):
            yield f"{value} for {node.value}", ast.Constant(value)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "minus", ast.Return(ast.UnaryOp(ast.USub(), node.value))
    elif isinstance(node, ast.AugAssign):
        for operator in OPERATORS.get(type(node.op), ()):
            yield operator.__name__, ast.AugAssign(node.target, operator(), node.value)


def mutants(source):
    """(what was changed, source) for every single change of a module's or a cell's code."""
    tree = ast.parse(source)
    words = {id(part) for word in annotations(tree) for part in ast.walk(word)}
    for number, node in enumerate(ast.walk(tree)):
        for word, _ in variants(node) if id(node) not in words else ():
            other = copy.deepcopy(tree)
            target = list(ast.walk(other))[number]
            new = dict(variants(target))[word]
            replace(other, target, new)
            ast.fix_missing_locations(other)
            line = ast.unparse(node).split("\n")[0]
            yield f"line {node.lineno}: {word} in `{line}`", ast.unparse(other)


def changed_line(source: str, mutant: str) -> str:
    """The line of a mutant that differs; it tells the place without the line's number."""
    lines = ast.unparse(ast.parse(source)).split("\n"), mutant.split("\n")
    return next(new.strip() for old, new in zip(*lines, strict=False) if old != new)


def annotations(tree):
    """The parts of a tree that are read by people only."""
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                yield getattr(node, name)


def replace(tree, old, new):
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list) and any(v is old for v in value):
                setattr(parent, name, [new if v is old else v for v in value])


def is_equivalent(word: str, source: str, mutant: str, module: str) -> bool:
    """Whether a mutant stands in the table EQUIVALENT."""
    if changed_line(source, mutant) in EQUIVALENT.get(module, {}):
        return True
    place, change = word.split(": ", 1)
    line = source.splitlines()[int(place.split()[1]) - 1]
    keys = [k if isinstance(k, tuple) else (k, "") for k in EQUIVALENT.get(module, {})]
    return any(change == named and part in line for named, part in keys)


def tests_of(path: Path) -> list[str]:
    """The test files that name a module: its own first."""
    name = path.stem
    files = sorted((ROOT / "tests").glob("test_*.py"))
    files = [f for f in files if f.stem.removeprefix("test_") not in SLOW]
    using = [f for f in files if re.search(rf"nettrain.*\b{name}\b", f.read_text("utf-8"))]
    using.sort(key=lambda f: (f.stem != f"test_{name}", f.stat().st_size))
    return [str(f.relative_to(ROOT)) for f in using]


def notices(folder: Path, tests: list[str], seconds: float) -> bool:
    """Whether a test fails in a copy of the checkout."""
    quiet = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not compiler"]
    command = [sys.executable, "-m", "pytest", *quiet, *tests]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=folder, env=env, timeout=seconds, capture_output=True)
    except subprocess.TimeoutExpired:
        return True
    if done.returncode not in (0, 1, 2):  # 2: the module cannot even be imported
        raise RuntimeError(done.stdout.decode()[-2000:] + done.stderr.decode()[-2000:])
    return done.returncode != 0


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("module", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--from", dest="names", nargs="*", help="only in these functions")
    parser.add_argument("--tests", nargs="*", help="default: all that name the module")
    options = parser.parse_args(argv)
    path = options.module.resolve().relative_to(ROOT)
    source = (ROOT / path).read_text("utf-8")
    lines = wanted_lines(source, options.names)
    every = [m for m in mutants(source) if int(m[0].split(":")[0].split()[1]) in lines]
    chosen = random.Random(options.seed).sample(every, min(options.count, len(every)))
    tests, alive, excused = options.tests or tests_of(path), [], 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*APART), dirs_exist_ok=True)
        if notices(folder, tests, options.seconds):
            raise SystemExit(f"the tests fail without a mutation: {' '.join(tests)}")
        for number, (word, mutant) in enumerate(chosen, 1):
            if is_equivalent(word, source, mutant, path.stem):
                excused += 1
                continue
            (folder / path).write_text(mutant, "utf-8")
            killed = notices(folder, tests, options.seconds)
            alive += [] if killed else [word]
            print(f"{number:3} {'killed' if killed else 'ALIVE '} {word}", flush=True)
    tried = len(chosen) - excused
    print(
        f"{path}: {tried - len(alive)} of {tried} killed, {excused} equivalent; {len(every)} in all"
    )
    return bool(alive)


def wanted_lines(source: str, names: list[str] | None) -> set[int]:
    """The lines of the named functions and classes; all lines without names."""
    if not names:
        return set(range(1, source.count("\n") + 2))
    found = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names
    ]
    if missing := set(names) - {node.name for node in found}:
        raise SystemExit(f"no function or class {', '.join(sorted(missing))} in this module")
    return {k for node in found for k in range(node.lineno, node.end_lineno + 1)}


if __name__ == "__main__":
    sys.exit(main())
