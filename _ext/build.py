"""Build the book: execute what is stale, two chapters at a time, then let Jupyter Book render it.

A chapter is stale when its code cells changed, or one of: the definitions of nettrain that it uses,
directly or through others, the data they read, the first part of requirements.txt (what lectures
compute with), the Python version, a file that its metadata names ({"nettrain": {"depends":
[...]}}), or what the replications hold of claims that it pools ({"nettrain": {"pools": [...]}}).
jupyter-cache alone looks at the cells only.

    python -m _ext.build [--execute-only]
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from io import BytesIO
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbclient import NotebookClient
from pypdf import PdfWriter
from pypdf.generic import DictionaryObject, NameObject, TextStringObject
from sphinx_external_toc.parsing import parse_toc_yaml
from tqdm import tqdm

from _ext.dependencies import ROOT, WORDS, digest, file_of, imported, slice_of
from _ext.files import read_json, write_json

BUILD = ROOT / "_build"
KEYS = BUILD / "keys.json"  # chapter -> hash of everything its outputs depend on
COLD = BUILD / "cold.json"  # how long the first build of this folder took, and what it trained
VERDICTS = BUILD / "verdicts.json"  # what the chapters found in this build
METADATA = "nettrain.verdict"  # as in nettrain.lab.evidence, whose import would cost seconds
CELL_SECONDS = 600
FOOTER = (
    '<div style="font: 8px sans-serif; width: 100%; text-align: center">'
    '<span class="pageNumber"></span></div>'
)
MARGIN = {"top": "15mm", "bottom": "15mm", "left": "12mm", "right": "12mm"}


def chapters() -> list[str]:
    """The notebooks of the table of contents, as paths without suffix."""
    docs = parse_toc_yaml(ROOT / "_toc.yml")
    return [name for name in docs if (ROOT / f"{name}.ipynb").exists()]


# --------------------------------------------------------------------------- what is stale


def imported_by(notebook) -> set[str]:
    """The modules of nettrain that a notebook's cells import.

    Raises ValueError with the cell, counted among those of code, and the line that is not Python.
    """
    found = set()
    code = (c.source for c in notebook.cells if c.cell_type == "code")
    for number, source in enumerate(code, 1):
        try:
            found |= imported(source)
        except SyntaxError as error:
            where = f"code cell {number}, line {error.lineno}"
            raise ValueError(f"{where}: {error.msg}: {(error.text or '').strip()}") from None
    return found


def key(notebook) -> str:
    """Hash of what a chapter's outputs depend on besides its own cells.

    Raises ValueError for a cell that is neither Python nor IPython, and for a broken module.
    """
    imported_by(notebook)  # says which cell is not Python
    cells = [c.source for c in notebook.cells if c.cell_type == "code"]
    files = {file_of("__init__")}
    about = notebook.metadata.get("nettrain", {})
    files |= {ROOT / f for f in about.get("depends", [])}
    pins = (ROOT / "requirements.txt").read_text().split("\n# the book\n")[0]
    pins = hashlib.sha256(pins.encode()).hexdigest()[:16]  # what lectures compute with
    version = f"{sys.version_info.major}.{sys.version_info.minor} {pins}"
    parts = [version, digest(files), slice_of(cells, apart=WORDS), *stored(about.get("pools", []))]
    return " ".join(parts)


def stored(claims: list[str]) -> list[str]:
    """A hash of what the replications hold of these claims; none for no claims."""
    found = read_json(ROOT / "nettrain" / "replications.json").get("claims", {}) if claims else {}
    text = json.dumps([found.get(claim) for claim in claims])
    return [hashlib.sha256(text.encode()).hexdigest()[:16]] if claims else []


# --------------------------------------------------------------------------- execution


def run(name: str, notebook, bar: tqdm):
    """Execute one chapter in its own kernel; (executed notebook, seconds)."""
    started = time.time()
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,  # it would change the cells' metadata, by which the cache finds them
        resources={"metadata": {"path": str((ROOT / name).parent)}},
        on_cell_executed=lambda **_: bar.update(),
    )
    try:
        client.execute()
    except Exception as error:  # a cell raised, took too long, or the kernel died
        bar.write(f"\n{name} failed: {type(error).__name__}\n\n{error}")
        raise
    bar.write(f"{name}: {time.time() - started:.0f} s")
    return notebook, time.time() - started


def prepare_kernels() -> None:
    """The environment in which chapters run."""
    # one thread each, so that two chapters at a time share two cores without fighting
    os.environ |= {"NETTRAIN_BUILD": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    os.environ["IPYTHONDIR"] = str(BUILD / "ipython")
    profile = BUILD / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    # no warning per kernel about its unencrypted connection on the loopback interface
    (profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 'ERROR'\n")


def execute() -> None:
    """Execute the stale chapters and store their outputs in the cache."""
    cache = get_cache(BUILD / "jupyter-cache")
    notebooks = {name: nbformat.read(ROOT / f"{name}.ipynb", 4) for name in chapters()}
    keys, now = read_json(KEYS), {}
    for name, notebook in notebooks.items():
        try:
            now[name] = key(notebook)
        except ValueError as error:
            raise SystemExit(f"{name}: {error}") from None
    stale = [n for n, nb in notebooks.items() if keys.get(n) != now[n] or not cached(cache, nb)]
    cells = sum(c.cell_type == "code" for name in stale for c in notebooks[name].cells)
    prepare_kernels()
    os.environ.pop("NETTRAIN_BASE", None)  # the book is built with its own seeds
    failed = False
    with tqdm(total=cells, desc="cells", unit="cell", disable=not stale) as bar:
        with ThreadPoolExecutor(max_workers=2) as pool:
            jobs = {pool.submit(run, n, notebooks[n], bar): n for n in stale}
            for job in as_completed(jobs):
                name = jobs[job]
                if job.cancelled() or job.exception():
                    failed = True
                    for other in jobs:
                        other.cancel()  # what runs already may finish and is kept
                    continue
                executed, seconds = job.result()
                data = {"execution_seconds": seconds}
                bundle = CacheBundleIn(executed, f"{name}.ipynb", data=data)
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
                # Sphinx reads a page again when it has no doctree of it
                (BUILD / ".doctrees" / f"{name}.doctree").unlink(missing_ok=True)
                keys[name] = now[name]
                write_json(KEYS, keys)
    if failed:
        raise SystemExit(1)
    write_json(VERDICTS, verdicts(cache, notebooks))


def check_predictions() -> None:
    """Stop if base 0 lies outside what the other bases predict more often than chance allows."""
    from _ext.replicate import surprises  # here, since its imports take a second

    outside, chance = surprises(read_json(VERDICTS))
    for sentence in outside:
        print(f"outside its 95 % prediction interval: {sentence}")
    if chance < 0.01:
        raise SystemExit(
            f"{len(outside)} effects of this build lie outside the intervals that the bases in "
            f"nettrain/replications.json predict; by chance so many would with probability "
            f"{chance:.1g}. Either the code changed what is measured, or a lecture knows its base."
        )


def cached(cache, notebook) -> bool:
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    return True


def records(executed) -> list[dict]:
    """The verdicts in an executed notebook's outputs, in order."""
    outputs = [o for c in executed.cells if c.cell_type == "code" for o in c.outputs]
    return [dict(o.metadata[METADATA]) for o in outputs if METADATA in o.get("metadata", {})]


