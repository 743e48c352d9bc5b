"""Alignment of the beats of a record, and the waves of its median beat: QRS, P and T.

Signals here are eight independent leads in millivolts at `RATE_HZ`. P onset and T end come from
neurokit2 ("dwt"). QRS comes from the spatial velocity, as in MEANS (van Bemmel, Kors and van
Herpen, Methods Inf Med 1990). `delineation` states the errors of these methods.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d
from scipy.signal import detrend

from ecgtransfer.statistics import BoolArray, FloatArray

IntArray = npt.NDArray[np.int64]

#: Sampling rate of the delineation: neurokit2 needs 250 Hz or more, and the resolution of 2 ms is
#: finer than any limit here.
RATE_HZ = 500

#: Part of a beat around R: from before the longest PR interval to the end of the longest QT.
BEFORE_MS, AFTER_MS = 500, 600

#: Two beats have the same shape if their QRS have at least this correlation over eight leads.
SAME_SHAPE = 0.8
#: Part of a beat that is compared for its shape, from R.
SHAPE_MS = (-100, 140)
#: Largest shift of an R peak when beats are aligned.
SHIFT_MS = 30

#: Fewest complete beats of one shape for a median beat. They must be a third of all beats: the
#: normal beats between premature ones are half.
FEWEST_BEATS, FEWEST_SHARE = 2, 1 / 3

#: QRS is the interval in which the spatial velocity, smoothed by a Hann window of 30 ms, exceeds a
#: share of its maximum. Gaps up to 20 ms are allowed (the notch of a block; between R and a slow
#: S). The shares are tried in order until QRS ends within `QRS_REACH_MS`; a steep ST segment needs
#: a higher one.
QRS_SHARES, VELOCITY_WINDOW_MS, LULL_MS = (0.1, 0.15, 0.2, 0.3), 30, 20
#: Largest extent of QRS from the R peak.
QRS_REACH_MS = (-130, 170)
#: Shortest and longest QRS that is accepted.
QRS_LIMITS_MS = (40.0, 200.0)

#: A beat is early if its RR interval is below this share of the median of its neighbours, two on
#: either side.
EARLY_SHARE, NEIGHBOURS = 0.8, 2

#: A beat has the P wave if it has this correlation with the mean of the other beats around P. PR is
#: reported if at least `FEWEST_P` of the beats have the P wave.
SAME_P, FEWEST_P = 0.5, 0.5
#: The energy of the smoothed mean P wave must be this many times the energy that remains in a mean
#: of as many random beats. Without this limit a P wave is found in any record: of 36 PTB-XL records
#: in fibrillation, ten had a segment that was similar in half of the beats, eight of them below
#: this limit. Of 58 healthy records one was below it, and of 52 with first-degree block two.
P_OVER_NOISE, P_SMOOTHING_MS = 5.0, 30
#: The segment that is compared starts this long before P, ends this long before QRS, whose slow
#: initial forces it avoids, and has this largest length. The second value and `SHORTEST_PR_MS` were
#: chosen on 400 records of PTB-XL: the AUC for fibrillation against other rhythms is 0.96 with
#: them, 0.93 without.
P_MARGIN_MS, Q_MARGIN_MS, LONGEST_P_MS = 20, 20, 180
#: Largest shift of a beat's P wave to fit the mean P wave, and step of the search in samples.
P_SHIFT_MS, P_SHIFT_STEP = 40, 2
#: A deflection that starts closer to QRS than this is a slurred QRS, not a conducted P wave.
SHORTEST_PR_MS = 80
#: The search for T starts this long after the J point.
ST_START_MS = 40
#: Shortest segment between T and QRS in which P is searched. T ends within this share of an RR.
SHORTEST_TP_MS, LATEST_T = 60, 0.6

#: The last deflection of a window, which is turned upright, has at least this share of the largest.
LAST_WAVE_SHARE = 0.25

#: neurokit2 gets the same beat in several slots, with R at one position of each slot, because it
#: needs 4 s and 4 beats. It ranks candidates by millivolts minus seconds, hence the gain.
SLOTS, SLOT_MS, SLOT_R_MS, SLOT_GAIN = 4, 1200, 560, 10.0
#: neurokit2 searches P up to, and T from, this distance to R.
SEEK_MS = 65

#: Errors that neurokit2 raises on a signal without waves.
NEUROKIT_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, eq=False)
class AlignedBeats:
    """R peaks of a record after alignment.

    Attributes:
        peaks: samples of the R peaks, (b,).
        dominant: whether a beat has the most common QRS shape, (b,).
    """

    peaks: IntArray
    dominant: BoolArray


def align_beats(eight_mv: FloatArray, found: FloatArray) -> AlignedBeats:
    """Align beats by correlation with the most common QRS shape.

    The largest deflection alone is not enough: a notched QRS has two peaks, and either may be the
    larger one.

    Args:
        eight_mv: independent leads (8, n).
        found: samples of the R peaks that were detected, (b,).
    """
    magnitude = np.linalg.norm(eight_mv, axis=0)
    shift = to_samples(SHIFT_MS)
    peaks = np.array([_largest_near(magnitude, round(peak), shift) for peak in found])
    first, last = (to_samples(edge) for edge in SHAPE_MS)
    fits = (peaks + first >= shift) & (peaks + last + shift < eight_mv.shape[1])
    dominant = np.zeros(len(peaks), dtype=np.bool_)
    rows = np.flatnonzero(fits)
    if len(rows) == 0:
        return AlignedBeats(peaks, dominant)

    def shape(at: int) -> FloatArray:
        window = eight_mv[:, at + first : at + last]
        window = (window - window.mean(axis=1, keepdims=True)).ravel()
        return np.asarray(window / max(float(np.linalg.norm(window)), np.finfo(np.float64).tiny))

    shapes = np.stack([shape(peak) for peak in peaks[rows]])
    alike = shapes @ shapes.T
    popularity = (alike >= SAME_SHAPE).sum(axis=1) + alike.mean(axis=1)
    # If every other beat is premature, the median beat must be made of the normal ones.
    popularity -= len(rows) * np.isin(rows, early_beats(np.diff(peaks) / RATE_HZ))
    model = shapes[int(popularity.argmax())]
    for row in rows:
        moves = np.arange(-shift, shift + 1)
        fit = np.array([shape(peaks[row] + move) @ model for move in moves])
        if fit.max() >= SAME_SHAPE:
            dominant[row] = True
            peaks[row] += moves[fit.argmax()]
    return AlignedBeats(peaks, dominant)


def _largest_near(magnitude: FloatArray, at: int, reach: int) -> int:
    start = max(0, at - reach)
    return start + int(np.argmax(magnitude[start : at + reach + 1]))


def early_beats(rr_s: FloatArray) -> list[int]:
    """Indices of premature beats; RR interval k ends at beat k + 1."""
    early = []
    for k, rr in enumerate(rr_s):
        beside = np.concatenate(
            [rr_s[max(0, k - NEIGHBOURS) : k], rr_s[k + 1 : k + 1 + NEIGHBOURS]]
        )
        last = k + 1 == len(rr_s)
        if len(beside) and rr < EARLY_SHARE * np.median(beside) and (last or rr_s[k + 1] > rr):
            early.append(k + 1)
    return early


def qrs_bounds(eight_mv: FloatArray, peak: int) -> tuple[int, int] | None:
    """First sample of the QRS around `peak` and first sample after it, by spatial velocity."""
    velocity = np.linalg.norm(np.gradient(eight_mv, axis=1), axis=0)
    window = np.hanning(to_samples(VELOCITY_WINDOW_MS) + 2)[1:-1]
    velocity = np.convolve(velocity, window / window.sum(), "same")
    start, stop = (peak + to_samples(reach) for reach in QRS_REACH_MS)
    start = max(0, start)
    fastest = start + int(np.argmax(velocity[start:stop]))
    for share in QRS_SHARES:
        moving = start + np.flatnonzero(velocity[start:stop] >= share * velocity[fastest])
        gaps = np.flatnonzero(np.diff(moving) > to_samples(LULL_MS) + 1)
        here = int(np.searchsorted(moving[gaps], fastest))
        onset = int(moving[gaps[here - 1] + 1] if here > 0 else moving[0])
        end = int(moving[gaps[here]] if here < len(gaps) else moving[-1]) + 1
        shortest, longest = QRS_LIMITS_MS
        inside = start < onset and end < min(stop, len(velocity))
        if inside and shortest <= to_ms(end - onset) <= longest:
            return onset, end
    return None


def qrs_duration_ms(eight_mv: FloatArray, peak: int) -> float:
    """QRS duration of the single beat at `peak`, 0 if no QRS is found."""
    start = max(0, peak - to_samples(BEFORE_MS))
    bounds = qrs_bounds(eight_mv[:, start : peak + to_samples(AFTER_MS)], peak - start)
    return 0.0 if bounds is None else to_ms(bounds[1] - bounds[0])


def p_onset_and_t_end(
    median: FloatArray, peak: int, qrs: tuple[int, int], rr_s: float
) -> tuple[int | None, int | None]:
    """Find P onset and T end of a median beat (8, w) with neurokit2's wavelets ("dwt").

    neurokit2 gets one lead: the projection of the beat on the direction in lead space in which the
    wave is largest. The wave is upright, and the rest of the beat is flat.

    Args:
        median: median beat, (8, w).
        peak: sample of R.
        qrs: first sample of QRS and first sample after it.
        rr_s: median RR interval in seconds.

    Returns:
        Samples of P onset and T end; None for a wave that is not found.
    """
    onset, end = qrs
    rr = round(rr_s * RATE_HZ)
    seek = to_samples(SEEK_MS)
    start = end + to_samples(ST_START_MS)
    stop = min(max(peak + round(LATEST_T * rr), start + seek), median.shape[1])
    t_wave = _principal_projection(median, start, stop)
    off_end = t_wave[start:stop] - t_wave[stop - 1]
    last = np.flatnonzero(np.abs(off_end) >= LAST_WAVE_SHARE * np.abs(off_end).max())[-1]
    t_wave *= np.sign(off_end[last])
    t_end = _located_by_neurokit(t_wave, "ECG_T_Offsets", start, stop, onset)
    last_t_end = t_end if t_end is not None else peak + rr // 2
    start, stop = max(0, last_t_end - rr), onset - to_samples(Q_MARGIN_MS)
    if stop - start < to_samples(SHORTEST_TP_MS):
        return None, t_end
    p_wave = _principal_projection(median, start, stop)
    off_line = p_wave[start:stop] - np.linspace(p_wave[start], p_wave[stop - 1], stop - start)
    p_wave *= np.sign(off_line[np.abs(off_line).argmax()])
    p_onset = _located_by_neurokit(p_wave, "ECG_P_Onsets", start, stop, onset + seek)
    if p_onset is not None and onset - p_onset < to_samples(SHORTEST_PR_MS):
        p_onset = None
    return p_onset, t_end


def _principal_projection(median: FloatArray, start: int, stop: int) -> FloatArray:
    """Projection (w,) of the beat on the first principal direction of the leads in a window."""
    direction = np.linalg.svd(median[:, start:stop], full_matrices=False)[0][:, 0]
    return np.asarray(direction @ median)


def _located_by_neurokit(
    wave: FloatArray, point: str, start: int, stop: int, r_peak: int
) -> int | None:
    """Sample of a wave's onset or end between start and stop, if R is placed at `r_peak`."""
    import neurokit2

    first = r_peak - to_samples(SLOT_R_MS)
    samples = np.clip(np.arange(first, first + to_samples(SLOT_MS)), start, stop - 1)
    slot = SLOT_GAIN * wave[samples]
    row = np.tile(slot, SLOTS)
    peaks = to_samples(SLOT_R_MS) + len(slot) * np.arange(SLOTS)
    try:
        found = neurokit2.ecg_delineate(row, peaks, sampling_rate=RATE_HZ, method="dwt")[1][point]
    except NEUROKIT_ERRORS:
        return None
    if len(found) != SLOTS or not math.isfinite(found[1]):
        return None
    at = first + int(found[1]) - len(slot)  # of the second slot, which has neighbours
    return at if start <= at < stop else None


