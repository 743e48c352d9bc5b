"""Verify a published corpus on disk: checksums, headers against signals, number of records."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ecgtransfer.corpus.fetching.checksums import hash_files, needed_files, parse_checksums
from ecgtransfer.corpus.manifest import Manifest, load_manifest
from ecgtransfer.corpus.readers.icbeb import read_icbeb
from ecgtransfer.corpus.readers.ptbxl import FILE_COLUMNS, read_ptbxl
from ecgtransfer.corpus.readers.records import CorpusRecord, read_signal
from ecgtransfer.errors import CorpusError, EcgTransferError, SignalError

#: Extensions of the files that the fingerprint of a corpus covers.
DATA_SUFFIXES = frozenset({".csv", ".hea", ".dat", ".mat"})

#: Table that identifies PTB-XL.
PTBXL_TABLE = "ptbxl_database.csv"

#: Bytes per sample of twelve leads in 16 bits, and size of the header of a `.mat` file of the
#: Challenges.
FRAME_BYTES, MATLAB_BYTES = 24, 24

#: Kinds of problems.
MISSING = "missing"
CHECKSUM = "other than published"
UNREADABLE = "unreadable"
SIGNAL = "signal against header"
COUNT = "count"
STRAY = "belongs to no record"
LIST = "list of checksums"

#: Records that a thread reads in one task.
_CHUNK_RECORDS = 64


@dataclass(frozen=True)
class Problem:
    """A deviation from the published data set.

    Attributes:
        path: the file.
        kind: one of the kinds above.
        detail: what was found.
    """

    path: str
    kind: str
    detail: str


@dataclass(frozen=True)
class VerifyReport:
    """Result of `verify_corpus`.

    Attributes:
        corpus: name of the data set.
        version: its version.
        folder: its folder.
        records: number of records whose signal was read, at all rates on disk.
        files: number of files.
        with_checksum: number of files compared with a published checksum.
        fingerprint: SHA-256 over the lines `<SHA-256>  <path>` of all .csv, .hea, .dat and .mat
            files, sorted by path.
        seconds: duration.
        problems: all deviations.
    """

    corpus: str
    version: str
    folder: Path
    records: int
    files: int
    with_checksum: int
    fingerprint: str
    seconds: float
    problems: tuple[Problem, ...]


def verify_corpus(
    folder: str | Path,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Compare PTB-XL or ICBEB2018 in a folder with the published data set and list every problem.

    Files are compared with their checksums if the published list (SHA256SUMS.txt) is in the folder,
    headers with the length and checksums of their signals, and the number of records with the
    manifest.

    Args:
        folder: folder of the corpus, as for `read_ptbxl` or `read_icbeb`.
        workers: threads; one is fastest on a local disk, more help on network storage.
        progress: called with (files and records done, in total).

    Raises:
        CorpusError: the folder contains neither corpus.
    """
    began = time.monotonic()
    folder = Path(folder)
    on_disk = _files_below(folder)
    manifest = load_manifest(_corpus_of(folder, on_disk))
    problems: list[Problem] = []
    checksums = _published(folder, manifest, on_disk, problems)
    records = _records(folder, manifest, problems)
    _compare_names(folder, records, on_disk, problems)
    hashed = sorted(path for path in on_disk if path in checksums or _is_data(path))
    complete = [
        record for record in records if all(path in on_disk for path in _names(folder, record))
    ]
    total = len(hashed) + len(complete)

    def files_done(done: int, _: int) -> None:
        if progress is not None:
            progress(done, total)

    hashes = hash_files(folder, hashed, workers, files_done)
    for path, found in hashes.items():
        if found is None:
            problems.append(Problem(path, UNREADABLE, "cannot be read; check its permissions"))
        elif found != checksums.get(path, found):
            detail = f"SHA-256 {found[:12]}..., published {checksums[path][:12]}..."
            problems.append(Problem(path, CHECKSUM, detail))
    with ThreadPoolExecutor(workers) as pool:
        chunks = [
            complete[start : start + _CHUNK_RECORDS]
            for start in range(0, len(complete), _CHUNK_RECORDS)
        ]
        for number, found_here in enumerate(pool.map(_check_signals, chunks), start=1):
            problems += found_here
            if progress is not None:
                progress(min(len(hashed) + number * _CHUNK_RECORDS, total), total)
    lines = "".join(f"{hashes[path]}  {path}\n" for path in hashed if _is_data(path))
    return VerifyReport(
        corpus=manifest.name,
        version=manifest.version,
        folder=folder,
        records=len(complete),
        files=len(hashed),
        with_checksum=sum(path in checksums for path in hashed),
        fingerprint=hashlib.sha256(lines.encode()).hexdigest(),
        seconds=time.monotonic() - began,
        problems=tuple(problems),
    )


