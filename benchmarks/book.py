"""How long the book takes, how heavy it is; of the build in _build."""

import subprocess
import sys
import time
from pathlib import Path

import torch

from _ext import build


def run(device: torch.device) -> list[dict]:
    """Minutes of the first build and of one with nothing changed, megabytes of pages."""
    if not build.COLD.exists():
        raise SystemExit("no book that was built at one go; run `make clean book` first")
    cold = build.read_json(build.COLD)
    minutes = {"cold build": cold["seconds"] / 60}
    start = time.perf_counter()
    make()
    minutes["build with nothing changed"] = (time.perf_counter() - start) / 60
    pages = {p: weight(p) for p in (build.BUILD / "html").rglob("*.html")}
    heaviest = max(pages, key=pages.get)
    megabytes = {"book.pdf": weight(build.BUILD / "html" / "book.pdf")}
    megabytes |= {f"largest HTML file, {heaviest.stem}": pages[heaviest]}
    megabytes |= {"mean HTML file": sum(pages.values()) / len(pages)}
    rows = [{"what": k, "number": v, "unit": "minutes"} for k, v in minutes.items()]
    rows += [{"what": k, "number": v, "unit": "megabytes"} for k, v in megabytes.items()]
    for row in rows:
        print(f"{row['what']}: {row['number']:.2f} {row['unit']}")
    return rows


def make() -> None:
    subprocess.run([sys.executable, "-m", "_ext.build"], cwd=build.ROOT, check=True)


def weight(file: Path) -> float:
    return file.stat().st_size / 1e6 if file.exists() else 0.0
