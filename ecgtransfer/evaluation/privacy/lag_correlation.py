"""How alike two recordings are, whichever of the two began earlier: correlation over time lags."""

import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.ndimage import uniform_filter1d
from scipy.signal import butter, sosfiltfilt

from ecgtransfer.errors import ConfigError

#: Waves above this are left out, in hertz: nearly all of a P, QRS and T wave lies below, and muscle
#: noise or hum of another kind makes a copy no less of a copy.
HIGHEST_HZ = 20.0

#: Order of the Butterworth filter that does so, run forwards and backwards.
FILTER_ORDER = 4

#: The baseline, which is taken off, is a moving mean of this many seconds, taken twice. A filter of
#: long memory would carry the step where a rolled copy begins anew through the whole record.
BASELINE_S = 0.6

#: Signals are compared on the slowest grid of at least this rate, so lags are 10 ms apart or less.
GRID_HZ = 100.0

#: Twice the upper edge of the band, and room for the filter to fall.
LOWEST_RATE_HZ = 50.0

#: The overlap of two records counts at least this share of the record's mean power: what is left
#: between beats, or of a lead that fell off, is not blown up to look like something.
QUIET_POWER = 0.1

#: Pairs of records correlated at once: 2**12 need 60 MiB a worker at 10 s and 100 Hz.
PAIRS_AT_ONCE = 2**12

#: Records whose spectra are held at once: 2**11 need 80 MiB.
SPECTRA_AT_ONCE = 2**11

#: Records filtered at once, in float64.
FILTERED_AT_ONCE = 2**8

Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]

#: (pairs of records compared, pairs in all).
PairsDone = Callable[[int, int], None]


class Waves(NamedTuple):
    """Signals in the band, (n, leads, T) float32, and the rate of their grid."""

    values: Float32Array
    rate_hz: float


