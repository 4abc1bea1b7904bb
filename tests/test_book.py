"""The book as a book: chapters, contents, figures, evidence, and what makes a page stale."""

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from jupyter_cache import get_cache

import nettrain
from _ext import build, dependencies, replicate, verdicts
from nettrain.lab import replications

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
OURS = "torch numpy scipy pandas matplotlib seaborn sklearn sympy tqdm numba ipywidgets IPython"
COLAB = {"nettrain", *OURS.split(), *sys.stdlib_module_names}  # what Colab has, of what we use

each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)


def read(path):
    return nbformat.read(path, 4)


def code(path):
    return [c for c in read(path).cells if c.cell_type == "code"]


def executed(path):
    """The chapter with the outputs of the last build."""
    _, done = get_cache(build.BUILD / "jupyter-cache").merge_match_into_notebook(read(path))
    return [c for c in done.cells if c.cell_type == "code"]


# ----------------------------------------------------------------------------- the sources


def test_every_chapter_is_in_the_table_of_contents():
    assert {f"chapters/{p.stem}" for p in CHAPTERS} == set(build.chapters())


@each_chapter
def test_chapter_is_stored_without_outputs_and_with_cell_ids(path):
    notebook = json.loads(path.read_text())
    assert notebook["nbformat"] == 4 and notebook["nbformat_minor"] >= 5
    assert all(c["id"] for c in notebook["cells"])
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@each_chapter
def test_first_cell_installs_the_package_on_colab(path):
    url = CONFIG["repository"]["url"]
    assert code(path)[0].source.splitlines()[:4] == [
        "try:",
        "    import nettrain",
        "except ImportError:  # on Colab",
        f'    %pip install -q --no-deps "git+{url}"',
    ]


@each_chapter
def test_cells_are_short(path):
    for cell in code(path):
        lines = [line for line in cell.source.split("\n") if line.strip()]
        limit = 28 if "hide-input" in cell.metadata.get("tags", []) else 19
        assert len(lines) <= limit, cell.source


@each_chapter
def test_chapter_imports_only_what_colab_has_or_it_installs(path):
    source = "\n".join(c.source for c in code(path))
    installed = set(re.findall(r"(?m)%pip install -q (\w+)$", source))
    modules = {dependencies.file_of(m) for m in dependencies.closure(imports(path))}
    sources = [f.read_text() for f in modules] + [c.source for c in code(path)]
    for source in sources:
        for node in dependencies.syntax(source):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            assert {name.split(".")[0] for name in names} <= COLAB | installed


def imports(path):
    return build.imported_by(read(path))


def test_every_rule_schedule_and_clipping_is_shown_in_a_chapter():
    from nettrain import clipping, schedules
    from nettrain.optimizers import RULES

    text = "\n".join(p.read_text() for p in CHAPTERS)
    defined = [
        f.__name__
        for module in (schedules, clipping)
        for f in vars(module).values()
        if inspect.isfunction(f) and f.__module__ == module.__name__
    ]
    shown = {name for name in defined if f":pyobject: {name}\\n" in text}
    used = {name for name in defined if re.search(rf"(schedules|clipping)\.{name}\b", text)}
    assert all(f":pyobject: {rule.__name__}\\n" in text for rule in RULES)
    assert set(defined) == shown | used


@each_chapter
def test_prose_leaves_verdicts_to_the_cards(path):
    """They follow from bases that are not there yet; base 0 alone gives none."""
    if path.stem == "verdicts":  # explains the words
        return
    words = r"\b(undecided|supported|contradicted|refuted|no difference that matters)\b"
    for cell in read(path).cells:
        shown = json.dumps(cell.metadata) + cell.source * (cell.cell_type == "markdown")
        assert not re.findall(words, shown), cell.id


# ----------------------------------------------------------------------------- what was built


@each_chapter
def test_every_drawn_figure_has_a_caption_and_alt_text(path):
    for cell in executed(path):
        drawn = any("image/png" in o.get("data", {}) for o in cell.outputs)
        settings = cell.metadata.get("mystnb", {})
        if drawn:
            assert len(settings["image"]["alt"]) > 40 and settings["figure"]["caption"]


@each_chapter
def test_nothing_was_written_to_stderr(path):
    streams = [o for c in executed(path) for o in c.outputs if o.output_type == "stream"]
    assert [o.text for o in streams if o.name == "stderr"] == []


@each_chapter
def test_page_is_light(path):
    page = build.BUILD / "html" / "chapters" / f"{path.stem}.html"
    images = set(re.findall(r'src="\.\./(_images/[^"]+)"', page.read_text()))
    size = page.stat().st_size + sum((build.BUILD / "html" / i).stat().st_size for i in images)
    assert size < 3e6


def test_claims_are_stated_and_found_as_committed():
    """Effects up to the errors of their seeds: of two nearly equal rates rounding may choose."""
    committed, measured = map(build.read_json, (verdicts.COMMITTED, build.VERDICTS))
    assert measured and verdicts.differences(committed, measured) == []
    moved, number = verdicts.moved(committed, measured)
    assert len(moved) <= 0.05 * number, moved


