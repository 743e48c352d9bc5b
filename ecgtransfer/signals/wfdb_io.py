"""Recordings from and to WFDB files, the format of PhysioNet: a `.hea` header beside its samples.

The common formats are read here, the rare ones by `wfdb`, which also writes. What would be passed
over in silence is checked: a rate, a gain or a lead that the header does not state, a MATLAB file
of another kind, samples that do not add up to the header's checksum.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.leads import LEADS, lead_order
from ecgtransfer.signals.recording import MILLIVOLTS, Recording
from ecgtransfer.signals.wfdb_header import (
    SignalLine,
    WfdbHeader,
    about,
    beside,
    check_rate,
    is_lead,
    read_header,
)
from ecgtransfer.storage import atomic_files

#: Bytes of a sample in the formats that are read here, and the number that means "no sample".
SAMPLE_BYTES = {"16": 2.0, "24": 3.0, "32": 4.0, "212": 1.5, "61": 2.0, "80": 1.0, "160": 2.0}
NO_SAMPLE = {
    "16": -(2**15),
    "24": -(2**23),
    "32": -(2**31),
    "212": -(2**11),
    "61": -(2**15),
    "80": -(2**7),
    "160": -(2**15),
}

#: A number that no sample is, for formats without "no sample".
_NEVER = -(2**40)

#: Samples that a byte of the other formats can stand for; compressed ECGs need more than 1/10 byte.
OTHER_SAMPLES_A_BYTE = 10

#: What `write_recording` writes: 16 bit samples of one microvolt.
FORMAT, GAIN_PER_MV, BASELINE = "16", 1000.0, 0

#: Largest amplitude that such a sample holds (-32768 means "no sample").
LARGEST_MV = 32_767 / GAIN_PER_MV

#: First number of a MATLAB v4 matrix, little-endian, of the type that a format needs: int16 in the
#: Challenges' `.mat` files, int32 and uint8 in others of wfdb2mat.
MATLAB_V4_TYPES = {"16": 30, "32": 20, "80": 50}

#: Length of a MATLAB v4 header without the name of the matrix: five 32-bit integers.
MATLAB_V4_HEADER_BYTES = 20


def read_recording(path: str | os.PathLike[str], at_most_s: float | None = None) -> Recording:
    """The 12-lead ECG of a WFDB record, in millivolts and in the order of `LEADS`.

    path: the record without extension, as wfdb takes it: `records100/00000/00001_lr`. Samples may
        be in any format that wfdb knows, in `.dat` files or in the `.mat` files of the
        PhysioNet/CinC Challenges, in one or several segments. Leads are matched by name, units (uV,
        mV, V) a lead; signals beyond the twelve leads are left aside. Headers that are bad in form
        alone are read all the same, see `wfdb_header`.
    at_most_s: read no more than the first so many seconds; a part is not held against checksums.

    Raises SignalError, in a sentence with the path, for: a missing header or signal file; a header
    that is not one, has no or an impossible sampling rate, no gain, another unit, fewer than the 12
    leads; segments of another rate, or with gaps between them; a signal file that is too short, of
    another kind, or does not add up to the header's checksum; missing (NaN) samples.
    """
    header = read_header(path)
    rate = header.sampling_rate_hz
    limit = None if at_most_s is None else max(1, round(at_most_s * rate))
    if not header.segments:
        signal_mv = _segment_mv(header, limit)
    else:
        parts: list[NDArray[np.float32]] = []
        for name, stated in header.segments:
            wanted = None if limit is None else limit - sum(part.shape[1] for part in parts)
            if stated and (wanted is None or wanted > 0):
                parts.append(_read_segment(header, name, stated, wanted))
        if not parts:
            raise SignalError(f"{header.path}: expected samples, got segments of length 0")
        signal_mv = np.concatenate(parts, axis=1)
    with about(header.path):
        return Recording(signal_mv, rate)


def _read_segment(
    header: WfdbHeader, name: str, stated: int, limit: int | None
) -> NDArray[np.float32]:
    """One segment of a record of several, (12, n) in mV."""
    if name == "~":
        raise SignalError(
            f"{header.path}: expected segments without gaps, got one of {stated} samples; "
            "pass one of the segments that the header names"
        )
    segment = read_header(header.path.parent / name)
    if segment.segments or segment.sampling_rate_hz != header.sampling_rate_hz:
        raise SignalError(
            f"{segment.path}: expected a plain segment at {header.sampling_rate_hz:g} Hz, got "
            f"{len(segment.segments) or 'no'} segments at {segment.sampling_rate_hz:g} Hz; "
            "fetch or export the record again"
        )
    signal_mv = _segment_mv(segment, limit)
    expected = stated if limit is None else min(stated, limit)
    if signal_mv.shape[1] != expected:
        raise SignalError(
            f"{segment.path}: expected {expected} samples as {header.path.name} states, got "
            f"{signal_mv.shape[1]}; fetch or export the record again"
        )
    return signal_mv


def _segment_mv(header: WfdbHeader, limit: int | None) -> NDArray[np.float32]:
    """The twelve leads of a header's own signal files, (12, n) in mV; NaN where there is none."""
    names = tuple(signal.lead for signal in header.signals)
    standard = tuple(name for name in names if is_lead(name))
    with about(header.path):
        # Signals beside the twelve leads are passed over only where these are all there.
        extra = len(standard) == len(LEADS) < len(names)
        order = lead_order(standard if extra else names)
    chosen = [header.signals[names.index(standard[k])] for k in order]
    to_mv = [_millivolts(header.path, signal.unit) for signal in chosen]
    n_samples = _check_files(header)
    if all(signal.storage in SAMPLE_BYTES for signal in header.signals):
        columns = _decoded(header, n_samples, limit)
    else:
        columns = _decoded_by_wfdb(header)
    if limit is None or limit >= n_samples:
        _check_sums(header, columns)
    signal_mv = np.empty((len(LEADS), min(n_samples, limit or n_samples)), dtype=np.float32)
    for row, signal, scale in zip(signal_mv, chosen, to_mv, strict=True):
        digital = columns[header.signals.index(signal)][: len(row)]
        # The division in double and its rounding to single are wfdb's, so that samples are too.
        with np.errstate(over="ignore"):
            row[:] = (digital - float(signal.baseline)) / signal.gain * scale
        row[digital == NO_SAMPLE.get(signal.storage, _NEVER)] = np.nan
    return signal_mv


