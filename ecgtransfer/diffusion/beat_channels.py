"""Beats as input channels of a network: their times, their kinds, and the phase between them."""

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.signals.beats import BeatKind, Beats

#: Channels of `beat_channels`: one bump per beat in each of three channels by kind, cosine and sine
#: of the phase between beats, log of the RR interval. Beats of unknown kind count as ordinary.
BEAT_CHANNELS = 6
#: Standard deviation and height of the bump at a beat.
BUMP_S, BUMP_HEIGHT = 0.015, 2.0
#: Factor of the log RR interval (interval in seconds).
INTERVAL_SCALE = 2.0

_BUMP_ROW = {BeatKind.VENTRICULAR: 1, BeatKind.SUPRAVENTRICULAR: 2}


def beat_channels(beats: Beats, samples: int, sampling_rate_hz: float) -> NDArray[np.float32]:
    """Channels of one record, (BEAT_CHANNELS, T); zero if the record has no beats.

    Phase and interval before the first and after the last beat repeat those of the adjacent RR
    interval.
    """
    channels = np.zeros((BEAT_CHANNELS, samples), np.float32)
    times = np.asarray(beats.times_s, np.float64)
    if not len(times):
        return channels
    t = np.arange(samples) / sampling_rate_hz
    for row in range(3):
        of_row = [_BUMP_ROW.get(BeatKind(int(kind)), 0) == row for kind in beats.kinds]
        if any(of_row):
            distance = np.abs(t[:, None] - times[of_row]).min(axis=1)
            channels[row] = BUMP_HEIGHT * np.exp(-0.5 * np.square(distance / BUMP_S))
    intervals = np.diff(times) if len(times) > 1 else np.array([1.0])
    place = np.searchsorted(times, t, side="right") - 1
    interval = intervals[np.clip(place, 0, len(intervals) - 1)]
    anchor = np.where(place < 0, times[0], times[np.clip(place, 0, len(times) - 1)])
    phase = 2 * np.pi * (t - anchor) / interval
    channels[3], channels[4] = np.cos(phase), np.sin(phase)
    channels[5] = INTERVAL_SCALE * np.log(interval)
    return channels
