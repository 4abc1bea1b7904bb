"""What an exercise says, read from its solution.ipynb: statement, parts, hints, solutions, rubric.

The book's page, the feedback and the page of answers in words are made of it. A part is what stands
under a heading "## b. The weights"; its hints are a cell with the tag `hints`, and the points of an
answer in words a cell with the tag `rubric`, one line "- (2) what for" each.
"""

import ast
import json
import re
from dataclasses import dataclass, field
from functools import cache

from exercises.grading.files import folder
from exercises.laws import Law, load

PART = re.compile(r"(?m)^## ([a-z])\. (.+)$")
HINT = re.compile(r"<details><summary>Hint \d</summary>\n\n(.+?)\n\n</details>", re.DOTALL)
REGION = re.compile(r"[ \t]*### BEGIN SOLUTION\n(.*?)[ \t]*### END SOLUTION\n?", re.DOTALL)
RUBRIC = re.compile(r"(?m)^- \((\d+)\) ")


@dataclass
class Part:
    letter: str
    title: str
    text: str  # the task in words, without its heading
    hints: list[str] = field(default_factory=list)
    stub: str = ""  # the functions to write, with their docstrings
    solution: str = ""  # code of the functions, or the answer in words
    functions: list[str] = field(default_factory=list)
    rubric: str = ""
    words: int = 0  # points that a human gives
    grade_id: str = ""  # of the answer in words
    laws: list[Law] = field(default_factory=list)

    @property
    def points(self) -> int:
        return self.words or sum(law.points for law in self.laws)


@dataclass
class Lesson:
    id: str
    title: str
    statement: str
    lectures: list[str]
    parts: list[Part]

    def part_of(self, law: Law) -> Part:
        return next(p for p in self.parts if law.part in p.functions)

    @property
    def words(self) -> int:
        """The points that a human gives."""
        return sum(p.words for p in self.parts)


@cache
def read(id: str) -> Lesson:
    """The lesson with this number; raises ValueError if there is none."""
    laws = load(id).laws
    notebook = json.loads((folder(id) / "solution.ipynb").read_text("utf-8"))
    title, statement, parts = "", [], []
    for cell in notebook["cells"]:
        source, about = "".join(cell["source"]), cell["metadata"].get("nbgrader") or {}
        tags = cell["metadata"].get("tags", [])
        if "hints" in tags:
            parts[-1].hints = HINT.findall(source)
        elif "rubric" in tags:
            parts[-1].rubric = source
        elif cell["cell_type"] == "markdown" and about.get("solution"):
            part = parts[-1]
            part.solution, part.words, part.grade_id = source, about["points"], about["grade_id"]
        elif cell["cell_type"] == "markdown":
            if source.startswith("# "):
                title = source.partition(": ")[2]
            elif found := PART.search(source):
                before, after = source[: found.start()].strip(), source[found.end() :].strip()
                parts.append(Part(found[1], found[2], "\n\n".join(filter(None, (before, after)))))
            elif not parts:
                statement.append(source)
        elif about.get("solution"):
            part = parts[-1]
            part.solution = REGION.sub(r"\1", source)
            part.stub = REGION.sub("", source).rstrip()
            part.functions += [n.name for n in ast.parse(source).body]
            part.laws += [law for law in laws if law.part in part.functions]
    lectures = notebook["metadata"]["nettrain"]["lectures"]
    return Lesson(id, title, "\n\n".join(statement), lectures, parts)


@cache
def short_names(id: str) -> dict[str, str]:
    """{name of a law: its short name}: b1, b2, c1, ... by part."""
    return {
        law.name: f"{part.letter}{number}"
        for part in read(id).parts
        for number, law in enumerate(part.laws, 1)
    }


def question(id: str, grade_id: str) -> Part | None:
    """The part whose answer in words has this name, else None."""
    return next((p for p in read(id).parts if p.grade_id and p.grade_id == grade_id), None)
