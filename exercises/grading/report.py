"""What a teacher and a student get to read: a feedback page each, and the answers in words.

Text of a submission is escaped wherever it appears.
"""

import hashlib
import os
from html import escape
from pathlib import Path

from exercises.grader import FORBIDDEN, Result
from exercises.laws import load

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: auto; padding: 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .4rem; border-bottom: 1px solid #8886; }
td:first-child { white-space: nowrap; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin-left: 1rem; }
.how { margin: .3rem 0 0; overflow-wrap: anywhere; }
"""


def page(title: str, body: list[str]) -> str:
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            *body,
            "</body></html>\n",
        ]
    )


def feedback(result: Result) -> str:
    """The page for one submission."""
    title = "Submission"
    if result.exercise:
        title = f"Exercise {result.exercise}: {load(result.exercise).title}"
    body = [f"<p><strong>{result.points} of {result.most} points</strong> from the laws. "]
    body += [f"File: {escape(name(result.file))}</p>"]
    if result.problem:
        body.append(f"<p><strong>Not marked:</strong> {escape(result.problem)}</p>")
    if result.marks:
        body.append("<table><tr><th>Points</th><th>Law</th></tr>")
        for mark in result.marks:
            how = f'<p class="how">{escape(mark.message)}</p>' if mark.message else ""
            sign = "✗" if mark.message else "✓"
            points = f"{sign} {mark.points} of {mark.law.points}"
            body.append(f"<tr><td>{points}</td><td>{escape(mark.law.statement)}{how}</td></tr>")
        body.append("</table>")
    if result.errors:
        body.append("<h2>Cells that stopped with an error</h2><ul>")
        body += [f"<li>{escape(error)}</li>" for error in result.errors] + ["</ul>"]
    if result.texts:
        body.append("<h2>Your answers in words</h2><p>A human reads and marks these.</p>")
        body += [f"<h3>{escape(k)}</h3><pre>{escape(v)}</pre>" for k, v in result.texts.items()]
    return page(title, body)


def free_text(results: list[Result]) -> str:
    """One page with all answers in words, question by question, for the person who marks them."""
    questions = list(dict.fromkeys(key for r in results for key in r.texts))
    body = ["<p>No machine has judged these answers.</p>"]
    for question in questions:
        body.append(f"<h2>{escape(question)}</h2>")
        for r in results:
            if question in r.texts:
                body.append(f"<h3>{escape(r.file)}</h3><pre>{escape(r.texts[question])}</pre>")
    return page("Answers in words", body)


def name(file: str) -> str:
    """The last two parts of a path: submissions are often all called exercise.ipynb."""
    return "/".join(Path(file).parts[-2:])


def page_name(file: str) -> str:
    """A file name for the feedback on a submission, different for every path."""
    stem = "".join(c if c.isalnum() else "-" for c in name(file).removesuffix(".ipynb"))[:80]
    digest = hashlib.sha256(os.fsencode(file)).hexdigest()[:6]
    return f"{stem.strip('-')}-{digest}.html"


def enforced(found: dict[str, bool]) -> str:
    """What the run could and could not prevent, in two lines."""
    lines = [f"A submission cannot: {'; '.join(FORBIDDEN[k] for k, ok in found.items() if ok)}."]
    if open_ := [FORBIDDEN[k] for k, ok in found.items() if not ok]:
        lines.append(f"NOT prevented on this system: a submission can {'; '.join(open_)}.")
    return "\n".join(lines)
