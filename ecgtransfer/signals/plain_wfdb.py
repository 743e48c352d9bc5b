"""Fast path for plain WFDB records: one `.dat` file of format 16, in millivolts, baseline 0.

The 21,799 records of PTB-XL have this form. All other records, including damaged files, are passed
to `read_recording`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.leads import lead_order
from ecgtransfer.signals.recording import Recording
from ecgtransfer.signals.wfdb_io import read_recording

#: Example: `00001_lr 12 100 1000`
_FIRST_LINE = re.compile(
    r"\S+ (?P<leads>\d{1,9}) (?P<rate>\d{1,9}) (?P<samples>\d{1,15})", re.ASCII
)

#: Example: `00001_lr.dat 16 1000.0(0)/mV 16 0 -119 1508 0 I`
_SIGNAL_LINE = re.compile(
    r"(?P<file>[^\s/]+\.dat) 16 (?P<gain>\d{1,18}(?:\.\d{1,18})?)\(0\)/mV 16 0 -?\d{1,18} "
    r"(?P<sum>-?\d{1,18}) 0 (?P<lead>\S.*\S|\S)",
    re.ASCII,
)

#: Value of a missing sample in format 16.
_NO_SAMPLE = -32768

#: Sampling rates of the fast path.
_RATES_HZ = range(100, 1001)

#: Longest record of the fast path: ten minutes at 1000 Hz.
_LONGEST_SAMPLES = 600_000


def read_wfdb(path: Path, at_most_s: float | None = None) -> Recording:
    """Read a WFDB record, with exactly the result of `signals.read_recording`.

    Raises:
        SignalError: as in `signals.read_recording`.
    """
    recording = _read_plain(path)
    if recording is None or (at_most_s is not None and recording.duration_s > at_most_s):
        return read_recording(path, at_most_s)
    return recording


def _read_plain(path: Path) -> Recording | None:
    """Read the recording if it is plain, at most ten minutes long, and matches its checksums."""
    try:
        lines = path.with_name(path.name + ".hea").read_text(encoding="ascii").splitlines()
        first = _FIRST_LINE.fullmatch(lines[0]) if lines else None
        signals = [_SIGNAL_LINE.fullmatch(line) for line in lines[1:] if not line.startswith("#")]
        if first is None or int(first["rate"]) not in _RATES_HZ:
            return None
        stated = [match for match in signals if match is not None]
        leads, samples = int(first["leads"]), int(first["samples"])
        if not len(signals) == len(stated) == leads or len({m["file"] for m in stated}) != 1:
            return None
        if samples > _LONGEST_SAMPLES:
            return None
        order = lead_order(tuple(match["lead"] for match in stated))
        digital = np.fromfile(path.with_name(stated[0]["file"]), dtype="<i2")
    except (OSError, ValueError, SignalError):
        return None
    gains = np.array([float(match["gain"]) for match in stated])
    if digital.size != leads * samples or not samples or not gains.all():
        return None
    frames: NDArray[np.int16] = digital.reshape(samples, leads)
    sums = np.array([int(match["sum"]) for match in stated])
    if np.any((frames.sum(axis=0, dtype=np.int64) - sums) & 0xFFFF) or np.any(frames == _NO_SAMPLE):
        return None
    millivolts = (frames / gains).astype(np.float32)
    return Recording(np.ascontiguousarray(millivolts.T[list(order)]), int(first["rate"]))
