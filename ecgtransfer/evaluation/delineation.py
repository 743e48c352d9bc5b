"""Delineation of a recording: rhythm, intervals, ST level and axis.

Intervals are measured on the median beat, as electrocardiographs do (Kligfield et al., Circulation
2007: global intervals from time-aligned representative complexes of all leads). The noise falls
with the number of beats, and neurokit2's delineation of single beats is not reliable at 100 Hz.

Errors at 100 Hz against the ground truth of 108 simulated records of each of two hospitals
(`ecgtransfer.simulation`; median and 90th percentile of the absolute error in ms):

- neurokit2 on single beats at 500 Hz, lead II or V5, with the best of "dwt", "prominence" and "cwt"
  for each interval: QRS 18 and 33, PR 6 and 53, QT 19 and 41. "peak" gives no QRS.
- neurokit2 on the repeated median beat, projected as in `median_beat`: PR 2 and 5, QT 6 and 11 with
  "dwt"; PR 11 and 15, QT 18 and 24 with "cwt"; PR 21 and 35, QT 72 and 107 with "prominence".
  "peak" misses most waves. On lead II alone the QT of "dwt" has as good a median, but a 90th
  percentile of 40 to 60, because it finds upright waves only.
- QRS from the spatial velocity of the median beat: 9 and 18. It is too long by about as much. A
  higher threshold would halve this error, but only because the QRS of a simulated heart ends
  sharply. With that threshold the median QRS of healthy hearts in PTB-XL would be 73 ms; textbooks
  have 90. With the present one it is 82, with right bundle branch block 139 and with left bundle
  branch block 156 (100 records each).

We therefore take P and T from neurokit2 ("dwt") and QRS from the spatial velocity.

Errors at 100 Hz on real ECGs (LUDB, 100 patients; `benchmarks/delineation.py`) against the median
over leads of the intervals that cardiologists marked: the median error is +7 ms for PR, -5 for QRS
and -16 for QT; the median absolute error is 8, 7 and 16; 90 % are within 21, 17 and 31. Global
intervals, from the earliest onset to the latest end in any lead, are longer: compared with these,
QRS is 32 ms too short and QT 46. Our intervals compare sets of records; they are not clinical
measurements. PR is also reported for 5 of the 12 records without a marked P wave (4 at 500 Hz):
two with flutter, one with an atrial pacemaker, the others with fibrillation.
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

from ecgtransfer.errors import ConfigError, CorpusError, SignalError
from ecgtransfer.evaluation.beat_to_beat import window_likeness
from ecgtransfer.evaluation.median_beat import (
    AFTER_MS,
    BEFORE_MS,
    FEWEST_BEATS,
    FEWEST_P,
    FEWEST_SHARE,
    NEUROKIT_ERRORS,
    RATE_HZ,
    align_beats,
    early_beats,
    p_jitter_ms,
    p_onset_and_t_end,
    p_wave_share,
    qrs_bounds,
    qrs_duration_ms,
    to_ms,
    to_samples,
)
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
from ecgtransfer.statistics import FloatArray

#: Passband in hertz. Without phase shift, 0.5 Hz removes baseline wander and preserves the ST
#: segment (Kligfield et al. 2007 allow up to 0.67 Hz).
BAND_HZ = (0.5, 150.0)

#: Fewest R peaks of a record: with three, there are two RR intervals, which can differ.
FEWEST_PEAKS = 3

#: Where ST is measured, in ms after the end of QRS: at the J point, where the Fourth Universal
#: Definition of Myocardial Infarction (2018) measures elevation, and 60 ms later, where a
#: horizontal or downsloping depression persists. The level is a median over 8 ms.
J_POINT_MS, ST_POINT_MS, ST_HALF_WIDTH_MS = 4, 60, 4

#: Reference of the ST level, in ms from QRS onset: the end of the PR segment.
BASELINE_MS = (-20, -4)

#: Shortest QRS that counts as wide: 120 ms minus one sampling interval at 100 Hz, by which the
#: delineation underestimates QRS on real records.
WIDE_MS = 110.0

#: Number of records that a worker processes at a time.
CHUNK_RECORDS = 32


#: Reasons why a recording could not be delineated.
NOT_FINITE = "samples missing or not finite"
TOO_SHORT = "too short, or sampling rate too low, to detect beats"
FEW_BEATS = "fewer than 3 beats"
NO_SHAPE = "no QRS shape that repeats"
NO_QRS = "no QRS onset or end"


@dataclass(frozen=True)
class Intervals:
    """Measurements of one recording; None for a value that was not found.

    "Dominant beats" are the beats with the most common QRS shape. The median beat is their median.

    Attributes:
        failed: why the recording could not be delineated, or None. If it failed, all other values
            but `beats` and `limb_lead_disagreement_mv` are None.
        beats: number of R peaks.
        heart_rate_bpm: 60 / mean RR interval.
        rr_irregularity: root mean square of successive RR differences / mean RR (Dash et al., Ann
            Biomed Eng 2009).
        early_beats: number of beats with an RR below 0.8 of the median of its neighbours (two on
            either side) and, unless it is the last, followed by a longer RR.
        wide_early_beats: number of early beats with a QRS of 110 ms or more and another shape than
            the median beat.
        pr_ms: PR interval of the median beat; None if `p_wave_share` is below one half.
        qrs_ms: QRS duration of the median beat.
        qt_ms: QT interval of the median beat.
        qtc_ms: Fridericia's QT / RR^(1/3), with the mean RR in seconds.
        p_wave_share: share of the dominant beats whose P wave correlates with the mean of the
            others (at least 0.5 over eight leads); 0 if that mean is not above noise.
        st_j_mv: ST level at the J point relative to the end of the PR segment, (12,) in the order
            of `LEADS`.
        st_level_mv: ST level at J + 60 ms, in the same form.
        qrs_axis_deg: frontal axis from net QRS areas, atan2(2 aVF / sqrt 3, I), in (-180, 180].
        late_qrs_i_mv: mean level of lead I over the second half of QRS. The signs in leads I, V1
            and V6 distinguish the bundle branch blocks.
        late_qrs_v1_mv: mean level of V1 over the second half of QRS.
        late_qrs_v6_mv: mean level of V6 over the second half of QRS.
        beat_correlation: `beat_to_beat.BeatLikeness.correlation` of the dominant beats.
        r_spread: `beat_to_beat.BeatLikeness.r_spread` of the dominant beats.
        pr_jitter_ms: standard deviation of the time from P to R over the beats with a P wave.
        limb_lead_disagreement_mv: `signals.limb_lead_disagreement_mv` of a record with twelve
            leads; None if four leads were computed from the other eight.
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
        """Return plain values for JSON."""
        values = asdict(self)
        for name, levels in (("st_j_mv", self.st_j_mv), ("st_level_mv", self.st_level_mv)):
            if levels is not None:
                values[name] = dict(zip(LEADS, levels, strict=True))
        return values