def write_recording(
    path: str | os.PathLike[str], recording: Recording, comments: Sequence[str] = ()
) -> None:
    """Write a recording as WFDB: `<path>.dat` (16 bit, 1000 adu/mV, baseline 0) and `<path>.hea`.

    Reading it back gives the same within 0.5 microvolts. Whole or not at all: both files are
    written into a folder beside, then renamed, the header last; an existing record of that name is
    replaced.

    path: the record without extension, in an existing folder; letters, digits, `-` and `_` only.
    comments: header comment lines, one line each.

    Raises SignalError for another name, a comment of several lines, an amplitude beyond 32.767 mV
    and a rate that `read_recording` would refuse; StorageError where the disk does not take the
    files.
    """
    import wfdb

    target = Path(path)
    if not re.fullmatch(r"[-\w]+", target.name, flags=re.ASCII):
        raise SignalError(
            f"expected a record name of letters, digits, '-' and '_' without extension, got "
            f"{target.name!r}; choose another name"
        )
    comments = [_checked_comment(target, comment) for comment in comments]
    check_rate(target, recording.sampling_rate_hz)
    largest = np.abs(recording.signal_mv).max(axis=1)
    if largest.max() > LARGEST_MV:
        worst = int(largest.argmax())
        raise SignalError(
            f"{target}: expected amplitudes up to {LARGEST_MV} mV, got {largest[worst]:g} mV in "
            f"lead {LEADS[worst]}; check the unit of the signal"
        )
    with atomic_files(beside(target, ".dat"), beside(target, ".hea")) as scratch:
        wfdb.wrsamp(
            target.name,
            fs=recording.sampling_rate_hz,
            units=["mV"] * len(LEADS),
            sig_name=list(LEADS),
            p_signal=recording.signal_mv.T.astype(np.float64),
            fmt=[FORMAT] * len(LEADS),
            adc_gain=[GAIN_PER_MV] * len(LEADS),
            baseline=[BASELINE] * len(LEADS),
            comments=comments,
            write_dir=str(scratch),
        )


