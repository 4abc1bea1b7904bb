"""make quick: the tests of what changed since the last commit, without the book, in about a minute.

A test file belongs to a module if it names it. Where nothing has changed, the last commit counts.
"""

import subprocess
import sys
from pathlib import Path

from tests.mutants import ROOT, SLOW, tests_of


def changed() -> list[Path]:
    """Files that differ from the last commit, new ones too; else those that it changed."""

    def git(*arguments):
        out = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        return out.stdout.splitlines()

    new = git("ls-files", "--others", "--exclude-standard")
    names = git("diff", "--name-only", "HEAD") + new or git("diff", "--name-only", "HEAD~1")
    return [Path(name) for name in names]


def tests(files: list[Path]) -> list[str]:
    """The test files of these files, each once."""
    found = []
    for file in files:
        if file.parts[0] == "nettrain" and file.suffix == ".py":
            found += tests_of(ROOT / file)
        elif file.parts[0] == "tests" and file.name.startswith("test_"):
            found.append(str(file))
    slow = {f"tests/test_{name}.py" for name in SLOW}
    return [f for f in dict.fromkeys(found) if (ROOT / f).exists() and f not in slow]


if __name__ == "__main__":
    chosen = tests(changed())
    if not chosen:  # as after a change of prose: nothing is wrong
        print("no module of nettrain and none of the quick tests has changed")
        raise SystemExit(0)
    print("testing:", " ".join(chosen), flush=True)
    options = ["-n", "2", "--dist", "loadfile", "-m", "not compiler and not slow and not colab"]
    command = [sys.executable, "-m", "pytest", *options, *chosen]
    raise SystemExit(subprocess.call(command, cwd=ROOT))
