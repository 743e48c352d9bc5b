"""Any folder of WFDB records, in whatever format, order of leads and state of their headers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ecgtransfer.corpus.readers.described import FoundRecord, described_corpus
from ecgtransfer.corpus.readers.records import Corpus
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import read_header


class _Stated(NamedTuple):
    """What is kept of a header, of a hundred thousand of which there may be room for no more."""

    comments: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    problem: str | None = None


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
    stated: dict[Path, _Stated] = {}
    parts: set[Path] = set()
    for path in sorted(path.with_suffix("") for path in folder.rglob("*.hea")):
        try:
            header = read_header(path)
        except SignalError as error:
            stated[path] = _Stated(problem=str(error))
        else:
            stated[path] = _Stated(header.comments, header.mended)
            parts |= {path.parent / segment for segment, _ in header.segments}
    records = [path for path in stated if path not in parts]
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
        found.append(
            FoundRecord(
                name=path.name if short else inside,
                aliases=(path.name, inside) if stems[path.name] == 1 else (inside,),
                path=path,
                reader="wfdb",
                comments=stated[path].comments,
                mended=stated[path].mended,
                problem=stated[path].problem,
            )
        )
    return described_corpus(
        folder.resolve().name, found, None if table is None else Path(table), vocabulary
    )
