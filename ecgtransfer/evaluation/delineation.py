"""Where the waves of a recording begin and end: rhythm, intervals, ST level, axis.

A recording is measured on its median beat, as electrocardiographs do (Kligfield et al., Circulation
2007: global intervals from time-aligned representative complexes of all leads), because noise falls
with the number of beats and neurokit2's delineation of single beats does not hold at 100 Hz.

What was measured at 100 Hz against the truth of 108 simulated records of each of two hospitals
(`ecgtransfer.simulation`; median and 90th percentile of the absolute error, ms):

- neurokit2 on single beats at 500 Hz, lead II or V5: QRS 18 and 33, PR 6 and 53, QT 19 and 41 with
  the best of "dwt", "prominence" and "cwt" for each; "peak" has no QRS;
- neurokit2 on the repeated median beat, along the direction of each wave (see below): PR 2 and 5,
  QT 6 and 11 with "dwt"; 11 and 15, 18 and 24 with "cwt"; 21 and 35, 72 and 107 with "prominence";
  "peak" misses most. On lead II alone "dwt" has as good a median for QT, but 40 to 60 in the 90th
  percentile, because it finds upright waves only;
- QRS from the spatial velocity of the median beat: 9 and 18, too long by about as much. A higher
  threshold would halve that, but the QRS of a simulated heart ends sharply: with it the QRS of
  healthy hearts in PTB-XL would last 73 ms in the median, where textbooks have 90. With this one
  they last 82, right bundle branch block 139 and left 156 (100 records each).

On real ECGs (LUDB, 100 patients; `benchmarks/delineation.py`) the median error and the median
absolute error against cardiologists, at 100 Hz and for the median over leads of each lead's own
interval, are +7 and 8 ms for PR, -5 and 7 for QRS, -16 and 16 for QT; 90 % are within 21, 17 and
31. Global intervals, from the earliest onset to the latest end in any lead, are longer: by that
measure QRS is 32 ms too short and QT 46, so these intervals compare sets of records and are no
clinical measurements. PR is also stated for 5 of the 12 records in which no P wave was marked (at
500 Hz 4): two flutters, an atrial pacemaker, fibrillation.

So P and T are neurokit2's ("dwt"), QRS is the spatial velocity's (the way of MEANS: van Bemmel,
Kors and van Herpen, Methods Inf Med 1990).
"""

import math
import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from itertools import repeat

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d
from scipy.signal import detrend

from ecgtransfer.errors import ConfigError, CorpusError, SignalError
from ecgtransfer.evaluation.beat_to_beat import window_likeness
from ecgtransfer.signals import (
    INDEPENDENT_LEADS,
    LEADS,
    Recording,
    bandpass,
    expand_leads,
    independent_leads,
    limb_lead_disagreement_mv,
    r_peaks,
    resample,
)
from ecgtransfer.signals.quality import QRS_BAND_HZ, SHORTEST_S
from ecgtransfer.statistics import (
    BoolArray,
    FloatArray,
)

IntArray = npt.NDArray[np.int64]

#: Rate at which waves are sought: neurokit2's delineation wants 250 Hz or more, and 2 ms is finer
#: than any limit here.
RATE_HZ = 500

#: Wander goes below, nothing of interest above. 0.5 Hz without phase shift leaves the ST segment
#: alone (Kligfield et al. 2007 allow up to 0.67 Hz).
BAND_HZ = (0.5, 150.0)

#: The median beat reaches from before the longest PR interval to the end of the longest QT.
BEFORE_MS, AFTER_MS = 500, 600

#: Beats whose QRS has at least this correlation (eight leads) are of one shape; what is compared,
#: from the R peak; and how far a peak is moved to where it fits best.
SAME_SHAPE = 0.8
SHAPE_MS = (-100, 140)
SHIFT_MS = 30
#: Two RR intervals can differ. What noise cannot give: two complete beats of one shape, and a third
#: of all beats of it (the beats between premature ones are half).
FEWEST_PEAKS = 3
FEWEST_BEATS, FEWEST_SHARE = 2, 1 / 3

