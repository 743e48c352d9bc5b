"""Recordings from and to WFDB files, the format of PhysioNet: a `.hea` header beside its samples.

`wfdb` reads and writes. What it would pass over in silence is checked here: a rate, a gain or a
lead that the header does not state, a MATLAB file of another kind, samples that do not add up to
the header's checksum.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.leads import LEADS, lead_order
from ecgtransfer.signals.recording import Recording

#: One of each unit in millivolts; both micro signs of Unicode are met.
MILLIVOLTS = {"mV": 1.0, "uV": 1e-3, "µV": 1e-3, "μV": 1e-3, "V": 1e3}

#: Rates that a 12-lead ECG can have. Below 50 Hz a QRS complex of 80 ms is four samples; no
#: recorder samples above 32 kHz.
SLOWEST_HZ, FASTEST_HZ = 50, 32_000

#: What `write_recording` writes: 16 bit samples of one microvolt.
FORMAT, GAIN_PER_MV, BASELINE = "16", 1000.0, 0

#: Largest amplitude that such a sample holds (-32768 means "no sample").
LARGEST_MV = 32_767 / GAIN_PER_MV

#: First number of a MATLAB v4 matrix of int16, little-endian, as in the Challenges' `.mat` files.
MATLAB_V4_INT16 = 30

#: Length of a MATLAB v4 header without the name of the matrix: five 32-bit integers.
MATLAB_V4_HEADER_BYTES = 20


@dataclass(frozen=True)
class _SignalLine:
    """What one lead's line of a header states."""

    file_name: str
    storage: str
    offset_bytes: int
    unit: str
    checksum: int | None
    lead: str


@dataclass(frozen=True)
class _Header:
    """What a header states of a single-segment, 12-lead recording."""

    path: Path
    sampling_rate_hz: float
    n_samples: int | None
    signals: tuple[_SignalLine, ...]


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """The 12-lead ECG of a WFDB record, in millivolts and in the order of `LEADS`.

    path: the record without extension, as wfdb takes it: `records100/00000/00001_lr`. Samples may
        be in any format that wfdb knows, in `.dat` files or in the `.mat` files of the
        PhysioNet/CinC Challenges. Leads are matched by name, units (uV, mV, V) a lead.

    Raises SignalError, in a sentence with the path, for: a missing header or signal file; a header
    that is not one, has several segments, no or an impossible sampling rate, no gain, another unit,
    other than the 12 leads; a signal file that is too short, of another kind, or does not add up to
    the header's checksum; missing (NaN) samples.
    """
    import wfdb

    header = _read_header(Path(path))
    with _about(header.path):
        order = lead_order(tuple(signal.lead for signal in header.signals))
    millivolts = np.array(
        [_millivolts(header.path, signal.unit) for signal in header.signals], dtype=np.float32
    )
    _check_files(header)
    try:
        record = wfdb.rdrecord(str(path), physical=False)
    # wfdb has no error of its own: what a damaged file raises depends on where it breaks off.
    except (ValueError, IndexError, KeyError, TypeError, OSError) as error:
        raise SignalError(
            f"{header.path}: expected samples as the header describes them, got "
            f"{type(error).__name__} from wfdb ({error}); fetch or export the record again"
        ) from error
    _check_sums(header, record)
    # Digital to physical, (n, 12); a format's code for "no sample" becomes NaN, which a Recording
    # refuses.
    physical = record.dac(return_res=32)
    signal_mv = np.ascontiguousarray((physical * millivolts).T[list(order)])
    with _about(header.path):
        return Recording(signal_mv, header.sampling_rate_hz)


def read_comments(path: str | os.PathLike[str]) -> list[str]:
    """The comment lines of a WFDB header, without `#` and blanks around: ["Age: 74", "Dx: RBBB"].

    path: the record without extension. Raises SignalError for a missing or unreadable header.
    """
    from wfdb.io.header import parse_header_content

    _, comments = parse_header_content(_header_text(Path(path)))
    return [line.strip("# \t") for line in comments]


