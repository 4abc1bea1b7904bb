"""python -m exercises grade FILES --csv marks.csv     mark submissions
python -m exercises points POINTS.csv --csv marks.csv  put in the points given for the words
python -m exercises fetch FOLDER                     copy the seven notebooks there
python -m exercises blank                            write notebooks and pages out of the solutions
"""

import argparse
import hashlib
import json
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.util import find_spec
from pathlib import Path

from exercises import blank, grader
from exercises.grading import report, table
from exercises.grading.files import folder as folder_of
from exercises.grading.files import notebook_name, write_whole
from exercises.grading.journal import Journal
from exercises.laws import IDS


def number(kind, least, most):
    """A type for argparse: a number of a range, else an error that names option and value."""

    def read(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:  # NaN is refused too
            word = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r}; {word} from {least} to {most} is allowed")
        return value

    return read


def arguments(argv=None):
    """The options of a command; ends the program with a message for any that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m exercises",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("blank", help="write notebooks and pages out of each solution.ipynb")
    copy = commands.add_parser("fetch", help="copy the seven notebooks for students into a folder")
    copy.add_argument("folder", type=Path, help="what is in it already stays as it is")
    give = commands.add_parser("points", help="put the points for words into the table")
    give.add_argument("points", type=Path, metavar="POINTS", help="as free_text.html saves it")
    give.add_argument("--csv", type=Path, required=True, help="the table of marks")
    mark = commands.add_parser("grade", help="mark submissions")
    mark.add_argument("files", nargs="+", type=Path, metavar="FILE")
    mark.add_argument("--csv", type=Path, required=True, help="where the marks go")
    mark.add_argument(
        "--jobs", type=number(int, 1, 1024), default=os.cpu_count() or 1, help="at a time"
    )
    mark.add_argument(
        "--feedback", type=Path, help="folder for the pages (default: beside the csv)"
    )
    mark.add_argument("--exercise", choices=IDS, help="default: what the notebook checks")
    mark.add_argument(
        "--seed", type=number(int, 0, 2**64), help="same seed, same submission: same marks"
    )
    seconds = number(float, 0.1, 86400)
    mark.add_argument("--seconds", type=seconds, default=60, help="for a submission")
    mark.add_argument("--call-seconds", type=seconds, default=10, help="for one function call")
    mark.add_argument(
        "--megabytes", type=number(int, 1, 2**20), default=2048, help="memory for a submission"
    )
    mark.add_argument(
        "--notebook-megabytes",
        type=number(int, 1, 4096),
        default=grader.USUAL.notebook_bytes >> 20,
        help="largest notebook that is read, with its outputs (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    if options.command == "grade":
        check_paths(options, mark.error)
    elif options.command == "fetch" and options.folder.exists() and not options.folder.is_dir():
        copy.error(f"argument folder: {options.folder} is a file; a folder is needed")
    return options


def check_paths(options, error) -> None:
    """Fill in the default of --feedback, make the folders, and see that all can be written."""
    for path in options.files:
        if not os.path.lexists(path):
            error(f"argument FILE: {path} does not exist")
    file = options.csv
    if file.is_dir():
        error(f"argument --csv: {file} is a folder; a file is needed")
    if file.exists() and not file.is_file():
        error(f"argument --csv: {file} is not a plain file")
    if file.exists() and not os.access(file, os.W_OK):
        error(f"argument --csv: {file} is protected against writing")
    if options.feedback is None:
        options.feedback = (
            file.with_suffix("") if file.suffix else file.with_name(file.name + "_feedback")
        )
    for option, folder in (("--csv", file.parent), ("--feedback", options.feedback)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            error(f"argument {option}: {folder} cannot be a folder: {problem.strerror}")
        if not os.access(folder, os.W_OK | os.X_OK):
            error(f"argument {option}: nothing can be written to the folder {folder}")
    try:
        table.read(file)
    except (OSError, ValueError) as problem:
        error(f"argument --csv: {file} cannot be used: {problem}")
    if find_spec("IPython") is None:
        error("to read magics the grader needs IPython: pip install ipython")
    if find_spec("fcntl") is None:
        error("submissions can be graded on Linux and macOS, not on this system")


def key(content: bytes, options) -> str:
    """Changes with the submission and with what may change its marks."""
    settings = [options.exercise, options.seconds, options.call_seconds, options.megabytes]
    h = hashlib.sha256(json.dumps(settings).encode())
    h.update(content)
    return h.hexdigest()[:16]


def grade(options) -> int:
    from tqdm import tqdm  # not at the top: students, who fetch notebooks, need numpy only

    limits = grader.Limits(
        seconds=options.seconds,
        call_seconds=options.call_seconds,
        bytes=options.megabytes << 20,
        notebook_bytes=options.notebook_megabytes << 20,
    )
    path = options.csv.with_name(options.csv.name + ".journal")
    try:
        journal = Journal(path, options.seed)
    except (OSError, ValueError) as error:
        sys.exit(f"argument --csv: the journal {path} cannot be used: {error}")
    try:
        try:
            limits = grader.workable(limits)
            print(report.enforced(grader.probe(limits)), file=sys.stderr)
        except (OSError, RuntimeError, grader.Died) as error:
            sys.exit(
                f"{error}\nThe limits were --megabytes {options.megabytes}, "
                f"--seconds {options.seconds:g} and --call-seconds {options.call_seconds:g}."
            )
        files = list(dict.fromkeys(options.files))
        results, kept = {}, 0

        def one(path):
            """Mark a submission; returns its result, and True if it was marked before."""
            try:
                content = grader.read(path, limits.notebook_bytes)
            except grader.Unreadable as error:
                return grader.Result(str(path), options.exercise, problem=str(error)), False
            name = key(content, options)
            if known := journal.known(str(path), name):
                return known, True
            marked = grader.grade_content(
                content, str(path), seed=journal.seed, exercise=options.exercise, limits=limits
            )
            if not marked.failed:
                journal.add(marked.record() | {"key": name})
            return marked, False

        pool = ThreadPoolExecutor(max_workers=options.jobs)
        try:
            jobs = {pool.submit(one, path): path for path in files}
            for job in tqdm(as_completed(jobs), total=len(jobs), desc="submissions", unit=""):
                result, old = job.result()
                kept += old
                results[jobs[job]] = result
                with journal.locked():
                    page = options.feedback / report.page_name(result.file)
                    write_whole(page, report.feedback(result))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            marked = [results[path] for path in files if path in results]
            changed = write(options, journal, marked)
    except OSError as error:
        sys.exit(f"{error}\nWhat is marked is safe in {path}: run the same command again.")
    finally:
        journal.close()
    if changed:
        print(
            f"CHANGED since marked by hand, read again: {', '.join(changed)}\n"
            f'The table has "yes" there under "{table.CHANGED}"; delete it when you have.',
            file=sys.stderr,
        )
    print(
        f"{len(marked)} submissions, {kept} of them marked before; seed {journal.seed}; "
        f"marks in {options.csv}, pages in {options.feedback}",
        file=sys.stderr,
    )
    return 0


def write(options, journal: Journal, marked: list[grader.Result]) -> list[str]:
    """Put results into the table, and all answers in words on their page.

    Returns the submissions that have changed since a human marked them.
    """
    with journal.locked():
        journal.refresh()
        try:
            # as it is now: a human, or another run, may have written to it meanwhile
            marks = table.read(options.csv)
        except ValueError as error:
            sys.exit(
                f"{options.csv} cannot be used any more: {error}\nWhat is marked is safe in "
                f"{journal.path}: move the table away and run the same command again."
            )
        rows, changed = marks.merge(marked, journal.seed, journal.rows)
        new = [row for row in rows if row not in journal.rows.get(row["file"], [])]
        journal.wrote(new)  # before the table, so that no cell of ours is taken for a human's
        write_whole(options.csv, marks.text())
        latest = journal.latest | {r.file: r for r in marked}
        results = [latest[file] for file in sorted(latest)]
        given = {marks.get(row, "file"): marks.get(row, table.WORDS) for row in marks.rows}
        write_whole(options.feedback / "free_text.html", report.free_text(results, given))
        write_whole(options.feedback / "class.html", report.of_class(results))
    return changed


def points(options) -> int:
    """Put the points of a file that free_text.html saved into the table; 1 if some stay out."""
    path = options.csv.with_name(options.csv.name + ".journal")
    for argument, file in (("--csv", options.csv), ("POINTS", options.points)):
        if not file.is_file():
            sys.exit(f"argument {argument}: {file} does not exist")
    try:
        journal = Journal(path, None)
    except (OSError, ValueError) as error:
        sys.exit(f"argument --csv: the journal {path} cannot be used: {error}")
    try:
        with journal.locked():
            marks, given = table.read(options.csv), table.read(options.points)
            if not given.rows or "points" not in given.head:
                raise ValueError(f"{options.points} holds no points")
            filled, problems = marks.give(given)
            write_whole(options.csv, marks.text())
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    finally:
        journal.close()
    print(*problems, f"{filled} rows filled in {options.csv}", sep="\n", file=sys.stderr)
    return bool(problems)


def fetch(folder: Path) -> None:
    """Copy the notebooks for students into a folder; what is there already stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for id in IDS:
        content = (folder_of(id) / notebook_name(id)).read_bytes()
        path = folder / notebook_name(id)
        if not os.path.lexists(path):
            write_whole(path, content)
        elif not path.is_file() or path.read_bytes() != content:
            print(
                f"{path} is there already and stays as it is; to start again, rename it first",
                file=sys.stderr,
            )


def main(argv=None) -> int:
    options = arguments(argv)
    if options.command == "grade":
        return grade(options)
    if options.command == "points":
        return points(options)
    if options.command == "blank":
        try:
            blank.write()
        except (OSError, ValueError) as error:
            sys.exit(str(error))
    else:
        try:
            fetch(options.folder)
        except OSError as error:
            sys.exit(f"argument folder: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