def _checked_comment(target: Path, comment: str) -> str:
    """`comment`, if it stays one comment line of a header and comes back as it is."""
    if not comment.isprintable() or comment != comment.strip("# \t"):
        raise SignalError(
            f"{target}: expected comments of one printable line without '#' or blanks around, "
            f"got {comment!r}; split or spell it out"
        )
    return comment


def _millivolts(path: Path, unit: str) -> float:
    """One `unit` in millivolts."""
    try:
        return MILLIVOLTS[unit]
    except KeyError:
        raise SignalError(
            f"{path}: expected the unit mV, uV or V, got {unit!r}; "
            "convert the signal to mV, or leave the recording out"
        ) from None


def _files(header: WfdbHeader) -> dict[str, list[SignalLine]]:
    """The lines of each signal file, in their order."""
    files: dict[str, list[SignalLine]] = {}
    for signal in header.signals:
        files.setdefault(signal.file_name, []).append(signal)
    return files


def _check_files(header: WfdbHeader) -> int:
    """Samples of each lead; refuses signal files that are missing, of another kind or too short."""
    lengths = []
    for name, here in _files(header).items():
        path = header.path.parent / name
        first = here[0]
        if any((s.storage, s.offset_bytes) != (first.storage, first.offset_bytes) for s in here):
            raise SignalError(
                f"{header.path}: expected one format and offset for all leads of {name}, got "
                "several; fetch or export the record again"
            )
        try:
            size = path.stat().st_size
            if path.suffix.lower() == ".mat":
                _check_matlab(path, header, here)
            else:
                path.open("rb").close()
        except OSError as error:
            raise SignalError(
                f"expected the signal file {path} that {header.path.name} names, got "
                f"{error.strerror or error}; fetch or export the record again"
            ) from error
        a_sample = SAMPLE_BYTES.get(first.storage, 1 / OTHER_SAMPLES_A_BYTE)
        room = max(size - first.offset_bytes, 0)
        length = int(room / a_sample) // len(here)
        if header.n_samples is not None and length < header.n_samples:
            needed = first.offset_bytes + _bytes(header.n_samples * len(here), a_sample)
            raise SignalError(
                f"{path}: expected {needed} bytes for {header.n_samples} samples of "
                f"{len(here)} leads, got {size}, the file is truncated; "
                "fetch or export the record again"
            )
        lengths.append(length)
    if header.n_samples is None and any(s.storage not in SAMPLE_BYTES for s in header.signals):
        raise SignalError(
            f"{header.path}: expected the number of samples after the sampling rate, which the "
            f"format {header.signals[0].storage} needs; fetch or export the record again"
        )
    n_samples = min(lengths, default=0) if header.n_samples is None else header.n_samples
    if not n_samples:
        raise SignalError(f"{header.path}: expected samples, got an empty file; leave it out")
    return n_samples