def verdicts(cache, notebooks) -> dict:
    """Every verdict in the chapters' outputs: {claim id: record with its chapter}."""
    found = {}
    for name, notebook in notebooks.items():
        _, done = cache.merge_match_into_notebook(notebook)
        for record in records(done):
            if record["id"] in found:
                raise SystemExit(f"claim {record['id']} is judged twice, again in {name}")
            found[record["id"]] = record | {"chapter": name}
    return dict(sorted(found.items()))


# --------------------------------------------------------------------------- rendering


def render() -> None:
    """Jupyter Book, warnings are errors; from scratch when configuration or extensions changed."""
    files = [ROOT / "_config.yml", ROOT / "_toc.yml", ROOT / "requirements.txt"]
    files += [p for d in ("_ext", "_static", "_data", "_templates") for p in (ROOT / d).glob("*.*")]
    files += [file_of(name) for name in WORDS if file_of(name).exists()]
    files += [p for p in (ROOT / "nettrain").glob("*.json")]  # verdicts stand on most pages
    now, keys = digest(files), read_json(KEYS)
    if keys.get("book") != now:
        for folder in ("html", ".doctrees"):
            shutil.rmtree(BUILD / folder, ignore_errors=True)
    sphinx()
    write_json(KEYS, read_json(KEYS) | {"book": now})


