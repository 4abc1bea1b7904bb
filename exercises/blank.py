"""exercise.ipynb out of solution.ipynb: the answers blanked, as nbgrader would, and no outputs."""

import copy
import json
import re
from pathlib import Path

from exercises.laws import IDS

HERE = Path(__file__).parent
ANSWER = re.compile(r"(?ms)^([ \t]*)### BEGIN SOLUTION$.*?### END SOLUTION$")
BLANK = r"\1# YOUR CODE HERE\n\1raise NotImplementedError()"


def folder(id: str) -> Path:
    return HERE / f"ex{id.replace('-', '_')}"


def blank(solution: dict) -> dict:
    """The notebook that a student gets; raises ValueError for an answer cell without markers."""
    notebook = copy.deepcopy(solution)
    notebook["cells"] = [
        c for c in notebook["cells"] if "book" not in c["metadata"].get("tags", [])
    ]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
        if not cell["metadata"].get("nbgrader", {}).get("solution"):
            continue
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            source, found = ANSWER.subn(BLANK, source)
            if not found:
                raise ValueError(f"no ### BEGIN SOLUTION in the answer cell\n{source}")
        else:
            source = "YOUR ANSWER HERE"
        cell["source"] = source.splitlines(keepends=True)
    return notebook


def text(notebook: dict) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def stale() -> list[Path]:
    """The exercises that are not what their solutions make; `python -m exercises blank` mends."""
    wanted = {folder(id) / "exercise.ipynb": blanked(id) for id in IDS}
    return [p for p, t in wanted.items() if not p.exists() or p.read_text("utf-8") != t]


def blanked(id: str) -> str:
    return text(blank(json.loads((folder(id) / "solution.ipynb").read_text("utf-8"))))


def write() -> None:
    for id in IDS:
        (folder(id) / "exercise.ipynb").write_text(blanked(id), "utf-8")