def measure_intervals(
    signals_mv: npt.NDArray[np.floating],
    sampling_rate_hz: float,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Intervals]:
    """Delineate each record of a batch.

    A record that cannot be delineated, for example with samples that are not finite, has `failed`.
    The result does not depend on the number of workers.

    Args:
        signals_mv: signals (n, 12 or 8 leads, T) in millivolts, with the leads of `LEADS` or of
            `INDEPENDENT_LEADS`, in order.
        sampling_rate_hz: sampling rate of the signals.
        workers: number of processes. With more than one, they import the calling script, which
            needs the usual `if __name__ == "__main__":`.
        progress: called with (records done, records in total).

    Raises:
        CorpusError: the signals have another shape, or a worker process was killed.
        ConfigError: there is fewer than 1 worker.
        SignalError: the sampling rate is not above 0.
    """
    signals = np.asanyarray(signals_mv)
    if signals.ndim != 3 or signals.shape[1] not in (len(LEADS), len(INDEPENDENT_LEADS)):
        raise CorpusError(
            f"expected signals (records, 12 or 8 leads, samples), got shape {signals.shape}; pass "
            "a batch of records"
        )
    if workers < 1:
        raise ConfigError(f"expected at least 1 worker, got {workers}; raise workers")
    Recording(np.zeros((len(LEADS), 1), np.float32), sampling_rate_hz)  # refuses an invalid rate
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
    # A fork would copy the locks of the caller's threads (torch, BLAS) and might deadlock.
    pool = ProcessPoolExecutor(
        min(workers, len(chunks)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_ignore_interrupts,
    )
    try:
        gather(pool.map(_measure_chunk, chunks, repeat(sampling_rate_hz)))
    except BrokenProcessPool:
        raise CorpusError(
            "expected all workers to finish, but one was killed, probably for lack of memory; "
            "retry with fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    return measured


def delineate(recording: Recording) -> Intervals:
    """Delineate one recording; if it has no waves, the result has `failed`, and nothing raises."""
    found = _delineate(recording)
    disagreement = limb_lead_disagreement_mv(recording.signal_mv)
    return replace(found, limb_lead_disagreement_mv=disagreement)


def _delineate(recording: Recording) -> Intervals:
    rate = recording.sampling_rate_hz
    if recording.duration_s < SHORTEST_S or rate <= 2 * QRS_BAND_HZ[1]:
        return Intervals(failed=TOO_SHORT)
    with warnings.catch_warnings():
        # neurokit2 and numpy warn about waves that are not found; the result reports these.
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
    """Measure eight leads (8, n) whose R peaks are near the samples `found`."""
    beats = align_beats(eight_mv, found)
    before, after = to_samples(BEFORE_MS), to_samples(AFTER_MS)
    complete = (beats.peaks >= before) & (beats.peaks + after <= eight_mv.shape[1])
    chosen = beats.peaks[beats.dominant & complete]
    if len(chosen) < FEWEST_BEATS or beats.dominant.mean() < FEWEST_SHARE:
        return Intervals(failed=NO_SHAPE, beats=len(beats.peaks))
    single = np.stack([eight_mv[:, peak - before : peak + after] for peak in chosen])
    median = np.median(single, axis=0)
    qrs = qrs_bounds(median, before)
    if qrs is None:
        return Intervals(failed=NO_QRS, beats=len(beats.peaks))
    onset, end = qrs
    first, last = (onset + to_samples(edge) for edge in BASELINE_MS)
    median -= np.median(median[:, first:last], axis=1, keepdims=True)
    rr_s = np.diff(beats.peaks) / RATE_HZ
    early = early_beats(rr_s)
    wide = [
        k
        for k in early
        if not beats.dominant[k] and qrs_duration_ms(eight_mv, beats.peaks[k]) >= WIDE_MS
    ]
    p_onset, t_end = p_onset_and_t_end(median, before, qrs, float(np.median(rr_s)))
    qt_ms = None if t_end is None else to_ms(t_end - onset)
    share = None if p_onset is None else p_wave_share(single, p_onset, onset)
    has_p = share is not None and share >= FEWEST_P
    alike = window_likeness(single, before, RATE_HZ)
    twelve = expand_leads(median)
    half = to_samples(ST_HALF_WIDTH_MS)
    st_j, st = (
        np.median(twelve[:, end + to_samples(at) - half : end + to_samples(at) + half + 1], axis=1)
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
        pr_ms=to_ms(onset - p_onset) if p_onset is not None and has_p else None,
        qrs_ms=to_ms(end - onset),
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
        pr_jitter_ms=p_jitter_ms(single, p_onset, onset) if p_onset is not None and has_p else None,
    )


def _measure_chunk(
    signals_mv: npt.NDArray[np.floating], sampling_rate_hz: float
) -> list[Intervals]:
    measured = []
    for signal_mv in signals_mv:
        with np.errstate(over="ignore"):  # Recording refuses values beyond float32
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


def _ignore_interrupts() -> None:
    """Ignore Ctrl-C in a worker: the parent handles it and stops its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
