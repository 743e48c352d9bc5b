"""WFDB records of the plainest kind, read fast: one `.dat` of format 16, millivolts, baseline 0.

`wfdb` parses a header through a table and takes 2 ms or more; PTB-XL has 21,799 of them, all alike.
What is not exactly of that kind, damaged files included, is left to `signals.read_recording`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import Recording, lead_order, read_recording

#: `00001_lr 12 100 1000`
_FIRST_LINE = re.compile(r"\S+ (?P<leads>\d+) (?P<rate>\d+) (?P<samples>\d+)", re.ASCII)

#: `00001_lr.dat 16 1000.0(0)/mV 16 0 -119 1508 0 I`
_SIGNAL_LINE = re.compile(
    r"(?P<file>[^\s/]+\.dat) 16 (?P<gain>\d+(?:\.\d+)?)\(0\)/mV 16 0 -?\d+ (?P<sum>-?\d+) 0 "
    r"(?P<lead>\S.*\S|\S)",
    re.ASCII,
)

#: Format 16 writes "no sample" as this number.
_NO_SAMPLE = -32768

#: Rates that are read here; others are for `read_recording` to judge.
_RATES_HZ = range(100, 1001)


def read_wfdb(path: Path) -> Recording:
    """The recording of a WFDB record; the same as `signals.read_recording`, bit for bit.

    Raises:
        SignalError: what `signals.read_recording` refuses.
    """
    recording = _read_plain(path)
    return read_recording(path) if recording is None else recording


def _read_plain(path: Path) -> Recording | None:
    """The recording, if the record is of the plain kind and its samples match their checksums."""
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
        order = lead_order(tuple(match["lead"] for match in stated))
        digital = np.fromfile(path.with_name(stated[0]["file"]), dtype="<i2")
    except (OSError, UnicodeDecodeError, SignalError):
        return None
    gains = np.array([float(match["gain"]) for match in stated], dtype=np.float32)
    if digital.size != leads * samples or not samples or not gains.all():
        return None
    frames: NDArray[np.int16] = digital.reshape(samples, leads)
    sums = np.array([int(match["sum"]) for match in stated])
    if np.any((frames.sum(axis=0, dtype=np.int64) - sums) & 0xFFFF) or np.any(frames == _NO_SAMPLE):
        return None
    millivolts = frames.astype(np.float32) / gains
    return Recording(np.ascontiguousarray(millivolts.T[list(order)]), int(first["rate"]))