def test_effects_lie_where_other_bases_predict_them():
    outside, chance = replicate.surprises(build.read_json(build.VERDICTS))
    assert chance > 0.01, "; ".join(outside)


# 32 pairs of these would take longer than the 90 seconds of a lecture; the protocol asks for 16
COSTLY = "activations bayesian choices depth dropout layer_norm search why_adam".split()
COSTLY = {f"chapters/{name}" for name in COSTLY}


def test_every_comparison_has_32_pairs_or_more():
    for claim, record in build.read_json(build.VERDICTS).items():
        least = 16 if record["chapter"] in COSTLY else 32
        for name, condition in record["conditions"].items():
            assert condition.get("n", 32) >= least, (claim, name)


STATED = dict.fromkeys(replications.SPEC, "as before")


@pytest.mark.parametrize("part", [*replications.SPEC, "verdict"])
def test_another_statement_is_noticed(part):
    old = {"X1a": STATED | {"conditions": {"": {"n": 32}}, "verdict": "as before"}}
    new = {"X1a": old["X1a"] | {part: "otherwise"}, "X1b": old["X1a"]}
    assert verdicts.differences(old, old) == []
    found = verdicts.differences(old, new)
    assert found == [
        f"X1a: {part} was 'as before', is 'otherwise'",
        "X1b is not in the committed evidence",
    ]
    assert verdicts.differences(new, old)[1] == "X1b is not in this build"


def test_effects_that_moved_by_more_than_their_error_are_named():
    old = {"X1a": {"conditions": {k: {"effect": 1.0, "error": 0.1} for k in "abc"}}}
    old["X1b"] = {"conditions": {"": {"error": 1e-9, "tolerance": 0.1}}}  # exact
    new = {"X1a": {"conditions": {"a": {"effect": 1.05}, "b": {"effect": 0.8}}}}
    new |= {"X1b": {"conditions": {"": {"error": 1.0}}}, "X1c": {"conditions": {}}}
    assert verdicts.moved(old, new) == (["X1a b: 1 ± 0.1 is now 0.8"], 2)
    assert verdicts.moved(old, old) == ([], 3)


@pytest.mark.parametrize(
    "lectures, taken",
    [
        ([], {"X1a": 1, "X1b": 1}),
        (["deep"], {"X1a": 1, "X1b": 0}),
        (["wide"], {"X1a": 0, "X1b": 1}),
    ],
)
def test_what_a_build_found_is_accepted_for_named_lectures(lectures, taken, tmp_path, monkeypatch):
    record = lambda name, found: {"chapter": f"chapters/{name}", "conditions": {}, "found": found}
    stated = [STATED | record("deep", 1), STATED | record("wide", 1)]
    before = [r | {"found": 0} for r in stated]
    monkeypatch.setattr(build, "VERDICTS", tmp_path / "measured.json")
    monkeypatch.setattr(verdicts, "COMMITTED", tmp_path / "committed.json")
    build.write_json(build.VERDICTS, dict(zip(("X1a", "X1b"), stated)))
    build.write_json(verdicts.COMMITTED, dict(zip(("X1a", "X1b", "X1c"), [*before, before[0]])))
    with pytest.raises(ValueError, match=r"^lecture 'narrow' is none of \['deep', 'wide'\]$"):
        verdicts.accept([*lectures, "narrow"])
    verdicts.accept(lectures)
    now = build.read_json(verdicts.COMMITTED)
    assert {claim: r["found"] for claim, r in now.items()} == taken  # X1c is gone


@pytest.mark.parametrize(
    "measured, found",
    [
        ({"deep": {"n": 32, "low": 0.2}, "wide": {"n": 64}, "exact": {"error": 1.0}}, []),
        (
            {"deep": {"n": 31}, "wide": {"n": 96}, "exact": {"error": 0.0}},
            ["deep': n was 32, is 31", "wide': n was 64, is 96"],
        ),
        (
            {"deep": {"n": 32}, "exact": {"n": 8}, "other": {"n": 64}},
            [
                "exact': n was None, is 8",
                "other' is not in the committed evidence",
                "wide' is not in this build",
            ],
        ),
    ],
)
def test_another_number_of_pairs_is_noticed(measured, found):
    committed = {"deep": {"n": 32, "low": 0.1}, "wide": {"n": 64}, "exact": {"error": 0.0}}
    old, new = ({"X1a": STATED | {"conditions": c}} for c in (committed, measured))
    assert verdicts.differences(old, new) == [f"X1a, condition '{words}" for words in found]


# ----------------------------------------------------------------------------- what is stale


def test_a_chapter_depends_on_what_it_imports_through_any_number_of_steps():
    reached = dependencies.closure(dependencies.imported("from nettrain.lab.sweep import sweep"))
    assert {"lab.sweep", "lab.training", "data", "optimizers", "draws"} <= reached
    assert not {"lab.adapter", "lab.figures", "misprints", "lab.evidence"} & reached
    words = dependencies.WORDS
    by_evidence = dependencies.closure({"lab.evidence"}, apart=words)
    assert "data" in by_evidence and not words & by_evidence
    assert words <= dependencies.closure({"lab.evidence"})
    assert {"lab.cards", "lab.replications"} - words == set()
    assert words <= dependencies.closure({"lab.evidence", *words}, apart=words)
    assert dependencies.closure(dependencies.imported("from nettrain import schedules")) == {
        "schedules"
    }
    assert dependencies.imported("import nettrain\n%pip install x\n!ls\nimport os") == set()


