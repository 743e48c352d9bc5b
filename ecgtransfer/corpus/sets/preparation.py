"""Prepare a published corpus as an ECGSet with one sampling rate, length and label space."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus.labels import LabelSpace, label_warnings, resolve
from ecgtransfer.corpus.readers.records import Corpus, CorpusRecord, read_signal
from ecgtransfer.corpus.sets.ecgset import (
    LARGEST_MICROVOLTS,
    MICROVOLTS,
    MIXED,
    ORIGIN_COLUMN,
    microvolts,
    millivolts,
)
from ecgtransfer.corpus.sets.ecgset_writer import ECGSetWriter
from ecgtransfer.corpus.sets.preparation_journal import Entry, Journal
from ecgtransfer.corpus.sets.preparation_report import (
    DISAGREEMENT_UV,
    OUTSIDE,
    SHORT,
    UNREADABLE,
    UNSTATED,
    Findings,
    FindingsTally,
    LeftOut,
    PreparationReport,
)
from ecgtransfer.corpus.sets.set_beats import BEATS_COLUMN, find_beats_or_none
from ecgtransfer.corpus.sets.set_folder import remove_leftovers
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import (
    Recording,
    crop,
    expand_leads,
    flat_leads,
    independent_leads,
    limb_lead_disagreement_mv,
    resample,
    saturated_leads,
)
from ecgtransfer.storage import exclusive_lock

if TYPE_CHECKING:
    import pandas as pd

#: Records that a worker reads in one task; 64 records of 10 s at 100 Hz are 1 MB.
CHUNK_RECORDS = 64

#: Minimum number of records for a process pool, whose start takes seconds.
POOL_RECORDS = 2048

#: Records between two checkpoints, from which an interrupted preparation resumes.
CHECKPOINT_RECORDS = 2048

#: Of longer records (such as Holter recordings), at most this many seconds are read, or twice the
#: window: enough to have no influence on the window, and little enough for memory.
LONGEST_READ_S = 300.0

#: Number of patients that a message lists.
PATIENTS_NAMED = 5


def prepare(
    corpus: Corpus,
    folder: str | Path,
    label_space: LabelSpace,
    *,
    sampling_rate_hz: int = 100,
    seconds: float = 10.0,
    keep_unlabelled: bool = False,
    drop_duplicates: bool = False,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PreparationReport:
    """Write the records of a corpus as an ECGSet: resampled, the first `seconds`, with labels.

    Records without a label of the space, too short records, and records that cannot be read or have
    missing samples (NaN) are excluded and reported. The set does not depend on the number of
    workers. One worker is enough for PTB-XL at 100 Hz; more help if records are resampled. Workers
    are processes that import the calling script, which therefore needs the usual
    `if __name__ == "__main__":`.

    After an interruption or a kill, the same call resumes from the last checkpoint and gives the
    same files.

    Args:
        corpus: records to read.
        folder: destination of the ECGSet.
        label_space: labels to use.
        sampling_rate_hz: sampling rate of the set.
        seconds: length of each record.
        keep_unlabelled: also keep records without a label of the space.
        drop_duplicates: keep only the first of records with identical signals.
        workers: number of worker processes; with one, or few records, no process is started.
        overwrite: replace an existing ECGSet.
        progress: called with (records done, records in total).

    Raises:
        CorpusError: an argument is invalid, a patient has records in several folds, the folder
            cannot be written, or no record can be kept.
        RunError: another process is writing the same set.
    """
    if not seconds > 0 or sampling_rate_hz <= 0 or workers < 1:
        raise CorpusError(
            f"expected positive seconds, sampling rate and workers, "
            f"got {seconds}, {sampling_rate_hz} and {workers}"
        )
    labels = corpus.labels(label_space)
    candidates, left_out = _candidates(corpus, labels, keep_unlabelled)
    _refuse_patients_across_folds(candidates)
    row_of = {record.name: row for row, record in enumerate(corpus.records)}
    window = _Window(sampling_rate_hz, seconds)
    tally = FindingsTally(drop_duplicates, left_out)
    kept_rows: list[int] = []
    done = 0
    key = _key(corpus, labels, label_space, (window, keep_unlabelled, drop_duplicates))
    with ExitStack() as until_done:
        until_done.enter_context(exclusive_lock(Path(folder)))
        remove_leftovers(Path(folder))
        journal = Journal(Path(folder), key)
        writer = until_done.enter_context(
            ECGSetWriter(
                folder,
                label_space,
                sampling_rate_hz,
                corpus.origin,
                card_extra={
                    "corpus": _provenance(corpus),
                    "seconds": seconds,
                    **label_space.card_entry(),
                },
                overwrite=overwrite,
                resume=journal.is_of_this(),
            )
        )
        until_done.enter_context(closing(journal))
        for entry in journal.begin(len(writer)):
            kept_rows += [row_of[name] for name in tally.add(entry.findings)]
            done += entry.records
        checkpointed = len(writer)
        for chunk in _read_chunks(candidates[done:], window, workers):
            kept = set(tally.add(chunk.findings))
            chosen = [name in kept for name in chunk.findings.digests]
            if kept:
                rows = [row_of[name] for name in chunk.findings.digests if name in kept]
                beats = [text for text, is_kept in zip(chunk.beats, chosen, strict=True) if is_kept]
                table = _table(corpus, rows).assign(**{BEATS_COLUMN: beats})
                writer.append(chunk.signals_uv[chosen], labels[rows], table)
                kept_rows += rows
            done += chunk.records
            journal.add(Entry(chunk.records, len(writer), chunk.findings))
            if len(writer) - checkpointed >= CHECKPOINT_RECORDS:
                journal.flush()
                writer.checkpoint()
                checkpointed = len(writer)
            if progress is not None:
                progress(len(corpus) - len(candidates) + done, len(corpus))
        if not kept_rows:
            # A damaged record is a better example than one without a suitable label.
            first = min(tally.left_out, key=lambda entry: entry.reason != UNREADABLE)
            raise CorpusError(
                f"no record of {corpus.manifest.name} can be kept, the first one because: "
                f"{first.detail}"
            )
        report = _report(corpus, label_space, labels, window, tally, kept_rows)
        writer.attach("report.json", report.to_json())
        writer.finish()
    return report


def _report(
    corpus: Corpus,
    label_space: LabelSpace,
    labels: NDArray[np.float32],
    window: _Window,
    tally: FindingsTally,
    kept_rows: Sequence[int],
) -> PreparationReport:
    row_of = {record.name: row for row, record in enumerate(corpus.records)}
    kept = [corpus.records[row] for row in kept_rows]
    before = _label_counts(label_space, labels)
    after = _label_counts(label_space, labels[list(kept_rows)])
    codes = _code_counts(corpus, label_space)
    lost = sum(entry.reason == OUTSIDE for entry in tally.left_out)
    return PreparationReport(
        corpus=corpus.manifest.name,
        version=corpus.manifest.version,
        sampling_rate_hz=window.sampling_rate_hz,
        seconds=window.seconds,
        records=len(corpus),
        kept=len(kept_rows),
        left_out=tuple(sorted(tally.left_out, key=lambda entry: row_of[entry.record])),
        labels_before=before,
        labels_after=after,
        **codes,
        disagreements_uv=tally.disagreements_uv,
        clipped_samples=tally.clipped_samples,
        flat_leads=tally.flat_leads,
        saturated_leads=tally.saturated_leads,
        sampling_rates_hz=dict(tally.sampling_rates_hz),
        lengths_s=dict(tally.lengths_s),
        missing_ages=sum(record.age is None for record in kept),
        missing_sexes=sum(record.sex is None for record in kept),
        patients_not_stated=sum(not record.patient_stated for record in kept),
        duplicates=tuple(tuple(names) for names in tally.same_signal.values()),
        headers_mended={r.name: r.repairs for r in corpus.records if r.repairs},
        warnings=(
            *label_warnings(
                before, after, {**codes["unknown_codes"], **codes["codes_outside"]}, lost
            ),
            *_rate_warnings(tally.sampling_rates_hz, window),
        ),
        notes=corpus.notes,
    )


@dataclass(frozen=True)
class _Window:
    """Sampling rate and length of every record in the set."""

    sampling_rate_hz: int
    seconds: float


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Records that were read: signals (n, 8, T) and beats of those in `findings.digests`."""

    records: int
    signals_uv: NDArray[np.int16]
    beats: tuple[str, ...]
    findings: Findings


