"""Reader of any folder of WFDB records, in any format and lead order, with flawed headers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ecgtransfer.corpus.readers.described import FoundRecord, described_corpus
from ecgtransfer.corpus.readers.records import Corpus
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import read_header


class _Stated(NamedTuple):
    """The parts of a header that are kept in memory, for possibly 100,000 records."""

    comments: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    problem: str | None = None


def read_wfdb_folder(
    folder: str | Path, table: str | Path | None = None, vocabulary: str | None = None
) -> Corpus:
    """Find the WFDB records anywhere below a folder, sorted by path.

    A record is named by its file, or by its path if two files have the same name. Segments of a
    multi-segment record are not records of their own. A record with an unreadable header is listed,
    and preparation excludes and reports it.

    Args:
        folder: folder to search.
        table: csv with the column `record` and any of `labels`, `patient`, `age`, `sex`, `fold`,
            `device` and `site`; without it, labels, patient, age and sex come from header comments.
        vocabulary: code system of the labels; None to recognise it.

    Raises:
        CorpusError: the folder does not exist or has no headers, or the table is invalid (see
            `described_corpus`).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"no folder {folder}; give the folder with the WFDB records")
    stated: dict[Path, _Stated] = {}
    parts: set[Path] = set()
    for path in sorted(path.with_suffix("") for path in folder.rglob("*.hea")):
        try:
            header = read_header(path)
        except SignalError as error:
            stated[path] = _Stated(problem=str(error))
        else:
            stated[path] = _Stated(header.comments, header.repairs)
            parts |= {path.parent / segment for segment, _ in header.segments}
    records = [path for path in stated if path not in parts]
    if not records:
        raise CorpusError(
            f"no WFDB records below {folder}: expected headers such as A0001.hea; "
            "give the folder with the records"
        )
    stems = Counter(path.name for path in records)
    short = len(stems) == len(records)
    found = []
    for path in records:
        inside = path.relative_to(folder).as_posix()
        found.append(
            FoundRecord(
                name=path.name if short else inside,
                aliases=(path.name, inside) if stems[path.name] == 1 else (inside,),
                path=path,
                reader="wfdb",
                comments=stated[path].comments,
                repairs=stated[path].repairs,
                problem=stated[path].problem,
            )
        )
    return described_corpus(
        folder.resolve().name, found, None if table is None else Path(table), vocabulary
    )
