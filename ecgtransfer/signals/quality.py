"""What is wrong with a recording, and where its beats are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.leads import LEADS, expand_leads, independent_leads
from ecgtransfer.signals.qrs import QRS_BAND_HZ as QRS_BAND_HZ
from ecgtransfer.signals.qrs import SHORTEST_S as SHORTEST_S
from ecgtransfer.signals.qrs import find_complexes
from ecgtransfer.signals.recording import Recording

#: A lead that never leaves a band of this width carries no heart. Flags one record of PTB-XL, whose
#: V5 is 0; the smallest lead among 3,000 others spans more than 100 microvolts.
FLAT_MV = 0.02

#: A lead is clipped where it holds its very highest or lowest value this long (a peak of an ECG
#: does not rest on one microvolt) ...
CLIPPED_S = 0.05
#: ... over at least so many samples, so far from its median. Flags 21 of 21,899 records (PTB-XL and
#: the first 100 of ICBEB).
CLIPPED_SAMPLES = 3
CLIPPED_MV = 0.5


def limb_lead_disagreement_mv(signal_mv: NDArray[Any]) -> float:
    """Largest departure of the limb leads (..., 12, T) from Einthoven's and Goldberger's laws, mV.

    Recorders compute four of the six, so that it is their rounding (at most 2 microvolts); more
    means swapped, filtered apart or damaged leads.

    Raises SignalError where the second last axis is not the twelve leads.
    """
    signal_mv = np.asarray(signal_mv)
    derived = expand_leads(independent_leads(signal_mv).astype(np.float64))
    return float(np.abs(signal_mv - derived).max(initial=0.0))


def flat_leads(recording: Recording) -> tuple[str, ...]:
    """Names of the leads that stay within 20 microvolts all the time."""
    spans = np.ptp(recording.signal_mv, axis=1)
    return tuple(name for name, span in zip(LEADS, spans, strict=True) if span < FLAT_MV)


def saturated_leads(recording: Recording) -> tuple[str, ...]:
    """Names of the leads that rest on their highest or lowest value, as a clipping amplifier does.

    At least 50 ms and three samples of one value, half a millivolt or more from the lead's median.
    Clipping that was filtered or resampled afterwards is no longer seen.
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
    """Sample of the R peak of each QRS complex, ascending: (beats,), empty where none is.

    All eight independent leads together, at any heart rate from 20 to 300 a minute (see `qrs`); R
    is the largest deflection, the first where two are about as large, and the same one in all
    complexes of one shape. `find_beats` has the times to a fraction of a sample.

    Raises SignalError for a recording shorter than 2 s or sampled at 50 Hz or less.
    """
    return np.rint(find_complexes(recording).times_s * recording.sampling_rate_hz).astype(np.int64)


def heart_rate_bpm(recording: Recording) -> float:
    """Beats a minute, from the median interval between R peaks: one missed beat does not move it.

    Raises SignalError where fewer than two beats are found.
    """
    times_s = find_complexes(recording).times_s
    if len(times_s) < 2:
        raise SignalError(
            f"expected at least 2 beats for a heart rate, got {len(times_s)} in "
            f"{recording.duration_s:g} s; check the recording, or use a longer one"
        )
    return float(60 / np.median(np.diff(times_s)))


def _longest_run(flags: NDArray[np.bool_]) -> int:
    """Length of the longest unbroken run of True."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return int((edges[1::2] - edges[::2]).max(initial=0))
