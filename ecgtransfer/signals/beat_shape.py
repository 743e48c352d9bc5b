"""Beat shapes, and the layout that repeats them: x = layout(shapes, beats) + residual.

A beat shape is the average over the beats of one kind, 8 leads by 0.96 s. A record has two: one for
ordinary beats, which supraventricular beats share, and one for ventricular beats.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.beats import BeatKind, Beats
from ecgtransfer.signals.leads import INDEPENDENT_LEADS

#: Extent of a beat shape around R, seconds: from before the P wave to the end of the T wave.
BEFORE_S, AFTER_S = 0.36, 0.60
#: Rows in the table of beat shapes of a record.
ORDINARY_ROW, VENTRICULAR_ROW = 0, 1
SHAPE_ROWS = 2
#: Duration of the cross-fade between consecutive beats in the layout, seconds.
BLEND_S = 0.05
#: Fraction of the beats of a kind, those nearest to their median, that are averaged. Their mean is
#: less noisy than a median, whose noise looks like a P wave in records without one.
AGREEING_SHARE = 2 / 3
#: Minimum number of beats in that selection.
FEWEST_AGREEING = 3
#: Interpolation taps of the layout per sample: two beats, four points of cubic interpolation each.
TAPS = 8


def no_shapes(sampling_rate_hz: float) -> NDArray[np.float32]:
    """Beat shapes of a record without beats: zeros, (SHAPE_ROWS, 8, W)."""
    shape = (SHAPE_ROWS, len(INDEPENDENT_LEADS), shape_samples(sampling_rate_hz))
    return np.zeros(shape, np.float32)


def shape_samples(sampling_rate_hz: float) -> int:
    """Length W of a beat shape in samples."""
    return round((BEFORE_S + AFTER_S) * sampling_rate_hz)


@dataclass(frozen=True, eq=False)
class Layout:
    """Linear map from the beat shapes of a record to the signal that repeats them at its beats.

    Attributes:
        index: (T, TAPS) int32 into the flattened table of shapes, row * W + sample.
        weight: (T, TAPS) float32.
        owner: (T,) int32, index of the beat that each sample is taken from; -1 between the windows
            of two beats.
    """

    index: NDArray[np.int32]
    weight: NDArray[np.float32]
    owner: NDArray[np.int32]

    def __call__(self, shapes_mv: NDArray[np.floating]) -> NDArray[np.float32]:
        """Place shapes (SHAPE_ROWS, 8, W) at the beats: (8, T), in the same unit."""
        table = np.moveaxis(np.asarray(shapes_mv, np.float32), 1, 0)
        table = table.reshape(table.shape[0], -1)
        record: NDArray[np.float32] = np.einsum("ctk,tk->ct", table[:, self.index], self.weight)
        return record


def layout(beats: Beats, samples: int, sampling_rate_hz: float) -> Layout:
    """Compute where each sample of a record is taken from in its table of beat shapes.

    A sample belongs to the last beat whose window has started. Consecutive beats are cross-faded
    over 50 ms. Gaps between two windows are interpolated linearly. Before the first and after the
    last beat, the adjacent RR interval is repeated up to the ends of the record.

    Args:
        beats: at least one beat.
        samples: T, samples of the record.
        sampling_rate_hz: sampling rate of the record and its shapes.

    Raises:
        SignalError: there is no beat.
    """
    if len(beats) == 0:
        raise SignalError("expected at least one beat to lay out, got none; skip the layout")
    times, rows = _with_neighbours(beats)
    width = shape_samples(sampling_rate_hz)
    t = np.arange(samples) / sampling_rate_hz
    # `times` has one additional beat at either end, so that each sample follows a beat.
    owner = np.clip(np.searchsorted(times - BEFORE_S, t, side="right") - 1, 0, len(times) - 1)
    index = np.zeros((samples, TAPS), np.int32)
    weight = np.zeros((samples, TAPS), np.float32)
    since = t - times[owner] + BEFORE_S
    inside = since < AFTER_S + BEFORE_S
    share = np.where(owner > 0, np.clip(since / BLEND_S, 0.0, 1.0), 1.0)
    before = np.maximum(owner - 1, 0)
    before_since = t - times[before] + BEFORE_S
    blended = inside & (share < 1) & (owner > 0)
    taps, parts = _cubic(since * sampling_rate_hz, width)
    index[:, :4] = rows[owner][:, None] * width + taps
    weight[:, :4] = np.where(blended, share, 1.0)[:, None] * parts
    taps, parts = _cubic(before_since * sampling_rate_hz, width)
    index[:, 4:] = np.where(blended[:, None], rows[before][:, None] * width + taps, 0)
    weight[:, 4:] = np.where(blended, 1 - share, 0.0)[:, None] * parts
    gap = ~inside
    after = np.minimum(owner + 1, len(times) - 1)
    begins, ends = times[owner] + AFTER_S, times[after] - BEFORE_S
    passed = np.where(after > owner, (t - begins) / np.maximum(ends - begins, 1e-9), 0.0)
    passed = np.clip(passed, 0.0, 1.0)
    index[gap] = 0
    weight[gap] = 0
    index[gap, 0] = (rows[owner] * width + width - 1)[gap]
    index[gap, 1] = (rows[after] * width)[gap]
    weight[gap, 0] = (1 - passed)[gap]
    weight[gap, 1] = passed[gap]
    return Layout(index, weight, np.where(inside, owner - 1, -1).astype(np.int32))


def beat_shapes(
    signal_mv: NDArray[np.floating], beats: Beats, sampling_rate_hz: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Compute the average beats of a record.

    Each beat contributes only the samples that the layout takes from it, so that the P wave and QRS
    of the next beat do not leak into the end of a shape. The average is the mean over the two
    thirds of the beats that are nearest to their median.

    Args:
        signal_mv: (8, T), the independent leads in millivolts.
        beats: beats of the record, at least one.
        sampling_rate_hz: sampling rate of the record.

    Returns:
        Shapes (SHAPE_ROWS, 8, W) in millivolts, and flags of the rows that the record has,
        (SHAPE_ROWS,) bool; missing rows are zero.

    Raises:
        SignalError: there is no beat, or the signal has another shape.
    """
    signal = np.asarray(signal_mv, np.float64)
    if signal.ndim != 2 or signal.shape[0] != len(INDEPENDENT_LEADS):
        raise SignalError(
            f"expected a signal of shape ({len(INDEPENDENT_LEADS)}, T), got {signal.shape}; apply "
            "independent_leads first"
        )
    placed = layout(beats, signal.shape[1], sampling_rate_hz)
    width = shape_samples(sampling_rate_hz)
    shapes = np.zeros((SHAPE_ROWS, signal.shape[0], width), np.float32)
    found = np.zeros(SHAPE_ROWS, bool)
    ventricular = beats.kinds == BeatKind.VENTRICULAR
    ordinary = beats.kinds == BeatKind.ORDINARY
    if not ordinary.any():
        ordinary = ~ventricular
    for row, chosen in ((ORDINARY_ROW, ordinary), (VENTRICULAR_ROW, ventricular)):
        indices = np.flatnonzero(chosen)
        if not len(indices):
            continue
        single = _single_beats(signal, beats, indices, placed.owner, sampling_rate_hz)
        if np.isnan(single).all(axis=(1, 2)).all():
            continue
        shapes[row] = _agreed_mean(single)
        found[row] = True
    return shapes, found


