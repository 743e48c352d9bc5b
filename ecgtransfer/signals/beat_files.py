"""Read and write beats in the files of other programs: WFDB annotations and csv."""

import csv
from pathlib import Path

import numpy as np

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.beats import SYMBOLS, BeatKind, Beats
from ecgtransfer.storage import atomic_files

#: Suffix of the annotation file next to a record.
ANNOTATOR = "atr"
#: Kind of each WFDB beat symbol (PhysioNet, "Annotation codes"); other symbols are not beats.
KIND_OF_SYMBOL = {
    **dict.fromkeys("NLRBej/f", BeatKind.ORDINARY),
    **dict.fromkeys("AaJSn", BeatKind.SUPRAVENTRICULAR),
    **dict.fromkeys("VrEF", BeatKind.VENTRICULAR),
    "Q": BeatKind.UNKNOWN,
    "?": BeatKind.UNKNOWN,
}
#: Columns of a csv of beats; `record` is optional.
TIME_COLUMN, KIND_COLUMN, RECORD_COLUMN = "time_s", "kind", "record"


def write_annotation(record: Path, beats: Beats, sampling_rate_hz: float) -> Path:
    """Write beats next to a WFDB record as `RECORD.atr`: N, V, S, and Q for unknown kinds.

    Args:
        record: path of the record without extension.
        beats: beats of the record; without beats no file is written.
        sampling_rate_hz: sampling rate of the record.

    Returns:
        The path of the annotation file.

    Raises:
        StorageError: the disk is full or refuses to write.
    """
    import wfdb

    path = record.with_name(f"{record.name}.{ANNOTATOR}")
    if len(beats):
        with atomic_files(path) as scratch:
            wfdb.wrann(
                record.name,
                ANNOTATOR,
                np.rint(beats.times_s * sampling_rate_hz).astype(np.int64),
                symbol=[SYMBOLS[BeatKind(kind)] for kind in beats.kinds.tolist()],
                fs=sampling_rate_hz,
                write_dir=str(scratch),
            )
    return path


def read_annotation(path: Path, duration_s: float, sampling_rate_hz: float | None = None) -> Beats:
    """Read the beats of a WFDB annotation file, such as `100.atr`, up to `duration_s`.

    Args:
        path: path of the annotation file.
        duration_s: length of the recording; later beats are dropped.
        sampling_rate_hz: rate of the annotation; None to read it from the file, or else from the
            record's header.

    Raises:
        SignalError: the file cannot be read, or no sampling rate is found.
    """
    import wfdb

    try:
        found = wfdb.rdann(str(path.with_suffix("")), path.suffix.lstrip("."))
    except (OSError, ValueError, IndexError) as error:
        raise SignalError(
            f"expected a WFDB annotation in {path}, which cannot be read ({error}); name a file "
            "such as 100.atr"
        ) from None
    rate = sampling_rate_hz or found.fs
    if rate is None:
        raise SignalError(
            f"expected {path} or the header next to it to state a sampling rate, found none; put "
            "the record's .hea next to it"
        )
    times = np.asarray(found.sample, np.float64) / rate
    chosen = [
        number
        for number, symbol in enumerate(found.symbol)
        if symbol in KIND_OF_SYMBOL and 0 <= times[number] < duration_s
    ]
    kinds = [KIND_OF_SYMBOL[found.symbol[number]] for number in chosen]
    return Beats(times[chosen], np.array(kinds, np.int8), duration_s)


def read_beats_csv(path: Path, duration_s: float) -> list[Beats]:
    """Read beat trains from a csv with the columns time_s and, optionally, kind and record.

    Kinds are N, V, S and Q. There is one train for each record, in order of first appearance;
    without a column `record`, there is one.

    Raises:
        SignalError: the file cannot be read, a column or number is missing, a kind is unknown, or
            the beats are invalid (see `Beats`).
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SignalError(f"{path} cannot be read as csv ({error}); check the file") from None
    if not rows or TIME_COLUMN not in rows[0]:
        columns = ", ".join(rows[0]) if rows else "no rows"
        raise SignalError(
            f"expected a column {TIME_COLUMN} (seconds of each R peak) in {path}, found {columns}; "
            "rename the column of times"
        )
    kind_of = {symbol: kind for kind, symbol in SYMBOLS.items()}
    rhythms: dict[str, list[tuple[float, int]]] = {}
    for number, row in enumerate(rows, start=2):
        symbol = (row.get(KIND_COLUMN) or SYMBOLS[BeatKind.ORDINARY]).strip()
        try:
            time = float(row[TIME_COLUMN])
        except (TypeError, ValueError):
            raise SignalError(
                f"expected seconds in line {number} of {path}, got {row[TIME_COLUMN]!r}; correct it"
            ) from None
        if symbol not in kind_of:
            raise SignalError(
                f"expected a kind of {', '.join(kind_of)} in line {number} of {path}, got "
                f"{symbol!r}; correct it"
            )
        rhythms.setdefault(row.get(RECORD_COLUMN) or "", []).append((time, int(kind_of[symbol])))
    found = []
    for name, beats in rhythms.items():
        times, kinds = zip(*beats, strict=True)
        try:
            found.append(Beats(np.array(times), np.array(kinds, np.int8), duration_s))
        except SignalError as error:
            where = f" of record {name}" if name else ""
            raise SignalError(f"the beats{where} in {path} cannot be used: {error}") from None
    return found
