"""Exercises 1-1 to 1-6, 2-1 and 2-2, checked by laws.

    from exercises import check
    check("1-1", globals())              # every part: prints the marks, raises if a law fails
    check("1-1", globals(), "weights")   # one part

laws        what a law is, and how it asks
grader      a submission's marks, from outside
lessons     what an exercise says, read from its solution.ipynb
blank       the notebook for students out of solution.ipynb
statements  the book's page out of it
samples     what a wrong answer is told, for that page
grading     the machinery: confinement, the student's process, journal, table, pages
"""

import secrets

from exercises.laws import judge, load, local


class LawsFailed(AssertionError):
    """At least one law does not hold; what broke it is printed below the law."""

    def _render_traceback_(self):  # IPython: the message, without our own frames
        return str(self).split("\n")


def check(id: str, namespace: dict, part: str | None = None) -> None:
    """Run the laws of an exercise on the functions of a namespace, with fresh random inputs.

    Prints the marks, and below each law that fails what broke it. Raises LawsFailed if a law does
    not hold, ValueError for an unknown exercise or part.
    """
    exercise = load(id)
    if part is not None and part not in exercise.parts:
        raise ValueError(f"exercise {id} has no part {part!r}; it has {', '.join(exercise.parts)}")
    laws = [law for law in exercise.laws if part in (None, law.part)]
    seed = secrets.randbits(32)
    marks = [judge(law, local(namespace), seed) for law in laws]
    print("\n".join(printed(f"{id} {part or exercise.title}", marks)))
    if broken := [m.law.name for m in marks if m.message]:
        fail = "fails" if len(broken) == 1 else "fail"
        raise LawsFailed(f"{len(broken)} of {len(laws)} laws {fail}: {', '.join(broken)}")


def printed(title: str, marks: list) -> list[str]:
    """The lines of a check: the points, each law, and below it what broke it."""
    got, most = sum(m.points for m in marks), sum(m.law.points for m in marks)
    lines = [f"{title}: {got} of {most} points"]
    for mark in marks:
        lines.append(f"  {'✗' if mark.message else '✓'} {mark.law.points}  {mark.law.statement}")
        if mark.message:
            lines.append(f"       {mark.message}")
        if mark.call:
            lines.append(f"       Try: {mark.call}")
    return lines