#: QRS is where the spatial velocity, smoothed by a Hann window of 30 ms, exceeds a share of its
#: maximum, with lulls up to 20 ms (in the notch of a block, between R and a slow S). The share is
#: the first of these at which QRS ends within reach: a steep ST segment asks for a higher one.
QRS_SHARES, VELOCITY_WINDOW_MS, LULL_MS = (0.1, 0.15, 0.2, 0.3), 30, 20
#: How far QRS may reach from the R peak, and the durations that a ventricle has.
QRS_REACH_MS = (-130, 170)
QRS_LIMITS_MS = (40.0, 200.0)

#: ST is read at the J point, where the Fourth Universal Definition of Myocardial Infarction (2018)
#: measures elevation, and this long after it, where a depression that is horizontal or downsloping
#: still stands: medians of 8 ms, the first of which begin where QRS ends. Against the end of the PR
#: segment, in ms from QRS onset.
J_POINT_MS, ST_POINT_MS, ST_HALF_WIDTH_MS = 4, 60, 4
BASELINE_MS = (-20, -4)

#: A beat is early when its RR interval is below this share of the median of its neighbours (two on
#: either side), and wide from this QRS duration on: 120 ms less one sampling interval at 100 Hz,
#: which is what the threshold above reads too short on real records.
EARLY_SHARE, NEIGHBOURS = 0.8, 2
WIDE_MS = 110.0

#: A beat has the P wave when it correlates so with the mean of the other beats where P lies; PR is
#: stated when at least this share of the beats has it.
SAME_P, FEWEST_P = 0.5, 0.5
#: The energy of the mean wave, smoothed over so long, is at least this many times what beats that
#: differ at random leave in a mean of so many. Where P is sought, something is always found: of 36
#: records of PTB-XL in fibrillation ten had a stretch that was alike in half of the beats, eight of
#: them below this; of 58 healthy ones one was, of 52 with first degree block two.
P_OVER_NOISE, P_SMOOTHING_MS = 5.0, 30
#: The stretch that is compared begins this long before P, ends so long before QRS, where its first
#: slow forces are, and is at most so long. The end, and the next limit, were set on 400 records of
#: PTB-XL: they tell fibrillation from other rhythms with an AUC of 0.96, without them 0.93.
P_MARGIN_MS, Q_MARGIN_MS, LONGEST_P_MS = 20, 20, 180
#: How far a beat's P wave is moved to where it fits the mean one, and by which steps, samples.
P_SHIFT_MS, P_SHIFT_STEP = 40, 2
#: What begins later before QRS than this is no conducted P wave but a slur of the QRS.
SHORTEST_PR_MS = 80
#: T is sought from so long after the J point on.
ST_START_MS = 40
#: Shortest stretch between T and QRS in which P is sought; T ends within this share of an RR.
SHORTEST_TP_MS, LATEST_T = 60, 0.6

#: The last wave in a window, which is to be upright, is at least this share of the largest.
LAST_WAVE_SHARE = 0.25

#: neurokit2 reads a row of slots, the same beat in each, with "R" at one place of the slot. It
#: wants 4 s and 4 beats, and ranks candidates by millivolts minus seconds, hence the gain.
SLOTS, SLOT_MS, SLOT_R_MS, SLOT_GAIN = 4, 1200, 560, 10.0
#: It seeks P up to and T from this distance to R.
SEEK_MS = 65

#: Records that a worker takes at a time.
CHUNK_RECORDS = 32

#: What neurokit2 raises on a signal without waves.
NEUROKIT_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

#: Why there is no delineation.
NOT_FINITE = "samples missing or without bounds"
TOO_SHORT = "too short, or sampled too slowly, to look for beats"
FEW_BEATS = "fewer than 3 beats"
NO_SHAPE = "no QRS shape that repeats"
NO_QRS = "no QRS onset or end"


