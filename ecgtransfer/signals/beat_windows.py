"""Extent of a beat shape, and the windows of its P wave, QRS and T wave."""

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.signals.leads import INDEPENDENT_LEADS

#: Extent of a beat shape around R, seconds: from before the P wave to the end of the T wave.
BEFORE_S, AFTER_S = 0.36, 0.60
#: Ends of the P window and of the QRS, seconds from R, and the width of the raised cosines there.
P_END_S, QRS_END_S, TAPER_S = -0.07, 0.10, 0.06


def shape_samples(sampling_rate_hz: float) -> int:
    """Length W of a beat shape in samples."""
    return round((BEFORE_S + AFTER_S) * sampling_rate_hz)


def shape_times_s(sampling_rate_hz: float) -> NDArray[np.float64]:
    """Times of the samples of a beat shape, seconds from R, (W,)."""
    return np.arange(shape_samples(sampling_rate_hz)) / sampling_rate_hz - BEFORE_S


def wave_windows(sampling_rate_hz: float) -> NDArray[np.float64]:
    """Windows of P, QRS and T, (3, W); they sum to one."""
    times = shape_times_s(sampling_rate_hz)
    after_p, after_qrs = (
        0.5 - 0.5 * np.cos(np.pi * np.clip((times - end) / TAPER_S + 0.5, 0.0, 1.0))
        for end in (P_END_S, QRS_END_S)
    )
    return np.stack([1 - after_p, after_p * (1 - after_qrs), after_qrs])


def p_window_line(sampling_rate_hz: float) -> NDArray[np.float64]:
    """Matrix that fits a straight line to the P window of a beat shape, (W, W).

    Weighted least squares with the P window as weights; the line is evaluated at all samples.
    """
    window = wave_windows(sampling_rate_hz)[0]
    times = shape_times_s(sampling_rate_hz)
    line = np.stack([np.ones_like(times), times], axis=1)
    weighted = window[:, None] * line
    fit: NDArray[np.float64] = line @ np.linalg.solve(line.T @ weighted, weighted.T)
    return fit


def p_wave_power(sampling_rate_hz: float) -> NDArray[np.float64]:
    """Quadratic form of the power of the P wave of a beat shape, (8 W, 8 W).

    The power in the P window of each lead that a straight line does not explain, so that an offset
    or the slope of a late T wave does not count.
    """
    window = wave_windows(sampling_rate_hz)[0]
    power = np.diag(window) - window[:, None] * p_window_line(sampling_rate_hz)
    return np.kron(np.eye(len(INDEPENDENT_LEADS)), (power + power.T) / 2)