class Tally:
    """Counts compared pairs for `progress`."""

    def __init__(self, total: int, progress: PairsDone | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def add(self, pairs: int) -> None:
        """Count pairs, and tell."""
        self.done += pairs
        if self.progress is not None:
            self.progress(self.done, self.total)


def filtered_waves(signals_mv: npt.NDArray[np.floating], sampling_rate_hz: float) -> Waves:
    """Without baseline and what is above `HIGHEST_HZ`, without delay, every so-many-th sample."""
    if not LOWEST_RATE_HZ <= sampling_rate_hz < math.inf:
        raise ConfigError(
            f"waves up to {HIGHEST_HZ:g} Hz need a sampling rate of at least {LOWEST_RATE_HZ:g} "
            f"Hz, got {sampling_rate_hz}"
        )
    sections = butter(FILTER_ORDER, HIGHEST_HZ, fs=sampling_rate_hz, output="sos")
    window = 2 * round(BASELINE_S * sampling_rate_hz / 2) + 1
    padding = min(signals_mv.shape[2] - 1, window)
    step = max(1, int(sampling_rate_hz // GRID_HZ))
    values = np.empty((*signals_mv.shape[:2], -(-signals_mv.shape[2] // step)), dtype=np.float32)
    for rows in parts_of(len(values), FILTERED_AT_ONCE):
        signals = signals_mv[rows].astype(np.float64)
        baseline = signals
        for _ in range(2):
            baseline = uniform_filter1d(baseline, window, mode="nearest")
        filtered = sosfiltfilt(sections, signals - baseline, padlen=padding)
        values[rows] = filtered[..., ::step]
    return Waves(values, sampling_rate_hz / step)


def common_lags(waves: Waves, largest_lag_s: float) -> IntArray:
    """0 ... M, -M ... -1 samples of the grid: the order in which an inverse transform has them."""
    samples = waves.values.shape[2]
    most = math.floor(largest_lag_s * waves.rate_hz) if 0 <= largest_lag_s < math.inf else -1
    if not 0 <= most <= samples // 2:
        raise ConfigError(
            f"expected a largest lag between 0 and half of the {samples / waves.rate_hz:g} s of a "
            f"record, got {largest_lag_s} s"
        )
    return np.concatenate([np.arange(most + 1), np.arange(-most, 0)])


def parts_of(count: int, size: int) -> list[slice]:
    """`count` things, `size` at a time."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def correlations_over_lags(
    first: Waves, second: Waves, lags: IntArray, workers: int, tally: Tally
) -> Float32Array:
    """Largest correlation over time lags of every record of one set with every one of another.

    max_l Σ a(t) b(t + l) / sqrt(Σ a(t)² Σ b(t + l)²), sums over the leads, which all have the same
    lag, and over the times at which both records have samples; a and b are the records without
    their baseline (`BASELINE_S`) and what is above 20 Hz (`HIGHEST_HZ`), on a grid of at least 100
    Hz (`filtered_waves`). So a record that is shifted, scaled or has another baseline has a
    correlation of nearly 1 with itself. Where the overlap has less than a tenth of a record's mean
    power, that tenth is put in (`QUIET_POWER`); a flat record has 0 with all.

    first (n, leads, T), second (m, leads, T) -> (n, m), block by block: memory is bounded beside
    the result.
    """
    largest = np.empty((len(first.values), len(second.values)), dtype=np.float32)

    def correlate(rows: slice, others: Spectra) -> Float32Array:
        mine = Spectra.of(first.values[rows], lags, later=False)
        return np.asarray(correlation_by_lag(mine, others, lags).max(axis=0))

    with ThreadPoolExecutor(workers) as pool:
        for columns in parts_of(len(second.values), SPECTRA_AT_ONCE):
            others = Spectra.of(second.values[columns], lags, later=True)
            rows = parts_of(len(first.values), max(1, PAIRS_AT_ONCE // others.scale.shape[1]))
            found = pool.map(correlate, rows, itertools.repeat(others))
            for part, correlation in zip(rows, found, strict=True):
                largest[part, columns] = correlation
                tally.add(correlation.size)
    return np.clip(largest, -1, 1, out=largest)


class Spectra(NamedTuple):
    """Spectra (F, n, leads) complex64 of padded records, and 1 / sqrt(energy) by lag, (L, n)."""

    values: npt.NDArray[np.complex64]
    scale: Float32Array
    length: int

    @classmethod
    def of(cls, waves: Float32Array, lags: IntArray, *, later: bool) -> "Spectra":
        """Of records (n, leads, T): `later` for those read at t + lag, else conjugate spectra."""
        samples = waves.shape[2]
        length = fft.next_fast_len(samples + int(lags.max()), real=True)
        spectra = fft.rfft(waves, length, axis=2)
        if not later:
            spectra = spectra.conj()
        power = np.square(waves, dtype=np.float64).sum(axis=1)
        energy = np.concatenate([np.zeros((len(waves), 1)), np.cumsum(power, axis=1)], axis=1)
        start, stop = np.maximum(0, -lags), np.minimum(samples, samples - lags)
        if later:
            start, stop = start + lags, stop + lags
        least = QUIET_POWER * energy[:, -1:] * (stop - start) / samples
        overlap = np.maximum(energy[:, stop] - energy[:, start], least)
        scale = np.zeros_like(overlap)
        np.divide(1, np.sqrt(overlap), out=scale, where=overlap > 0)
        return cls(
            np.ascontiguousarray(spectra.transpose(2, 0, 1)),
            np.ascontiguousarray(scale.T, dtype=np.float32),
            length,
        )


def correlation_by_lag(first: Spectra, second: Spectra, lags: IntArray) -> Float32Array:
    """Correlation of every pair at every lag, (L, n, m)."""
    product = np.matmul(first.values, second.values.transpose(0, 2, 1))
    sums = fft.irfft(product, first.length, axis=0, overwrite_x=True)
    correlation = np.asarray(sums[lags], dtype=np.float32)
    correlation *= first.scale[:, :, None]
    correlation *= second.scale[:, None, :]
    return correlation