@dataclass(frozen=True)
class Intervals:
    """What was measured in one recording; None for what was not found.

    `failed` says why there is no delineation at all; then all but `beats` and the last is None.

    beats: R peaks.
    heart_rate_bpm: 60 / mean RR interval.
    rr_irregularity: root mean square of successive RR differences / mean RR (Dash et al., Ann
        Biomed Eng 2009).
    early_beats: beats whose RR is below 0.8 of the median of its neighbours (two on either side)
        and, unless it is the last, followed by a longer one.
    wide_early_beats: those of QRS 110 ms or more and of another shape than the median beat's.
    pr_ms, qrs_ms, qt_ms: of the median beat over the beats of the commonest shape.
    qtc_ms: Fridericia, QT / RR^(1/3) with the mean RR in seconds.
    p_wave_share: share of those beats that resemble the mean of the others (correlation at least
        0.5 in eight leads) where the P wave lies, 0 where that mean is no more than noise; PR is
        None below one half.
    st_j_mv, st_level_mv: (12,) in the order of `LEADS`, at J and at J + 60 ms against the end of
        the PR segment.
    qrs_axis_deg: frontal axis from net QRS areas, atan2(2 aVF / sqrt 3, I), in (-180, 180].
    late_qrs_i_mv, late_qrs_v1_mv, late_qrs_v6_mv: mean level over the second half of QRS, whose
        sign tells the bundle branch blocks apart.
    beat_correlation: how alike the beats of that shape are, `beat_to_beat.BeatLikeness`.
    r_spread: standard deviation of the R amplitude over those beats, as a share of its mean.
    pr_jitter_ms: standard deviation of the time of the P wave before R over the beats that have it.
    limb_lead_disagreement_mv: `signals.limb_lead_disagreement_mv` of a record of twelve leads, also
        of one that failed; None where four were computed from the other eight.
    """

    failed: str | None = None
    beats: int = 0
    heart_rate_bpm: float | None = None
    rr_irregularity: float | None = None
    early_beats: int | None = None
    wide_early_beats: int | None = None
    pr_ms: float | None = None
    qrs_ms: float | None = None
    qt_ms: float | None = None
    qtc_ms: float | None = None
    p_wave_share: float | None = None
    st_j_mv: tuple[float, ...] | None = None
    st_level_mv: tuple[float, ...] | None = None
    qrs_axis_deg: float | None = None
    late_qrs_i_mv: float | None = None
    late_qrs_v1_mv: float | None = None
    late_qrs_v6_mv: float | None = None
    beat_correlation: float | None = None
    r_spread: float | None = None
    pr_jitter_ms: float | None = None
    limb_lead_disagreement_mv: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        values = asdict(self)
        for name, levels in (("st_j_mv", self.st_j_mv), ("st_level_mv", self.st_level_mv)):
            if levels is not None:
                values[name] = dict(zip(LEADS, levels, strict=True))
        return values


@dataclass(frozen=True, eq=False)
class _Beats:
    """R peaks (b,) in samples of `RATE_HZ`, and which of them have the commonest QRS shape (b,)."""

    peaks: IntArray
    dominant: BoolArray


