"""exercise_1-1.ipynb out of solution.ipynb: answers blanked, as nbgrader would, and no outputs.

No answer may reach a student, so that anything doubtful about a region is an error, and what is
handed out is looked through once more.
"""

import copy
import json
import re
from keyword import iskeyword
from pathlib import Path

from exercises import lessons, statements
from exercises.grading import files
from exercises.grading.files import notebook_name, write_whole
from exercises.laws import IDS

LEFT_OUT = {"book", "rubric"}  # tags of cells that students do not get
MARKER = re.compile(r"(?i)\b(begin|end)[ \t_-]*solution")  # however it is spelled
ALONE = re.compile(r"(?i)[ \t]*#+[ \t]*(begin|end)[ \t_-]*solution\s*")
IMPORT = re.compile(r"import |from .* import ")
INDENT = re.compile(r"[ \t]*")
WORDS = "YOUR ANSWER HERE"


def folder(id: str) -> Path:
    return files.folder(id)


def blank(solution: dict) -> dict:
    """The notebook that a student gets.

    Raises ValueError for an answer cell without a region, for a region that is not closed, lies in
    another one or in a cell that nbgrader does not know as an answer, and for a line of an answer
    that stands elsewhere too.
    """
    notebook = copy.deepcopy(solution)
    notebook["cells"] = [
        c for c in notebook["cells"] if LEFT_OUT.isdisjoint(about(c).get("tags") or [])
    ]
    notebook.get("metadata", {}).pop("widgets", None)  # they hold outputs
    answers = []
    for number, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
        source = "".join(cell["source"])
        if not (about(cell).get("nbgrader") or {}).get("solution"):
            if MARKER.search(source):
                raise ValueError(
                    f"cell {number} holds an answer, but its metadata do not say so "
                    f"(nbgrader: solution):\n{source}"
                )
            continue
        if cell["cell_type"] == "code":
            source, removed = without_answers(source, number)
        else:
            source, removed = WORDS, re.split(r"\r\n|\r|\n", source)
            cell.pop("attachments", None)  # pictures of the answer
        answers += removed
        cell["source"] = source.splitlines(keepends=True)
    look_through(notebook, answers)
    return notebook


def about(cell: dict) -> dict:
    return cell.get("metadata") or {}


def without_answers(source: str, number: int) -> tuple[str, list[str]]:
    """Put a blank in place of each region; returns the source and the lines of the regions.

    Raises ValueError if a region is not closed, lies in another one, or if there is none.
    """
    kept, removed, region = [], [], None
    problem = lambda what: ValueError(f"{what} in the answer cell {number}\n{source}")
    for line in re.split(r"\r\n|\r|\n", source):
        found = MARKER.search(line)
        if found and not ALONE.fullmatch(line):
            raise problem(f"{line.strip()!r} is not a marker on a line of its own")
        word = found[1].lower() if found else None
        if word == "begin" and region is not None:
            raise problem("a ### BEGIN SOLUTION within a region that is not closed")
        if word == "end" and region is None:
            raise problem("an ### END SOLUTION without a ### BEGIN SOLUTION")
        if word == "begin":
            region, indent = [], INDENT.match(line)[0]
        elif word == "end":
            # a marker may stand anywhere; the blank must stand where the answer's code stood
            code = (x for x in region if x.strip() and not x.lstrip().startswith("#"))
            indent = INDENT.match(next(code, indent))[0]
            kept += [f"{indent}# YOUR CODE HERE", f"{indent}raise NotImplementedError()"]
            if not any(line.strip() for line in region):
                raise problem("nothing between ### BEGIN SOLUTION and ### END SOLUTION")
            removed, region = removed + region, None
        elif region is not None:
            region.append(line)
        else:
            kept.append(line)
    if region is not None:
        raise problem("no ### END SOLUTION behind a ### BEGIN SOLUTION")
    if not removed:
        raise problem("no ### BEGIN SOLUTION")
    return "\n".join(kept), removed


def look_through(notebook: dict, answers: list[str]) -> None:
    """Raise ValueError if any text of a notebook holds a marker or a line of an answer.

    A line gives nothing away if it has fewer than four letters and digits ("$$"), or is a keyword
    ("else:") or an import.
    """
    telling = {x.strip() for x in answers if len(re.findall(r"\w", x)) >= 4}
    telling -= {x for x in telling if iskeyword(x.rstrip(":")) or IMPORT.match(x)}
    for text in texts(notebook):
        if found := MARKER.search(text):
            raise ValueError(f"{found[0]!r} is left in the exercise: {text[:200]!r}")
        if leaked := telling & {line.strip() for line in re.split(r"\r\n|\r|\n", text)}:
            raise ValueError(f"lines of an answer stand in the exercise too: {sorted(leaked)}")


def texts(value) -> list[str]:
    """All texts of a notebook: sources whole, keys and other values each for itself."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(x, str) for x in value):
        return ["".join(value), *value]
    if isinstance(value, dict):
        return [*value, *(text for x in value.values() for text in texts(x))]
    return [text for x in value for text in texts(x)] if isinstance(value, list) else []


def text(notebook: dict) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def stale() -> list[Path]:
    """Files unlike what their solutions make of them; `python -m exercises blank` rewrites them."""
    return [p for p, t in made().items() if not p.exists() or p.read_text("utf-8") != t]


def blanked(id: str) -> str:
    """The text of exercise_1-1.ipynb; raises ValueError as `blank` does, with the file's name."""
    path = folder(id) / "solution.ipynb"
    try:
        return text(blank(json.loads(path.read_text("utf-8"))))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def made() -> dict[Path, str]:
    """What the solutions make: the notebooks for students, and the book's pages."""
    notebooks = {folder(id) / notebook_name(id): blanked(id) for id in IDS}
    return notebooks | {folder(id) / "statement.md": statements.page(id) for id in IDS}


def write() -> None:
    """Write all notebooks and pages; none if one of the solutions cannot be blanked."""
    lessons.read.cache_clear()
    for path, content in made().items():
        write_whole(path, content)