def _files_below(folder: Path) -> set[str]:
    """Paths of the files below a folder, relative to it, with forward slashes."""
    return {
        Path(root, name).relative_to(folder).as_posix()
        for root, _, names in os.walk(folder)
        for name in names
    }


def _corpus_of(folder: Path, on_disk: set[str]) -> str:
    if PTBXL_TABLE in on_disk:
        return "ptbxl"
    if any(path.endswith(".mat") for path in on_disk):
        return "icbeb2018"
    raise CorpusError(
        f"expected in {folder} a prepared set (card.json), PTB-XL ({PTBXL_TABLE}) or ICBEB2018 "
        "(.mat records), found none of them; give the folder of one"
    )


def _is_data(path: str) -> bool:
    return Path(path).suffix in DATA_SUFFIXES


def _published(
    folder: Path, manifest: Manifest, on_disk: set[str], problems: list[Problem]
) -> dict[str, str]:
    """Path -> published SHA-256, if there is a list; reports files missing from disk."""
    name = Path(manifest.checksums_file).name
    if name not in on_disk:
        return {}
    try:
        checksums = parse_checksums((folder / name).read_bytes(), name)
    except (CorpusError, OSError) as error:
        problems.append(Problem(name, LIST, str(error)))
        return {}
    for part in manifest.fetch:
        try:
            demanded = [file.path for file in needed_files((part,), checksums, name)]
        except CorpusError as error:
            problems.append(Problem(name, LIST, str(error)))
            continue
        # A rate without any file on disk has not been fetched.
        if part.sampling_rate_hz is None or not on_disk.isdisjoint(demanded):
            optional = [kind for kind in part.files if kind.optional]
            problems += [
                Problem(path, MISSING, f"{name} lists it")
                for path in demanded
                if path not in on_disk and not any(kind.matches(path) for kind in optional)
            ]
    return checksums


def _records(folder: Path, manifest: Manifest, problems: list[Problem]) -> list[CorpusRecord]:
    """Records as the corpus reader lists them, at every rate on disk."""
    records: list[CorpusRecord] = []
    try:
        if manifest.name == "ptbxl":
            rates = [rate for rate in FILE_COLUMNS if (folder / f"records{rate}").is_dir()]
            corpora = [read_ptbxl(folder, rate) for rate in rates]
            if not rates:
                detail = "no signals: expected records100 or records500 beside it"
                problems.append(Problem(PTBXL_TABLE, MISSING, detail))
        else:
            corpora = [read_icbeb(folder)]
    except EcgTransferError as error:
        problems.append(Problem("all records", UNREADABLE, str(error)))
        return records
    for corpus in corpora:
        records += corpus.records
        if len(corpus) != manifest.record_count:
            detail = f"{len(corpus):,} records, {manifest.name} has {manifest.record_count:,}"
            problems.append(Problem("all records", COUNT, detail))
    return records


def _names(folder: Path, record: CorpusRecord) -> tuple[str, ...]:
    """Files of a record relative to the folder, the signal last."""
    base = record.path.relative_to(folder).as_posix()
    if record.reader != "wfdb":
        return (base,)
    return base + ".hea", base + _signal_suffix(record)


def _signal_suffix(record: CorpusRecord) -> str:
    """Extension of signal files: WFDB's own for PTB-XL, MATLAB's for the Challenges."""
    return ".dat" if record.vocabulary == "scp" else ".mat"


def _compare_names(
    folder: Path, records: Sequence[CorpusRecord], on_disk: set[str], problems: list[Problem]
) -> None:
    """Report files of records that are missing, and files that belong to no record."""
    known = {path for record in records for path in _names(folder, record)}
    reported = {problem.path for problem in problems}
    problems += [
        Problem(path, MISSING, "a record has it") for path in sorted(known - on_disk - reported)
    ]
    if records:
        problems += [
            Problem(path, STRAY, "no record of the corpus has it")
            for path in sorted(on_disk - known)
            if path.endswith((".hea", ".dat"))
        ]


def _check_signals(records: Sequence[CorpusRecord]) -> list[Problem]:
    """Read the records and compare headers with lengths and checksums of the signals."""
    problems = []
    for record in records:
        try:
            recording = read_signal(record)
        except SignalError as error:
            problems.append(Problem(record.name, SIGNAL, str(error)))
            continue
        if record.reader != "wfdb":
            continue
        suffix = _signal_suffix(record)
        file = record.path.with_name(record.path.name + suffix)
        before = MATLAB_BYTES if suffix == ".mat" else 0
        stated = before + recording.signal_mv.shape[1] * FRAME_BYTES
        found = file.stat().st_size
        if found != stated:
            detail = f"{file} has {found:,} bytes, its header describes {stated:,}"
            problems.append(Problem(record.name, SIGNAL, detail))
    return problems
