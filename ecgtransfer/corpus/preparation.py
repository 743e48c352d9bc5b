"""From a corpus as it was published to an ECGSet: one rate, one length, one label space."""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus.ecgset import LARGEST_MICROVOLTS, MICROVOLTS, microvolts
from ecgtransfer.corpus.ecgset_writer import ECGSetWriter
from ecgtransfer.corpus.labels import LabelSpace, resolve
from ecgtransfer.corpus.records import Corpus, CorpusRecord, read_signal
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import (
    crop,
    independent_leads,
    limb_lead_disagreement_mv,
    resample,
)

if TYPE_CHECKING:
    import pandas as pd

#: Limb leads that contradict Einthoven and Goldberger by more than this are reported: rounding
#: to whole microvolts explains 2.
DISAGREEMENT_UV = 5.0

#: Records that one task of a worker reads; 64 records of 10 s at 100 Hz are 1 MB.
CHUNK_RECORDS = 64

#: A process pool pays from here on: its processes take seconds to start.
POOL_RECORDS = 2048

#: Why records are left out.
UNSTATED = "no label stated"
OUTSIDE = "no label of this space"
SHORT = "shorter than the window"
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class LeftOut:
    """A record that is not in the set, the kind of reason, and the reason in full."""

    record: str
    reason: str
    detail: str


@dataclass(frozen=True)
class PreparationReport:
    """What `prepare` took, left out and noticed; `report.json` in the folder of the set.

    `labels_before` and `labels_after` count the records of each label in the corpus and in the
    set; `unknown_codes` the codes that no vocabulary has, `codes_outside` those whose label is not
    in the space; `disagreements_uv` the kept records whose limb leads contradict each other by more
    than 5 microvolts; `clipped_samples` the samples beyond +-32.767 mV by record.
    """

    corpus: str
    version: str
    sampling_rate_hz: int
    seconds: float
    records: int
    kept: int
    left_out: tuple[LeftOut, ...]
    labels_before: dict[str, int]
    labels_after: dict[str, int]
    unknown_codes: dict[str, int]
    codes_outside: dict[str, int]
    disagreements_uv: dict[str, float]
    clipped_samples: dict[str, int]

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    def __str__(self) -> str:
        lines = [
            f"{self.corpus} {self.version}: kept {self.kept} of {self.records} records "
            f"({self.seconds:g} s at {self.sampling_rate_hz} Hz)"
        ]
        for reason, count in Counter(entry.reason for entry in self.left_out).most_common():
            lines.append(f"  left out, {reason}: {count}")
        lines += [f"  {entry.detail}" for entry in self.left_out if entry.reason == UNREADABLE][:5]
        width = max(len(name) for name in self.labels_before)
        lines.append(f"  {'label':<{max(width, 5)}}  in corpus  in set")
        lines += [
            f"  {name:<{max(width, 5)}}  {count:>9}  {self.labels_after[name]:>6}"
            for name, count in self.labels_before.items()
        ]
        lines.append(f"  codes that no vocabulary has: {_counts(self.unknown_codes)}")
        lines.append(f"  codes outside the label space: {_counts(self.codes_outside)}")
        worst = max(self.disagreements_uv.values(), default=0.0)
        lines.append(
            f"  limb leads off by more than {DISAGREEMENT_UV:g} uV: {len(self.disagreements_uv)} "
            f"records (worst {worst:.0f} uV)"
        )
        lines.append(
            f"  samples clipped at 32.767 mV: {sum(self.clipped_samples.values())} "
            f"in {len(self.clipped_samples)} records"
        )
        return "\n".join(lines)


