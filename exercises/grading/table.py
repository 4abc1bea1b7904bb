"""marks.csv: what the laws gave, beside what a human has typed.

The table belongs to both. A run writes its own columns in the rows of its own submissions; all
else stays: rows of other submissions, columns that a human has added or filled, the delimiter and
the byte-order mark of the spreadsheet that saved it. Where a human has changed a cell of ours, the
cell's value moves to a separate column, "points (by hand)" for "points".
"""

import codecs
import csv
import io
import math
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from exercises.grader import Result
from exercises.laws import IDS
from exercises.lessons import short_names

CHANGED = "changed since marked by hand"
BEFORE, AFTER = ["file", "exercise", "points", "of"], ["problem", "seconds", "seed", "version"]
WORDS, REMARK = "free text (by hand)", "remark on the free text"
HEAD = [*BEFORE, WORDS, *AFTER, CHANGED]
OURS = {*BEFORE, *AFTER, CHANGED}
LAW = re.compile(r"\d+-\d+ \w+")  # a column of a law
# of these nobody types another value, but spreadsheets do: 1-1 is a date to them, 3.45 a month
NOT_COMPARED = {"file", "exercise", "seconds", "seed", "version", CHANGED}


@dataclass
class Table:
    """The table as a spreadsheet may have saved it: rows are lists of texts, as long as head."""

    head: list[str] = field(default_factory=lambda: list(HEAD))
    rows: list[list[str]] = field(default_factory=list)
    delimiter: str = ","
    first: str = ""  # the line "sep=;" that Excel understands
    bom: bool = False

    def merge(
        self, results: list[Result], seed: int, written: dict[str, list[dict]]
    ) -> tuple[list[dict], list[str]]:
        """Put results into their rows; returns our cells of each row, and files to mark again.

        The files are those that have changed since a human marked them. written: {file: the cells
        of ours that were written there before}; they show which cells a human has changed.
        """
        self.head = [shortened(column) for column in self.head]
        written = {k: [renamed(row) for row in rows] for k, rows in written.items()}
        for column in dict.fromkeys(law for r in results for law in law_columns(r)):
            self._add(column)
        for column in (*BEFORE, *AFTER, CHANGED):
            self._add(column)
        rows, changed = [], []
        places = self._places(results)
        for result in results:
            cells = cells_of(result, seed)
            row = places.get(cells["file"])
            if row is None:
                row = [""] * len(self.head)
                self.rows.append(row)
            else:
                before = [x for x in written.get(cells["file"], []) if same_version(x, self, row)]
                self._set_aside(row, cells, before)
                if (
                    self._judged_by_hand(row)
                    and (old := self.get(row, "version").strip()) != (cells["version"])
                ):
                    self.set(row, CHANGED, "yes" if old else "unknown")
                    changed.append(result.file)
            for column in filter(LAW.fullmatch, self.head):
                self.set(row, column, "")
            for column, value in cells.items():
                self.set(row, column, value)
            rows.append(cells)
        return rows, changed

    def give(self, points: "Table") -> tuple[int, list[str]]:
        """Put in the points for words of the page free_text.html: (rows filled, what was not done).

        Where a human has typed other points before, those stay.
        """
        self._add(WORDS)
        self._add(CHANGED)
        sums, remarks, versions, problems = {}, {}, {}, []
        for row in points.rows:
            file, value = (points.get(row, x).strip() for x in ("file", "points"))
            try:
                number = float(value.replace(",", ".") or "nan")
            except ValueError:
                problems.append(f"{file}: {value!r} is not a number of points")
                continue
            if number < 0 or math.isinf(number):
                problems.append(f"{file}: {value} points; 0 or more are allowed")
                continue
            versions[file] = points.get(row, "version").strip()
            remarks.setdefault(file, []).append(points.get(row, "remark").strip())
            if not math.isnan(number):
                sums[file] = sums.get(file, 0.0) + number
        rows, filled = {self.get(row, "file").strip(): row for row in self.rows}, 0
        for file, version in versions.items():
            if (row := rows.get(file)) is None:
                problems.append(f"{file}: there is no such row")
                continue
            new, old = f"{sums[file]:g}" if file in sums else "", self.get(row, WORDS).strip()
            if old and new and not equal(old, new):
                problems.append(f"{file}: has {old} points already, which stay; not put in: {new}")
                new = ""
            filled += bool(new and not old)
            if new and not old:
                self.set(row, WORDS, new)
                if version and version != self.get(row, "version").strip():
                    self.set(row, CHANGED, "yes")
            if said := "; ".join(filter(None, remarks[file])):
                self._add(REMARK)
                before = self.get(row, REMARK).strip()
                if said not in before:
                    self.set(row, REMARK, f"{before}; {said}" if before else plain(said))
        return filled, problems

    def get(self, row: list[str], column: str) -> str:
        return row[self.head.index(column)] if column in self.head else ""

    def set(self, row: list[str], column: str, value: str) -> None:
        row[self.head.index(column)] = value

    def text(self) -> str:
        out = io.StringIO(newline="")
        out.write("\ufeff" * self.bom + self.first)
        csv.writer(out, delimiter=self.delimiter).writerows([self.head, *self.rows])
        return out.getvalue()

    def _add(self, column: str) -> None:
        """Add a column if it is missing: a law after the last law, others at the end."""
        if column in self.head:
            return
        at = len(self.head)
        if LAW.fullmatch(column):
            laws = [i for i, name in enumerate(self.head) if LAW.fullmatch(name)]
            at = 1 + (laws[-1] if laws else self.head.index("of") if "of" in self.head else at - 1)
        self._insert(at, column)

    def _insert(self, at: int, column: str) -> None:
        self.head.insert(at, column)
        for row in self.rows:
            row.insert(at, "")

    def _places(self, results: list[Result]) -> dict[str, list[str]]:
        """{file: its row}, also where a spreadsheet has put "?" for letters that it cannot save."""
        found = {}
        for row in self.rows:
            found.setdefault(self.get(row, "file").strip(), row)
        names = [file_cell(r.file) for r in results]
        narrow = [name.encode("cp1252", "replace").decode("cp1252") for name in names]
        for name, other in zip(names, narrow, strict=True):
            if name not in found and other in found and narrow.count(other) == 1:
                found[name] = found.pop(other)
        return found

    def _set_aside(self, row: list[str], cells: dict, before: list[dict]) -> None:
        """Move what a human has typed over cells of ours to separate columns."""
        ours = [c for c in self.head if c in OURS - NOT_COMPARED or LAW.fullmatch(c)]
        for column in ours:
            value = self.get(row, column)
            known = [cells, *before]
            if not value.strip() or any(equal(value, x.get(column, "")) for x in known):
                continue
            aside = f"{column} (by hand)"
            if aside not in self.head:
                self._insert(self.head.index(column) + 1, aside)
            old = self.get(row, aside).strip()
            self.set(row, aside, f"{old}; {value}" if old and old != value else value)

    def _judged_by_hand(self, row: list[str]) -> bool:
        """Whether a human has typed anything into a row."""
        pairs = zip(self.head, row, strict=True)
        return any(x.strip() and not (c in OURS or LAW.fullmatch(c)) for c, x in pairs)


