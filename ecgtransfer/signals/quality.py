"""What is wrong with a recording, and where its beats are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.leads import LEADS, expand_leads, independent_leads
from ecgtransfer.signals.preprocessing import bandpass
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

#: Band in which QRS complexes stand out from P and T waves, wander and muscle.
QRS_BAND_HZ = (1.0, 25.0)

#: Shortest recording in which beats are looked for: neurokit2 averages over 0.75 s around each.
SHORTEST_S = 2.0


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
    """Sample of each QRS complex's largest deflection, ascending: (beats,), empty where none is.

    neurokit2's detector on the magnitude of the eight independent leads between 1 and 25 Hz, which
    finds wide and small complexes that a single lead hides.

    Raises SignalError for a recording shorter than 2 s or too slow for that band.
    """
    import neurokit2

    if recording.duration_s < SHORTEST_S:
        raise SignalError(
            f"expected at least {SHORTEST_S:g} s to look for beats, got "
            f"{recording.duration_s:g} s; use a longer recording"
        )
    leads = independent_leads(bandpass(recording, *QRS_BAND_HZ).signal_mv.astype(np.float64))
    magnitude = np.linalg.norm(leads, axis=0)
    found = neurokit2.ecg_findpeaks(magnitude, sampling_rate=recording.sampling_rate_hz)
    return np.asarray(found["ECG_R_Peaks"], dtype=np.int64)


def heart_rate_bpm(recording: Recording) -> float:
    """Beats a minute, from the median interval between R peaks: one missed beat does not move it.

    Raises SignalError where fewer than two beats are found.
    """
    peaks = r_peaks(recording)
    if len(peaks) < 2:
        raise SignalError(
            f"expected at least 2 beats for a heart rate, got {len(peaks)} in "
            f"{recording.duration_s:g} s; check the recording, or use a longer one"
        )
    return float(60 * recording.sampling_rate_hz / np.median(np.diff(peaks)))


def _longest_run(flags: NDArray[np.bool_]) -> int:
    """Length of the longest unbroken run of True."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return int((edges[1::2] - edges[::2]).max(initial=0))
