"""Largest correlation of two recordings over time lags, so that a shifted copy is found too."""

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

#: Cut-off of the low-pass filter in hertz: P, QRS and T lie mostly below, and added muscle noise or
#: hum must not hide a copy.
HIGHEST_HZ = 20.0

#: Order of this Butterworth filter, which runs forwards and backwards.
FILTER_ORDER = 4

#: The baseline is removed by subtracting a moving mean of this many seconds, applied twice. A
#: longer impulse response would spread the step at the seam of a circularly shifted copy over the
#: whole record.
BASELINE_S = 0.6

#: Signals are decimated to the lowest rate of at least this, so lags are at most 10 ms apart.
GRID_HZ = 100.0

#: Lowest sampling rate: above twice the cut-off, with a margin for the slope of the filter.
LOWEST_RATE_HZ = 50.0

#: The power of an overlap is replaced by this share of the record's mean power if it is lower, so
#: that a quiet overlap (between beats, or a disconnected lead) is not scaled up.
QUIET_POWER = 0.1

#: Pairs of records correlated at a time: 2**12 need 60 MiB per worker at 10 s and 100 Hz.
PAIRS_AT_ONCE = 2**12

#: Records whose spectra are in memory at a time: 2**11 need 80 MiB.
SPECTRA_AT_ONCE = 2**11

#: Records filtered at a time, in float64.
FILTERED_AT_ONCE = 2**8

Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]

#: Progress callback: (pairs of records compared, pairs in total).
PairsDone = Callable[[int, int], None]


class Waves(NamedTuple):
    """Filtered and decimated signals.

    Attributes:
        values: signals (n, leads, T), float32.
        rate_hz: sampling rate after decimation.
    """

    values: Float32Array
    rate_hz: float


class Tally:
    """Counter of compared pairs that reports progress."""

    def __init__(self, total: int, progress: PairsDone | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def add(self, pairs: int) -> None:
        """Count pairs and report progress."""
        self.done += pairs
        if self.progress is not None:
            self.progress(self.done, self.total)


def filtered_waves(signals_mv: npt.NDArray[np.floating], sampling_rate_hz: float) -> Waves:
    """Remove baseline and frequencies above `HIGHEST_HZ` without delay, and decimate.

    Raises:
        ConfigError: the sampling rate is below `LOWEST_RATE_HZ`.
    """
    if not LOWEST_RATE_HZ <= sampling_rate_hz < math.inf:
        raise ConfigError(
            f"waves up to {HIGHEST_HZ:g} Hz need a sampling rate of at least {LOWEST_RATE_HZ:g} "
            f"Hz, got {sampling_rate_hz}; use records at a higher rate"
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
    """Lags in samples, in the order of an inverse Fourier transform: 0 ... M, -M ... -1.

    Raises:
        ConfigError: the largest lag is negative or longer than half of a record.
    """
    samples = waves.values.shape[2]
    most = math.floor(largest_lag_s * waves.rate_hz) if 0 <= largest_lag_s < math.inf else -1
    if not 0 <= most <= samples // 2:
        raise ConfigError(
            f"expected a largest lag between 0 and half of the {samples / waves.rate_hz:g} s of a "
            f"record, got {largest_lag_s} s; change it"
        )
    return np.concatenate([np.arange(most + 1), np.arange(-most, 0)])


def parts_of(count: int, size: int) -> list[slice]:
    """Slices of `size` that cover `count` elements."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def correlations_over_lags(
    first: Waves, second: Waves, lags: IntArray, workers: int, tally: Tally
) -> Float32Array:
    """Largest correlation over time lags of each record of one set with each record of another.

    max_l Σ a(t) b(t + l) / sqrt(Σ a(t)² Σ b(t + l)²), with sums over all leads, which share the
    lag, and over the times at which both records have samples. a and b are filtered signals
    (`filtered_waves`), so a record has a correlation of nearly 1 with a copy that is shifted,
    scaled or has another baseline. The power of a quiet overlap is replaced (`QUIET_POWER`). A flat
    record has a correlation of 0 with all others.

    Args:
        first: signals (n, leads, T).
        second: signals (m, leads, T).
        lags: lags in samples, from `common_lags`.
        workers: number of threads.
        tally: counter of compared pairs.

    Returns:
        Correlations (n, m). They are computed in blocks, so all other memory is bounded.
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
    """Fourier transforms of padded records.

    Attributes:
        values: spectra (F, n, leads), complex64.
        scale: 1 / sqrt(energy of the overlap) for each lag, (L, n).
        length: length of the padded records.
    """

    values: npt.NDArray[np.complex64]
    scale: Float32Array
    length: int

    @classmethod
    def of(cls, waves: Float32Array, lags: IntArray, *, later: bool) -> "Spectra":
        """Transform records (n, leads, T).

        Args:
            waves: filtered signals.
            lags: lags in samples, (L,).
            later: True for the records that are read at t + lag; the others get conjugate spectra.
        """
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
    """Correlation of each pair at each lag, (L, n, m)."""
    product = np.matmul(first.values, second.values.transpose(0, 2, 1))
    sums = fft.irfft(product, first.length, axis=0, overwrite_x=True)
    correlation = np.asarray(sums[lags], dtype=np.float32)
    correlation *= first.scale[:, :, None]
    correlation *= second.scale[:, None, :]
    return correlation
