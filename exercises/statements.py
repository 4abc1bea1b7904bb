"""The book's page of an exercise, statement.md, out of solution.ipynb.

It shows the task first: statement, parts with their points, what each function must give (its
docstring), and laws. The code to fill in, hints, a sample of what a wrong answer is told and
solutions are folded; solutions carry the class no-search, by which `_ext/unsearched.py` keeps them
out of the search.
"""

import ast
import re
from pathlib import Path

from exercises import lessons, samples
from exercises.grading.files import folder, notebook_name

ROOT = Path(__file__).parents[1]
SCREEN = ":class-container: nt-screen"  # not on paper, where nothing is filled in or checked


def colab(id: str) -> str:
    """The notebook on Colab, in the repository that _config.yml names."""
    import yaml  # not at the top: an author has it, a student need not

    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    there, branch = config["repository"]["url"], config["repository"]["branch"]
    owner_and_name = there.removeprefix("https://github.com/")
    path = f"exercises/{folder(id).name}/{notebook_name(id)}"
    return f"{config['launch_buttons']['colab_url']}/github/{owner_and_name}/blob/{branch}/{path}"


def points(number: int) -> str:
    return f"{number} point" + "s" * (number != 1)


def unwritten(stub: str) -> str:
    """Functions that have a docstring and nothing else, as the notebook hands them out."""
    lines = stub.splitlines()
    for function in reversed(ast.parse(stub).body):
        lines.insert(function.end_lineno, "    raise NotImplementedError()")
    return "\n".join(lines)


def in_words(function: ast.FunctionDef) -> str:
    """What a function must give: its head, and its docstring as prose."""
    escaped = re.sub(r"([\\*$<\[\]|])", r"\\\1", ast.get_docstring(function))
    paragraphs = [" ".join(p.split()) for p in escaped.split("\n\n")]
    head = f"`{function.name}({ast.unparse(function.args)})`"
    return f"**{head}** " + "\n\n  ".join(paragraphs)


def dropdown(title: str, content: str, *options: str) -> str:
    return "\n".join([f":::{{dropdown}} {title}", *options, "", content.strip(), ":::"])


def page(id: str) -> str:
    """The page's text, in MyST."""
    lesson = lessons.read(id)
    lectures = ", ".join(f"{{doc}}`../../chapters/{name}`" for name in lesson.lectures)
    by_laws = sum(law.points for part in lesson.parts for law in part.laws)
    text = [
        f"# Exercise {id}: {lesson.title}",
        "<!-- made by `python -m exercises blank` out of solution.ipynb: edit that -->",
        f":::{{button-link}} {colab(id)}\n:color: primary\nOpen in Colab\n:::",
        f"Download: {{download}}`{notebook_name(id)} <{notebook_name(id)}>`. "
        f"Read first: {lectures}. "
        f"{points(by_laws)} by laws, {lesson.words} by hand. "
        "How marks are given: {doc}`../index`.",
        "Work in the notebook, on Colab or on your own machine. Or write the functions in a file "
        "beside a clone of the repository, below `import numpy as np`: the last lines of each part "
        "are its checks.",
        lesson.statement,
    ]
    for part in lesson.parts:
        by_hand = ", by hand" if part.words else ""
        text.append(f"## {part.letter}. {part.title}")
        asked = (
            part.text.replace(f" ({part.words} points, by hand)", "") if part.words else part.text
        )
        text.append(f"*{points(part.points).capitalize()}{by_hand}.* {asked}".strip())
        if part.stub:
            text.append("Write:")
            text.append("\n".join(f"- {in_words(f)}" for f in ast.parse(part.stub).body))
            stub = f"```python\n{unwritten(part.stub)}\n```"
            text.append(dropdown("The code to fill in, as in the notebook", stub, SCREEN))
            text.append("Its checks, on new random inputs each time:")
            text.append("\n".join(f"- {points(law.points)}: {law.statement}" for law in part.laws))
            calls = [f'check("{id}", globals(), "{name}")' for name in part.functions]
            lines = "\n".join(["from exercises import check", "", *calls])
            text.append(f"```python\n{lines}\n```")
        text += [dropdown(f"Hint {n}", hint) for n, hint in enumerate(part.hints, 1)]
        if part.stub:
            told = f"```text\n{samples.samples(id)[part.letter]}\n```"
            text.append(dropdown("What a wrong answer is told (a sample)", told, SCREEN))
        solution = f"```python\n{part.solution.rstrip()}\n```" if part.stub else part.solution
        if part.rubric:
            solution += f"\n\n**Points**\n\n{part.rubric}"
        text.append(dropdown("Solution (try first)", solution, ":class-container: no-search"))
    return "\n\n".join(text) + "\n"