def _with_neighbours(beats: Beats) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times and rows of the beats, extrapolated by one beat at either end."""
    times = np.asarray(beats.times_s, np.float64)
    intervals = np.diff(times)
    first = intervals[0] if len(intervals) else 1.0
    last = intervals[-1] if len(intervals) else 1.0
    # No beat was detected beyond the first and last one, so the extrapolated ones lie outside.
    before = min(times[0] - first, -1e-3)
    after = max(times[-1] + last, beats.duration_s)
    rows = np.where(beats.kinds == BeatKind.VENTRICULAR, VENTRICULAR_ROW, ORDINARY_ROW)
    return (
        np.concatenate([[before], times, [after]]),
        np.concatenate([[ORDINARY_ROW], rows, [ORDINARY_ROW]]),
    )


def _cubic(
    position: NDArray[np.float64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Four neighbours of a fractional position and their weights in cubic Lagrange interpolation.

    Positions beyond either end take the value at that end.
    """
    position = np.clip(position, 0.0, width - 1.0)
    whole = np.clip(np.floor(position).astype(np.int64), 0, width - 2)
    u = position - whole
    weights = np.stack(
        [
            -u * (u - 1) * (u - 2) / 6,
            (u + 1) * (u - 1) * (u - 2) / 2,
            -(u + 1) * u * (u - 2) / 2,
            (u + 1) * u * (u - 1) / 6,
        ],
        axis=-1,
    )
    taps = whole[:, None] + np.arange(-1, 3)
    return np.clip(taps, 0, width - 1), weights


