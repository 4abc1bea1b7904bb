"""Where an exercise lies, and how files are written: whole or not at all, whatever happens."""

import os
import shutil
from pathlib import Path

EXERCISES = Path(__file__).parents[1]


def folder(id: str) -> Path:
    """The folder of an exercise."""
    return EXERCISES / f"ex{id.replace('-', '_')}"


def notebook_name(id: str) -> str:
    """The file name of the notebook that students get."""
    return f"exercise_{id}.ipynb"


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file, or the file that a link leads to, at once; raises OSError.

    Text is written as UTF-8; bytes of a file's name that are not text become escapes.
    """
    path = Path(os.path.realpath(path))
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        shutil.copymode(path, part)
    part.replace(path)
