"""Beat shapes, and the record that repeats them: x = layout(shapes, beats) + residual.

A beat shape is the median over the beats of one kind, 8 leads by 0.96 s. Two are kept: that of the
ordinary beats, which premature supraventricular ones share, and that of the ventricular ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.beats import BeatKind, Beats
from ecgtransfer.signals.leads import INDEPENDENT_LEADS

#: A beat shape reaches from before the P wave to the end of the T wave, seconds from R.
BEFORE_S, AFTER_S = 0.36, 0.60
#: Rows of a table of beat shapes.
ORDINARY_ROW, VENTRICULAR_ROW = 0, 1
SHAPE_ROWS = 2
#: The layout passes from one beat to the next over this time, so that it has no step.
BLEND_S = 0.05
#: Share of the beats of a kind, those that agree best, over which the median is taken.
AGREEING_SHARE = 2 / 3
#: Fewest beats that are left by that choice.
FEWEST_AGREEING = 3
#: Taps of the layout for each sample: two beats, four points of cubic interpolation each.
TAPS = 8


def no_shapes(sampling_rate_hz: float) -> NDArray[np.float32]:
    """The shapes of a record without beats: zeros, (SHAPE_ROWS, 8, W)."""
    shape = (SHAPE_ROWS, len(INDEPENDENT_LEADS), shape_samples(sampling_rate_hz))
    return np.zeros(shape, np.float32)


def shape_samples(sampling_rate_hz: float) -> int:
    """Samples of a beat shape, W."""
    return round((BEFORE_S + AFTER_S) * sampling_rate_hz)


@dataclass(frozen=True, eq=False)
class Layout:
    """The linear map from a record's beat shapes to the record that repeats them.

    Attributes:
        index: (T, TAPS) int32 into the flattened table of shapes, row * W + sample.
        weight: (T, TAPS) float32.
        owner: (T,) int32, the beat that each sample is taken from; -1 between two beats' windows.
    """

    index: NDArray[np.int32]
    weight: NDArray[np.float32]
    owner: NDArray[np.int32]

    def __call__(self, shapes_mv: NDArray[np.floating]) -> NDArray[np.float32]:
        """Shapes (SHAPE_ROWS, 8, W) -> record (8, T), in the same unit."""
        table = np.moveaxis(np.asarray(shapes_mv, np.float32), 1, 0)
        table = table.reshape(table.shape[0], -1)
        record: NDArray[np.float32] = np.einsum("ctk,tk->ct", table[:, self.index], self.weight)
        return record


def layout(beats: Beats, samples: int, sampling_rate_hz: float) -> Layout:
    """Where each sample of a record is taken from in its table of beat shapes.

    A sample belongs to the last beat whose window has begun; the passage from one beat to the next
    is blended over 50 ms, and where no window reaches the record is interpolated linearly between
    the end of one and the beginning of the next. Before the first beat and after the last one the
    neighbouring interval is repeated, as far as the record's ends allow.

    Args:
        beats: at least one.
        samples: T, of the record.
        sampling_rate_hz: of the record and of its shapes.

    Raises:
        SignalError: no beat.
    """
    if len(beats) == 0:
        raise SignalError("expected at least one beat to lay out, got none; leave the layout out")
    times, rows = _with_neighbours(beats)
    width = shape_samples(sampling_rate_hz)
    t = np.arange(samples) / sampling_rate_hz
    # `times` has one beat more at either end, so that each sample has a beat before it.
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
    """Median beats of a record.

    Each beat speaks only for the samples that the layout takes from it, so that neither the next
    beat's P wave nor its QRS enters the tail of a shape. The median goes over the two thirds of
    the beats that agree best.

    Args:
        signal_mv: (8, T), the independent leads in millivolts.
        beats: of the record, at least one.
        sampling_rate_hz: of the record.

    Returns:
        Shapes (SHAPE_ROWS, 8, W) in millivolts, and which rows the record has, (SHAPE_ROWS,) bool;
        a row that it lacks is zero.

    Raises:
        SignalError: no beat, or a signal of another shape.
    """
    signal = np.asarray(signal_mv, np.float64)
    if signal.ndim != 2 or signal.shape[0] != len(INDEPENDENT_LEADS):
        raise SignalError(
            f"expected a signal of shape ({len(INDEPENDENT_LEADS)}, T), got {signal.shape}; take "
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
        numbers = np.flatnonzero(chosen)
        if not len(numbers):
            continue
        single = _single_beats(signal, beats, numbers, placed.owner, sampling_rate_hz)
        if np.isnan(single).all(axis=(1, 2)).all():
            continue
        shapes[row] = _agreed_median(single)
        found[row] = True
    return shapes, found


def _with_neighbours(beats: Beats) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times and rows of the beats with one more at either end, as the rhythm suggests."""
    times = np.asarray(beats.times_s, np.float64)
    intervals = np.diff(times)
    first = intervals[0] if len(intervals) else 1.0
    last = intervals[-1] if len(intervals) else 1.0
    # No beat was found before the first or after the last one: theirs lie outside the record.
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

    Positions beyond either end take the value there.
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
    numbers: Sequence[int] | NDArray[np.int64],
    owner: NDArray[np.int32],
    sampling_rate_hz: float,
) -> NDArray[np.float64]:
    """Windows of some beats, (n, 8, W); NaN where a sample is not the beat's own."""
    width = shape_samples(sampling_rate_hz)
    samples = signal.shape[1]
    starts = (beats.times_s[numbers] - BEFORE_S) * sampling_rate_hz
    position = starts[:, None] + np.arange(width)
    taps, weights = _cubic(position.ravel(), samples)
    values = np.einsum("cpk,pk->cp", signal[:, taps], weights)
    by_lead = values.reshape(signal.shape[0], len(starts), width)
    single: NDArray[np.float64] = np.moveaxis(by_lead, 1, 0).copy()
    nearest = np.rint(position).astype(np.int64)
    held = (nearest >= 0) & (nearest < samples)
    held &= owner[np.clip(nearest, 0, samples - 1)] == np.asarray(numbers)[:, None]
    single[~np.broadcast_to(held[:, None], single.shape)] = np.nan
    return single


