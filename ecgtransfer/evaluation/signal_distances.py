"""Distances between two sets of signals: spectra, band power and lead correlations."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import signal

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.distances import row_blocks
from ecgtransfer.signals import INDEPENDENT_LEADS, LEADS
from ecgtransfer.statistics import (
    FloatArray,
)

#: Bands of `band_power_error` in hertz, from baseline, P and T waves over the QRS to noise and the
#: power line.
BANDS_HZ = ((0.5, 5.0), (5.0, 15.0), (15.0, 25.0), (25.0, 35.0), (35.0, 42.0), (42.0, 50.0))

#: Length of a Welch segment in seconds: the resolution is 0.25 Hz, half of the lowest band edge.
SEGMENT_S = 4.0

#: Floor in mV² of the power of a band or frequency bin, so that the logarithm of a flat record is
#: finite. It is the power of a signal of 10 nV.
POWER_FLOOR_MV2 = 1e-10


def band_power_error(
    real_mv: npt.ArrayLike, generated_mv: npt.ArrayLike, sampling_rate_hz: float
) -> dict[str, float]:
    """Mean log10 power of generated minus real records in each of `BANDS_HZ`, by band name.

    +0.3 means twice the power. Spectra are Welch's, of 4 s segments. The power of a record in a
    band is summed over leads, and its log10 is averaged over records, so that a few noisy records
    do not dominate.

    Args:
        real_mv: signals (n, leads, T) in millivolts.
        generated_mv: signals (m, leads, T') in millivolts at the same rate.
        sampling_rate_hz: sampling rate of both, at least 100 Hz, because the bands reach 50 Hz.

    Raises:
        ConfigError: the sampling rate is below 100 Hz.
        CorpusError: the signals have another shape, are shorter than one segment, or are not
            finite.
    """
    real = log_band_power(real_mv, sampling_rate_hz)
    generated = log_band_power(generated_mv, sampling_rate_hz)
    error = generated.mean(axis=0) - real.mean(axis=0)
    return dict(zip(band_names(), error.tolist(), strict=True))


def log_band_power(signals_mv: npt.ArrayLike, sampling_rate_hz: float) -> FloatArray:
    """log10 power in mV², summed over leads, of each record and band: (n, bands)."""
    signals = _checked_for_spectra(signals_mv, sampling_rate_hz)
    powers = np.empty((len(signals), len(BANDS_HZ)))
    for rows, frequency, power in _spectra(signals, sampling_rate_hz):
        by_record = power.sum(axis=1)
        for band, (low, high) in enumerate(BANDS_HZ):
            last = high == BANDS_HZ[-1][1]
            inside = (frequency >= low) & ((frequency < high) | (last & (frequency == high)))
            powers[rows, band] = by_record[:, inside].sum(axis=1)
    return np.asarray(np.log10(np.maximum(powers, POWER_FLOOR_MV2)))


def log_spectral_distance(
    real_mv: npt.ArrayLike, generated_mv: npt.ArrayLike, sampling_rate_hz: float
) -> dict[str, float]:
    """Log spectral distance in decibels of each lead, by name, and their mean, "all leads".

    The root mean square, over the frequencies from 0.5 to 50 Hz, of the difference of the two sets'
    mean log spectra (Gray and Markel 1976, the L₂ form). 3 dB is a factor of two in power. The
    arguments, spectra and errors are those of `band_power_error`; frequencies are 0.25 Hz apart.
    All records should have one length, because the mean log spectrum depends on the number of
    segments. Eight or twelve leads have their usual names; otherwise leads are numbered.

    Raises:
        ConfigError: the sampling rate is below 100 Hz.
        CorpusError: the sets have different numbers of leads, or signals that `band_power_error`
            refuses.
    """
    real = log_spectra(real_mv, sampling_rate_hz)
    generated = log_spectra(generated_mv, sampling_rate_hz)
    if real.shape[1] != generated.shape[1]:
        raise CorpusError(
            f"expected signals with the same leads, got {real.shape[1]} and {generated.shape[1]}; "
            "select the same leads of both"
        )
    by_lead = spectral_distances(real.mean(axis=0), generated.mean(axis=0))
    return dict(zip(spectral_names(real.shape[1]), by_lead.tolist(), strict=True))


def log_spectra(signals_mv: npt.ArrayLike, sampling_rate_hz: float) -> npt.NDArray[np.float32]:
    """log10 power in mV² of each record, lead and bin from 0.5 to 50 Hz: (n, leads, bins)."""
    signals = _checked_for_spectra(signals_mv, sampling_rate_hz)
    logs = [
        np.log10(np.maximum(power, POWER_FLOOR_MV2)).astype(np.float32)
        for _, _, power in _spectra(signals, sampling_rate_hz)
    ]
    return np.concatenate(logs)


def spectral_distances(
    real: npt.NDArray[np.floating], other: npt.NDArray[np.floating]
) -> FloatArray:
    """Distance of two mean log10 spectra (leads, bins) in dB: the mean, then that of each lead."""
    by_lead = np.sqrt(np.square(10 * (other - real)).mean(axis=1))
    return np.concatenate([[by_lead.mean()], by_lead]).astype(np.float64)


def lead_correlation_difference(real_mv: npt.ArrayLike, generated_mv: npt.ArrayLike) -> float:
    """Mean absolute difference of the mean correlations between leads, in [0, 2].

    The correlations over time between the leads of a record are averaged over the records of each
    set, and the absolute difference of the two sets is averaged over pairs of leads. Pass the eight
    independent leads, because the other four are computed from them. A flat lead has a correlation
    of 0 with every other lead.

    Args:
        real_mv: signals (n, leads, T) in millivolts.
        generated_mv: signals (m, leads, T') in millivolts.

    Raises:
        CorpusError: the signals have another shape or fewer than 2 leads, the numbers of leads
            differ, or a value is not finite.
    """
    real, generated = lead_correlations(real_mv), lead_correlations(generated_mv)
    if real.shape[1] != generated.shape[1]:
        raise CorpusError(
            f"expected signals with the same leads, got {real.shape[1]} and {generated.shape[1]} "
            "pairs of them; select the same leads of both"
        )
    return float(np.abs(generated.mean(axis=0) - real.mean(axis=0)).mean())


def lead_correlations(signals_mv: npt.ArrayLike) -> FloatArray:
    """Correlation over time of each pair of leads in each record: (n, leads (leads − 1) / 2)."""
    signals = _checked_signals(signals_mv)
    if signals.shape[1] < 2:
        raise CorpusError(
            f"a correlation needs at least 2 leads, got {signals.shape[1]}; pass more leads"
        )
    first, second = np.triu_indices(signals.shape[1], k=1)
    correlations = np.empty((len(signals), len(first)))
    for rows in row_blocks(len(signals), signals[0].size * 2):
        centred = signals[rows].astype(np.float64)
        centred -= centred.mean(axis=2, keepdims=True)
        length = np.sqrt(np.square(centred).sum(axis=2, keepdims=True))
        centred /= np.where(length > 0, length, 1.0)
        correlations[rows] = (centred @ centred.transpose(0, 2, 1))[:, first, second]
    return correlations


def band_names() -> list[str]:
    """Names of `BANDS_HZ`."""
    return [f"{low:g}-{high:g} Hz" for low, high in BANDS_HZ]


def spectral_names(leads: int) -> list[str]:
    """Names of the values of `spectral_distances` for this number of leads."""
    known = {len(INDEPENDENT_LEADS): INDEPENDENT_LEADS, len(LEADS): LEADS}
    return ["all leads", *known.get(leads, [f"lead {i + 1}" for i in range(leads)])]


def _checked_signals(signals_mv: npt.ArrayLike) -> npt.NDArray[np.floating]:
    signals = np.asarray(signals_mv)
    if signals.ndim != 3 or 0 in signals.shape:
        raise CorpusError(
            f"expected signals (records, leads, samples), got shape {signals.shape}; pass a batch "
            "of records"
        )
    if not np.isfinite(signals).all():
        raise CorpusError(
            "expected finite signals, got some that are not; drop or repair those records"
        )
    return signals


def _checked_for_spectra(
    signals_mv: npt.ArrayLike, sampling_rate_hz: float
) -> npt.NDArray[np.floating]:
    if not 2 * BANDS_HZ[-1][1] <= sampling_rate_hz < np.inf:
        raise ConfigError(
            f"band powers up to {BANDS_HZ[-1][1]:g} Hz need a sampling rate of at least "
            f"{2 * BANDS_HZ[-1][1]:g} Hz, got {sampling_rate_hz}; use records at a higher rate"
        )
    segment = round(SEGMENT_S * sampling_rate_hz)
    shape = np.shape(signals_mv)
    if len(shape) != 3 or 0 in shape or shape[2] < segment:
        raise CorpusError(
            f"expected signals (records, leads, at least {segment} samples), got shape {shape}; "
            "use longer records"
        )
    return _checked_signals(signals_mv)


def _spectra(
    signals_mv: npt.NDArray[np.floating], sampling_rate_hz: float
) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
    """Yield blocks of records: rows, frequencies (bins,) and power in mV² (n, leads, bins)."""
    segment = round(SEGMENT_S * sampling_rate_hz)
    for rows in row_blocks(len(signals_mv), signals_mv[0].size * 4):
        frequency, density = signal.welch(
            signals_mv[rows].astype(np.float64), sampling_rate_hz, nperseg=segment
        )
        inside = (frequency >= BANDS_HZ[0][0]) & (frequency <= BANDS_HZ[-1][1])
        yield rows, frequency[inside], density[..., inside] * frequency[1]
