"""Resampling, cropping and filtering, to the rate, length and band that a model needs."""

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, firwin, kaiser_beta, resample_poly, sosfiltfilt

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.recording import Recording

#: Anti-alias filter of `resample`: -6 dB at 0.9 of the lower Nyquist frequency, flat within 0.1 %
#: up to 0.8, and 70 dB of attenuation from 1.0. At 500 -> 100 Hz its roll-off is that of PTB-XL's
#: own 100 Hz copies: median spectra of 300 of them and of 100 ICBEB records at 500 Hz differ by
#: 0.08 decades of power (root mean square, 41 to 48 Hz). Resampling another corpus therefore adds
#: no domain shift; with scipy's default filter ICBEB has 1.3 decades more power from 42 to 50 Hz.
CUTOFF_OF_NYQUIST = 0.9
STOP_BAND_DB = 70.0
#: Half the filter's length in samples of the lower rate; determines the transition width.
HALF_LENGTH = 22

#: Largest up- or down-sampling factor: the filter has 44 times as many taps.
LARGEST_FACTOR = 10_000

#: Order of the Butterworth filter that `bandpass` applies forwards and backwards.
BANDPASS_ORDER = 4


def resample(recording: Recording, sampling_rate_hz: int | float) -> Recording:
    """Resample a recording, with an anti-alias filter and without delay.

    Polyphase filtering (`scipy.signal.resample_poly`) by the ratio of the rates with a linear-phase
    Kaiser low-pass. n samples become ceil(n * new / old); sample 0 keeps its time. The signal is
    extended by the line through its first and last sample, so that an offset causes no step; the
    outermost 0.22 s at 100 Hz are still affected by the edge.

    Raises:
        SignalError: the rate is not above 0, or the ratio of the two rates is not usable.
    """
    wanted = Recording(recording.signal_mv[:, :1], sampling_rate_hz).sampling_rate_hz
    if wanted == recording.sampling_rate_hz:
        return recording
    ratio = (Fraction(wanted) / Fraction(recording.sampling_rate_hz)).limit_denominator(
        LARGEST_FACTOR
    )
    up, down = ratio.numerator, ratio.denominator
    if not 0 < up <= LARGEST_FACTOR:
        raise SignalError(
            f"expected rates that differ by a factor below {LARGEST_FACTOR}, got "
            f"{recording.sampling_rate_hz} Hz and {wanted} Hz; check the rate in the header"
        )
    # scipy's type stubs accept windows by name only; an array of filter taps is documented.
    resampled = resample_poly(  # type: ignore[call-overload]
        recording.signal_mv.astype(np.float64),
        up,
        down,
        axis=1,
        window=_low_pass(max(up, down)),
        padtype="line",
    )
    return Recording(resampled.astype(np.float32), wanted)


def crop(recording: Recording, seconds: float, start_s: float = 0.0) -> Recording:
    """Cut out `seconds` from `start_s` on: round(seconds * rate) samples, a copy.

    Raises:
        SignalError: the recording ends before the window (nothing is padded), or the window is
            empty or starts before 0 s.
    """
    rate = recording.sampling_rate_hz
    start, length = round(start_s * rate), round(seconds * rate)
    if length < 1 or start < 0:
        raise SignalError(
            f"expected a window of at least one sample that starts at 0 s or later, got "
            f"{seconds} s from {start_s} s; give a longer or a later window"
        )
    if recording.n_samples < start + length:
        raise SignalError(
            f"expected at least {seconds + start_s:g} s, got a recording of "
            f"{recording.duration_s:g} s; exclude it, or use a shorter window"
        )
    return Recording(recording.signal_mv[:, start : start + length].copy(), rate)


def bandpass(recording: Recording, low_hz: float, high_hz: float) -> Recording:
    """Filter a recording to a frequency band, without delay (zero phase); offsets are removed.

    Butterworth filter of order 4, applied forwards and backwards, so that each corner is at -6 dB.

    Raises:
        SignalError: not 0 < low_hz < high_hz < half the sampling rate.
    """
    rate = recording.sampling_rate_hz
    if not 0 < low_hz < high_hz < rate / 2:
        raise SignalError(
            f"expected 0 < low < high < {rate / 2:g} Hz (half the sampling rate), got "
            f"{low_hz} and {high_hz} Hz; choose other corners, or resample first"
        )
    sections = butter(BANDPASS_ORDER, (low_hz, high_hz), btype="bandpass", fs=rate, output="sos")
    # The high-pass settles within one period of the lower corner before the first sample.
    padding = min(recording.n_samples - 1, math.ceil(rate / low_hz))
    filtered = sosfiltfilt(sections, recording.signal_mv.astype(np.float64), padlen=padding)
    return Recording(filtered.astype(np.float32), rate)


@lru_cache(maxsize=16)
def _low_pass(factor: int) -> NDArray[np.float64]:
    """Linear-phase low-pass at `factor` times the lower of two rates; odd length, gain 1."""
    taps = 2 * HALF_LENGTH * factor + 1
    window = ("kaiser", kaiser_beta(STOP_BAND_DB))
    filtered: NDArray[np.float64] = firwin(taps, CUTOFF_OF_NYQUIST / factor, window=window)
    return filtered