def measure_intervals(
    signals_mv: npt.NDArray[np.floating],
    sampling_rate_hz: float,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Intervals]:
    """`delineate` for each record of signals_mv (n, 12 or 8 leads, T) in millivolts.

    Twelve leads in the order of `LEADS` or the eight of `INDEPENDENT_LEADS`. A record that cannot
    be delineated, also for samples that are not finite, has `failed`; the list is the same whatever
    the number of workers, which are processes that import the calling script (it needs the usual
    `if __name__ == "__main__":`). `progress` is called with (records done, records in all).

    Raises CorpusError for another shape or when a worker is ended from outside, ConfigError for
    fewer than 1 worker, SignalError for a rate that is not above 0.
    """
    signals = np.asanyarray(signals_mv)
    if signals.ndim != 3 or signals.shape[1] not in (len(LEADS), len(INDEPENDENT_LEADS)):
        raise CorpusError(
            f"expected signals (records, 12 or 8 leads, samples), got shape {signals.shape}"
        )
    if workers < 1:
        raise ConfigError(f"expected at least 1 worker, got {workers}")
    Recording(
        np.zeros((len(LEADS), 1), np.float32), sampling_rate_hz
    )  # a bad rate is the caller's mistake
    chunks = [signals[k : k + CHUNK_RECORDS] for k in range(0, len(signals), CHUNK_RECORDS)]
    measured: list[Intervals] = []

    def gather(results: Iterable[list[Intervals]]) -> None:
        for chunk in results:
            measured.extend(chunk)
            if progress is not None:
                progress(len(measured), len(signals))

    if min(workers, len(chunks)) <= 1:
        gather(map(_measure_chunk, chunks, repeat(sampling_rate_hz)))
        return measured
    # Forking would copy the threads' locks of whatever the caller has loaded (torch, BLAS).
    pool = ProcessPoolExecutor(
        min(workers, len(chunks)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_leave_interrupts_to_the_parent,
    )
    try:
        gather(pool.map(_measure_chunk, chunks, repeat(sampling_rate_hz)))
    except BrokenProcessPool:
        raise CorpusError(
            "a process that delineates records was ended from outside, most likely for lack of "
            "memory; ask again with fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    return measured


def delineate(recording: Recording) -> Intervals:
    """Intervals of one recording; never raises, since a signal without waves is a result too."""
    found = _delineate(recording)
    disagreement = limb_lead_disagreement_mv(recording.signal_mv)
    return replace(found, limb_lead_disagreement_mv=disagreement)


def _delineate(recording: Recording) -> Intervals:
    rate = recording.sampling_rate_hz
    if recording.duration_s < SHORTEST_S or rate <= 2 * QRS_BAND_HZ[1]:
        return Intervals(failed=TOO_SHORT)
    with warnings.catch_warnings():
        # neurokit2 and numpy warn of what comes back as not found.
        warnings.simplefilter("ignore")
        try:
            found = r_peaks(recording)
            cleaned = bandpass(resample(recording, RATE_HZ), *BAND_HZ)
        except SignalError:
            return Intervals(failed=NOT_FINITE)
        except NEUROKIT_ERRORS:
            return Intervals(failed=FEW_BEATS)
        if len(found) < FEWEST_PEAKS:
            return Intervals(failed=FEW_BEATS, beats=len(found))
        eight_mv = independent_leads(cleaned.signal_mv.astype(np.float64))
        return _measure(eight_mv, found * RATE_HZ / rate)


def _measure(eight_mv: FloatArray, found: FloatArray) -> Intervals:
    """Intervals of eight leads (8, n) with R peaks found about these samples."""
    beats = _beats(eight_mv, found)
    before, after = _samples(BEFORE_MS), _samples(AFTER_MS)
    complete = (beats.peaks >= before) & (beats.peaks + after <= eight_mv.shape[1])
    chosen = beats.peaks[beats.dominant & complete]
    if len(chosen) < FEWEST_BEATS or beats.dominant.mean() < FEWEST_SHARE:
        return Intervals(failed=NO_SHAPE, beats=len(beats.peaks))
    single = np.stack([eight_mv[:, peak - before : peak + after] for peak in chosen])
    median = np.median(single, axis=0)
    qrs = _qrs_bounds(median, before)
    if qrs is None:
        return Intervals(failed=NO_QRS, beats=len(beats.peaks))
    onset, end = qrs
    first, last = (onset + _samples(edge) for edge in BASELINE_MS)
    median -= np.median(median[:, first:last], axis=1, keepdims=True)
    rr_s = np.diff(beats.peaks) / RATE_HZ
    early = _early(rr_s)
    wide = [
        k for k in early if not beats.dominant[k] and _qrs_ms(eight_mv, beats.peaks[k]) >= WIDE_MS
    ]
    p_onset, t_end = _p_onset_and_t_end(median, before, qrs, float(np.median(rr_s)))
    qt_ms = None if t_end is None else _ms(t_end - onset)
    share = None if p_onset is None else _p_share(single, p_onset, onset)
    has_p = share is not None and share >= FEWEST_P
    alike = window_likeness(single, before, RATE_HZ)
    twelve = expand_leads(median)
    half = _samples(ST_HALF_WIDTH_MS)
    st_j, st = (
        np.median(twelve[:, end + _samples(at) - half : end + _samples(at) + half + 1], axis=1)
        for at in (J_POINT_MS, ST_POINT_MS)
    )
    area = dict(zip(LEADS, twelve[:, onset:end].sum(axis=1), strict=True))
    late = dict(zip(LEADS, twelve[:, (onset + end) // 2 : end].mean(axis=1), strict=True))
    return Intervals(
        beats=len(beats.peaks),
        heart_rate_bpm=float(60 / rr_s.mean()),
        rr_irregularity=float(np.sqrt(np.square(np.diff(rr_s)).mean()) / rr_s.mean()),
        early_beats=len(early),
        wide_early_beats=len(wide),
        pr_ms=_ms(onset - p_onset) if p_onset is not None and has_p else None,
        qrs_ms=_ms(end - onset),
        qt_ms=qt_ms,
        qtc_ms=None if qt_ms is None else float(qt_ms / np.cbrt(rr_s.mean())),
        p_wave_share=0.0 if share is None else share,
        st_j_mv=tuple(st_j.tolist()),
        st_level_mv=tuple(st.tolist()),
        qrs_axis_deg=math.degrees(math.atan2(2 * area["aVF"] / math.sqrt(3), area["I"])),
        late_qrs_i_mv=float(late["I"]),
        late_qrs_v1_mv=float(late["V1"]),
        late_qrs_v6_mv=float(late["V6"]),
        beat_correlation=None if alike is None else alike.correlation,
        r_spread=None if alike is None else alike.r_spread,
        pr_jitter_ms=_p_jitter_ms(single, p_onset, onset)
        if p_onset is not None and has_p
        else None,
    )


def _beats(eight_mv: FloatArray, found: FloatArray) -> _Beats:
    """R peaks moved to where the beats lie on each other, and the commonest shape.

    The largest deflection of a notched QRS is now in one hump, now in the other: beats are aligned
    by correlation instead.
    """
    magnitude = np.linalg.norm(eight_mv, axis=0)
    shift = _samples(SHIFT_MS)
    peaks = np.array([_largest_near(magnitude, round(peak), shift) for peak in found])
    first, last = (_samples(edge) for edge in SHAPE_MS)
    fits = (peaks + first >= shift) & (peaks + last + shift < eight_mv.shape[1])
    dominant = np.zeros(len(peaks), dtype=np.bool_)
    rows = np.flatnonzero(fits)
    if len(rows) == 0:
        return _Beats(peaks, dominant)

    def shape(at: int) -> FloatArray:
        window = eight_mv[:, at + first : at + last]
        window = (window - window.mean(axis=1, keepdims=True)).ravel()
        return np.asarray(window / max(float(np.linalg.norm(window)), np.finfo(np.float64).tiny))

    shapes = np.stack([shape(peak) for peak in peaks[rows]])
    alike = shapes @ shapes.T
    popularity = (alike >= SAME_SHAPE).sum(axis=1) + alike.mean(axis=1)
    # Where every other beat is premature, the median beat is one that is not.
    popularity -= len(rows) * np.isin(rows, _early(np.diff(peaks) / RATE_HZ))
    model = shapes[int(popularity.argmax())]
    for row in rows:
        moves = np.arange(-shift, shift + 1)
        fit = np.array([shape(peaks[row] + move) @ model for move in moves])
        if fit.max() >= SAME_SHAPE:
            dominant[row] = True
            peaks[row] += moves[fit.argmax()]
    return _Beats(peaks, dominant)


def _largest_near(magnitude: FloatArray, at: int, reach: int) -> int:
    start = max(0, at - reach)
    return start + int(np.argmax(magnitude[start : at + reach + 1]))


def _early(rr_s: FloatArray) -> list[int]:
    """Numbers of the beats that come early; interval k ends at beat k + 1."""
    early = []
    for k, rr in enumerate(rr_s):
        beside = np.concatenate(
            [rr_s[max(0, k - NEIGHBOURS) : k], rr_s[k + 1 : k + 1 + NEIGHBOURS]]
        )
        last = k + 1 == len(rr_s)
        if len(beside) and rr < EARLY_SHARE * np.median(beside) and (last or rr_s[k + 1] > rr):
            early.append(k + 1)
    return early


def _qrs_bounds(eight_mv: FloatArray, peak: int) -> tuple[int, int] | None:
    """First sample of the QRS about `peak` and the first after it, by spatial velocity."""
    velocity = np.linalg.norm(np.gradient(eight_mv, axis=1), axis=0)
    window = np.hanning(_samples(VELOCITY_WINDOW_MS) + 2)[1:-1]
    velocity = np.convolve(velocity, window / window.sum(), "same")
    start, stop = (peak + _samples(reach) for reach in QRS_REACH_MS)
    start = max(0, start)
    fastest = start + int(np.argmax(velocity[start:stop]))
    for share in QRS_SHARES:
        moving = start + np.flatnonzero(velocity[start:stop] >= share * velocity[fastest])
        gaps = np.flatnonzero(np.diff(moving) > _samples(LULL_MS) + 1)
        here = int(np.searchsorted(moving[gaps], fastest))
        onset = int(moving[gaps[here - 1] + 1] if here > 0 else moving[0])
        end = int(moving[gaps[here]] if here < len(gaps) else moving[-1]) + 1
        shortest, longest = QRS_LIMITS_MS
        inside = start < onset and end < min(stop, len(velocity))
        if inside and shortest <= _ms(end - onset) <= longest:
            return onset, end
    return None


def _qrs_ms(eight_mv: FloatArray, peak: int) -> float:
    """QRS duration of a single beat, 0 where it has no bounds."""
    start = max(0, peak - _samples(BEFORE_MS))
    bounds = _qrs_bounds(eight_mv[:, start : peak + _samples(AFTER_MS)], peak - start)
    return 0.0 if bounds is None else _ms(bounds[1] - bounds[0])


def _p_onset_and_t_end(
    median: FloatArray, peak: int, qrs: tuple[int, int], rr_s: float
) -> tuple[int | None, int | None]:
    """P onset and T end of a median beat (8, w), by neurokit2's wavelets ("dwt").

    Each wave is looked at along the direction in the space of leads on which it is largest, turned
    upright, with all else of the beat held flat.
    """
    onset, end = qrs
    rr = round(rr_s * RATE_HZ)
    seek = _samples(SEEK_MS)
    start = end + _samples(ST_START_MS)
    stop = min(max(peak + round(LATEST_T * rr), start + seek), median.shape[1])
    t_wave = _largest(median, start, stop)
    off_end = t_wave[start:stop] - t_wave[stop - 1]
    last = np.flatnonzero(np.abs(off_end) >= LAST_WAVE_SHARE * np.abs(off_end).max())[-1]
    t_wave *= np.sign(off_end[last])
    t_end = _seen_by_neurokit(t_wave, "ECG_T_Offsets", start, stop, onset)
    last_t_end = t_end if t_end is not None else peak + rr // 2
    start, stop = max(0, last_t_end - rr), onset - _samples(Q_MARGIN_MS)
    if stop - start < _samples(SHORTEST_TP_MS):
        return None, t_end
    p_wave = _largest(median, start, stop)
    off_line = p_wave[start:stop] - np.linspace(p_wave[start], p_wave[stop - 1], stop - start)
    p_wave *= np.sign(off_line[np.abs(off_line).argmax()])
    p_onset = _seen_by_neurokit(p_wave, "ECG_P_Onsets", start, stop, onset + seek)
    if p_onset is not None and onset - p_onset < _samples(SHORTEST_PR_MS):
        p_onset = None
    return p_onset, t_end


def _largest(median: FloatArray, start: int, stop: int) -> FloatArray:
    """The beat (w,) along the direction in the space of leads on which a window is largest."""
    direction = np.linalg.svd(median[:, start:stop], full_matrices=False)[0][:, 0]
    return np.asarray(direction @ median)


def _seen_by_neurokit(
    wave: FloatArray, point: str, start: int, stop: int, r_peak: int
) -> int | None:
    """Sample of a wave's onset or end between start and stop, where "R" is at `r_peak`."""
    import neurokit2

    first = r_peak - _samples(SLOT_R_MS)
    samples = np.clip(np.arange(first, first + _samples(SLOT_MS)), start, stop - 1)
    slot = SLOT_GAIN * wave[samples]
    row = np.tile(slot, SLOTS)
    peaks = _samples(SLOT_R_MS) + len(slot) * np.arange(SLOTS)
    try:
        found = neurokit2.ecg_delineate(row, peaks, sampling_rate=RATE_HZ, method="dwt")[1][point]
    except NEUROKIT_ERRORS:
        return None
    if len(found) != SLOTS or not math.isfinite(found[1]):
        return None
    at = first + int(found[1]) - len(slot)  # of the second slot, which has neighbours
    return at if start <= at < stop else None


def _p_share(single: FloatArray, p_onset: int, qrs_onset: int) -> float:
    """Share of beats (b, 8, w) that resemble the mean of the others where the P wave is.

    0 where their mean is not above the noise that a mean of b beats has.
    """
    start = max(0, p_onset - _samples(P_MARGIN_MS))
    stop = min(qrs_onset - _samples(Q_MARGIN_MS), start + _samples(LONGEST_P_MS))
    waves = detrend(single[:, :, start:stop], axis=2).reshape(len(single), -1)
    smooth = uniform_filter1d(single, _samples(P_SMOOTHING_MS), axis=2)[:, :, start:stop]
    smooth = detrend(smooth, axis=2)
    mean = smooth.mean(axis=0)
    noise = np.square(smooth - mean).sum() / (len(smooth) - 1) / len(smooth)
    if np.square(mean).sum() < P_OVER_NOISE * noise:
        return 0.0
    others = waves.sum(axis=0) - waves
    size = np.linalg.norm(waves, axis=1) * np.linalg.norm(others, axis=1)
    alike = (waves * others).sum(axis=1) >= SAME_P * np.maximum(size, np.finfo(np.float64).tiny)
    return float(alike.mean())


def _p_jitter_ms(single: FloatArray, p_onset: int, qrs_onset: int) -> float | None:
    """Standard deviation of the shift at which each beat's P wave fits the mean one, ms.

    Over beats (b, 8, w) whose P wave correlates with the mean one at some shift up to
    `P_SHIFT_MS`; None with fewer than two.
    """
    start = max(0, p_onset - _samples(P_MARGIN_MS))
    stop = min(qrs_onset - _samples(Q_MARGIN_MS), start + _samples(LONGEST_P_MS))
    most = min(_samples(P_SHIFT_MS), start)
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
    return _ms(float(shifts[fit.argmax(axis=0)][fitting].std()))


def _measure_chunk(
    signals_mv: npt.NDArray[np.floating], sampling_rate_hz: float
) -> list[Intervals]:
    measured = []
    for signal_mv in signals_mv:
        with np.errstate(over="ignore"):  # Recording refuses what float32 cannot hold
            leads_mv = np.asarray(signal_mv).astype(np.float32)
        twelve = len(leads_mv) == len(LEADS)
        try:
            recording = Recording(leads_mv if twelve else expand_leads(leads_mv), sampling_rate_hz)
        except SignalError:
            measured.append(Intervals(failed=NOT_FINITE))
            continue
        found = delineate(recording)
        measured.append(found if twelve else replace(found, limb_lead_disagreement_mv=None))
    return measured


def _leave_interrupts_to_the_parent() -> None:
    """Ctrl-C is for the parent, which then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _samples(milliseconds: float) -> int:
    return round(milliseconds * RATE_HZ / 1000)


def _ms(samples: float) -> float:
    return float(samples * 1000 / RATE_HZ)
