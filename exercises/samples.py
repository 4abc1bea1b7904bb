"""What a wrong answer is told: for each part one message of its checks, made by its laws.

The wrong answers stand in wrong/ of each exercise; the first line of a file says which mistake it
is, and "Refused by ..." which law finds it. Of a part's wrong answers the one with the shortest
message is taken. The seed is fixed, so that the page stays the same.
"""

import ast
import re
from functools import cache
from pathlib import Path

import numpy as np

from exercises import lessons, printed
from exercises.grading.files import folder
from exercises.laws import judge, local

SEED = 0
LONGEST_CALL = 120  # letters of a call that the page shows too


def law_of(path: Path) -> str:
    """The name of the law that refuses a wrong answer, as its file says."""
    says = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    return re.search(r"Refused by (\w+): ", says)[1]


def refused(lesson: lessons.Lesson, path: Path):
    """The mark that a wrong answer gets from the law that finds it, the rest as in the solution."""
    law = next(law for p in lesson.parts for law in p.laws if law.name == law_of(path))
    names = {"np": np}
    for source in [p.solution for p in lesson.parts if p.stub] + [path.read_text("utf-8")]:
        exec(compile(source, str(path), "exec"), names)
    return judge(law, local(names), SEED)


@cache
def samples(id: str) -> dict[str, str]:
    """{letter of a part: what its check prints for a wrong answer}."""
    lesson, found = lessons.read(id), {}
    for path in sorted((folder(id) / "wrong").glob("*.py")):
        mark = refused(lesson, path)
        letter = lesson.part_of(mark.law).letter
        if letter not in found or len(mark.message) < len(found[letter].message):
            found[letter] = mark
    return {letter: text(id, mark) for letter, mark in sorted(found.items())}


def text(id: str, mark) -> str:
    lines = printed(f"{id} {mark.law.part}", [mark])
    return "\n".join(x for x in lines if not x.strip().startswith("Try:") or len(x) < LONGEST_CALL)
