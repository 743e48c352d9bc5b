"""A csv table for recordings: labels, patient, age, sex, device and site of each record."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecgtransfer.corpus.readers.statements import split_codes
from ecgtransfer.errors import CorpusError

#: Columns that are read; `record` is required.
COLUMNS = ("record", "labels", "patient", "age", "sex", "fold", "device", "site")

#: Extensions of signal files, which record names in a table may include.
ENDINGS = (".hea", ".dat", ".mat", ".npy", ".npz", ".csv")

#: Separators between the labels of a record.
LABEL_SEPARATORS = ";|"

#: Number of examples in a message.
EXAMPLES = 5


@dataclass(frozen=True)
class TableRow:
    """One row of the table; missing values are empty."""

    record: str
    codes: tuple[str, ...]
    patient: str
    age: str
    sex: str
    fold: int | None
    device: str
    site: str


@dataclass(frozen=True)
class RecordTable:
    """Rows of a table by record name.

    Attributes:
        path: path of the table.
        rows: row of each record.
        has_labels: whether there is a column `labels`.
    """

    path: Path
    rows: dict[str, TableRow]
    has_labels: bool

    def row_of(self, names: Sequence[str]) -> TableRow | None:
        """Row of a record, given all its names.

        Raises:
            CorpusError: there are two.
        """
        found = [self.rows[name] for name in dict.fromkeys(names) if name in self.rows]
        if len(found) > 1:
            raise CorpusError(
                f"{self.path} has the rows {found[0].record} and {found[1].record} for one record; "
                "remove one of them"
            )
        return found[0] if found else None

    def notes(self, used: set[str], without: Sequence[str]) -> tuple[str, ...]:
        """Notes on rows without a record and on records without a row."""
        notes = []
        idle = [row for row in self.rows if row not in used]
        if idle:
            notes.append(f"rows of {self.path.name} that name no record: {examples(idle)}")
        if without:
            notes.append(f"records that {self.path.name} does not name: {examples(without)}")
        return tuple(notes)


def examples(names: Sequence[str]) -> str:
    """Number of names, and the first of them."""
    shown = ", ".join(names[:EXAMPLES])
    return f"{len(names)} ({shown}{', ...' if len(names) > EXAMPLES else ''})"


def read_record_table(path: str | Path) -> RecordTable:
    """Read a csv with the column `record` and any of `labels`, `patient`, `age`, `sex`, `fold`, ...

    Columns are separated by commas, or by tabs or semicolons if the first line has no comma; labels
    by `;` or `|`. A record is named by its file, with or without folder and extension.

    Raises:
        CorpusError: the file does not exist, is not a csv table, lacks the column `record`, has a
            record twice, or has a fold that is not a whole number.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CorpusError(f"no such table: {path}; check its path") from None
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"expected a csv table in UTF-8 at {path}, got {error}; export it again"
        ) from None
    first = text.split("\n", 1)[0]
    delimiter = next((sign for sign in ",\t;" if sign in first), ",")
    usual_limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        lines = list(csv.DictReader(text.splitlines(), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise CorpusError(f"{path} is not a csv table: {error}; export it again") from None
    finally:
        csv.field_size_limit(usual_limit)  # a global setting of the csv module
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    known = [name for name in header if name in COLUMNS]
    if "record" not in known or len(set(known)) < len(known):
        raise CorpusError(
            f"{path} needs the column record once, and may have {', '.join(COLUMNS[1:])} once "
            f"each; got {', '.join(header)[:120] or 'no columns'}"
        )
    rows: dict[str, TableRow] = {}
    for number, line in enumerate(lines, start=2):
        cells = {
            (name or "").strip(): value.strip()
            for name, value in line.items()
            if isinstance(value, str)
        }
        name = without_ending(cells.get("record", "").replace("\\", "/"))
        if not name or name in rows:
            raise CorpusError(
                f"{path}, line {number}: expected a record that no other row names, got "
                f"{name[:60]!r}; give each record one row"
            )
        rows[name] = TableRow(
            record=name,
            codes=split_codes(cells.get("labels", ""), LABEL_SEPARATORS),
            patient=cells.get("patient", ""),
            age=cells.get("age", ""),
            sex=cells.get("sex", ""),
            fold=_fold(cells.get("fold", ""), f"{path}, line {number}"),
            device=cells.get("device", ""),
            site=cells.get("site", ""),
        )
    if not rows:
        raise CorpusError(f"{path} has no rows; give it one for each record")
    return RecordTable(path, rows, "labels" in known)


def without_ending(name: str) -> str:
    """Name of a record without the extension of its file."""
    return next((name.removesuffix(end) for end in ENDINGS if name.lower().endswith(end)), name)


def _fold(text: str, where: str) -> int | None:
    if not text:
        return None
    try:
        number = float(text)
        if number == int(number) and abs(number) < 2**31:
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise CorpusError(f"{where}: expected a whole number in fold, got {text[:60]!r}; correct it")
