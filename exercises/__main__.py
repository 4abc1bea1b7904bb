"""python -m exercises grade FILES --csv marks.csv     mark submissions
python -m exercises blank                            write each exercise.ipynb out of its solution
python -m exercises fetch FOLDER                     copy the six exercise.ipynb there
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from exercises import blank, grader, report
from exercises.laws import IDS


def arguments(argv=None):
    parser = argparse.ArgumentParser(prog="python -m exercises", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("blank", help="write each exercise.ipynb out of its solution.ipynb")
    copy = commands.add_parser("fetch", help="copy the six notebooks for students into a folder")
    copy.add_argument("folder", type=Path)
    mark = commands.add_parser("grade", help="mark submissions")
    mark.add_argument("files", nargs="+", type=Path, metavar="FILE")
    mark.add_argument("--csv", type=Path, required=True, help="where the marks go")
    mark.add_argument("--jobs", type=int, default=os.cpu_count(), help="submissions at a time")
    mark.add_argument(
        "--feedback", type=Path, help="folder for the pages (default: beside the csv)"
    )
    mark.add_argument("--exercise", choices=IDS, help="default: what the notebook checks")
    mark.add_argument("--seed", type=int, help="same seed, same submission: same marks")
    mark.add_argument("--seconds", type=float, default=60, help="for a submission")
    mark.add_argument("--call-seconds", type=float, default=10, help="for one call of a function")
    mark.add_argument("--megabytes", type=int, default=2048, help="memory for a submission")
    return parser.parse_args(argv)


class Journal:
    """One JSON line per submission that is done; a run that was killed goes on behind the last.

    The first line holds the seed and the version of the laws. A torn last line is forgotten.
    """

    def __init__(self, path: Path, seed: int | None):
        self.done, lines = {}, []
        if path.exists():
            for line in path.read_bytes().split(b"\n"):
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    break
        head = lines[0] if lines else {}
        self.seed = seed if seed is not None else head.get("seed", grader.fresh_seed())
        same = head == {"seed": self.seed, "version": version()}
        for line in lines[1:] if same else []:
            self.done[line["file"], line["key"]] = line
        self._lock = threading.Lock()
        part = path.with_name(path.name + ".part")
        with open(part, "w", encoding="utf-8") as f:
            f.write(json.dumps({"seed": self.seed, "version": version()}) + "\n")
            f.writelines(json.dumps(line) + "\n" for line in self.done.values())
        part.replace(path)
        self._file = open(path, "a", encoding="utf-8")

    def add(self, record: dict) -> None:
        with self._lock:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def version() -> str:
    """Changes with the laws and the grader: then nothing of an old journal counts."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    files = [f for f in files if "wrong" not in f.parts]
    return hashlib.sha256(b"\0".join(f.read_bytes() for f in files)).hexdigest()[:16]


def key(path: Path, options) -> str:
    """Changes with the submission and with what may change its marks."""
    settings = [options.exercise, options.seconds, options.call_seconds, options.megabytes]
    h = hashlib.sha256(json.dumps(settings).encode())
    try:
        h.update(grader.read(path, grader.Limits.notebook_bytes))
    except grader.Unreadable as error:
        h.update(str(error).encode())
    return h.hexdigest()[:16]


def grade(options) -> int:
    limits = grader.Limits(
        seconds=options.seconds,
        call_seconds=options.call_seconds,
        bytes=options.megabytes << 20,
    )
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    feedback = options.feedback or options.csv.with_suffix("")
    feedback.mkdir(parents=True, exist_ok=True)
    limits = grader.workable(limits)
    print(report.enforced(grader.probe(limits)), file=sys.stderr)
    journal = Journal(options.csv.with_name(options.csv.name + ".journal"), options.seed)
    files = list(dict.fromkeys(options.files))
    keys = {path: key(path, options) for path in files}
    results = {}

    def one(path):
        known = journal.done.get((str(path), keys[path]))
        if known:
            return grader.Result.of({k: v for k, v in known.items() if k != "key"}), True
        marked = grader.grade(path, seed=journal.seed, exercise=options.exercise, limits=limits)
        journal.add(marked.record() | {"key": keys[path]})
        return marked, False

    kept = 0
    pool = ThreadPoolExecutor(max_workers=max(1, options.jobs))
    try:
        jobs = {pool.submit(one, path): path for path in files}
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="submissions", unit=""):
            result, old = job.result()
            kept += old
            results[jobs[job]] = result
            write(feedback / report.page_name(result.file), report.feedback(result))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        journal.close()
        marked = [results[path] for path in files if path in results]
        write(options.csv, report.table(marked, journal.seed))
        write(feedback / "free_text.html", report.free_text(marked))
    print(
        f"{len(marked)} submissions, {kept} of them marked before; seed {journal.seed}; "
        f"marks in {options.csv}, pages in {feedback}",
        file=sys.stderr,
    )
    return 0


def write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(text.encode("utf-8", "replace"))  # a file's name may be no text at all
    part.replace(path)


def main(argv=None) -> int:
    options = arguments(argv)
    if options.command == "grade":
        return grade(options)
    if options.command == "blank":
        blank.write()
    else:
        options.folder.mkdir(parents=True, exist_ok=True)
        for id in IDS:
            source = blank.folder(id) / "exercise.ipynb"
            shutil.copyfile(source, options.folder / f"exercise_{id}.ipynb")
    return 0


if __name__ == "__main__":
    sys.exit(main())
