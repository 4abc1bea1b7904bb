"""Run a notebook's code cells without Jupyter, and report what happened in each.

    python -m benchmarks.cells chapters/losses.ipynb report.json [--cells 3]

For machines that have torch and the usual libraries but neither IPython nor a kernel. The report is
written whole after every cell, so that a run that is killed leaves what it had.
"""

import argparse
import ast
import json
import os
import re
import sys
import time
import traceback
import types
import warnings
from pathlib import Path

from _ext.files import write_json

MAGIC = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells", description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--cells", type=int, help="only the first ones")
    parser.add_argument("--numbers", action="store_true", help="draw no figures")
    options = parser.parse_args(argv)
    report = run(options.notebook, options.report, options.cells, not options.numbers)
    return int(report["error"] is not None)


def run(notebook: Path, file: Path, most: int | None = None, figures: bool = True) -> dict:
    """The report: cells, seconds, peak_mb of the GPU, records of claims, warnings, error, lacks.

    A package that is not installed ends the run, too, and is told apart from an error.
    """
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"][:most]
    report = {"notebook": notebook.stem, "cells": 0, "of": len(sources), "seconds": 0.0}
    import torch

    report |= {
        "torch": torch.__version__,
        "peak_mb": None,
        "warnings": [],
        "records": [],
        "error": None,
        "lacks": None,
    }
    start, space = time.perf_counter(), prepare(report)
    if not figures:
        from nettrain.lab import moving

        moving.frames = moving.race = lambda *args, **how: None
    for number, source in enumerate(sources, 1):
        try:
            run_cell(source, space, f"<cell {number}>", figures)
        except ModuleNotFoundError as error:  # a lecture may need what no machine must have
            report["lacks"] = error.name
        except Exception as error:
            report["error"] = {"cell": number, "type": type(error).__name__, "message": str(error)}
            report["error"]["trace"] = traceback.format_exc()
        else:
            report["cells"] = number
        report["seconds"] = round(time.perf_counter() - start, 2)
        report["peak_mb"] = peak_mb()
        write_json(file, report)
        if report["error"] or report["lacks"]:
            break
    return report


def prepare(report: dict) -> dict:
    """The names that a cell finds; from now on warnings and claims' records go into the report."""
    os.environ["NETTRAIN_BUILD"] = "1"  # no bars, no live sliders
    import matplotlib

    matplotlib.use("agg")
    if "IPython" not in sys.modules:
        sys.modules["IPython"] = python = types.ModuleType("IPython")
        sys.modules["IPython.display"] = python.display = types.ModuleType("IPython.display")
        python.get_ipython, python.version_info = lambda: None, (9, 0)  # matplotlib asks
        python.display.display = display
        for name in ("HTML", "Markdown"):
            setattr(python.display, name, type(name, (Shown,), {}))
    from nettrain.lab import evidence

    def collect(text, card, record):
        if record:
            report["records"].append(record)

    def note(message, category, filename, line, *_):
        said = f"{category.__name__}: {message}"
        if said not in report["warnings"]:
            report["warnings"].append(said)

    evidence._show = collect
    warnings.simplefilter("default")
    warnings.showwarning = note
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    vars(main).update(display=display, get_ipython=lambda: None)
    return vars(main)


class Shown:
    """What stands for IPython.display.HTML and the like."""

    def __init__(self, data=None):
        self.data = data


def display(*values, **_) -> None:
    """Write each value as a notebook would and forget the text: only errors are of interest."""
    for value in values:
        written = getattr(value, "_repr_html_", None)
        if written is None or isinstance(value, type) or written() is None:
            repr(value)


def run_cell(source: str, space: dict, name: str, figures: bool = True) -> None:
    """Execute a cell; its last expression is displayed and its figures are drawn, if wanted."""
    import matplotlib.pyplot as plt

    tree = ast.parse(MAGIC.sub(r"\1pass", source), name)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";"):
        last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, name, "exec"), space)
    if last is not None:
        display(eval(compile(last, name, "eval"), space))
    for number in plt.get_fignums() if figures else ():
        plt.figure(number).canvas.draw()
    plt.close("all")


def peak_mb() -> float | None:
    import torch

    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_initialized() else None


if __name__ == "__main__":
    sys.exit(main())
