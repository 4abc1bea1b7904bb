"""Sphinx extension: a page asks for nothing that does not lie in the book itself."""

from importlib.util import find_spec
from pathlib import Path
from shutil import copy2, copytree

# What the formulas need, of 24 MB: a whole bundle with its menu would be twice as large.
MATHJAX = (
    *("startup", "core", "input/tex-base", "output/chtml", "output/chtml/fonts/tex"),
    *("input/tex/extensions/ams", "input/tex/extensions/boldsymbol"),
    *("input/tex/extensions/newcommand", "input/tex/extensions/configmacros"),
    "a11y/assistive-mml",
)


def copy_mathjax(app, exception):
    """Copy these parts of MathJax, and its fonts, out of sphinx-mathjax-offline.

    They are those that `loader` in _config.yml names; others would have to be fetched.
    """
    if exception or app.builder.format != "html":
        return
    source = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "vendor" / "mathjax"
    for name in MATHJAX:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        copy2(source / f"{name}.js", target / f"{name}.js")
    fonts = Path("output", "chtml", "fonts", "woff-v2")
    copytree(source / fonts, target / fonts, dirs_exist_ok=True)


def drop_repeated_scripts(app, pagename, templatename, context, doctree):
    """sphinx-thebe adds its inline script twice; declaring its constants again is an error."""
    seen, keep = set(), []
    for script in context.get("script_files", []):
        body = getattr(script, "attributes", {}).get("body")
        if body is None or body not in seen:
            keep.append(script)
        seen.add(body)
    if "script_files" in context:
        context["script_files"][:] = keep


def setup(app):
    app.connect("build-finished", copy_mathjax)
    app.connect("html-page-context", drop_repeated_scripts, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