def _key(
    corpus: Corpus, labels: NDArray[np.float32], label_space: LabelSpace, settings: object
) -> str:
    """Hash of records, labels and settings, which identifies a preparation."""
    digest = hashlib.sha256(repr((corpus.manifest, label_space, settings)).encode())
    digest.update(labels.tobytes())
    for record in corpus.records:
        digest.update(repr(record).encode())
    return digest.hexdigest()


def _refuse_patients_across_folds(records: Sequence[CorpusRecord]) -> None:
    folds: dict[str, int] = {}
    divided: dict[str, None] = {}
    for record in records:
        if record.fold is not None and folds.setdefault(record.patient, record.fold) != record.fold:
            divided[record.patient] = None
    if divided:
        named = ", ".join(list(divided)[:PATIENTS_NAMED])
        raise CorpusError(
            f"expected all records of a patient in one fold, got {len(divided)} patients with "
            f"records in several ({named}{', ...' if len(divided) > PATIENTS_NAMED else ''}); "
            "give each patient one fold"
        )


def _candidates(
    corpus: Corpus, labels: NDArray[np.float32], keep_unlabelled: bool
) -> tuple[list[CorpusRecord], list[LeftOut]]:
    candidates, left_out = [], []
    for record, row in zip(corpus.records, labels, strict=True):
        if record.problem is not None:
            left_out.append(LeftOut(record.name, UNREADABLE, record.problem))
        elif keep_unlabelled or row.any():
            candidates.append(record)
        elif not record.codes:
            left_out.append(LeftOut(record.name, UNSTATED, f"{record.name} states no label"))
        else:
            detail = f"{record.name} states only {', '.join(record.codes)}"
            left_out.append(LeftOut(record.name, OUTSIDE, detail))
    return candidates, left_out


