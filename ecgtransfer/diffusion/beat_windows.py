"""Windows of the P wave, the QRS and the T wave in a beat shape."""

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.signals.beat_shape import BEFORE_S, shape_samples
from ecgtransfer.signals.leads import INDEPENDENT_LEADS

#: Ends of the P window and of the QRS, seconds from R, and the width of the raised cosines there.
P_END_S, QRS_END_S, TAPER_S = -0.07, 0.10, 0.06


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


def p_wave_power(sampling_rate_hz: float) -> NDArray[np.float64]:
    """Quadratic form of the power of the P wave of a beat shape, (8 W, 8 W).

    The power in the P window of each lead that a straight line does not explain, so that an offset
    or the slope of a late T wave does not count.
    """
    window = wave_windows(sampling_rate_hz)[0]
    line = np.stack([np.ones_like(window), shape_times_s(sampling_rate_hz)], axis=1)
    weighted = window[:, None] * line
    explained = weighted @ np.linalg.solve(line.T @ weighted, weighted.T)
    return np.kron(np.eye(len(INDEPENDENT_LEADS)), np.diag(window) - explained)
