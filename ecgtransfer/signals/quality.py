"""Quality checks of a recording, and its R peaks and heart rate."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.leads import LEADS, expand_leads, independent_leads
from ecgtransfer.signals.qrs import QRS_BAND_HZ as QRS_BAND_HZ
from ecgtransfer.signals.qrs import SHORTEST_S as SHORTEST_S
from ecgtransfer.signals.qrs import find_complexes
from ecgtransfer.signals.recording import Recording

#: A lead that stays within a band of this width has no signal. Flags one record of PTB-XL, whose
#: V5 is 0; the smallest lead among 3,000 others spans more than 100 microvolts.
FLAT_MV = 0.02

#: A lead is clipped if it stays at its highest or lowest value for this long (a peak of an ECG does
#: not stay within one microvolt) ...
CLIPPED_S = 0.05
#: ... and for at least this many samples, at this distance from its median. Flags 21 of 21,899
#: records (PTB-XL and the first 100 of ICBEB).
CLIPPED_SAMPLES = 3
CLIPPED_MV = 0.5


def limb_lead_disagreement_mv(signal_mv: NDArray[Any]) -> float:
    """Largest deviation of the limb leads (..., 12, T) from Einthoven's and Goldberger's laws, mV.

    Recorders compute four of the six limb leads, so that the deviation is their rounding (at most 2
    microvolts). A larger one means that leads are swapped, damaged or filtered differently.

    Raises:
        SignalError: the second-to-last axis does not have length 12.
    """
    signal_mv = np.asarray(signal_mv)
    derived = expand_leads(independent_leads(signal_mv).astype(np.float64))
    return float(np.abs(signal_mv - derived).max(initial=0.0))


def flat_leads(recording: Recording) -> tuple[str, ...]:
    """Names of the leads that stay within 20 microvolts throughout."""
    spans = np.ptp(recording.signal_mv, axis=1)
    return tuple(name for name, span in zip(LEADS, spans, strict=True) if span < FLAT_MV)


def saturated_leads(recording: Recording) -> tuple[str, ...]:
    """Names of the leads that stay at their highest or lowest value, as after amplifier clipping.

    At least 50 ms and three samples with the same value, half a millivolt or more from the lead's
    median. Clipping followed by filtering or resampling is not detected.
    """
    signal_mv = recording.signal_mv
    shortest = max(CLIPPED_SAMPLES, round(CLIPPED_S * recording.sampling_rate_hz))
    middle = np.median(signal_mv, axis=1)
    clipped = np.zeros(len(LEADS), dtype=bool)
    for limit in (signal_mv.max(axis=1), signal_mv.min(axis=1)):
        held = signal_mv == limit[:, None]
        suspects = (np.abs(limit - middle) >= CLIPPED_MV) & (held.sum(axis=1) >= shortest)
        for row in np.flatnonzero(suspects):
            clipped[row] |= _longest_run(held[row]) >= shortest
    return tuple(name for name, found in zip(LEADS, clipped, strict=True) if found)


def r_peaks(recording: Recording) -> NDArray[np.int64]:
    """Sample index of the R peak of each QRS complex, ascending: (beats,), possibly empty.

    Uses all eight independent leads together, at heart rates from 20 to 300 beats per minute (see
    `qrs`). R is the largest deflection, or the first of two that are about equal, and the same one
    in all complexes of one shape. `find_beats` gives the times to a fraction of a sample.

    Raises:
        SignalError: the recording is shorter than 2 s or sampled at 50 Hz or less.
    """
    return np.rint(find_complexes(recording).times_s * recording.sampling_rate_hz).astype(np.int64)


def heart_rate_bpm(recording: Recording) -> float:
    """Heart rate from the median interval between R peaks, robust to a missed beat.

    Raises:
        SignalError: fewer than two beats are found.
    """
    times_s = find_complexes(recording).times_s
    if len(times_s) < 2:
        raise SignalError(
            f"expected at least 2 beats for a heart rate, got {len(times_s)} in "
            f"{recording.duration_s:g} s; check the recording, or use a longer one"
        )
    return float(60 / np.median(np.diff(times_s)))


def _longest_run(flags: NDArray[np.bool_]) -> int:
    """Length of the longest run of True."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return int((edges[1::2] - edges[::2]).max(initial=0))