def sphinx(*options: str) -> None:
    """Run Jupyter Book with warnings as errors."""
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "-W", "-n", "--keep-going"]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": paths}
    if code := subprocess.call([*command, *options, "."], cwd=ROOT, env=env):
        # a page that was written in spite of its warning must be read again next time
        for folder in (".doctrees", "print"):
            shutil.rmtree(BUILD / folder, ignore_errors=True)
        raise SystemExit(code)


def chromium() -> str | None:
    """A browser that prints, if there is one."""
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, found), None)


def publish() -> None:
    """The pages and, where there is a browser, the PDF; made side by side the first time."""
    target = BUILD / "html" / "book.pdf"
    with ThreadPoolExecutor(1) as pool:
        single = None if target.exists() or not chromium() else pool.submit(single_page)
        render()
        if single:
            single.result()
    now = text_of_pages()
    if not chromium() or (target.exists() and read_json(KEYS).get("pdf") == now):
        return
    if not single:
        single_page()
    print_pdf(target)
    write_json(KEYS, read_json(KEYS) | {"pdf": now})


def text_of_pages() -> str:
    """A digest of the pages without the marks of versions, which Sphinx leaves out at first."""
    h = hashlib.sha256()
    for page in sorted((BUILD / "html").rglob("*.html")):
        h.update(re.sub(rb"\?v=[0-9a-f]+", b"", page.read_bytes()))
    return h.hexdigest()


def single_page() -> None:
    """The whole book as one page, in a folder of its own: its settings would outdate every page."""
    sphinx("--builder", "singlehtml", "--path-output", str(BUILD / "print"))


def print_pdf(target: Path) -> None:
    """The single page, printed by Chromium."""
    from playwright.sync_api import sync_playwright

    page_path = BUILD / "print" / "_build" / "singlehtml" / "index.html"
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto(page_path.as_uri())
        # of a figure that moves only the picture that is shown
        page.evaluate(
            "document.querySelectorAll('.nt-frames img[hidden]').forEach(i => i.remove())"
        )
        formulas = "[...document.querySelectorAll('.math')]"
        page.wait_for_function(f"{formulas}.every(m => m.querySelector('mjx-container'))")
        printed = page.pdf(
            format="A4",
            margin=MARGIN,
            scale=0.548,  # the text and the margin beside it, 1,283 px, just fill a sheet
            print_background=True,
            display_header_footer=True,
            header_template="<i></i>",
            footer_template=FOOTER,
            outline=True,
            tagged=True,
        )
        browser.close()
    book = PdfWriter(clone_from=BytesIO(printed))
    once(book.get_outline_root())
    part = target.with_suffix(".part")
    book.write(part)
    part.replace(target)


def once(entry: DictionaryObject) -> None:
    """Mend an outline: Chromium writes a heading that moved to the next sheet twice."""
    title = entry.get("/Title", "")
    if title and title == 2 * title[: len(title) // 2]:
        entry[NameObject("/Title")] = TextStringObject(title[: len(title) // 2])
    child = entry.get("/First")
    while child:
        once(child.get_object())
        child = child.get_object().get("/Next")


if __name__ == "__main__":
    cold, started = not KEYS.exists(), time.time()
    execute()
    check_predictions()
    if "--execute-only" not in sys.argv:
        publish()
        if cold:
            write_json(COLD, {"seconds": time.time() - started, "cores": os.cpu_count()})
