"""Any folder of WFDB records, in whatever format, order of leads and state of their headers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ecgtransfer.corpus.described import FoundRecord, described_corpus
from ecgtransfer.corpus.records import Corpus
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import WfdbHeader, read_header


def read_wfdb_folder(
    folder: str | Path, table: str | Path | None = None, vocabulary: str | None = None
) -> Corpus:
    """The WFDB records anywhere below a folder, in the order of their paths.

    A record is called by its file, or by its path where two files have one name. The segments of a
    record of several are no records of their own. A header that cannot be read makes a record
    that preparation leaves out and reports.

    Args:
        folder: where to look.
        table: csv with the column `record` and any of `labels`, `patient`, `age`, `sex`, `fold`,
            `device` and `site`; without it header comments state labels, patient, age and sex.
        vocabulary: of the labels; None to find it by looking.

    Raises:
        CorpusError: no such folder, no headers below it, and what `described_corpus` refuses.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"no folder {folder}; give the folder that holds the WFDB records")
    paths = sorted(path.with_suffix("") for path in folder.rglob("*.hea"))
    headers = {path: _header(path) for path in paths}
    parts = {
        path.parent / segment
        for path, header in headers.items()
        if isinstance(header, WfdbHeader)
        for segment, _ in header.segments
    }
    records = [path for path in paths if path not in parts]
    if not records:
        raise CorpusError(
            f"no WFDB records below {folder}: expected headers such as A0001.hea; "
            "give the folder that holds them"
        )
    stems = Counter(path.name for path in records)
    short = len(stems) == len(records)
    found = []
    for path in records:
        inside = path.relative_to(folder).as_posix()
        aliases = (path.name, inside) if stems[path.name] == 1 else (inside,)
        header = headers.pop(path)
        stated = header if isinstance(header, WfdbHeader) else None
        found.append(
            FoundRecord(
                name=path.name if short else inside,
                aliases=aliases,
                path=path,
                reader="wfdb",
                comments=stated.comments if stated else (),
                mended=stated.mended if stated else (),
                problem=header if isinstance(header, str) else None,
            )
        )
    return described_corpus(
        folder.resolve().name, found, None if table is None else Path(table), vocabulary
    )


def _header(path: Path) -> WfdbHeader | str:
    """The header of a record, or why it cannot be read."""
    try:
        return read_header(path)
    except SignalError as error:
        return str(error)