def _agreed_median(single: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over the beats that agree best, (8, W), gaps filled along time."""
    if len(single) > FEWEST_AGREEING:
        middle = _median(single)
        with np.errstate(invalid="ignore"):
            off = np.square(single - middle)
        seen = ~np.isnan(off)
        distance = np.where(seen, off, 0).sum(axis=(1, 2)) / np.maximum(seen.sum(axis=(1, 2)), 1)
        distance[seen.mean(axis=(1, 2)) < 0.5] = np.inf  # cut off at the record's edge
        kept = max(FEWEST_AGREEING, int(np.ceil(AGREEING_SHARE * len(single))))
        single = single[np.sort(np.argsort(distance, kind="stable")[:kept])]
    return _filled(_median(single))


def _median(single: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over beats of what is not NaN, (8, W); NaN where nothing is."""
    ordered = np.sort(single, axis=0)  # NaN last
    count = (~np.isnan(ordered)).sum(axis=0)
    low, high = np.maximum((count - 1) // 2, 0), np.maximum(count // 2, 0)
    high = np.minimum(high, len(single) - 1)
    low_value = np.take_along_axis(ordered, low[None], axis=0)[0]
    high_value = np.take_along_axis(ordered, high[None], axis=0)[0]
    middle = np.where(count % 2 == 1, low_value, (low_value + high_value) / 2)
    return np.where(count > 0, middle, np.nan)


def _filled(shape: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape (8, W) with its unknown samples interpolated around the cycle, from end to start."""
    width = shape.shape[1]
    known = ~np.isnan(shape[0])
    if known.all() or not known.any():
        return np.nan_to_num(shape)
    places = np.flatnonzero(known)
    around = np.concatenate([places - width, places, places + width])
    return np.stack([np.interp(np.arange(width), around, np.tile(row[places], 3)) for row in shape])
