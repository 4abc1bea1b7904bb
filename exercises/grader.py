"""Mark a submission from outside: its code runs in a confined process, the laws run here.

The process gets the submission's cells and then calls; it sends back numbers. Nothing that it says
about itself counts: a law compares the numbers with its own. What a submission does can cost only
that submission: time, memory, processes, file size, output and answers are limited.
"""

import hashlib
import json
import math
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from exercises import lessons
from exercises.grading.child import encode
from exercises.grading.files import folder, notebook_name
from exercises.laws import IDS, Mark, judge, load

HERE = Path(__file__).resolve().parent
CONFINE = HERE / "grading" / "confine.py"
CHILD = (HERE / "grading" / "child.py").read_text("utf-8")
NOBODY = 65534
LONGEST_TEXT, MOST_TEXTS = 20_000, 100  # answers in words
MOST_VALUES = 8_000_000  # of JSON in a notebook: they take less than a gigabyte
UNPRINTABLE = re.compile(r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\uffff\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Limits:
    seconds: float = 60  # for a submission, from start to the last law
    call_seconds: float = 10  # for one call of a function
    bytes: int = 2 << 30  # memory of all its processes; address space of each
    processes: int = 24  # threads count
    file_bytes: int = 16 << 20
    folder_bytes: int = 64 << 20
    reply_bytes: int = 4 << 20
    notebook_bytes: int = 64 << 20  # with its outputs, which nobody needs
    other_user: bool = True  # where the grader is root: run as nobody

    def __post_init__(self):
        """Raise ValueError for a limit that is not a positive, finite number."""
        for name, value in asdict(self).items():
            number = isinstance(value, (int, float)) and 0 < value < math.inf
            if name != "other_user" and not number:
                raise ValueError(f"{name}={value!r}; a positive number is allowed")


USUAL = Limits()


@dataclass
class Result:
    """What became of one submission."""

    file: str
    exercise: str | None
    marks: list[Mark] = field(default_factory=list)
    problem: str | None = None  # why nothing could be marked
    errors: list[str] = field(default_factory=list)  # cells that raised
    texts: dict[str, str] = field(default_factory=dict)  # free text, for a human
    seconds: float = 0.0
    digest: str = ""  # changes with the text of its cells, not with outputs
    failed: bool = False  # the grader's own fault: not to be kept

    @property
    def points(self) -> int:
        return sum(mark.points for mark in self.marks)

    @property
    def most(self) -> int:
        return load(self.exercise).points if self.exercise else 0

    def record(self) -> dict:
        """As plain data, for the journal."""
        marks = {m.law.name: [m.message, m.call, m.slip] for m in self.marks}
        rest = {k: v for k, v in asdict(self).items() if k != "marks"}
        return rest | {"marks": marks}

    @classmethod
    def of(cls, record: dict) -> "Result":
        laws = (
            {law.name: law for law in load(record["exercise"]).laws} if record["exercise"] else {}
        )
        marks = [Mark(laws[name], *rest) for name, rest in record["marks"].items()]
        return cls(**(record | {"marks": marks}))


# --------------------------------------------------------------------------- the notebook


class Unreadable(Exception):
    """The file is not a notebook that can be marked; the message says why."""


def read(path: Path, most: int) -> bytes:
    """The bytes of a plain file of at most `most` bytes; raises Unreadable."""
    try:
        # a pipe or a device would make us wait, or never end
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise Unreadable(f"the file cannot be opened: {error.strerror}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise Unreadable("this is not a plain file")
    with open(descriptor, "rb") as file:
        if status.st_size > most:
            raise Unreadable(
                f"{status.st_size / 2**20:.0f} MB; at most {most >> 20} MB are read. Clear the "
                "outputs of the notebook, or grade with a larger --notebook-megabytes."
            )
        try:
            return file.read(most)
        except OSError as error:
            raise Unreadable(f"the file cannot be read: {error.strerror}") from None


def parse(content: bytes) -> list[dict]:
    """The cells of a notebook: {"kind", "source", "about"}; raises Unreadable."""
    with PARSING:
        notebook = decoded(content)
        if isinstance(notebook, dict) and "cells" not in notebook:
            cells = cells_of_format_3(notebook)
        else:
            cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise Unreadable("this is not a notebook: it has no list of cells")
    found = []
    for number, cell in enumerate(cells, 1):
        source = cell.get("source") if isinstance(cell, dict) else None
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if not isinstance(source, str):
            raise Unreadable(f"cell {number} of the notebook has no source text")
        about = cell.get("metadata")
        about = about.get("nbgrader") if isinstance(about, dict) else None
        about = about if isinstance(about, dict) else {}
        found.append({"kind": cell.get("cell_type"), "source": source, "about": about})
    return found


PARSING = threading.Lock()  # a large notebook takes much memory while it is parsed: one at a time


def decoded(content: bytes):
    """What a file of JSON holds; raises Unreadable, without using much memory, for any other."""
    # objects take up to a hundred times the memory of their text
    values = sum(map(content.count, (b",", b"[", b"{")))
    if values > MOST_VALUES:
        raise Unreadable(f"the file holds {values} values. Clear the outputs of the notebook.")
    try:
        return json.loads(content.decode("utf-8-sig"))  # Windows programs write a byte-order mark
    except UnicodeDecodeError:
        raise Unreadable("the file is not UTF-8 text") from None
    except (ValueError, RecursionError):
        raise Unreadable("the file is not JSON, which a notebook is") from None


def cells_of_format_3(notebook: dict):
    """The cells of a notebook of the old format, which Jupyter still opens, as in format 4."""
    sheets = notebook.get("worksheets")
    sheets = sheets if isinstance(sheets, list) else []
    lists = [x.get("cells") for x in sheets if isinstance(x, dict)]
    cells = [cell for cells in lists if isinstance(cells, list) for cell in cells]
    renamed = lambda c: (
        c | {"source": c.get("input")} if isinstance(c, dict) and "input" in c else c
    )
    return [renamed(cell) for cell in cells] or None


def digest_of(cells: list[dict]) -> str:
    """A name of what stands in the cells."""
    text = json.dumps([[c["kind"], c["source"]] for c in cells])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def which(cells: list[dict]) -> str:
    """The exercise that a notebook answers: the one that it checks; raises Unreadable."""
    code = "\n".join(c["source"] for c in cells if c["kind"] == "code")
    found = re.findall(r"""check\(\s*["'](\d+-\d+)["']""", code)
    if not found or found[0] not in IDS:
        raise Unreadable('no cell says which exercise this is, as check("1-1", globals()) does')
    return found[0]


def free_text(cells: list[dict], exercise: str) -> dict[str, str]:
    """The answers in words: the text that does not stand in the notebook for students.

    Each is named by its cell's nbgrader metadata, if the editor has kept them. Text beyond the
    limits is cut, and a note says so.
    """
    printed = parse((folder(exercise) / notebook_name(exercise)).read_bytes())
    known = {c["source"].strip() for c in printed} | {""}
    known |= {part.rubric.strip() for part in lessons.read(exercise).parts}
    found = {}
    for cell in cells:
        text = cell["source"]
        if cell["kind"] not in ("markdown", "raw", "heading") or text.strip() in known:
            continue
        if len(found) == MOST_TEXTS:
            found["more"] = f"There are more than {MOST_TEXTS} texts: see the notebook."
            break
        name = cell["about"].get("grade_id") or f"{exercise} text {len(found) + 1}"
        name = clean(str(name))[:80]
        if name in found:  # a cell that was copied
            name = f"{name} ({len(found) + 1})"
        cut = f" [cut here, of {len(text)} characters]" if len(text) > LONGEST_TEXT else ""
        found[name] = clean(text, LONGEST_TEXT) + cut
    return found


# --------------------------------------------------------------------------- the process


class Died(Exception):
    """The process ended, went silent or said too much; the message says which."""


def plan_for(folder: Path, limits: Limits, channel: int) -> dict:
    site = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    roots = {sys.prefix, sys.base_prefix, os.path.realpath(sys.executable), *site}
    roots |= {sysconfig.get_path("stdlib"), "/usr", "/lib", "/lib64", "/sys/devices/system/cpu"}
    roots |= {"/etc/ld.so.cache", "/etc/localtime", "/proc/cpuinfo", "/proc/meminfo"}
    if package := find_spec("nettrain"):  # installed for development, it lies elsewhere
        roots.add(os.path.dirname(os.path.realpath(package.origin)))
    readable = sorted({os.path.realpath(p) for p in roots if os.path.exists(p)})
    root = limits.other_user and getattr(os, "getuid", lambda: 1)() == 0
    return {
        "channel": channel,
        "folder": str(folder),
        "readable": readable,
        "hidden": str(HERE),
        "proc": False,
        "user": NOBODY if root and all(map(open_to_all, readable)) else None,
        "private": private(readable) if root else [],
        "address_bytes": limits.bytes,
        "file_bytes": limits.file_bytes,
        "folder_bytes": limits.folder_bytes,
        "cpu_seconds": int(2 * limits.seconds) + 1,
        "processes": limits.processes,
        "environment": {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "MPLBACKEND": "agg",
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            **{f"{p}_NUM_THREADS": "1" for p in ("OMP", "OPENBLAS", "MKL")},
        },
    }


def open_to_all(path: str | Path) -> bool:
    """Whether every user may read, and enter, what lies there."""
    mode = os.stat(path).st_mode
    wanted = 0o005 if stat.S_ISDIR(mode) else 0o004
    return mode & wanted == wanted


def private(paths: list[str]) -> list[str]:
    """The outermost folders on the way to these paths that other users may not enter."""
    ways = [list(Path(path).parents)[::-1] for path in paths]
    found = (next((p for p in way if not open_to_all(p)), None) for way in ways)
    return sorted({str(p) for p in found if p})


class Process:
    """A confined process that ran the cells of a submission and answers calls."""

    def __init__(self, cells: list[str], limits: Limits, deadline: float):
        self._limits, self._deadline, self._rest = limits, deadline, b""
        self._folder = Path(tempfile.mkdtemp(prefix="submission-"))
        self._channel, theirs = socket.socketpair()
        plan = plan_for(self._folder, limits, theirs.fileno())
        if plan["user"] is not None:
            os.chown(self._folder, plan["user"], plan["user"])
        command = [sys.executable, "-I", "-c", CHILD, str(theirs.fileno())]
        start = [sys.executable, "-I", "-S", str(CONFINE), json.dumps(plan), *command]
        nothing = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        self._process = subprocess.Popen(
            start,
            **nothing,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            cwd=self._folder,
            env={},
        )
        theirs.close()
        try:
            self.steps = self._hear(limits.seconds).get("steps", {})
            site = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
            self._say({"cells": cells, "site": site})
            errors = self._hear(limits.seconds).get("ran")
        except Died:
            self.close()
            raise
        ran = isinstance(errors, list) and all(isinstance(e, str) for e in errors)
        self.errors = [clean(e) for e in errors[:20]] if ran else []

    def call(self, name: str, args: tuple) -> dict:
        """The reply of the student's process to one call; raises Died."""
        self._say({"call": name, "args": [encode(a) for a in args]})
        reply = self._hear(self._limits.call_seconds)
        if isinstance(error := reply.get("error"), str):
            return {"error": clean(error)[:80], "text": clean(str(reply.get("text", "")))[:300]}
        return {"value": reply.get("value"), "precision": reply.get("precision")}

    def _say(self, message: dict) -> None:
        self._channel.settimeout(max(0.01, self._deadline - time.monotonic()))
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise Died("The process ended, or read nothing, while it was asked.") from None

    def _hear(self, seconds: float) -> dict:
        until = min(time.monotonic() + seconds, self._deadline)
        parts, size = [self._rest], len(self._rest)
        while b"\n" not in parts[-1]:
            if size > self._limits.reply_bytes:
                raise Died(f"An answer was longer than {self._limits.reply_bytes >> 20} MB.")
            if (left := until - time.monotonic()) <= 0:
                raise Died("No answer within the time limit: is there a loop that never ends?")
            family = descendants(self._process.pid)
            if len(family) > self._limits.processes:
                raise Died(f"More than {self._limits.processes} processes were started.")
            if memory(family) > self._limits.bytes:
                raise Died(f"More than {self._limits.bytes >> 20} MB of memory were used.")
            self._channel.settimeout(min(left, 0.25))
            try:
                part = self._channel.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError:
                part = b""
            if not part:
                raise Died("The process ended before it answered (exit, or out of memory?).")
            parts.append(part)
            size += len(part)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise Died("The process sent something that is not an answer.") from None
        if not isinstance(message, dict):
            raise Died("The process sent something that is not an answer.")
        return message

    def close(self) -> None:
        """End the process, all that it started, and its folder."""
        self._channel.close()
        stopped = set()
        while new := set(descendants(self._process.pid)) - stopped:  # what forked meanwhile
            send(signal.SIGSTOP, new)
            stopped |= new
        send(signal.SIGKILL, [*stopped, self._process.pid])
        send(signal.SIGKILL, [-self._process.pid])  # its group, where there is no /proc
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def send(which: int, processes) -> None:
    for pid in processes:
        try:
            os.kill(pid, which)
        except ProcessLookupError:
            pass  # it has ended


def clean(text: str, most: int = 500) -> str:
    """Text of a submission without control characters and halves of code points."""
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text[:most])


def descendants(pid: int) -> list[int]:
    """Process ids of all that a process started, as far as /proc tells."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def memory(processes: list[int]) -> int:
    """Resident bytes of processes."""
    pages = 0
    for process in processes:
        try:
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


# --------------------------------------------------------------------------- marking


def grade(path: Path, *, seed: int, exercise: str | None = None, limits: Limits = USUAL) -> Result:
    """Mark one submission; never raises for what stands in the file or what its code does."""
    try:
        content = read(path, limits.notebook_bytes)
    except Unreadable as error:
        return Result(str(path), exercise, problem=str(error))
    return grade_content(content, str(path), seed=seed, exercise=exercise, limits=limits)


def grade_content(
    content: bytes, file: str, *, seed: int, exercise: str | None = None, limits: Limits = USUAL
) -> Result:
    """Mark the bytes of one submission; never raises for what they are or what their code does."""
    started = time.monotonic()
    result = Result(file, exercise, digest=hashlib.sha256(content).hexdigest()[:12])
    try:
        cells = parse(content)
        result.digest = digest_of(cells)
        result.exercise = exercise or which(cells)
        result.texts = free_text(cells, result.exercise)
        number = int.from_bytes(hashlib.sha256(content).digest()[:4])
        code = [c["source"] for c in cells if c["kind"] == "code"]
        mark(result, code, seed ^ number, limits, started + limits.seconds)
    except Unreadable as error:
        result.problem = str(error)
    except Exception as error:  # a fault of ours, or of this machine, costs no other submission
        result.problem = f"the grader itself failed: {type(error).__name__}: {clean(str(error))}"
        result.failed = True
    result.seconds = round(time.monotonic() - started, 2)
    return result


def mark(result: Result, code: list[str], seed: int, limits: Limits, deadline: float) -> None:
    """Try every law; a process that dies costs the law that asked it, and is started again."""
    laws = load(result.exercise).laws
    process = None
    try:
        for law in laws:
            try:
                if process is None:
                    process = Process(code, limits, deadline)
                    result.errors = process.errors
            except Died as error:
                result.problem = f"The notebook's cells did not run to their end. {error}"
                result.marks += [Mark(x, result.problem) for x in laws[len(result.marks) :]]
                return
            try:
                result.marks.append(judge(law, process.call, seed))
            except Died as error:
                result.marks.append(Mark(law, f"`{law.part}`: {error}"))
                process.close()
                process = None
    finally:
        if process is not None:
            process.close()


# --------------------------------------------------------------------------- what is enforced

PROBE = """
import os, socket
import numpy

def half():
    return numpy.ones(4).mean() / 2

def tried(action):
    try:
        action()
        return 1
    except BaseException:
        return 0

def network(port):
    return tried(lambda: socket.create_connection(("127.0.0.1", port), timeout=2))

def outside(path):
    return tried(lambda: open(decoded(path) + "/probe", "w"))

def solutions(path):
    return tried(lambda: open(decoded(path) + "/laws.py").read())

def signals(pid):
    return tried(lambda: os.kill(pid, 0))

def processes(most):
    children, ends = [], []
    def fork():
        for _ in range(most + 1):
            r, w = os.pipe()
            ends.append(w)
            if (pid := os.fork()) == 0:
                os.close(w)
                os.read(r, 1)
                os._exit(0)
            os.close(r)
            children.append(pid)
    result = tried(fork)
    import signal
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return result

def memory(most):
    return tried(lambda: bytearray(most + 1).pop())

def disk(most):
    def fill():
        for i in range(most // 2**20 + 1):
            with open(f"fill{i}", "wb") as f:
                f.write(bytes(2**20))
    result = tried(fill)
    for name in os.listdir():
        os.remove(name)
    return result

def decoded(path):
    return bytes(int(i) for i in path).decode()
"""

FORBIDDEN = {  # what a submission must not be able to do
    "network": "open network connections",
    "outside": "write outside its folder",
    "solutions": "read the laws and solutions",
    "signals": "send signals to other processes",
    "processes": "start any number of processes",
    "memory": "use any amount of memory in one process",
    "disk": "fill the disk",
}


def probe(limits: Limits = USUAL) -> dict[str, bool]:
    """Try what a submission must not do, in a process like a submission's.

    Returns {name: True if it is prevented here}, with the names of FORBIDDEN.
    """
    inside = lambda path: np.array(list(os.fsencode(path)), dtype=np.int64)
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as open_:
        os.chmod(open_, 0o777)
        questions = {
            "network": server.getsockname()[1],
            "outside": inside(open_),
            "solutions": inside(HERE),
            "signals": os.getpid(),
            "processes": limits.processes,
            "memory": limits.bytes,
            "disk": limits.folder_bytes,
        }
        process = Process([PROBE], limits, time.monotonic() + limits.seconds)
        try:
            return {
                name: process.call(name, (value,)).get("value") == 0
                for name, value in questions.items()
            }
        finally:
            process.close()


def workable(limits: Limits) -> Limits:
    """Limits under which an honest submission works here; raises RuntimeError if there are none.

    The user nobody may be unable to read this Python, whose files belong to root.
    """
    for possible in (limits, replace(limits, other_user=False)):
        try:
            process = Process([PROBE], possible, time.monotonic() + limits.seconds)
        except Died as error:
            why = str(error)
            continue
        try:
            if process.call("half", ()).get("value") == 0.5:
                return possible
            why = "; ".join(process.errors)
        except Died as error:
            why = str(error)
        finally:
            process.close()
    raise RuntimeError(f"not even an honest submission would work here: {why}")


def fresh_seed() -> int:
    return secrets.randbits(32)