def test_a_chapter_that_pools_claims_is_stale_when_their_bases_change(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    (tmp_path / "nettrain").mkdir()

    def stored(claims, found):
        kept = {"claims": {name: {"conditions": bases} for name, bases in found.items()}}
        (tmp_path / "nettrain" / "replications.json").write_text(json.dumps(kept))
        return build.stored(claims)

    assert stored([], {"A1a": 1}) == stored([], {"A1a": 2}) == []
    first = stored(["A1a", "A1b"], {"A1a": 1})
    assert (
        stored(["A1a", "A1b"], {"A1a": 1, "A2a": 5}) == first != stored(["A1a", "A1b"], {"A1a": 2})
    )
    assert stored(["A1a", "A1b"], {"A1a": 1, "A1b": 1}) != first


@pytest.fixture
def small_book(tmp_path):
    """A book of two chapters on a package of two modules, built with this repository's code."""
    for name in ("_ext", "_static", "_data", "_templates", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "references.bib").touch()
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "nettrain").mkdir()
    (tmp_path / "nettrain" / "__init__.py").touch()
    (tmp_path / "chapters").mkdir()
    toc = "format: jb-book\nroot: index\nchapters: [{file: chapters/one}, {file: chapters/two}]\n"
    (tmp_path / "_toc.yml").write_text(toc)
    (tmp_path / "index.md").write_text("# A book\n")
    for name in ("one", "two"):
        (tmp_path / "nettrain" / f"{name}.py").write_text("value = 'first'\n")
        source = f"from nettrain import {name}\n\nprint('{name} says', {name}.value)"
        cells = [nbformat.v4.new_markdown_cell(f"# {name}"), nbformat.v4.new_code_cell(source)]
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells), tmp_path / "chapters" / f"{name}.ipynb"
        )

    def make():
        command = [sys.executable, "-m", "_ext.build"]
        env = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        pages = {n: tmp_path / "_build" / "html" / "chapters" / f"{n}.html" for n in ("one", "two")}
        return done, {n: p.read_text() for n, p in pages.items() if p.exists()}

    return tmp_path, make


def test_no_page_is_ever_stale(small_book):
    folder, make = small_book
    done, pages = make()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "one says first" in pages["one"] and "two says first" in pages["two"]
    ran = lambda done: set(re.findall(r"chapters/(\w+): \d+ s", done.stderr + done.stdout))
    assert ran(done) == {"one", "two"}

    done, _ = make()  # nothing changed: nothing runs
    assert done.returncode == 0 and ran(done) == set()

    (folder / "nettrain" / "two.py").write_text("value = 'second'\n")
    done, pages = make()  # the chapter that imports it runs, and its page is new
    assert done.returncode == 0 and ran(done) == {"two"}
    assert "one says first" in pages["one"] and "two says second" in pages["two"]
    notebook = folder / "_build" / "html" / "notebooks" / "chapters" / "two.ipynb"
    assert "two says second" in notebook.read_text()

    (folder / "nettrain" / "one.py").write_text("raise RuntimeError('broken on purpose')\n")
    done, _ = make()  # a cell that raises stops the build, and says so
    assert done.returncode != 0 and "broken on purpose" in done.stderr + done.stdout

    (folder / "nettrain" / "one.py").write_text("value = 'third'\n")
    (folder / "index.md").write_text("# A book\n\nSee {doc}`nowhere`.\n")
    done, _ = make()  # a warning is an error
    assert done.returncode != 0 and "nowhere" in done.stderr + done.stdout


def test_the_citation_names_the_repository_and_the_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["repository-code"] == CONFIG["repository"]["url"]
    assert cited["title"] == CONFIG["title"]
    assert cited["version"] == nettrain.__version__


def test_a_lecture_runs_again_for_what_it_computes_with_and_not_for_what_shows_it(
    tmp_path, monkeypatch
):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import torch")])
    (tmp_path / "requirements.txt").write_text("torch==2\n\n# the book\nSphinx==7\n")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    before = build.key(notebook)
    (tmp_path / "requirements.txt").write_text("torch==2\n\n# the book\nSphinx==8\n")
    assert build.key(notebook) == before
    (tmp_path / "requirements.txt").write_text("torch==3\n\n# the book\nSphinx==7\n")
    assert build.key(notebook) != before


@each_chapter
def test_a_lecture_begins_with_what_came_out(path):
    records = build.read_json(ROOT / "nettrain" / "evidence.json")
    judged = {k for k, r in records.items() if r["chapter"].endswith(f"/{path.stem}")}
    asked = re.findall(r"\*\*[^*]+\?\*\* \{finding\}`(\w+)`", read(path).cells[0].source)
    if judged:
        assert 2 <= len(asked) <= 6 and set(asked) <= judged
