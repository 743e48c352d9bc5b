"""Features of a beat train: rate, variability, early beats and their pauses."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.signals import BeatKind, Beats

#: Columns of `rhythm_features`, in order.
RHYTHM_FEATURES = (
    "beats",
    "rate_bpm",
    "sdnn_ms",
    "rmssd_ms",
    "irregularity",
    "early_share",
    "pause",
    "shortest_rr",
    "longest_rr",
    "lag_correlation",
    "ventricular_share",
    "supraventricular_share",
    "first_beat_s",
    "last_beat_s",
)
#: An RR interval is early below this fraction of the median of up to two intervals on either side.
EARLY_SHARE, NEIGHBOURS = 0.8, 2
#: Upper bound of std(RR) / mean(RR) in a regular rhythm.
REGULAR = 0.08


def rhythm_features(beats: Sequence[Beats]) -> NDArray[np.float64]:
    """Compute features of beat trains: (N, len(RHYTHM_FEATURES)), NaN for too few beats.

    Columns: number of beats; heart rate from the median RR; SDNN, the standard deviation of RR;
    RMSSD, the root mean square of successive differences of RR; SDNN over the mean RR; fraction of
    early intervals; mean interval after an early one over the median RR (NaN without early ones);
    shortest and longest RR over the median; correlation of successive RR (0 if all are equal);
    fractions of ventricular and supraventricular beats; time of the first beat, and time from the
    last beat to the end of the recording.
    """
    return np.array([_describe(each) for each in beats]).reshape(-1, len(RHYTHM_FEATURES))


def is_regular(beats: Sequence[Beats]) -> NDArray[np.bool_]:
    """Whether std(RR) / mean(RR) < 0.08: (N,); False for fewer than three beats."""
    irregularity = rhythm_features(beats)[:, RHYTHM_FEATURES.index("irregularity")]
    return irregularity < REGULAR


def early_intervals(rr_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each RR is below 0.8 of the median of up to two intervals on either side: (n,)."""
    early = np.zeros(len(rr_s), dtype=np.bool_)
    for i, own in enumerate(rr_s):
        before, after = rr_s[max(0, i - NEIGHBOURS) : i], rr_s[i + 1 : i + 1 + NEIGHBOURS]
        if len(before) + len(after):
            early[i] = own < EARLY_SHARE * np.median(np.concatenate([before, after]))
    return early


def _describe(beats: Beats) -> list[float]:
    n, rr_s = len(beats.times_s), beats.rr_s
    shares = [
        float(np.mean(beats.kinds == kind)) if n else np.nan
        for kind in (BeatKind.VENTRICULAR, BeatKind.SUPRAVENTRICULAR)
    ]
    ends = [beats.times_s[0], beats.duration_s - beats.times_s[-1]] if n else [np.nan, np.nan]
    if len(rr_s) < 2:
        rate = 60 / rr_s[0] if len(rr_s) else np.nan
        return [n, rate, *[np.nan] * 8, *shares, *ends]
    median, sdnn = np.median(rr_s), rr_s.std()
    steps = np.diff(rr_s)
    early = early_intervals(rr_s)
    pauses = rr_s[1:][early[:-1]]
    spread = rr_s[:-1].std() * rr_s[1:].std()
    covariance = np.mean((rr_s[:-1] - rr_s[:-1].mean()) * (rr_s[1:] - rr_s[1:].mean()))
    return [
        n,
        60 / median,
        1000 * sdnn,
        1000 * np.sqrt(np.mean(steps**2)),
        sdnn / rr_s.mean(),
        early.mean(),
        pauses.mean() / median if len(pauses) else np.nan,
        rr_s.min() / median,
        rr_s.max() / median,
        covariance / spread if spread > 0 else 0.0,
        *shares,
        *ends,
    ]
