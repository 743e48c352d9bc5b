"""Detect the QRS complexes of a recording and group them by shape.

Detection uses the envelope of eight leads around 12 Hz, where QRS complexes have most of their
power, and P and T waves little. Each lead is divided by its own QRS amplitude, so that neither an
artefact in one lead nor a tall ventricular beat dominates. A peak of the envelope is a QRS complex
if it reaches a given fraction of the usual height, unless most complexes have such a peak at the
same distance, as they have P and T waves. The only refractory period is 0.2 s.

R peaks are found by alignment: complexes with the same shape are aligned by correlation, to a
fraction of a sample, and share the R peak of their median. The largest deflection of each single
complex would jump between the humps of a notched QRS.
"""

from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import find_peaks

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.leads import INDEPENDENT_LEADS, LEADS
from ecgtransfer.signals.recording import Recording

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Centre of the detection band; the amplitude is halved at 7 and 18 Hz.
CENTRE_HZ = 12.0
#: Band in which complexes are aligned and compared: -6 dB at both corners.
SHAPE_BAND_HZ = (3.0, 35.0)
#: QRS band; the sampling rate must exceed twice its upper corner.
QRS_BAND_HZ = (5.0, 25.0)
#: Shortest recording in which beats are detected.
SHORTEST_S = 2.0
#: Approximate sampling rates of the envelope and of the leads to align, for any recording.
ENVELOPE_HZ, SHAPE_HZ = 100.0, 200.0
#: A Fourier transform treats the recording as periodic: its end and start are joined by a line of
#: this length.
JOIN_S = 1.0

#: Windows for the usual height: each contains a beat at 20 beats per minute or more. One starts
#: every `HOP_S`; the usual height is the median of the maxima of nine windows.
STRETCH_S, HOP_S, STRETCHES = 3.0, 1.0, 9
#: Leads with a smaller QRS amplitude contain only rounding errors.
SILENT_MV = 1e-6
#: A lead is clipped at this multiple of its QRS amplitude; the envelope is smoothed over 80 ms.
CEILING, SMOOTH_S = 2.0, 0.08
#: Shortest interval between two peaks of the envelope, and between two R peaks.
REFRACTORY_S, SHORTEST_RR_S = 0.2, 0.15

# Heights are fractions of the usual height. The thresholds were chosen on simulated records and
# checked on PTB-XL and LUDB: of the real P and T waves above 0.2, 95 % are below 0.29; of the
# simulated ventricular beats, which are slower than most real ones, 95 % are above 0.31.
#: Height from which a peak is a complex in any context.
CERTAIN = 0.6
#: Minimum height of a complex, as a fraction of the usual height and as a multiple of the median of
#: the envelope.
LOWEST, LOWEST_OF_REST = 0.22, 3.0
#: The height of a peak is limited to this multiple of its height without the largest third of the
#: leads, because an artefact affects few leads.
OF_MOST_LEADS = 1.5
#: Minimum amplitude of a complex, as a fraction of the usual one: P waves of complete heart block
#: and artefacts in few leads are smaller.
LOWEST_AMPLITUDE = 0.36
#: Latest time of a T wave after R and of a P wave before R (`T_S`, `P_S`). A peak that is steep
#: for its amplitude (height over amplitude, both as fractions, above `STEEP`) is a T wave only up
#: to `STEEP_T_S`, and later a ventricular beat.
STEEP, STEEP_T_S, T_S, P_S = 0.55, 0.36, 0.5, 0.28
#: Earliest time of a T wave, and its largest height as a fraction of the height of its complex.
EARLIEST_T_S, T_OF_QRS = 0.15, 0.33
#: A wave belongs to the complexes if the envelope has a similar height (up to the factor
#: `SIMILAR`), within `TOLERANCE_S` of the same distance, at a fraction `USUALLY` of them.
SIMILAR, TOLERANCE_S, USUALLY = 1.6, 0.05, 0.65

#: Window around the middle of a complex for comparison, and the largest shift, seconds.
SHAPE_S, SHIFT_S = (-0.08, 0.12), 0.05
#: Complexes with at least this correlation over eight leads have the same shape.
SAME_SHAPE = 0.8
#: R is the first deflection of at least this fraction of the largest one (R, not the late S of a
#: right bundle branch block), searched within `AMPLITUDE_REACH_S` of the middle.
R_SHARE, AMPLITUDE_REACH_S = 0.8, 0.08
#: A complex is truncated if R is closer to an edge than `EDGE_S`, or closer than `PARTIAL_S` with
#: another shape than the predominant one.
EDGE_S, PARTIAL_S = 0.03, 0.08
#: Number of leads with the largest differences that are ignored when a complex is compared with
#: the predominant shape, because an artefact affects few leads.
SPARED_LEADS = 2

