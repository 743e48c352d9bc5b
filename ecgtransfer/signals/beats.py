"""The beats of a recording: their times and kinds."""

import math
from dataclasses import dataclass
from enum import IntEnum
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.recording import Recording

if TYPE_CHECKING:
    from ecgtransfer.signals.qrs import Complexes

FloatArray = NDArray[np.float64]


class BeatKind(IntEnum):
    """Kind of a beat, relative to the other beats of its record.

    VENTRICULAR: a wide QRS with another shape than the record's predominant one. SUPRAVENTRICULAR:
    early, with the predominant QRS. UNKNOWN: the shape cannot be judged. ORDINARY: all others,
    whatever their diagnosis: in left bundle branch block, the wide beats are ordinary.
    """

    UNKNOWN = 0
    ORDINARY = 1
    VENTRICULAR = 2
    SUPRAVENTRICULAR = 3


#: WFDB annotation symbol of each kind.
SYMBOLS = {
    BeatKind.UNKNOWN: "Q",
    BeatKind.ORDINARY: "N",
    BeatKind.VENTRICULAR: "V",
    BeatKind.SUPRAVENTRICULAR: "S",
}
_KINDS = {symbol: kind for kind, symbol in SYMBOLS.items()}

#: Shortest interval between two beats, ms: the refractory period of the ventricles.
SHORTEST_RR_MS = 150


@dataclass(frozen=True, eq=False)
class Beats:
    """Times and kinds of the beats of a recording.

    Attributes:
        times_s: (n,) float64, R peaks in seconds after the first sample, ascending.
        kinds: (n,) int8, `BeatKind`.
        duration_s: length of the recording.

    Raises:
        SignalError: times are not finite, outside [0, duration_s), not ascending or closer than
            0.15 s (in whole milliseconds); kinds are unknown; or shapes do not match.
    """

    times_s: FloatArray
    kinds: NDArray[np.int8]
    duration_s: float

    def __post_init__(self) -> None:
        """Validate and copy both arrays, and make them read-only."""
        times = np.array(self.times_s, dtype=np.float64)
        kinds = np.array(self.kinds)
        if not np.isfinite(self.duration_s) or self.duration_s <= 0:
            raise SignalError(
                f"expected a duration above 0 s, got {self.duration_s}; pass the recording's"
            )
        if times.ndim != 1 or kinds.shape != times.shape:
            raise SignalError(
                f"expected one time and one kind per beat, got shapes {times.shape} and "
                f"{kinds.shape}; pass two arrays of one length"
            )
        known = np.isin(kinds, list(BeatKind))
        if not known.all():
            raise SignalError(
                f"expected kinds from 0 to {max(BeatKind)}, got {kinds[~known][0]}; use BeatKind"
            )
        outside = ~((times >= 0) & (times < self.duration_s))
        if outside.any():
            raise SignalError(
                f"expected times from 0 s to below {self.duration_s:g} s, got "
                f"{times[outside][0]:g} s; drop beats outside the recording"
            )
        gaps = np.diff(np.rint(1000 * times))
        if (gaps < 0).any():
            raise SignalError(
                f"expected ascending times, got {times[gaps.argmin()]:g} s before "
                f"{times[gaps.argmin() + 1]:g} s; sort times and kinds together"
            )
        if (gaps < SHORTEST_RR_MS).any():
            raise SignalError(
                f"expected beats at least {SHORTEST_RR_MS} ms apart, got {gaps.min():g} ms at "
                f"{times[gaps.argmin()]:g} s; drop one of the two"
            )
        kinds = kinds.astype(np.int8)
        times.setflags(write=False)
        kinds.setflags(write=False)
        object.__setattr__(self, "times_s", times)
        object.__setattr__(self, "kinds", kinds)
        object.__setattr__(self, "duration_s", float(self.duration_s))

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def rr_s(self) -> FloatArray:
        """Intervals between beats, (n - 1,) seconds."""
        return np.diff(self.times_s)

    @property
    def heart_rate_bpm(self) -> float:
        """Heart rate, 60 / median RR interval.

        Raises:
            SignalError: fewer than 2 beats.
        """
        if len(self) < 2:
            raise SignalError(
                f"expected at least 2 beats for a heart rate, got {len(self)}; use a longer "
                "recording, or exclude this one"
            )
        return float(60 / np.median(self.rr_s))

    def to_text(self) -> str:
        """Format times in whole milliseconds with WFDB symbols: "0.412N 1.203N 1.700V"."""
        last_ms = int(np.ceil(1000 * self.duration_s)) - 1
        return " ".join(
            f"{min(round(1000 * time), last_ms) / 1000:.3f}{SYMBOLS[BeatKind(kind)]}"
            for time, kind in zip(self.times_s.tolist(), self.kinds.tolist(), strict=True)
        )

    @classmethod
    def from_text(cls, text: str, duration_s: float) -> "Beats":
        """Parse the output of `to_text` for a recording of this length.

        Raises:
            SignalError: a word is not a time followed by N, V, S or Q, or the beats are invalid.
        """
        times, kinds = [], []
        for word in text.split():
            try:
                times.append(float(word[:-1]))
                kinds.append(_KINDS[word[-1]])
            except (ValueError, KeyError):
                raise SignalError(
                    f"expected beats such as 0.412N with one of {', '.join(_KINDS)}, got "
                    f"{word!r}; pass the output of Beats.to_text"
                ) from None
        return cls(np.array(times), np.array(kinds, dtype=np.int8), duration_s)