def _single_beats(
    signal: NDArray[np.float64],
    beats: Beats,
    indices: Sequence[int] | NDArray[np.int64],
    owner: NDArray[np.int32],
    sampling_rate_hz: float,
) -> NDArray[np.float64]:
    """Windows of the beats with these indices, (n, 8, W); NaN for samples of other beats."""
    width = shape_samples(sampling_rate_hz)
    samples = signal.shape[1]
    starts = (beats.times_s[indices] - BEFORE_S) * sampling_rate_hz
    position = starts[:, None] + np.arange(width)
    taps, weights = _cubic(position.ravel(), samples)
    values = np.einsum("cpk,pk->cp", signal[:, taps], weights)
    by_lead = values.reshape(signal.shape[0], len(starts), width)
    single: NDArray[np.float64] = np.moveaxis(by_lead, 1, 0).copy()
    nearest = np.rint(position).astype(np.int64)
    held = (nearest >= 0) & (nearest < samples)
    held &= owner[np.clip(nearest, 0, samples - 1)] == np.asarray(indices)[:, None]
    single[~np.broadcast_to(held[:, None], single.shape)] = np.nan
    return single


def _agreed_mean(single: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the beats nearest to their median, (8, W), with gaps filled along time."""
    if len(single) > FEWEST_AGREEING:
        off = np.square(single - _median(single))
        seen = ~np.isnan(off)
        distance = np.where(seen, off, 0).sum(axis=(1, 2)) / np.maximum(seen.sum(axis=(1, 2)), 1)
        distance[seen.mean(axis=(1, 2)) < 0.5] = np.inf  # cut off at the record's edge
        kept = max(FEWEST_AGREEING, int(np.ceil(AGREEING_SHARE * len(single))))
        single = single[np.sort(np.argsort(distance, kind="stable")[:kept])]
    seen = ~np.isnan(single)
    count = seen.sum(axis=0)
    total = np.where(seen, single, 0.0).sum(axis=0)
    return _filled(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _median(single: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over beats, ignoring NaN, (8, W); NaN if all values are."""
    ordered = np.sort(single, axis=0)  # NaN last
    count = (~np.isnan(ordered)).sum(axis=0)
    low, high = np.maximum((count - 1) // 2, 0), np.maximum(count // 2, 0)
    high = np.minimum(high, len(single) - 1)
    low_value = np.take_along_axis(ordered, low[None], axis=0)[0]
    high_value = np.take_along_axis(ordered, high[None], axis=0)[0]
    middle = np.where(count % 2 == 1, low_value, (low_value + high_value) / 2)
    return np.where(count > 0, middle, np.nan)


def _filled(shape: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate the missing samples of a shape (8, W), treated as periodic."""
    width = shape.shape[1]
    known = ~np.isnan(shape[0])
    if known.all() or not known.any():
        return np.nan_to_num(shape)
    places = np.flatnonzero(known)
    around = np.concatenate([places - width, places, places + width])
    return np.stack([np.interp(np.arange(width), around, np.tile(row[places], 3)) for row in shape])