def write_recording(
    path: str | os.PathLike[str], recording: Recording, comments: Sequence[str] = ()
) -> None:
    """Write a recording as WFDB: `<path>.dat` (16 bit, 1000 adu/mV, baseline 0) and `<path>.hea`.

    Reading it back gives the same within 0.5 microvolts. Whole or not at all: both files are
    written into a folder beside, then renamed, the header last; an existing record of that name is
    replaced.

    path: the record without extension, in an existing folder; letters, digits, `-` and `_` only.
    comments: header comment lines, one line each.

    Raises SignalError for another name, a comment of several lines, an amplitude beyond 32.767 mV,
    a rate that `read_recording` would refuse, and a disk that does not take the files.
    """
    import wfdb

    target = Path(path)
    if not re.fullmatch(r"[-\w]+", target.name, flags=re.ASCII):
        raise SignalError(
            f"expected a record name of letters, digits, '-' and '_' without extension, got "
            f"{target.name!r}; choose another name"
        )
    comments = [_checked_comment(target, comment) for comment in comments]
    _check_rate(target, recording.sampling_rate_hz)
    largest = np.abs(recording.signal_mv).max(axis=1)
    if largest.max() > LARGEST_MV:
        worst = int(largest.argmax())
        raise SignalError(
            f"{target}: expected amplitudes up to {LARGEST_MV} mV, got {largest[worst]:g} mV in "
            f"lead {LEADS[worst]}; check the unit of the signal"
        )
    try:
        with tempfile.TemporaryDirectory(
            dir=target.parent, prefix=f".{target.name}.", suffix=".partial"
        ) as beside:
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
                write_dir=beside,
            )
            # An older header must not describe the new samples, not even for a moment.
            _beside(target, ".hea").unlink(missing_ok=True)
            for suffix in (".dat", ".hea"):
                os.replace(_beside(Path(beside, target.name), suffix), _beside(target, suffix))
    except OSError as error:
        raise SignalError(
            f"expected to write the record {target}, got {error.strerror or error}; "
            "make sure that the folder exists and has space, and write again"
        ) from error


def _checked_comment(target: Path, comment: str) -> str:
    """`comment`, if it stays one comment line of a header and comes back as it is."""
    if not comment.isprintable() or comment != comment.strip("# \t"):
        raise SignalError(
            f"{target}: expected comments of one printable line without '#' or blanks around, "
            f"got {comment!r}; split or spell it out"
        )
    return comment


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """A SignalError raised inside says which file it is about."""
    try:
        yield
    except SignalError as error:
        raise SignalError(f"{path}: {error}") from error


def _beside(record: Path, suffix: str) -> Path:
    """The file of a record; a record's name may hold dots, so that `with_suffix` would cut it."""
    return record.with_name(record.name + suffix)


def _header_text(record: Path) -> str:
    """The text of a record's header; letters beyond UTF-8 in comments are replaced."""
    path = _beside(record, ".hea")
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        hint = "check the path"
        if record.suffix in {".hea", ".dat", ".mat"} and record.exists():
            hint = f"give the record without extension, {record.with_suffix('')}"
        raise SignalError(f"expected a WFDB header {path}, got no such file; {hint}") from None
    except OSError as error:
        raise SignalError(
            f"expected a readable WFDB header {path}, got {error.strerror or error}; "
            "check the path and its permissions"
        ) from error


def _read_header(record: Path) -> _Header:
    """What the header states; SignalError for what wfdb would guess instead."""
    from wfdb.io.header import parse_header_content, rx_record, rx_signal

    path = _beside(record, ".hea")
    lines, _ = parse_header_content(_header_text(record))
    first = rx_record.match(lines[0]) if lines else None
    if first is None:
        raise SignalError(
            f"{path}: expected a WFDB header that begins with 'name leads rate samples', got "
            f"{lines[0][:60] if lines else 'an empty file'!r}; fetch or export the record again"
        )
    if first["n_seg"]:
        raise SignalError(
            f"{path}: expected a record of one segment, got {first['n_seg']} segments; "
            "pass one of the segments that the header names"
        )
    rate = float(first["fs"]) if first["fs"].strip(".") else None
    if rate is None:
        raise SignalError(
            f"{path}: expected a sampling rate after the number of leads, got {lines[0]!r}; "
            "write the recorder's rate into the header"
        )
    _check_rate(path, rate)
    matches = [rx_signal.match(line) for line in lines[1:]]
    signals = tuple(
        _signal_line(path, line, match) for line, match in zip(lines[1:], matches, strict=True)
    )
    if len(signals) != int(first["n_sig"]):
        raise SignalError(
            f"{path}: expected one line for each of the {first['n_sig']} leads that the first line "
            f"states, got {len(signals)} lines; fetch or export the record again"
        )
    n_samples = int(first["sig_len"]) if first["sig_len"] else None
    if n_samples == 0:
        raise SignalError(f"{path}: expected samples, got a record of length 0; leave it out")
    return _Header(path, rate, n_samples, signals)


