"""What a teacher and a student read: a page of feedback each, the answers in words, the class.

Text of a submission is escaped wherever it appears, and its Markdown may hold no HTML and load no
pictures; no script runs but the page's own.
"""

import base64
import hashlib
import os
import re
import unicodedata
from collections import Counter
from functools import cache
from html import escape
from pathlib import Path

from exercises import lessons
from exercises.grader import FORBIDDEN, Result
from exercises.grading.files import folder
from exercises.grading.table import file_cell
from exercises.laws import Mark, load

BOOK = "https://nettrain-book.github.io/nettrain/"  # a test compares it with _config.yml
LONGEST_FORMULA = 2000
SUBSCRIPT = re.compile(r"(?<!\w)(Δ?[^\W\d_]\u0302?)_(?:\{([^{}]*)\}|([^\W_]))(?!\w)")
SUPERSCRIPT = re.compile(r"\^(?:\(([^()]*)\)|([^\W_]))(?!\w)")
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: auto; padding: 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .4rem; border-bottom: 1px solid #8886; }
td:first-child { white-space: nowrap; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin-left: 1rem; }
ul.laws { list-style: none; padding-left: 0; }
ul.laws > li { margin: .6rem 0; padding-left: 4.5rem; text-indent: -4.5rem; }
ul.laws > li > * { text-indent: 0; }
.how { margin: .3rem 0 0; overflow-wrap: anywhere; }
.first, .answer { border-left: 4px solid #c60; padding-left: .8rem; }
.answer { border-color: #888; margin: 1rem 0; }
math[display="block"] { overflow-x: auto; }
input[type="number"] { width: 5rem; } input.remark { width: 60%; }
.bar { display: inline-block; height: .7rem; background: #27c; }
"""
SAVE = """
const fields = [...document.querySelectorAll("[data-file]")];
const key = f => ["nettrain", f.dataset.file, f.dataset.question, f.dataset.version, f.className]
  .join("|");
let saved = true;
for (const f of fields) {
  f.value = localStorage.getItem(key(f)) ?? f.value;
  f.addEventListener("input", () => { localStorage.setItem(key(f), f.value); saved = false; });
}
addEventListener("beforeunload", e => { if (!saved) e.preventDefault(); });
document.querySelector("#save").addEventListener("click", () => {
  const quote = x => '"' + x.replaceAll('"', '""') + '"';
  const rows = [["file", "version", "question", "points", "remark"]];
  for (const f of fields.filter(f => f.className === "points")) {
    const remark = f.closest("p").querySelector(".remark").value;
    if (f.value || remark)
      rows.push([f.dataset.file, f.dataset.version, f.dataset.question, f.value, remark]);
  }
  const text = rows.map(r => r.map(quote).join(",")).join("\\r\\n") + "\\r\\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\\ufeff" + text], {type: "text/csv"}));
  link.download = "points.csv";
  link.click();
  saved = true;
});
"""


def page(title: str, body: list[str], script: str = "") -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"script-src 'sha256-{digest}'" if script else "script-src 'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; {allowed}"
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            *body,
            f"<script>{script}</script>" if script else "",
            "</body></html>\n",
        ]
    )


# --------------------------------------------------------------------------- text


def pretty(text: str) -> str:
    """A law, or a message, as HTML: code between backticks, w_t and ρ^t with small letters."""
    parts = escape(text).split("`")
    for i in range(0, len(parts), 2):
        parts[i] = SUBSCRIPT.sub(lambda m: f"{m[1]}<sub>{m[2] or m[3]}</sub>", parts[i])
        parts[i] = SUPERSCRIPT.sub(lambda m: f"<sup>{m[1] or m[2]}</sup>", parts[i])
    for i in range(1, len(parts), 2):
        parts[i] = f"<code>{parts[i]}</code>" if i < len(parts) - 1 else f"`{parts[i]}"
    return "".join(parts)


@cache
def reader():
    """What makes HTML of Markdown, or None where the libraries of the book are not installed."""
    try:
        from markdown_it import MarkdownIt
        from mdit_py_plugins.dollarmath import dollarmath_plugin
    except ImportError:
        return None
    made = MarkdownIt("js-default").disable("image")  # no HTML, no links to scripts
    renderer = lambda tex, options: formula(tex, options["display_mode"])
    return made.use(dollarmath_plugin, allow_labels=False, renderer=renderer)


def formula(tex: str, block: bool) -> str:
    """TeX as MathML by docutils; as it stands where docutils is missing or does not know it."""
    plain = f"<code>{escape(tex)}</code>"
    if len(tex) > LONGEST_FORMULA:
        return plain
    try:
        from docutils.utils.math.latex2mathml import tex2mathml

        number = re.search(r"\\tag\{([^{}]*)\}", tex)
        tex = re.sub(r"\\tag\{[^{}]*\}", "", tex)
        tex = re.sub(r"\\E\b", r"\\mathbb{E}", re.sub(r"\\[bB]igg?[lr]?(?![a-z])", "", tex))
        return tex2mathml(tex, as_block=block) + (f" ({escape(number[1])})" if number else "")
    except Exception:  # whatever a student writes between dollars
        return plain


def rendered(markdown: str) -> str:
    """Markdown with formulas as HTML; as it stands where that is not possible."""
    try:
        return reader().render(markdown) if reader() else f"<pre>{escape(markdown)}</pre>"
    except Exception:
        return f"<pre>{escape(markdown)}</pre>"


def folded(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


# --------------------------------------------------------------------------- one submission


def feedback(result: Result) -> str:
    """The page for one submission: first what did not run, then each part with its laws."""
    title, words = "Submission", 0
    if result.exercise:
        lesson = lessons.read(result.exercise)
        title, words = f"Exercise {result.exercise}: {lesson.title}", lesson.words
    body = [f"<p>File: {escape(name(result.file))}</p>"]
    if result.problem:
        body.append(f'<p class="first"><strong>Not marked:</strong> {pretty(result.problem)}</p>')
    if result.errors:
        body.append('<div class="first"><h2>What does not run</h2><ul>')
        body += [f"<li>{escape(error[:1].upper() + error[1:])}</li>" for error in result.errors]
        body.append("</ul><p>What such a cell defines behind the error is missing below.</p></div>")
    body.append(f"<p><strong>{result.points} of {result.most} points</strong> from the laws. ")
    body.append(f"A human gives up to {words} more for the words.</p>" if words else "</p>")
    if result.marks:
        body += parts_of(result, lesson)
    if result.texts:
        body.append("<h2>Your answers in words</h2><p>A human reads and marks these.</p>")
        for key, text in result.texts.items():
            part = lessons_question(result.exercise, key)
            head = f"{part.letter}. {part.title}" if part else key
            body.append(f'<h3>{escape(head)}</h3><div class="answer">{rendered(text)}</div>')
    return page(title, body)


def parts_of(result: Result, lesson: lessons.Lesson) -> list[str]:
    """A table of the parts, then every law under its part."""
    labels = lessons.short_names(result.exercise)
    found = [(p, [m for m in result.marks if m.law in p.laws]) for p in lesson.parts if p.laws]
    body = ["<table><tr><th>Part</th><th></th><th>Points</th></tr>"]
    gained = {p.letter: sum(m.points for m in marks) for p, marks in found}
    for part in lesson.parts:
        by_hand = f"by a human, of {part.words}"
        got = by_hand if part.words else f"{gained[part.letter]} of {part.points}"
        body.append(f"<tr><td>{part.letter}.</td><td>{escape(part.title)}</td><td>{got}</td></tr>")
    body.append("</table>")
    for part, marks in found:
        head = f"{part.letter}. {part.title}"
        body.append(f"<h2>{link(statement(lesson), head, anchor(head))}</h2>")
        body.append('<ul class="laws">')
        body += [law_item(mark, labels[mark.law.name]) for mark in marks] + ["</ul>"]
        if any(mark.message for mark in marks):
            hints = enumerate(part.hints, 1)
            body += [folded(f"Hint {n}", rendered(hint)) for n, hint in hints]
    lectures = " and ".join(link(f"chapters/{x}", x.replace("_", " ")) for x in lesson.lectures)
    exercise = link(statement(lesson), f"exercise {lesson.id}")
    body.append(f"<p>In the book: lecture {lectures}; {exercise}.</p>")
    return body


def link(page: str, text: str, part: str = "") -> str:
    """A link to a page of the book, or to a part of it."""
    place = f"{BOOK}{page}.html" + (f"#{part}" if part else "")
    return f'<a href="{escape(place)}">{escape(text)}</a>'


def statement(lesson: lessons.Lesson) -> str:
    return f"exercises/{folder(lesson.id).name}/statement"


def anchor(heading: str) -> str:
    """The name that Sphinx gives to a heading."""
    plain = unicodedata.normalize("NFKD", heading.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def law_item(mark: Mark, label: str) -> str:
    sign = "✗" if mark.message else "✓"
    points = f"{sign} {label} {mark.points}/{mark.law.points}"
    how = f'<p class="how">{pretty(mark.message)}</p>' if mark.message else ""
    call = f"<pre><code>{escape(mark.call)}</code></pre>" if mark.call else ""
    return f"<li>{points} {pretty(mark.law.statement)}{how}{call}</li>"


# --------------------------------------------------------------------------- answers in words


def free_text(results: list[Result], given: dict[str, str] | None = None) -> str:
    """One page with all answers in words, question by question, for the person who marks them.

    given: {file: the points that the table has}.
    """
    questions = list(dict.fromkeys((r.exercise, key) for r in results for key in r.texts))
    body = [
        "<p>No machine has judged these answers. What you type stays in this browser; "
        "<em>Save</em> makes a file, which <code>python -m exercises points points.csv --csv "
        'marks.csv</code> puts into the table.</p><p><button id="save">Save points</button></p>'
    ]
    for exercise, question in questions:
        body += about_question(exercise, question)
        for r in results:
            if r.exercise == exercise and question in r.texts:
                body.append(f"<h3>{escape(r.file)}</h3>")
                body.append(f'<div class="answer">{rendered(r.texts[question])}</div>')
                body.append(fields(r, question, (given or {}).get(file_cell(r.file), "")))
        silent = [r.file for r in results if r.exercise == exercise and question not in r.texts]
        if silent and lessons_question(exercise, question):
            body.append(f"<p>No answer: {escape(', '.join(silent))}</p>")
    return page("Answers in words", body, SAVE)


def lessons_question(exercise: str | None, question: str) -> lessons.Part | None:
    return lessons.question(exercise, question) if exercise else None


def about_question(exercise: str | None, question: str) -> list[str]:
    """The question, and folded its solution and the rubric."""
    part = lessons_question(exercise, question)
    if part is None:
        return [f"<h2>{escape(question)}</h2><p>The exercise has no such question.</p>"]
    return [
        f"<h2>Exercise {exercise}, {part.letter}. {escape(part.title)}</h2>",
        rendered(part.text),
        "<h3>Points</h3>",
        rendered(part.rubric),
        folded("Solution", rendered(part.solution)),
    ]


def fields(result: Result, question: str, given: str) -> str:
    """Where the points and a remark are typed."""
    part = lessons_question(result.exercise, question)
    most = f' max="{part.words}"' if part else ""
    about = "".join(
        f' data-{key}="{escape(value)}"'
        for key, value in {
            "file": file_cell(result.file),
            "question": question,
            "version": f"v{result.digest}",
        }.items()
    )
    of = f" of {part.words}" if part else ""
    return (
        f'<p><label>Points <input type="number" class="points" min="0" step="0.5"{most}'
        f' value="{escape(given)}"{about}></label>{of} '
        f'<input class="remark" aria-label="Remark" placeholder="Remark"{about}></p>'
    )


# --------------------------------------------------------------------------- the class


def of_class(results: list[Result]) -> str:
    """Which laws the class fails: each exercise's, those that most fail first."""
    body = []
    for id in sorted({r.exercise for r in results if r.exercise and r.marks}):
        marked = [r for r in results if r.exercise == id and r.marks]
        mean = sum(r.points for r in marked) / len(marked)
        broken = sum(bool(r.errors) for r in marked)
        body += [
            f"<h2>Exercise {id}: {escape(lessons.read(id).title)}</h2>",
            f"<p>{len(marked)} submissions, on average {mean:.1f} of {load(id).points} points from "
            f"the laws; in {broken} some cell does not run.</p>",
            "<table><tr><th>Law</th><th>holds for</th><th></th><th>The commonest mistake</th></tr>",
        ]
        body += rows_of_class(id, marked) + ["</table>"]
    missing = [r.file for r in results if not r.marks]
    if missing:
        body.append(f"<p>Not marked by these laws: {escape(', '.join(missing))}</p>")
    return page("The class", body)


