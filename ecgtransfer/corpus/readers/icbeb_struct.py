"""Original files of ICBEB2018: MATLAB 5 with a struct `ECG` of `sex`, `age` and `data`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus.readers.statements import parse_age, parse_sex
from ecgtransfer.errors import SignalError
from ecgtransfer.signals import LEADS, Recording

#: Sampling rate of every original file; the struct does not state it (Liu et al. 2018).
ICBEB_SAMPLING_RATE_HZ = 500


@dataclass(frozen=True, eq=False)
class IcbebStruct:
    """Content of one original file: `data_mv` (12, n) in the order of LEADS, age in years, sex."""

    data_mv: NDArray[np.float64]
    age: float | None
    sex: Literal["male", "female"] | None


def load_icbeb_struct(path: Path) -> IcbebStruct:
    """Read an original file of ICBEB2018 (`path` with or without `.mat`).

    Raises:
        SignalError: the file does not exist, is not MATLAB, or has no 12-lead struct `ECG`.
    """
    from scipy.io import loadmat, whosmat

    file = path if path.suffix == ".mat" else path.with_name(path.name + ".mat")
    if not file.is_file():
        raise SignalError(f"no such file: {file}; check the folder of the data set")
    try:
        # With a damaged size, scipy would read billions of structs.
        if ("ECG", (1, 1), "struct") not in whosmat(file):
            raise ValueError("no struct ECG of one element")
        ecg = loadmat(file, variable_names=["ECG"])["ECG"][0, 0]
        data, age, sex = ecg["data"], ecg["age"], ecg["sex"]
    # scipy raises errors of any type for damaged files.
    except Exception:
        raise SignalError(
            f"{file} is not an original ICBEB recording: expected a MATLAB file with a struct ECG "
            "of sex, age and data; download it again or remove it"
        ) from None
    if data.ndim != 2 or data.shape[0] != len(LEADS) or data.dtype.kind not in "iuf":
        raise SignalError(
            f"{file}: expected ECG.data with {len(LEADS)} rows of numbers, one per lead, "
            f"got shape {data.shape} of {data.dtype}"
        )
    return IcbebStruct(data.astype(np.float64), parse_age(_first(age)), parse_sex(_first(sex)))


def read_icbeb_struct(path: Path) -> Recording:
    """Read the recording of an original file, at 500 Hz.

    Raises:
        SignalError: as in `load_icbeb_struct`.
    """
    data_mv = load_icbeb_struct(path).data_mv
    with np.errstate(over="ignore"):  # values beyond float32 become infinite and are rejected later
        signal_mv = data_mv.astype(np.float32)
    return Recording(signal_mv=signal_mv, sampling_rate_hz=ICBEB_SAMPLING_RATE_HZ)


def _first(value: Any) -> object:
    """Innermost single element of MATLAB's nested arrays; None if empty."""
    while isinstance(value, np.ndarray):
        if value.size == 0:
            return None
        value = value.flat[0]
    return value