# The thresholds below were chosen on simulated records, whose kinds are known, and on the odd folds
# of PTB-XL, where records without PVC or PAC should have few such beats.
#: Similarity (see `qrs.Complexes`) below which a beat has another shape than the predominant one:
#: for a beat that is much wider than those, for a wide beat, and for an early beat that is not
#: narrow.
OTHER_IF_WIDER, OTHER_IF_WIDE, OTHER_IF_EARLY = 0.93, 0.85, 0.75
#: Width of a QRS: the time, in ms, of the middle 90 % of the path length of the eight leads. It is
#: 70 in healthy hearts, 95 at a QRS duration of about 110 ms, 130 in left bundle branch block.
PATH_SHARE, WIDE_MS, WIDER, NOT_NARROW_MS = 0.9, 95.0, 1.3, 80.0
#: Interval around R in which the path length is measured, seconds.
WIDTH_REACH_S = (-0.13, 0.17)
#: Closer to the start or the end of the recording, an unusual QRS may be truncated; seconds.
CUT_OFF_S = (0.08, 0.12)
#: A ventricular beat that is not wide must come before this fraction of the median RR interval.
EARLY_VENTRICULAR = 0.9

#: A supraventricular beat has an RR interval below `EARLY` times the median of two intervals on
#: either side, or below `EARLY_OF_BOTH` times both adjacent ones (bigeminy), and below `ABRUPT`
#: times the previous one, because sinus arrhythmia is gradual. Only intervals between ordinary
#: beats count.
EARLY, EARLY_OF_BOTH, ABRUPT, NEIGHBOURS = 0.8, 0.75, 0.85, 2
#: In a regular rhythm, the median deviation of the RR intervals from their median is below this
#: fraction of it. Intervals before and after early beats are excluded; if fewer than two remain,
#: the intervals of the early beats are used.
REGULAR = 0.05


def find_beats(recording: Recording) -> Beats:
    """Detect the beats of a recording, with their kinds; there may be none.

    R peaks are aligned on the median shape of their group, to a fraction of a sample.

    Raises:
        SignalError: the recording is shorter than 2 s or sampled at 50 Hz or less.
    """
    # The detector needs `scipy.signal`, which takes longer to import than a set to open.
    from ecgtransfer.signals.qrs import find_complexes

    complexes = find_complexes(recording)
    kinds = _kinds(complexes, recording.duration_s)
    return Beats(complexes.times_s, kinds, recording.duration_s)


