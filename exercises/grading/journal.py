"""The journal of a run: what is marked, so that a run that was stopped goes on where it stopped.

It is only ever appended to, one JSON line at a time and under a lock. Several runs may share it:
each finds what the others have marked, and none can lose it. Its lines are

    {"seed": 7, "version": "..."}                   a run began with this seed and these laws
    {"file": ..., "marks": {...}, "key": ..., "seed": ..., "version": ...}      a submission is done
    {"row": {"file": ..., "points": ..., ...}}      this row was written to marks.csv

A torn line, which a kill leaves behind, is skipped; the next entry begins on a new line.
"""

import hashlib
import json
import os
import threading
from contextlib import contextmanager
from pathlib import Path

from exercises import grader


class Journal:
    """The journal at a path, for runs with one seed: that of `seed`, else of the last run.

    Raises ValueError for a file that is not a journal, OSError for one that cannot be written or
    locked.
    """

    def __init__(self, path: Path, seed: int | None):
        self.path = path
        self.done: dict[tuple[str, str], grader.Result] = {}  # of this seed and these laws
        # file -> its last result; of other laws than these only its answers in words
        self.latest: dict[str, grader.Result] = {}
        self.rows: dict[str, list[dict]] = {}  # file -> rows written to marks.csv, in order
        self._version, self._read = version(), 0
        self._thread = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            with self.locked():
                self._begin(seed)
        except BaseException:
            self.close()
            raise

    def _begin(self, seed: int | None) -> None:
        content = self._rest()
        lines = [x for x in map(line_of, content.split(b"\n")) if x is not None]
        # the first line of a run that was killed at once may be torn
        if content.strip(b"\0\n") and not lines and not content.lstrip(b"\0\n").startswith(b'{"'):
            raise ValueError("it is not a journal: it has no line of JSON")
        if lines and not any(x.keys() == {"seed", "version"} for x in lines):
            raise ValueError("it is not a journal: no line has the seed of a run")
        heads = [x for x in lines if x.keys() == {"seed", "version"}]
        if seed is None:
            seed = heads[-1]["seed"] if heads else grader.fresh_seed()
        if type(seed) is not int or seed < 0:
            raise ValueError(f"its seed is {seed!r}; a whole number from 0 is allowed")
        self.seed = seed
        head = {"seed": seed, "version": self._version}
        self.refresh()
        if not heads or heads[-1] != head:
            self._append([head])

    @contextmanager
    def locked(self):
        """While the lock is held, no other run and no other thread of this one writes."""
        import fcntl  # not at the top: on Windows, which lacks it, students fetch notebooks

        with self._thread:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def known(self, file: str, key: str) -> grader.Result | None:
        """What this run or another one with the same seed has found for a submission."""
        with self.locked():
            self.refresh()
            return self.done.get((file, key))

    def add(self, record: dict) -> None:
        """Note that a submission is marked: its result's record, and "key"."""
        with self.locked():
            self._append([record | {"seed": self.seed, "version": self._version}])

    def wrote(self, rows: list[dict]) -> None:
        """Note the rows that are about to be written to marks.csv; the lock must be held."""
        self._append([{"row": row} for row in rows])

    def refresh(self) -> None:
        """Read what any run has appended since the last time."""
        content = self._rest()
        whole = content.rfind(b"\n") + 1
        for line in content[:whole].split(b"\n"):
            self._take(line_of(line))
        self._read += whole

    def close(self) -> None:
        os.close(self._file)

    def _rest(self) -> bytes:
        parts, at = [], self._read
        while part := os.pread(self._file, 1 << 20, at):
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    def _take(self, line: dict | None) -> None:
        if line is None:
            return
        if isinstance(row := line.get("row"), dict):
            self.rows.setdefault(row.get("file"), []).append(row)
        if "marks" not in line:
            return
        record = {k: v for k, v in line.items() if k not in ("key", "seed", "version")}
        try:
            file, texts, digest = record["file"], record["texts"], record["digest"]
            result = grader.Result(file, record["exercise"], texts=texts, digest=digest)
            if (line["seed"], line["version"]) == (self.seed, self._version):
                result = self.done[file, line["key"]] = grader.Result.of(record)
            self.latest[file] = result
        except (KeyError, TypeError, AttributeError, ValueError):
            pass  # a line that no run has written

    def _append(self, lines: list[dict]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        end = os.fstat(self._file).st_size
        if end and os.pread(self._file, 1, end - 1) != b"\n":
            text = b"\n" + text
        while text:
            text = text[os.write(self._file, text) :]
        os.fsync(self._file)
        self.refresh()


def line_of(line: bytes) -> dict | None:
    """A line of a journal as a dict; None if it is torn or holds no JSON object."""
    try:
        found = json.loads(line.strip(b"\0"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def version() -> str:
    """Changes with the laws and the grader: then no marks of an old journal count."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    files = [f for f in files if "wrong" not in f.parts]
    return hashlib.sha256(b"\0".join(f.read_bytes() for f in files)).hexdigest()[:16]