def _bytes(samples: int, a_sample: float) -> int:
    """Bytes that so many samples take."""
    return -int(-samples * a_sample // 1)


def _check_matlab(path: Path, header: WfdbHeader, here: Sequence[SignalLine]) -> None:
    """Refuse a `.mat` that is not the matrix (leads, samples) of the Challenges."""
    with path.open("rb") as file:
        start = file.read(MATLAB_V4_HEADER_BYTES)
    found = [int(number) for number in np.frombuffer(start[: len(start) // 4 * 4], "<i4")]
    kind = MATLAB_V4_TYPES.get(here[0].storage, MATLAB_V4_TYPES[FORMAT])
    wanted = [kind, len(here), header.n_samples, 0]
    if header.n_samples is None:
        wanted[2] = found[2] if len(found) > 2 else 0
    offset = here[0].offset_bytes
    if found != [*wanted, offset - MATLAB_V4_HEADER_BYTES]:
        got = "a MATLAB 5 file" if start.startswith(b"MATLAB 5") else "another file"
        raise SignalError(
            f"{path}: expected an ECG as a MATLAB v4 matrix of int16, {len(here)} leads x "
            f"{wanted[2]} samples, got {got}; fetch or export the record again"
        )


def _decoded(header: WfdbHeader, n_samples: int, limit: int | None) -> list[NDArray[np.int32]]:
    """The digital samples of each line, (n,), no more than `limit`."""
    wanted = n_samples if limit is None else min(n_samples, limit)
    frames = {}
    for name, here in _files(header).items():
        storage, count = here[0].storage, wanted * len(here)
        with (header.path.parent / name).open("rb") as file:
            file.seek(here[0].offset_bytes)
            raw = file.read(_bytes(count, SAMPLE_BYTES[storage]))
        frames[name] = iter(_samples(raw, storage, count).reshape(wanted, len(here)).T)
    return [next(frames[signal.file_name]) for signal in header.signals]


def _samples(raw: bytes, storage: str, count: int) -> NDArray[np.int32]:
    """Samples of one of the formats of `SAMPLE_BYTES` (WFDB's signal(5) describes them)."""
    plain = {"16": "<i2", "32": "<i4", "61": ">i2", "80": "u1", "160": "<u2"}
    if storage in plain:
        samples = np.frombuffer(raw, plain[storage], count).astype(np.int32)
        # 80 and 160 are offset binary.
        return samples - {"80": 2**7, "160": 2**15}.get(storage, 0)
    data = np.frombuffer(raw, np.uint8).astype(np.int32)
    if storage == "24":
        low, middle, high = data.reshape(-1, 3).T
        unsigned, bits = low | middle << 8 | high << 16, 24
    else:  # 212: two samples of 12 bits in three bytes, the upper bits of both in the middle one
        whole = np.append(data, np.zeros(-len(data) % 3, dtype=np.int32)).reshape(-1, 3)
        first = whole[:, 0] | (whole[:, 1] & 0x0F) << 8
        second = whole[:, 2] | (whole[:, 1] & 0xF0) << 4
        unsigned, bits = np.stack([first, second], axis=1).ravel()[:count], 12
    signed: NDArray[np.int32] = unsigned - ((unsigned >> (bits - 1)) << bits)
    return signed


def _decoded_by_wfdb(header: WfdbHeader) -> list[NDArray[np.int32]]:
    """The digital samples of each line in one of the rare formats, whole."""
    import wfdb

    try:
        record = wfdb.rdrecord(str(header.path.with_suffix("")), physical=False)
        return list(record.d_signal.T)
    # wfdb has no error of its own: what a damaged file raises depends on where it breaks off.
    except Exception as error:
        raise SignalError(
            f"{header.path}: expected samples as the header describes them, got "
            f"{type(error).__name__} from wfdb ({error}); fetch or export the record again"
        ) from error


def _check_sums(header: WfdbHeader, columns: Sequence[NDArray[np.int32]]) -> None:
    """Refuse samples whose 16-bit sum a lead is not the header's checksum (where it states any).

    Writers without checksums put 0 for every lead; that states none.
    """
    stated = [signal.checksum for signal in header.signals]
    if not any(stated):
        return
    wrong = [
        signal.lead
        for signal, samples in zip(header.signals, columns, strict=True)
        if signal.checksum is not None
        and signal.checksum != int(samples.sum(dtype=np.int64)) & 0xFFFF
    ]
    if wrong:
        raise SignalError(
            f"{header.path}: expected samples that add up to the header's checksums, got others in "
            f"{', '.join(wrong)}, the signal file is damaged; fetch or export the record again"
        )