def read(path: Path) -> Table:
    """The table in a file, or an empty one if there is no file; raises ValueError, OSError."""
    if not path.exists():
        return Table()
    content = path.read_bytes()
    bom = content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ("utf-16" if bom and content[:1] != b"\xef" else "utf-8-sig", "cp1252"):
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            bom = True  # it is saved as UTF-8, which Excel knows by its mark
    else:
        text = content.decode("latin-1")
    if not text.strip("\0\r\n\t ,;"):
        return Table(bom=bom)
    first = ""
    if text.startswith("sep="):
        first, end, text = text.partition("\n")
        first += end
    tables = [parsed(text, delimiter) for delimiter in ",;\t"]
    lines, delimiter = max(tables, key=lambda x: len(x[0][0]) if "file" in x[0][0] else 0)
    if "file" not in lines[0]:
        raise ValueError('it is not a table of marks: its first line has no column "file"')
    width = max(map(len, lines))
    head, *rows = [line + [""] * (width - len(line)) for line in lines if any(line)]
    return Table(head, rows, delimiter, first, bom)


def parsed(text: str, delimiter: str) -> tuple[list[list[str]], str]:
    """Split a text into rows, stripping the names in the first; returns rows and delimiter."""
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error:  # not with this delimiter
        lines = []
    lines = [line for line in lines if line] or [[]]
    return [[name.strip() for name in lines[0]], *lines[1:]], delimiter


def same_version(cells: dict, table: Table, row: list[str]) -> bool:
    return cells.get("version") == table.get(row, "version").strip()


def equal(one: str, other: str) -> bool:
    """Whether two cells say the same: a spreadsheet may write 4,50 for 4.5."""
    if one.split() == other.split():
        return True
    try:
        return float(one.replace(",", ".")) == float(other.replace(",", "."))
    except ValueError:
        return False


def law_columns(result: Result) -> list[str]:
    labels = short_names(result.exercise) if result.marks else {}
    return [f"{result.exercise} {labels[mark.law.name]}" for mark in result.marks]


@cache
def short_columns() -> dict[str, str]:
    """{a law's column in tables of earlier versions: its name now}"""
    return {
        f"{id} {long}{hand}": f"{id} {short}{hand}"
        for id in IDS
        for long, short in short_names(id).items()
        for hand in ("", " (by hand)")
    }


def shortened(column: str) -> str:
    return short_columns().get(column, column)


def renamed(row: dict) -> dict:
    """A row that an earlier version wrote, with the columns' names of now."""
    return {shortened(k): v for k, v in row.items()}


def cells_of(result: Result, seed: int) -> dict[str, str]:
    """The cells of ours in a result's row."""
    cells = {
        "file": result.file,
        "exercise": result.exercise or "",
        "points": result.points,
        "of": result.most,
        **dict(zip(law_columns(result), [m.points for m in result.marks], strict=True)),
        "problem": result.problem or first_error(result),
        "seconds": result.seconds,
        "seed": seed,
        "version": f"v{result.digest}",  # with a letter, so that no spreadsheet sees a number
    }
    return {k: file_cell(v) if k == "file" else str(plain(v)) for k, v in cells.items()}


def first_error(result: Result) -> str:
    """The first cell that did not run, if points are missing."""
    return result.errors[0] if result.errors and result.points < result.most else ""


def file_cell(file: str) -> str:
    """A file's name in the table; bytes that are not text as escapes."""
    return plain(file.encode("utf-8", "backslashreplace").decode("utf-8"))


def plain(value):
    """A cell that no spreadsheet runs as a formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value
