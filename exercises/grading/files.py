"""Files are written whole or not at all, whatever kills the process meanwhile."""

import os
import shutil
from pathlib import Path


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
