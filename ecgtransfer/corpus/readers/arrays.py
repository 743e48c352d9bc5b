"""Recordings in NumPy or csv files, for which the user states rate, unit and leads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ecgtransfer.corpus.readers.array_files import ArrayLayout, ArrayPart, array_shapes, is_many
from ecgtransfer.corpus.readers.described import FoundRecord, described_corpus
from ecgtransfer.corpus.readers.records import Corpus
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import LEADS

#: Extensions of the files that are read.
SUFFIXES = (".csv", ".npy", ".npz")


def read_arrays(
    path: str | Path,
    sampling_rate_hz: float,
    unit: str,
    leads: Sequence[str] = LEADS,
    table: str | Path | None = None,
    vocabulary: str | None = None,
) -> Corpus:
    """Find the recordings in a file, or in all NumPy and csv files below a folder.

    An .npy or a member of an .npz is one recording, (leads, samples) or (samples, leads), or many,
    (records, ...). The lead axis is recognised by its length; if both axes have it, that is an
    error. A csv is one recording with a column for each lead, named in its first line or in the
    order of `leads`. The name of a record consists of its file, its member and its index from 0,
    such as `ecgs-17`; if the file is the only array of many records, a table may use the index
    alone.

    Args:
        path: the file or folder.
        sampling_rate_hz: sampling rate of all recordings.
        unit: `mV`, `uV` or `V`.
        leads: names in the order of the axis, twelve of them in any spelling.
        table: csv with the column `record` and any of `labels`, `patient`, `age`, `sex`, ...
        vocabulary: code system of the labels; None to recognise it.

    Raises:
        CorpusError: the path does not exist, there are no files to read, or the table is invalid
            (see `described_corpus`).
        SignalError: an impossible rate, unit or lead.
    """
    path = Path(path)
    table = None if table is None else Path(table)
    layout = ArrayLayout(sampling_rate_hz, unit, tuple(leads))
    if not path.exists():
        raise CorpusError(f"no file or folder {path}; give the one with the recordings")
    folder = path if path.is_dir() else path.parent
    files = sorted(
        file
        for file in (path.rglob("*") if path.is_dir() else [path])
        if file.suffix.lower() in SUFFIXES and file.is_file() and not _same(file, table)
    )
    if not files:
        raise CorpusError(
            f"no recordings in {path}: expected {', '.join(SUFFIXES)}; "
            "give the file or folder with the recordings"
        )
    stems = Counter(file.stem for file in files)
    found: list[FoundRecord] = []
    for file in files:
        inside = file.relative_to(folder).as_posix()
        unique = stems[file.stem] == 1
        found += _recordings(file, layout, file.stem if unique else inside)
    if sum(_row(record) == 0 for record in found) == 1:
        found = [_with_number(record) for record in found]
    return described_corpus(path.resolve().stem, found, table, vocabulary)


def _recordings(file: Path, layout: ArrayLayout, name: str) -> list[FoundRecord]:
    """Recordings of one file; an unreadable one is listed as a record with a problem."""
    if file.suffix.lower() == ".csv":
        return [_record(name, file, ArrayPart(layout))]
    try:
        shapes = array_shapes(file)
        found = []
        for member, shape in shapes.items():
            own = name if member is None or len(shapes) == 1 else f"{name}-{member}"
            if is_many(file, shape):
                parts = [ArrayPart(layout, member, row) for row in range(shape[0])]
                found += [_record(f"{own}-{part.row}", file, part) for part in parts]
            else:
                found.append(_record(own, file, ArrayPart(layout, member)))
        return found
    except SignalError as error:
        return [FoundRecord(name, (name,), file, "array", problem=str(error))]


def _record(name: str, file: Path, part: ArrayPart) -> FoundRecord:
    return FoundRecord(name, (name,), file, "array", part=part)


def _row(record: FoundRecord) -> int | None:
    return record.part.row if record.part is not None else None


def _with_number(record: FoundRecord) -> FoundRecord:
    """Alias by index for the records of the only array of many, for use in a table."""
    row = _row(record)
    if row is None:
        return record
    return FoundRecord(
        record.name, (record.name, str(row)), record.path, record.reader, part=record.part
    )


def _same(file: Path, table: Path | None) -> bool:
    return table is not None and table.exists() and file.samefile(table)