#: A beat is early if its RR interval is below this fraction of the median of two intervals on
#: either side, and one of the next two is longer by the factor `LATER`.
EARLY_SHARE, NEIGHBOURS, LATER = 0.8, 2, 1.1

_INDEPENDENT_ROWS = [LEADS.index(name) for name in INDEPENDENT_LEADS]
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class Complexes:
    """QRS complexes of one recording in order of time, and the filtered leads.

    Attributes:
        times_s: (n,) R peaks, seconds after the first sample.
        groups: (n,) index of the complex's shape; 0 is the commonest among beats that are not
            early.
        likeness: (n,) correlation with the median of group 0, without the two least similar leads.
        leads_mv: (8, m) leads between 3 and 35 Hz at `rate_hz`; the second after the end joins the
            end to the start.
        rate_hz: sampling rate of `leads_mv`.
    """

    times_s: FloatArray
    groups: IntArray
    likeness: FloatArray
    leads_mv: FloatArray
    rate_hz: float


def find_complexes(recording: Recording) -> Complexes:
    """Detect the QRS complexes of a recording.

    Raises:
        SignalError: the recording is shorter than 2 s or sampled at 50 Hz or less.
    """
    rate_hz, n = recording.sampling_rate_hz, recording.n_samples
    if recording.duration_s < SHORTEST_S:
        raise SignalError(
            f"expected at least {SHORTEST_S:g} s to detect beats, got "
            f"{recording.duration_s:g} s; use a longer recording"
        )
    if rate_hz <= 2 * QRS_BAND_HZ[1]:
        raise SignalError(
            f"expected more than {2 * QRS_BAND_HZ[1]:g} Hz to detect beats, got {rate_hz} Hz; "
            "use a recording of a higher rate"
        )
    eight_mv = recording.signal_mv[_INDEPENDENT_ROWS]
    spectrum, joined = _joined_spectrum(eight_mv, rate_hz)
    envelope, envelope_hz = _envelope(spectrum, joined, n, rate_hz)
    leads, leads_hz = _shape_leads(spectrum, joined, rate_hz)
    middles_s = _middles_s(envelope, envelope_hz, leads, leads_hz)
    times, groups, likeness = _aligned(leads, leads_hz, middles_s)
    inside = np.minimum(times, (n - 1) / rate_hz - times)
    complete = (inside >= EDGE_S) & ((inside >= PARTIAL_S) | (likeness >= SAME_SHAPE))
    kept = np.flatnonzero(complete)
    kept = kept[np.argsort(times[kept], kind="stable")]
    while len(close := np.flatnonzero(np.diff(times[kept]) < SHORTEST_RR_S)):
        first, second = kept[close[0]], kept[close[0] + 1]
        worse = close[0] + int(likeness[second] <= likeness[first])
        kept = np.delete(kept, worse)
    return Complexes(times[kept], groups[kept], likeness[kept], leads, leads_hz)


def early_beats(rr_s: FloatArray) -> IntArray:
    """Indices of early beats from RR intervals (n - 1,), where interval k ends at beat k + 1.

    A beat is early if its interval is below 0.8 of the median of two intervals on either side, and
    shorter by a tenth than one of the next two (unless it is the last).
    """
    intervals = rr_s.tolist()
    early = []
    for k, rr in enumerate(intervals):
        later = intervals[k + 1 : k + 1 + NEIGHBOURS]
        beside = intervals[max(0, k - NEIGHBOURS) : k] + later
        returns = not later or max(later) > LATER * rr
        if beside and returns and rr < EARLY_SHARE * median(beside):
            early.append(k + 1)
    return np.array(early, dtype=np.int64)


def _joined_spectrum(eight_mv: NDArray[Any], rate_hz: float) -> tuple[NDArray[np.complex128], int]:
    """Fourier transform of the leads, (8, f), with end and start joined, and its length."""
    n = eight_mv.shape[1]
    joined = fft.next_fast_len(n + round(JOIN_S * rate_hz), real=True)
    leads = np.empty((len(eight_mv), joined))
    leads[:, :n] = eight_mv
    last, first = leads[:, n - 1, None], leads[:, :1]
    leads[:, n:] = last + (first - last) * np.linspace(0, 1, joined - n)
    return fft.rfft(leads, axis=1), joined