def p_wave_share(single: FloatArray, p_onset: int, qrs_onset: int) -> float:
    """Share of beats (b, 8, w) whose P wave correlates with the mean of the other beats.

    0 if the mean is not above the noise expected in a mean of b beats.
    """
    start = max(0, p_onset - to_samples(P_MARGIN_MS))
    stop = min(qrs_onset - to_samples(Q_MARGIN_MS), start + to_samples(LONGEST_P_MS))
    waves = detrend(single[:, :, start:stop], axis=2).reshape(len(single), -1)
    smooth = uniform_filter1d(single, to_samples(P_SMOOTHING_MS), axis=2)[:, :, start:stop]
    smooth = detrend(smooth, axis=2)
    mean = smooth.mean(axis=0)
    noise = np.square(smooth - mean).sum() / (len(smooth) - 1) / len(smooth)
    if np.square(mean).sum() < P_OVER_NOISE * noise:
        return 0.0
    others = waves.sum(axis=0) - waves
    size = np.linalg.norm(waves, axis=1) * np.linalg.norm(others, axis=1)
    alike = (waves * others).sum(axis=1) >= SAME_P * np.maximum(size, np.finfo(np.float64).tiny)
    return float(alike.mean())


def p_jitter_ms(single: FloatArray, p_onset: int, qrs_onset: int) -> float | None:
    """Standard deviation over beats of the shift that best aligns P with the mean P wave, in ms.

    It uses the beats (b, 8, w) whose P wave correlates with the mean at some shift up to
    `P_SHIFT_MS`, and is None with fewer than two of them.
    """
    start = max(0, p_onset - to_samples(P_MARGIN_MS))
    stop = min(qrs_onset - to_samples(Q_MARGIN_MS), start + to_samples(LONGEST_P_MS))
    most = min(to_samples(P_SHIFT_MS), start)
    shifts = np.arange(-most, most + 1, P_SHIFT_STEP)
    mean = detrend(single[:, :, start:stop].mean(axis=0), axis=1)
    fit = np.empty((len(shifts), len(single)))
    for place, shift in enumerate(shifts):
        moved = detrend(single[:, :, start + shift : stop + shift], axis=2)
        size = np.linalg.norm(moved, axis=(1, 2)) * np.linalg.norm(mean)
        fit[place] = (moved * mean).sum(axis=(1, 2)) / np.maximum(size, 1e-12)
    fitting = fit.max(axis=0) >= SAME_P
    if fitting.sum() < FEWEST_BEATS:
        return None
    return to_ms(float(shifts[fit.argmax(axis=0)][fitting].std()))


def to_samples(milliseconds: float) -> int:
    """Duration in samples of `RATE_HZ`."""
    return round(milliseconds * RATE_HZ / 1000)


def to_ms(samples: float) -> float:
    """Duration in milliseconds of samples of `RATE_HZ`."""
    return float(samples * 1000 / RATE_HZ)
