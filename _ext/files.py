"""Files that are whole at any time: a process that is killed leaves the old one."""

import json
import os
from pathlib import Path


def whole(path: Path, text: str) -> None:
    """Write a text, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text, "utf-8")
    part.replace(path)


def write_json(path: Path, content) -> None:
    whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict:
    """What a file holds; {} if there is none."""
    return json.loads(path.read_text("utf-8")) if path.exists() else {}