def _envelope(
    spectrum: NDArray[np.complex128], joined: int, n: int, rate_hz: float
) -> tuple[FloatArray, float]:
    """Magnitude of the analytic signal in the detection band, (8, m), and its rate."""
    samples = round(joined * ENVELOPE_HZ / rate_hz)
    envelope_hz = samples * rate_hz / joined
    kept = min(spectrum.shape[1], samples // 2)
    analytic = np.zeros((len(spectrum), samples), dtype=np.complex128)
    gain = _detection_gain(kept, rate_hz / joined) * (2 * samples / joined)
    analytic[:, :kept] = spectrum[:, :kept] * gain
    inside = round(n * envelope_hz / rate_hz)
    return np.abs(fft.ifft(analytic, axis=1)[:, :inside]), envelope_hz


@lru_cache(maxsize=16)
def _detection_gain(bins: int, step_hz: float) -> FloatArray:
    """Band-pass r^4 exp(2 - 2 r^2), r = f / centre: 1 at the centre, without ripple in time."""
    squared = np.square(np.arange(bins) * step_hz / CENTRE_HZ)
    return np.asarray(np.square(squared) * np.exp(2 - 2 * squared))


def _shape_leads(
    spectrum: NDArray[np.complex128], joined: int, rate_hz: float
) -> tuple[FloatArray, float]:
    """Leads (8, m) in the band for comparing shapes, and their sampling rate."""
    samples = round(joined * SHAPE_HZ / rate_hz)
    kept = min(spectrum.shape[1], samples // 2 + 1)
    gain = _shape_gain(kept, rate_hz / joined) * (samples / joined)
    leads = fft.irfft(spectrum[:, :kept] * gain, samples, axis=1)
    return leads, samples * rate_hz / joined


@lru_cache(maxsize=16)
def _shape_gain(bins: int, step_hz: float) -> FloatArray:
    low, high = SHAPE_BAND_HZ
    squared = np.square(np.arange(bins) * step_hz)
    return np.asarray(squared / (squared + low**2) * np.exp2(-squared / high**2))


def _stretch_maxima(envelope: FloatArray, rate_hz: float) -> FloatArray:
    """Maxima (..., w) over the windows of an envelope (..., m)."""
    n = envelope.shape[-1]
    length = min(n, round(STRETCH_S * rate_hz))
    starts = range(0, n - length + 1, round(HOP_S * rate_hz))
    return np.stack([envelope[..., k : k + length].max(axis=-1) for k in starts], axis=-1)


def _heights(envelope: FloatArray, rate_hz: float) -> FloatArray:
    """Combine eight envelopes (8, m) to one, (m,), as fractions of the usual QRS height.

    A lead that is small at many of its own peaks has less weight.
    """
    size = np.median(_stretch_maxima(envelope, rate_hz), axis=1)
    envelope, size = envelope[size > SILENT_MV], size[size > SILENT_MV]
    if len(size) == 0:
        return np.empty(0)
    rest = np.median(envelope, axis=1) / size
    weight = np.sqrt(size) * np.square(np.clip(1 - 1.5 * rest, 0.05, 1))
    power = weight[:, None] * np.square(np.minimum(envelope / size[:, None], CEILING))
    smallest = np.sort(power, axis=0)[: len(size) - (len(size) - 1) // 3]
    window = np.hanning(round(SMOOTH_S * rate_hz) + 2)[1:-1]
    window /= window.sum()

    def shares(power: FloatArray) -> FloatArray:
        height = np.convolve(np.sqrt(power.sum(axis=0)), window, "same")
        maxima = _stretch_maxima(height, rate_hz)
        half = STRETCHES // 2
        each = maxima.tolist()
        usual = [median(each[max(0, k - half) : k + half + 1]) for k in range(len(each))]
        first = 0.5 * min(len(height), STRETCH_S * rate_hz)
        centres = first + round(HOP_S * rate_hz) * np.arange(len(usual))
        expected_height = np.interp(np.arange(len(height)), centres, usual)
        return np.asarray(height / np.maximum(expected_height, _TINY))

    return np.minimum(shares(power), OF_MOST_LEADS * shares(smallest))


def _middles_s(
    envelope: FloatArray, rate_hz: float, leads: FloatArray, leads_hz: float
) -> FloatArray:
    """Middle of each QRS complex in seconds: envelope peaks other than P and T waves."""
    height = _heights(envelope, rate_hz)
    peaks = find_peaks(height, distance=max(1, round(REFRACTORY_S * rate_hz)))[0]
    peaks = peaks[height[peaks] >= LOWEST]
    certain = height[peaks] >= CERTAIN
    if not certain.any():
        return np.empty(0)
    kept = certain.copy()
    doubtful = np.flatnonzero(~certain)
    if len(doubtful):
        at_s = np.asarray(peaks / rate_hz, dtype=np.float64)
        amplitude = _amplitudes(leads, at_s, certain, leads_hz)
        lowest = LOWEST_OF_REST * float(np.median(height))
        for k in doubtful:
            own = height[peaks[k]]
            steep = own >= STEEP * amplitude[k]
            kept[k] = (
                own >= lowest
                and amplitude[k] >= LOWEST_AMPLITUDE
                and not _accompanies(height, peaks[k], peaks[certain], rate_hz, bool(steep))
            )
    peaks = peaks[kept]
    return (peaks + _vertices(height[peaks - 1], height[peaks], height[peaks + 1])) / rate_hz


def _amplitudes(
    leads: FloatArray, at_s: FloatArray, certain: NDArray[np.bool_], rate_hz: float
) -> FloatArray:
    """Largest deflection near each time, (n,), relative to that of the certain complexes.

    Mean over the leads without the largest third.
    """
    reach = round(AMPLITUDE_REACH_S * rate_hz)
    near = np.round(at_s * rate_hz).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    each = np.abs(leads[:, near % leads.shape[1]]).max(axis=2)
    usual = np.median(each[:, certain], axis=1)
    shares = np.sort(each[usual > 0] / usual[usual > 0, None], axis=0)
    return np.asarray(shares[: len(shares) - (len(shares) - 1) // 3].mean(axis=0))


def _accompanies(
    height: FloatArray, peak: int, certain: IntArray, rate_hz: float, steep: bool
) -> bool:
    """Whether most complexes have such a peak at this distance, as they have P and T waves."""
    tolerance = round(TOLERANCE_S * rate_hz)
    distances = peak - certain
    after = distances[(distances > 0) & (distances <= (STEEP_T_S if steep else T_S) * rate_hz)]
    before = distances[(distances < 0) & (distances >= -P_S * rate_hz)]
    # The T wave of a ventricular beat is larger than others, but smaller than its QRS.
    soon = len(after) > 0 and after[-1] <= STEEP_T_S * rate_hz
    if soon and height[peak] < T_OF_QRS * height[peak - after[-1]]:
        return True
    # The complex of this T wave may lie before the start of the recording.
    if peak <= T_S * rate_hz and not (distances > 0).any():
        reach = np.arange(round(EARLIEST_T_S * rate_hz), round(STEEP_T_S * rate_hz))
        places = certain[certain + reach[-1] < len(height)]
        if len(places) and height[peak] < SIMILAR * np.median(
            height[places[:, None] + reach].max(axis=1)
        ):
            return True
    for own in (*after[-1:], *before[:1]):
        places = certain[distances != own] + own
        places = places[(places >= tolerance) & (places + tolerance < len(height))]
        # A complex at this place hides the waves of the previous one.
        free = np.abs(places[:, None] - certain).min(axis=1) > 2 * tolerance
        places = places[free]
        if len(places) == 0:
            continue
        nearby = height[places[:, None] + np.arange(-tolerance, tolerance + 1)].max(axis=1)
        if height[peak] < SIMILAR * np.quantile(nearby, 1 - USUALLY):
            return True
    return False


def _aligned(
    leads: FloatArray, rate_hz: float, middles_s: FloatArray
) -> tuple[FloatArray, IntArray, FloatArray]:
    """R peaks in seconds, groups by shape, and similarity to group 0, from complexes' middles."""
    count = len(middles_s)
    times, groups, likeness = np.empty(count), np.empty(count, dtype=np.int64), np.empty(count)
    if count == 0:
        return times, groups, likeness
    at = np.round(middles_s * rate_hz).astype(np.int64)
    first, last = (round(edge * rate_hz) for edge in SHAPE_S)
    moved = _moved_windows(leads, at, (first, last), round(SHIFT_S * rate_hz))
    shift = moved.shape[1] // 2
    centred = moved[:, shift]
    alike = np.full((count, count), -1.0)
    for k in range(moved.shape[1]):
        np.maximum(alike, moved[:, k] @ centred.T, out=alike)
    alike = np.maximum(alike, alike.T)
    # Early beats count against their shape: in bigeminy, the other shape is the predominant one.
    votes = np.ones(count)
    votes[early_beats(np.diff(middles_s))] = -1
    popularity = (alike >= SAME_SHAPE) @ votes + alike.mean(axis=1)
    rest = np.ones(count, dtype=np.bool_)
    for group in range(count):
        seed = int(np.where(rest, popularity, -np.inf).argmax())
        members = np.flatnonzero(rest & (alike[seed] >= SAME_SHAPE))
        model = centred[seed]
        for _ in range(2):
            places = (moved[members] @ model).argmax(axis=1)
            model = _unit(np.median(moved[members, places], axis=0))
        fits = moved[members] @ model
        if group == 0:
            likeness = _likeness(moved, model, len(leads))
        places = np.clip(fits.argmax(axis=1), 1, 2 * shift - 1)
        rows = np.arange(len(members))
        part = _vertices(fits[rows, places - 1], fits[rows, places], fits[rows, places + 1])
        moved_to = at[members] + places - shift
        columns = moved_to[:, None] + np.arange(first, last)
        median_beat = np.median(leads[:, columns % leads.shape[1]], axis=1)
        times[members] = (moved_to + part + first + _r_place(median_beat)) / rate_hz
        groups[members] = group
        rest[members] = False
        if not rest.any():
            break
    return times, groups, likeness


def _moved_windows(
    leads: FloatArray, at: IntArray, edges: tuple[int, int], shift: int
) -> FloatArray:
    """Shifted windows around each place, without offset, norm 1: (n, 2 shift + 1, 8 width)."""
    first, last = edges
    columns = at[:, None] + np.arange(first - shift, last + shift)
    around = leads[:, columns % leads.shape[1]]  # (8, n, width + 2 shift)
    windows = np.lib.stride_tricks.sliding_window_view(around, last - first, axis=2)
    windows = windows.transpose(1, 2, 0, 3)  # (n, shifts, 8, width)
    moved = windows - windows.mean(axis=3, keepdims=True)
    moved = moved.reshape(*moved.shape[:2], -1)
    moved /= np.maximum(np.linalg.norm(moved, axis=2, keepdims=True), _TINY)
    return np.asarray(moved)


def _likeness(moved: FloatArray, model: FloatArray, leads: int) -> FloatArray:
    """Correlation (n,) with a model, ignoring the leads in which each complex differs most."""
    fits = moved @ model
    places = fits.argmax(axis=1)
    rows = np.arange(len(moved))
    own = moved[rows, places].reshape(len(moved), leads, -1)
    scaled = fits[rows, places, None, None] * model.reshape(leads, -1)
    error = np.square(own - scaled).sum(axis=2)
    order = np.argsort(error, axis=1)[:, : leads - SPARED_LEADS]
    power = np.take_along_axis(np.square(own).sum(axis=2), order, axis=1).sum(axis=1)
    error = np.take_along_axis(error, order, axis=1).sum(axis=1)
    explained = np.clip(1 - error / np.maximum(power, _TINY), 0, 1)
    return np.asarray(np.where(fits[rows, places] > 0, np.sqrt(explained), 0.0))


def _unit(shape: FloatArray) -> FloatArray:
    return np.asarray(shape / max(float(np.linalg.norm(shape)), _TINY))


def _r_place(beat: FloatArray) -> float:
    """Position, with a fraction, of the first large deflection of a beat (8, width)."""
    size = np.linalg.norm(beat, axis=0)
    left, middle, right = size[:-2], size[1:-1], size[2:]
    top = (middle >= left) & (middle >= right) & (middle >= R_SHARE * size.max())
    if not top.any():
        return float(size.argmax())
    k = int(top.argmax())
    return float(k + 1 + _vertices(left[k : k + 1], middle[k : k + 1], right[k : k + 1])[0])


def _vertices(left: FloatArray, middle: FloatArray, right: FloatArray) -> FloatArray:
    """Distance from the middle of three samples to the vertex of the parabola through them."""
    bend = np.maximum(2 * middle - left - right, _TINY)
    return np.asarray(np.clip(0.5 * (right - left) / bend, -0.5, 0.5))
