"""Read and write WFDB, the format of PhysioNet: a `.hea` header next to a file of samples.

Common formats are decoded here, rare ones by `wfdb`, which also writes. Errors that `wfdb` ignores
are checked: a missing rate, gain or lead in the header, a MATLAB file of another kind, and samples
that do not match the header's checksum.
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

#: Bytes per sample in the formats that are decoded here, and the value of a missing sample.
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

#: A value that no sample has, for formats without a value for missing samples.
_NEVER = -(2**40)

#: Upper bound of samples per byte in other formats; compressed ECGs need more than 1/10 byte.
OTHER_SAMPLES_A_BYTE = 10

#: Format that `write_recording` writes: 16 bit samples of one microvolt.
FORMAT, GAIN_PER_MV, BASELINE = "16", 1000.0, 0

#: Largest amplitude of such a sample (-32768 means a missing sample).
LARGEST_MV = 32_767 / GAIN_PER_MV

#: First number of a little-endian MATLAB v4 matrix of the type that a format needs: int16 in the
#: Challenges' `.mat` files, int32 and uint8 in other files of wfdb2mat.
#: Challenges' `.mat` files, int32 and uint8 in others of wfdb2mat.
MATLAB_V4_TYPES = {"16": 30, "32": 20, "80": 50}

#: Length of a MATLAB v4 header without the name of the matrix: five 32-bit integers.
MATLAB_V4_HEADER_BYTES = 20


def read_recording(path: str | os.PathLike[str], at_most_s: float | None = None) -> Recording:
    """Read the 12-lead ECG of a WFDB record, in millivolts and in the order of `LEADS`.

    Leads are matched by name; each may have its own unit (uV, mV, V); signals other than the twelve
    leads are ignored. Headers with flaws in form only are accepted, see `wfdb_header`.

    Args:
        path: path of the record without extension, as in wfdb: `records100/00000/00001_lr`. Samples
            may be in any format that wfdb supports, in `.dat` files or in the `.mat` files of the
            PhysioNet/CinC Challenges, in one or several segments.
        at_most_s: read at most this many seconds; checksums are only checked for whole records.

    Raises:
        SignalError: the header or a signal file is missing; the header is malformed, has no or an
            impossible sampling rate, no gain, another unit, or fewer than the 12 leads; segments
            differ in rate or have gaps; a signal file is too short, of another kind, or does not
            match the checksum; or samples are missing (NaN). The message names the path.
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
    """Read one of several segments, (12, n) in mV."""
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
    """Read the twelve leads of a header's own signal files, (12, n) in mV; NaN if missing."""
    names = tuple(signal.lead for signal in header.signals)
    standard = tuple(name for name in names if is_lead(name))
    with about(header.path):
        # Other signals may be ignored only if all twelve leads are there.
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
        # Divide in float64 and round to float32, as wfdb does, to get identical samples.
        with np.errstate(over="ignore"):
            row[:] = (digital - float(signal.baseline)) / signal.gain * scale
        row[digital == NO_SAMPLE.get(signal.storage, _NEVER)] = np.nan
    return signal_mv