def rows_of_class(id: str, marked: list[Result]) -> list[str]:
    labels, rows = lessons.short_names(id), []
    for law in load(id).laws:
        marks = [m for r in marked for m in r.marks if m.law == law]
        right = sum(not m.message for m in marks)
        slips = Counter(mistake(m) for m in marks if m.message).most_common(1)
        common = f"{pretty(slips[0][0])} ({slips[0][1]} of {len(marks)})" if slips else ""
        share = right / max(len(marks), 1)
        bar = f'<span class="bar" style="width: {4 * share:.1f}rem"></span> {share:.0%}'
        label = f"{labels[law.name]}"
        row = f"<td>{label}</td><td>{bar}</td><td>{pretty(law.statement)}</td><td>{common}</td>"
        rows.append((share, f"<tr>{row}</tr>"))
    return [row for _, row in sorted(rows, key=lambda x: x[0])]


def mistake(mark: Mark) -> str:
    """What went wrong, without the numbers of one submission."""
    if mark.slip:
        return mark.slip
    known = ("is not written yet", "There is no function", "gave nothing", "raised", "has shape")
    return next((f"… {word} …" for word in known if word in mark.message), "another")


# --------------------------------------------------------------------------- names


def name(file: str) -> str:
    """The last two parts of a path: submissions often have the same name."""
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