def _signal_line(path: Path, line: str, match: "re.Match[str] | None") -> _SignalLine:
    """One lead's line of a header."""
    if match is None:
        raise SignalError(
            f"{path}: expected a line 'file format gain(baseline)/unit ... lead', got "
            f"{line[:60]!r}; fetch or export the record again"
        )
    stated_gain = match["adc_gain"]
    if not stated_gain or float(stated_gain) == 0 or not re.match(r"\S+\s+\S+\s+\S*/", line):
        raise SignalError(
            f"{path}: expected a gain and a unit, such as 1000/mV, for lead "
            f"{match['sig_name'] or '(no name)'}, got {line[:60]!r}, which is not calibrated; "
            "write the recorder's gain into the header"
        )
    # wfdb would average the samples of a frame, and so change rate and band in silence.
    if match["samps_per_frame"] not in {"", "1"}:
        raise SignalError(
            f"{path}: expected one sample a frame, got {match['samps_per_frame']} for lead "
            f"{match['sig_name']}; export the record at one rate for all leads"
        )
    return _SignalLine(
        file_name=match["file_name"],
        storage=match["fmt"],
        offset_bytes=int(match["byte_offset"] or 0),
        unit=match["units"],
        checksum=int(match["checksum"]) & 0xFFFF if match["checksum"] else None,
        lead=match["sig_name"].strip(),
    )


def _check_rate(path: Path, rate: float) -> None:
    """Refuse a rate that no 12-lead ECG has."""
    if not SLOWEST_HZ <= rate <= FASTEST_HZ:
        raise SignalError(
            f"{path}: expected a sampling rate from {SLOWEST_HZ} to {FASTEST_HZ} Hz, got {rate:g} "
            "Hz; state the recorder's rate"
        )


def _millivolts(path: Path, unit: str) -> float:
    """One `unit` in millivolts."""
    try:
        return MILLIVOLTS[unit]
    except KeyError:
        raise SignalError(
            f"{path}: expected the unit mV, uV or V, got {unit!r}; "
            "convert the signal to mV, or leave the recording out"
        ) from None


def _check_files(header: _Header) -> None:
    """Refuse signal files that are missing, of another kind or too short, before wfdb reads."""
    for name in dict.fromkeys(signal.file_name for signal in header.signals):
        path = header.path.parent / name
        here = [signal for signal in header.signals if signal.file_name == name]
        try:
            size = path.stat().st_size
            if path.suffix == ".mat":
                _check_matlab(path, header, here)
        except OSError as error:
            raise SignalError(
                f"expected the signal file {path} that {header.path.name} names, got "
                f"{error.strerror or error}; fetch or export the record again"
            ) from error
        if header.n_samples is not None and all(signal.storage == FORMAT for signal in here):
            needed = here[0].offset_bytes + 2 * len(here) * header.n_samples
            if size < needed:
                raise SignalError(
                    f"{path}: expected {needed} bytes for {header.n_samples} samples of "
                    f"{len(here)} leads, got {size}, the file is truncated; "
                    "fetch or export the record again"
                )


def _check_matlab(path: Path, header: _Header, here: Sequence[_SignalLine]) -> None:
    """Refuse a `.mat` that is not the matrix (leads, samples) of int16 of the Challenges."""
    with path.open("rb") as file:
        start = file.read(MATLAB_V4_HEADER_BYTES)
    found = [int(number) for number in np.frombuffer(start[: len(start) // 4 * 4], "<i4")]
    wanted = [MATLAB_V4_INT16, len(here), header.n_samples, 0]
    if header.n_samples is None:
        wanted[2] = found[2] if len(found) > 2 else 0
    offset = here[0].offset_bytes
    if found != [*wanted, offset - MATLAB_V4_HEADER_BYTES]:
        kind = "a MATLAB 5 file" if start.startswith(b"MATLAB 5") else "another file"
        raise SignalError(
            f"{path}: expected an ECG as a MATLAB v4 matrix of int16, {len(here)} leads x "
            f"{wanted[2]} samples, got {kind}; fetch or export the record again"
        )


def _check_sums(header: _Header, record: Any) -> None:
    """Refuse samples whose 16-bit sum a lead is not the header's checksum (where it states any).

    Writers without checksums put 0 for every lead; that states none.
    """
    stated = [signal.checksum for signal in header.signals]
    if not any(stated):
        return
    sums = record.d_signal.sum(axis=0, dtype=np.int64) & 0xFFFF
    wrong = [
        signal.lead
        for signal, total in zip(header.signals, sums, strict=True)
        if signal.checksum is not None and signal.checksum != total
    ]
    if wrong:
        raise SignalError(
            f"{header.path}: expected samples that add up to the header's checksums, got others in "
            f"{', '.join(wrong)}, the signal file is damaged; fetch or export the record again"
        )