def write_recording(
    path: str | os.PathLike[str], recording: Recording, comments: Sequence[str] = ()
) -> None:
    """Write a recording as WFDB: `<path>.dat` (16 bit, 1000 adu/mV, baseline 0) and `<path>.hea`.

    Reading it back gives the same signal within 0.5 microvolts. Both files are written atomically,
    the header last; an existing record of that name is replaced.

    Args:
        path: path of the record without extension, in an existing folder; letters, digits, `-` and
            `_` only.
        recording: the recording.
        comments: header comment lines, one line each.

    Raises:
        SignalError: another name, a comment of several lines, an amplitude beyond 32.767 mV, or a
            rate that `read_recording` would reject.
        StorageError: the disk is full or refuses to write.
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
    """Check that a comment remains one comment line of a header and reads back unchanged."""
    if not comment.isprintable() or comment != comment.strip("# \t"):
        raise SignalError(
            f"{target}: expected comments of one printable line without '#' or surrounding spaces, "
            f"got {comment!r}; split or rephrase it"
        )
    return comment


def _millivolts(path: Path, unit: str) -> float:
    """Millivolts per `unit`."""
    try:
        return MILLIVOLTS[unit]
    except KeyError:
        raise SignalError(
            f"{path}: expected the unit mV, uV or V, got {unit!r}; "
            "convert the signal to mV, or exclude the recording"
        ) from None


def _files(header: WfdbHeader) -> dict[str, list[SignalLine]]:
    """Header lines of each signal file, in their order."""
    files: dict[str, list[SignalLine]] = {}
    for signal in header.signals:
        files.setdefault(signal.file_name, []).append(signal)
    return files


def _check_files(header: WfdbHeader) -> int:
    """Samples per lead; raise if a signal file is missing, of another kind or too short."""
    lengths = []
    for name, lines in _files(header).items():
        path = header.path.parent / name
        first = lines[0]
        if any((s.storage, s.offset_bytes) != (first.storage, first.offset_bytes) for s in lines):
            raise SignalError(
                f"{header.path}: expected one format and offset for all leads of {name}, got "
                "several; fetch or export the record again"
            )
        try:
            size = path.stat().st_size
            if path.suffix.lower() == ".mat":
                _check_matlab(path, header, lines)
            else:
                path.open("rb").close()
        except OSError as error:
            raise SignalError(
                f"expected the signal file {path} that {header.path.name} names, got "
                f"{error.strerror or error}; fetch or export the record again"
            ) from error
        a_sample = SAMPLE_BYTES.get(first.storage, 1 / OTHER_SAMPLES_A_BYTE)
        room = max(size - first.offset_bytes, 0)
        length = int(room / a_sample) // len(lines)
        if header.n_samples is not None and length < header.n_samples:
            needed = first.offset_bytes + _bytes(header.n_samples * len(lines), a_sample)
            raise SignalError(
                f"{path}: expected {needed} bytes for {header.n_samples} samples of "
                f"{len(lines)} leads, got {size}, the file is truncated; "
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
        raise SignalError(f"{header.path}: expected samples, got an empty file; exclude it")
    return n_samples


def _bytes(samples: int, a_sample: float) -> int:
    """Bytes that `samples` samples take."""
    return -int(-samples * a_sample // 1)


def _check_matlab(path: Path, header: WfdbHeader, lines: Sequence[SignalLine]) -> None:
    """Raise unless a `.mat` file is the matrix (leads, samples) of the Challenges."""
    with path.open("rb") as file:
        start = file.read(MATLAB_V4_HEADER_BYTES)
    found = [int(number) for number in np.frombuffer(start[: len(start) // 4 * 4], "<i4")]
    kind = MATLAB_V4_TYPES.get(lines[0].storage, MATLAB_V4_TYPES[FORMAT])
    wanted = [kind, len(lines), header.n_samples, 0]
    if header.n_samples is None:
        wanted[2] = found[2] if len(found) > 2 else 0
    offset = lines[0].offset_bytes
    if found != [*wanted, offset - MATLAB_V4_HEADER_BYTES]:
        got = "a MATLAB 5 file" if start.startswith(b"MATLAB 5") else "another file"
        raise SignalError(
            f"{path}: expected an ECG as a MATLAB v4 matrix of int16, {len(lines)} leads x "
            f"{wanted[2]} samples, got {got}; fetch or export the record again"
        )


def _decoded(header: WfdbHeader, n_samples: int, limit: int | None) -> list[NDArray[np.int32]]:
    """Digital samples of each line, (n,), at most `limit`."""
    wanted = n_samples if limit is None else min(n_samples, limit)
    frames = {}
    for name, lines in _files(header).items():
        storage, count = lines[0].storage, wanted * len(lines)
        with (header.path.parent / name).open("rb") as file:
            file.seek(lines[0].offset_bytes)
            raw = file.read(_bytes(count, SAMPLE_BYTES[storage]))
        frames[name] = iter(_samples(raw, storage, count).reshape(wanted, len(lines)).T)
    return [next(frames[signal.file_name]) for signal in header.signals]


def _samples(raw: bytes, storage: str, count: int) -> NDArray[np.int32]:
    """Decode samples in one of the formats of `SAMPLE_BYTES` (see WFDB's signal(5))."""
    plain = {"16": "<i2", "32": "<i4", "61": ">i2", "80": "u1", "160": "<u2"}
    if storage in plain:
        samples = np.frombuffer(raw, plain[storage], count).astype(np.int32)
        # Formats 80 and 160 are offset binary.
        return samples - {"80": 2**7, "160": 2**15}.get(storage, 0)
    data = np.frombuffer(raw, np.uint8).astype(np.int32)
    if storage == "24":
        low, middle, high = data.reshape(-1, 3).T
        unsigned, bits = low | middle << 8 | high << 16, 24
    else:  # 212: two samples of 12 bits in three bytes; the middle byte has the upper bits of both
        whole = np.append(data, np.zeros(-len(data) % 3, dtype=np.int32)).reshape(-1, 3)
        first = whole[:, 0] | (whole[:, 1] & 0x0F) << 8
        second = whole[:, 2] | (whole[:, 1] & 0xF0) << 4
        unsigned, bits = np.stack([first, second], axis=1).ravel()[:count], 12
    signed: NDArray[np.int32] = unsigned - ((unsigned >> (bits - 1)) << bits)
    return signed


def _decoded_by_wfdb(header: WfdbHeader) -> list[NDArray[np.int32]]:
    """Digital samples of each line in one of the rare formats, unlimited."""
    import wfdb

    try:
        record = wfdb.rdrecord(str(header.path.with_suffix("")), physical=False)
        return list(record.d_signal.T)
    # wfdb has no exception type of its own; a damaged file may raise anything.
    except Exception as error:
        raise SignalError(
            f"{header.path}: expected samples as the header describes them, got "
            f"{type(error).__name__} from wfdb ({error}); fetch or export the record again"
        ) from error


def _check_sums(header: WfdbHeader, columns: Sequence[NDArray[np.int32]]) -> None:
    """Raise if the 16-bit sum of a lead's samples differs from the header's checksum.

    Writers without checksums put 0 for every lead, which is ignored.
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