def _read_chunks(
    records: Sequence[CorpusRecord], window: _Window, workers: int
) -> Iterator[_Chunk]:
    """Read the records in order, in chunks; at most a few chunks per worker wait in memory."""
    chunks = (
        tuple(records[start : start + CHUNK_RECORDS])
        for start in range(0, len(records), CHUNK_RECORDS)
    )
    if workers == 1 or len(records) < POOL_RECORDS:
        for chunk in chunks:
            yield _read_chunk(chunk, window)
        return
    # Forking would copy locked locks of the caller's libraries (torch, BLAS).
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_the_parent)
    try:
        waiting: deque[Future[_Chunk]] = deque(
            pool.submit(_read_chunk, chunk, window) for chunk in islice(chunks, 3 * workers)
        )
        while waiting:
            finished = waiting.popleft().result()
            waiting.extend(pool.submit(_read_chunk, chunk, window) for chunk in islice(chunks, 1))
            yield finished
    except BrokenProcessPool:
        raise CorpusError(
            "a worker was killed, probably out of memory; run the same command with fewer workers "
            "to resume"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_the_parent() -> None:
    """Ignore Ctrl-C, which the parent handles, and exit if the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_it() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()


def _read_chunk(records: Sequence[CorpusRecord], window: _Window) -> _Chunk:
    signals: list[NDArray[np.int16]] = []
    beats: list[str] = []
    findings = Findings((), {}, {}, {}, {}, {}, {}, {})
    left_out: list[LeftOut] = []
    rates: Counter[str] = Counter()
    lengths: Counter[str] = Counter()
    samples = round(window.seconds * window.sampling_rate_hz)
    at_most_s = max(LONGEST_READ_S, 2 * window.seconds)
    for record in records:
        try:
            recording = read_signal(record, at_most_s)
            rates[f"{recording.sampling_rate_hz:g}"] += 1
            whole = recording.duration_s < at_most_s
            lengths[f"{recording.duration_s:.1f}" if whole else f"{at_most_s:.1f} or more"] += 1
            if recording.duration_s < window.seconds:
                detail = f"{record.name} lasts {recording.duration_s:g} s of {window.seconds:g} s"
                left_out.append(LeftOut(record.name, SHORT, detail))
                continue
            # Resample before cropping, so that the filter sees real samples at the end.
            signal_mv = crop(resample(recording, window.sampling_rate_hz), window.seconds).signal_mv
        except SignalError as error:
            left_out.append(LeftOut(record.name, UNREADABLE, str(error)))
            continue
        as_recorded = crop(recording, window.seconds)
        if flat := flat_leads(as_recorded):
            findings.flat_leads[record.name] = flat
        if saturated := saturated_leads(as_recorded):
            findings.saturated_leads[record.name] = saturated
        disagreement_uv = round(limb_lead_disagreement_mv(signal_mv) * MICROVOLTS, 2)
        if disagreement_uv > DISAGREEMENT_UV:
            findings.disagreements_uv[record.name] = disagreement_uv
        eight_mv = independent_leads(signal_mv)
        largest_mv = LARGEST_MICROVOLTS / MICROVOLTS
        beyond = int(np.count_nonzero(np.abs(eight_mv) > largest_mv))
        if beyond:
            findings.clipped_samples[record.name] = beyond
            eight_mv = np.clip(eight_mv, -largest_mv, largest_mv)
        signals.append(microvolts(eight_mv))
        as_stored = Recording(expand_leads(millivolts(signals[-1])), window.sampling_rate_hz)
        beats.append(find_beats_or_none(as_stored).to_text())
        digest = hashlib.blake2b(signals[-1].tobytes(), digest_size=16)
        findings.digests[record.name] = digest.hexdigest()
    stacked = np.stack(signals) if signals else np.zeros((0, 8, samples), dtype=np.int16)
    findings = replace(
        findings,
        left_out=tuple(left_out),
        sampling_rates_hz=dict(rates),
        lengths_s=dict(lengths),
    )
    return _Chunk(len(records), stacked, tuple(beats), findings)


def _table(corpus: Corpus, rows: Sequence[int]) -> pd.DataFrame:
    import pandas as pd

    records = [corpus.records[row] for row in rows]
    columns = ("name", "patient", "fold", "age", "sex", "device", "site")
    values = {column: [getattr(record, column) for record in records] for column in columns}
    values["codes"] = [";".join(record.codes) for record in records]
    if corpus.origin == MIXED:
        values[ORIGIN_COLUMN] = [record.origin for record in records]
    return pd.DataFrame(values, dtype=object)


def _rate_warnings(recorded: Mapping[str, int], window: _Window) -> tuple[str, ...]:
    """Warn if records have no content at the highest frequencies of the set."""
    slower = {rate: n for rate, n in recorded.items() if float(rate) < window.sampling_rate_hz}
    if not slower:
        return ()
    lowest = min(slower, key=float)
    return (
        f"{sum(slower.values())} records were recorded at less than {window.sampling_rate_hz} Hz "
        f"(the slowest at {lowest} Hz), and have no content above half their own rate; use a "
        "set "
        f"of {lowest} Hz, or faster recordings",
    )


def _provenance(corpus: Corpus) -> dict[str, str]:
    manifest = corpus.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "licence": manifest.licence,
        "url": manifest.url,
    }


def _label_counts(label_space: LabelSpace, labels: NDArray[np.float32]) -> dict[str, int]:
    counts = labels.sum(axis=0)
    return {name: int(count) for name, count in zip(label_space.names, counts, strict=True)}


def _code_counts(corpus: Corpus, label_space: LabelSpace) -> dict[str, dict[str, int]]:
    """Count records with codes that are unknown or outside the label space."""
    unknown: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    for record in corpus.records:
        for code in record.codes:
            if label_space.label_of(code, record.vocabulary) is not None:
                continue
            known = resolve(code, (record.vocabulary,)) is not None
            (outside if known else unknown)[code] += 1
    return {
        "unknown_codes": dict(unknown.most_common()),
        "codes_outside": dict(outside.most_common()),
    }
