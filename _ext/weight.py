"""Sphinx extension: pages load what they use.

The theme brings 1.5 MB of script for a dozen icons, and the index of the search to every page;
Sphinx brings MathJax to pages without a formula. Here icons are masks in a style sheet of a few
kilobytes, the index waits on the page of the search, and MathJax comes where there is mathematics.
"""

import re
from functools import cache
from pathlib import Path
from urllib.parse import quote

import pydata_sphinx_theme

HEAVY = "fontawesome|searchtools|language_data|searchindex"
ICONS = (  # those of the theme's buttons; a test looks for others in the pages
    *("angle-left", "angle-right", "arrow-up", "bars", "circle-half-stroke", "download", "expand"),
    *("file", "file-pdf", "list", "magnifying-glass", "moon", "rocket", "sun", "xmark"),
)
LOOK = """
.fa-solid { display: inline-block; width: 1.25em; height: 1em; vertical-align: -0.125em;
  background: currentColor; mask: var(--icon) center / contain no-repeat; }
.fa-lg { font-size: 1.25em; vertical-align: -0.2em; }
@media (forced-colors: active) { .fa-solid { background: ButtonText; forced-color-adjust: none; } }
"""


@cache
def icons() -> str:
    """A style sheet with the theme's own drawings of its icons, Font Awesome's.

    Raises ValueError for an icon that is not among them.
    """
    theme = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
    script = (theme / "scripts" / "fontawesome.js").read_text()
    rules = []
    for name in ICONS:
        entry = rf'(?<![\w-])"?{name}"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","(M[^"]*)"\]'
        if not (found := re.search(entry, script)):
            raise ValueError(f"weight: the theme has no icon {name!r}")
        width, height, path = found.groups()
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
            f'<path d="{path}"/></svg>'
        )
        rules.append(f".fa-{name} {{ --icon: url('data:image/svg+xml,{quote(svg)}'); }}")
    return LOOK + "\n".join(rules)


def without_heavy_scripts(head: str) -> str:
    """A template's text without the tags of the scripts that pages do without."""
    return re.sub(rf'<script[^>]*src="[^"]*({HEAVY})\.js[^"]*"[^>]*></script>\s*', "", head)


def has_mathematics(body: str) -> bool:
    return re.search(r'class="math\b', body) is not None


def prepare(app) -> None:
    """Tell the templates of the filter."""
    if templates := getattr(app.builder, "templates", None):
        templates.environment.filters["without_heavy_scripts"] = without_heavy_scripts


def lighten(app, pagename, templatename, context, doctree) -> None:
    """Leave MathJax out of a page without a formula."""
    context["icons"] = icons()
    if "script_files" not in context or has_mathematics(context.get("body", "")):
        return
    context["script_files"][:] = [s for s in context["script_files"] if not is_mathjax(s)]


def is_mathjax(script) -> bool:
    body = getattr(script, "attributes", {}).get("body") or ""
    return "mathjax" in str(getattr(script, "filename", "") or "") or "window.MathJax" in body


def setup(app):
    app.connect("builder-inited", prepare)
    app.connect("html-page-context", lighten, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
