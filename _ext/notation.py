r"""Which symbols the mathematics of a lecture uses.

A symbol is a letter with what changes it: `\hat m`, `\mathbf g`, `\beta_1`. A letter with an index
or an exponent is found as it stands and without: `n^l` is `n^l` and `n`.
"""

import re

FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$\n]+?)\$", re.DOTALL)
NOT_MATH = re.compile(r"^(```|:::).*?^\1|`[^`\n]*`", re.DOTALL | re.MULTILINE)
WORDS = re.compile(
    r"\\(?:text|operatorname|mathrm|begin|end|tag|label)\*?\s*\{[^{}]*\}|\\\\\[[^]]*\]"
)
ACCENT = r"\\(?:hat|tilde|bar|mathbf|mathcal|mathfrak|mathbb|boldsymbol)"
BRACES = re.compile(rf"({ACCENT})\s*\{{((?:{ACCENT}\s*)*(?:\\[A-Za-z]+|[A-Za-z]))\}}")
SYMBOL = re.compile(
    rf"(?P<base>(?:{ACCENT}\s*)*(?:\\[A-Za-z]+|\\\||[A-Za-z]))"
    r"(?P<index>\s*[_^]\s*(?:\{[^{}]*\}|\\[A-Za-z]+|[A-Za-z0-9]))?"
)


def symbols(formula: str) -> set[str]:
    r"""The symbols of a formula, as `\hat m_t`: without needless spaces and braces."""
    text, found, place = BRACES.sub(r"\1 \2", WORDS.sub(" ", formula)), set(), 0
    while symbol := SYMBOL.search(text, place):
        base = " ".join(re.findall(r"\\[A-Za-z]+|\\\||[A-Za-z]", symbol["base"]))
        found |= {base, base + re.sub(r"[\s{}]", "", symbol["index"] or "")}
        place = symbol.end("base")
    return found


def formulas(markdown: str) -> list[str]:
    """What stands between dollar signs, outside of code and fences."""
    return [display or inline for display, inline in FORMULA.findall(NOT_MATH.sub("", markdown))]


def used(markdown: str) -> set[str]:
    """The symbols of all formulas of a text."""
    return set().union(*(symbols(formula) for formula in formulas(markdown)))