def _kinds(complexes: "Complexes", duration_s: float) -> NDArray[np.int8]:
    """Kind of each complex, (n,); all are unknown if no two complexes have the same shape."""
    times = complexes.times_s
    own = complexes.groups == 0
    if own.sum() < 2:
        return np.full(len(times), BeatKind.UNKNOWN, dtype=np.int8)
    kinds = np.full(len(times), BeatKind.ORDINARY, dtype=np.int8)
    if complexes.likeness.min() < OTHER_IF_WIDER:
        # Beats of the same deviating shape are judged together.
        together = np.where(own, -1 - np.arange(len(own)), complexes.groups)
        like = _medians(complexes.likeness, together)
        width_ms = _medians(_widths_ms(complexes), together)
        own_ms = float(np.median(width_ms[own]))
        rr = np.diff(times, prepend=-np.inf)
        early = _medians((rr < EARLY_VENTRICULAR * np.median(rr)).astype(np.float64), together)
        ventricular = (
            ((like < OTHER_IF_WIDER) & (width_ms >= max(WIDE_MS, WIDER * own_ms)))
            | ((like < OTHER_IF_WIDE) & (width_ms >= min(WIDE_MS, WIDER * own_ms)))
            | ((like < OTHER_IF_EARLY) & (width_ms >= NOT_NARROW_MS) & (early >= 0.5))
        )
        complete = (times >= CUT_OFF_S[0]) & (times < duration_s - CUT_OFF_S[1])
        kinds[(like < OTHER_IF_WIDE) | ventricular] = BeatKind.UNKNOWN
        kinds[ventricular & complete] = BeatKind.VENTRICULAR
    kinds[_supraventricular(times, kinds)] = BeatKind.SUPRAVENTRICULAR
    return kinds


def _medians(values: FloatArray, groups: NDArray[np.int64]) -> FloatArray:
    """For each value, the median of its group: (n,)."""
    medians = np.empty(len(values))
    for group in np.unique(groups):
        medians[groups == group] = np.median(values[groups == group])
    return medians


def _supraventricular(times_s: FloatArray, kinds: NDArray[np.int8]) -> NDArray[np.int64]:
    """Indices of the ordinary beats that come early in an otherwise regular rhythm."""
    ordinary = kinds == BeatKind.ORDINARY
    between = np.flatnonzero(ordinary[:-1] & ordinary[1:])
    rr = dict(zip(between.tolist(), np.diff(times_s)[between].tolist(), strict=True))
    early = []
    for k, own in rr.items():
        near = [rr[j] for j in range(k - NEIGHBOURS, k + NEIGHBOURS + 1) if j != k and j in rr]
        both = [rr[j] for j in (k - 1, k + 1) if j in rr]
        if len(near) < NEIGHBOURS or own >= ABRUPT * rr.get(k - 1, math.inf):
            continue
        if own < EARLY * median(near) or (len(both) == 2 and own < EARLY_OF_BOTH * min(both)):
            early.append(k)
    # The interval after an early beat is a pause.
    others = [own for k, own in rr.items() if k not in early and k - 1 not in early]
    if not _regular(others) or (len(others) < 2 and not _regular([rr[k] for k in early])):
        return np.empty(0, dtype=np.int64)
    return np.array(early, dtype=np.int64) + 1


def _regular(intervals: list[float]) -> bool:
    """Whether intervals are close to their median."""
    if not intervals:
        return True
    middle = median(intervals)
    return median(abs(each - middle) for each in intervals) < REGULAR * middle


def _widths_ms(complexes: "Complexes") -> FloatArray:
    """Duration, (n,), of the middle 90 % of the path of the eight leads around each R peak."""
    leads, rate = complexes.leads_mv, complexes.rate_hz
    first, last = (round(edge * rate) for edge in WIDTH_REACH_S)
    at = np.round(complexes.times_s * rate).astype(np.int64)
    columns = at[:, None] + np.arange(first, last)
    speed = np.linalg.norm(np.roll(leads, -1, axis=1) - np.roll(leads, 1, axis=1), axis=0)
    near = np.maximum(speed[columns % len(speed)] - np.median(speed), 0)
    path = np.cumsum(near, axis=1) / np.maximum(near.sum(axis=1, keepdims=True), 1e-12)
    edge = 0.5 * (1 - PATH_SHARE)
    samples = (path < 1 - edge).sum(axis=1) - (path < edge).sum(axis=1)
    return np.asarray(samples * (1000 / rate))