def prepare(
    corpus: Corpus,
    folder: str | Path,
    label_space: LabelSpace,
    *,
    sampling_rate_hz: int = 100,
    seconds: float = 10.0,
    keep_unlabelled: bool = False,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PreparationReport:
    """Write the records of a corpus as an ECGSet: resampled, the first `seconds`, with labels.

    Records that state no label of the space, that are too short or that cannot be read are left
    out and reported. The set is the same whatever the number of workers. One is enough for PTB-XL
    at 100 Hz; more pay where records are resampled or read through wfdb. They are processes that
    import the calling script, which therefore needs the usual `if __name__ == "__main__":`.

    Args:
        corpus: what to read.
        folder: the ECGSet to make.
        label_space: the labels to keep.
        sampling_rate_hz: of the set.
        seconds: length of each record.
        keep_unlabelled: keep records without a label of the space, too.
        workers: processes that read; with one, or few records, this process does.
        overwrite: replace an ECGSet that is there.
        progress: called with (records done, records in all).

    Raises:
        CorpusError: a bad argument, a folder that cannot be written, or no record to keep.
    """
    if not seconds > 0 or sampling_rate_hz <= 0 or workers < 1:
        raise CorpusError(
            f"expected positive seconds, sampling rate and workers, "
            f"got {seconds}, {sampling_rate_hz} and {workers}"
        )
    labels = corpus.labels(label_space)
    candidates, left_out = _candidates(corpus, labels, keep_unlabelled)
    row_of = {record.name: row for row, record in enumerate(corpus.records)}
    window = _Window(sampling_rate_hz, seconds)
    kept_rows: list[int] = []
    disagreements: dict[str, float] = {}
    clipped: dict[str, int] = {}
    done = len(left_out)
    writer = ECGSetWriter(
        folder,
        label_space,
        sampling_rate_hz,
        "recorded",
        card_extra={"corpus": _provenance(corpus), "seconds": seconds},
        overwrite=overwrite,
    )
    with writer:
        for chunk in _read_chunks(candidates, window, workers):
            left_out += chunk.left_out
            if chunk.names:
                rows = [row_of[name] for name in chunk.names]
                writer.append(chunk.signals_uv, labels[rows], _table(corpus, rows))
                kept_rows += rows
            disagreements.update(chunk.disagreements_uv)
            clipped.update(chunk.clipped_samples)
            done += len(chunk.names) + len(chunk.left_out)
            if progress is not None:
                progress(done, len(corpus))
        if not kept_rows:
            # A damaged record tells more than one that is of no use here.
            first = min(left_out, key=lambda entry: entry.reason != UNREADABLE)
            raise CorpusError(
                f"no record of {corpus.manifest.name} can be kept, the first because: "
                f"{first.detail}"
            )
        order = {name: row for row, name in enumerate(row_of)}
        report = PreparationReport(
            corpus=corpus.manifest.name,
            version=corpus.manifest.version,
            sampling_rate_hz=sampling_rate_hz,
            seconds=seconds,
            records=len(corpus),
            kept=len(kept_rows),
            left_out=tuple(sorted(left_out, key=lambda entry: order[entry.record])),
            labels_before=_label_counts(label_space, labels),
            labels_after=_label_counts(label_space, labels[kept_rows]),
            **_code_counts(corpus, label_space),
            disagreements_uv=disagreements,
            clipped_samples=clipped,
        )
        writer.attach("report.json", report.to_json())
        writer.finish()
    return report


@dataclass(frozen=True)
class _Window:
    """What every record is brought to."""

    sampling_rate_hz: int
    seconds: float


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Some records, read: `signals_uv` (n, 8, T) int16 of those named in `names`."""

    names: tuple[str, ...]
    signals_uv: NDArray[np.int16]
    left_out: tuple[LeftOut, ...]
    disagreements_uv: dict[str, float]
    clipped_samples: dict[str, int]


def _candidates(
    corpus: Corpus, labels: NDArray[np.float32], keep_unlabelled: bool
) -> tuple[list[CorpusRecord], list[LeftOut]]:
    candidates, left_out = [], []
    for record, row in zip(corpus.records, labels, strict=True):
        if keep_unlabelled or row.any():
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
    """The records in their order, in chunks; at most a few chunks a worker wait in memory."""
    chunks = (
        tuple(records[start : start + CHUNK_RECORDS])
        for start in range(0, len(records), CHUNK_RECORDS)
    )
    if workers == 1 or len(records) < POOL_RECORDS:
        for chunk in chunks:
            yield _read_chunk(chunk, window)
        return
    # Forking would copy the threads' locks of whatever the caller has loaded (torch, BLAS).
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts)
    try:
        waiting: deque[Future[_Chunk]] = deque(
            pool.submit(_read_chunk, chunk, window) for chunk in islice(chunks, 3 * workers)
        )
        while waiting:
            finished = waiting.popleft().result()
            waiting.extend(pool.submit(_read_chunk, chunk, window) for chunk in islice(chunks, 1))
            yield finished
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C is for the parent, which then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read_chunk(records: Sequence[CorpusRecord], window: _Window) -> _Chunk:
    names, signals, left_out = [], [], []
    disagreements: dict[str, float] = {}
    clipped: dict[str, int] = {}
    samples = round(window.seconds * window.sampling_rate_hz)
    for record in records:
        try:
            recording = read_signal(record)
            if recording.duration_s < window.seconds:
                detail = f"{record.name} lasts {recording.duration_s:g} s of {window.seconds:g} s"
                left_out.append(LeftOut(record.name, SHORT, detail))
                continue
            # Resampled first, cropped after: the end of the filter then meets real samples.
            signal_mv = crop(resample(recording, window.sampling_rate_hz), window.seconds).signal_mv
        except SignalError as error:
            left_out.append(LeftOut(record.name, UNREADABLE, str(error)))
            continue
        disagreement_uv = round(limb_lead_disagreement_mv(signal_mv) * MICROVOLTS, 2)
        if disagreement_uv > DISAGREEMENT_UV:
            disagreements[record.name] = disagreement_uv
        eight_mv = independent_leads(signal_mv)
        largest_mv = LARGEST_MICROVOLTS / MICROVOLTS
        beyond = int(np.count_nonzero(np.abs(eight_mv) > largest_mv))
        if beyond:
            clipped[record.name] = beyond
            eight_mv = np.clip(eight_mv, -largest_mv, largest_mv)
        names.append(record.name)
        signals.append(microvolts(eight_mv))
    stacked = np.stack(signals) if signals else np.zeros((0, 8, samples), dtype=np.int16)
    return _Chunk(tuple(names), stacked, tuple(left_out), disagreements, clipped)


def _table(corpus: Corpus, rows: Sequence[int]) -> pd.DataFrame:
    import pandas as pd

    records = [corpus.records[row] for row in rows]
    columns = ("name", "patient", "fold", "age", "sex", "device", "site")
    values = {column: [getattr(record, column) for record in records] for column in columns}
    codes = [";".join(record.codes) for record in records]
    return pd.DataFrame({**values, "codes": codes}, dtype=object)


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
    """Records with a code that means nothing here: to any vocabulary, or to the label space."""
    unknown: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    for record in corpus.records:
        for code in record.codes:
            label = resolve(code, (record.vocabulary,))
            if label is None:
                unknown[code] += 1
            elif label not in label_space.names:
                outside[code] += 1
    return {
        "unknown_codes": dict(unknown.most_common()),
        "codes_outside": dict(outside.most_common()),
    }


def _counts(counts: dict[str, int]) -> str:
    """The eight most frequent of some counts, in words."""
    if not counts:
        return "none"
    first = ", ".join(f"{code} {count}" for code, count in list(counts.items())[:8])
    return first if len(counts) <= 8 else f"{first} and {len(counts) - 8} more"
