"""Similarity of the beats of one record, and agreement of its beats with the requested ones.

In real ECGs the ordinary beats of a lead hardly differ from their median within 10 s. A generated
record whose beats differ more is easy to recognise by eye, yet intervals of the median beat do not
show it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import CorpusError
from ecgtransfer.signals import BeatKind, Beats

#: Part of a beat that is compared, in seconds from R: P wave, QRS and most of the T wave.
COMPARED_S = (-0.25, 0.40)
#: Fewest complete ordinary beats for which similarity is computed.
FEWEST_BEATS = 3
#: Largest distance in seconds between a requested beat and the beat that is found for it.
TOLERANCE_S = 0.05
#: RR intervals of a regular rhythm have a standard deviation below this share of their mean.
REGULAR_RR = 0.08


@dataclass(frozen=True)
class BeatLikeness:
    """Similarity of the ordinary beats of a record.

    Attributes:
        correlation: correlation of each beat with the median beat; mean over beats and leads.
        r_spread: standard deviation of the R amplitude over the beats, divided by its mean; median
            over leads.
        beats: number of complete ordinary beats that were compared.
    """

    correlation: float
    r_spread: float
    beats: int


@dataclass(frozen=True)
class BeatAgreement:
    """Agreement of the beats found in a generated record with the requested beats.

    Attributes:
        sensitivity: share of the requested beats that were found within 50 ms.
        positive_predictive_value: share of the found beats that were requested.
        heart_rate_error_bpm: found minus requested heart rate, each from the median RR interval;
            NaN if either has fewer than two beats.
    """

    sensitivity: float
    positive_predictive_value: float
    heart_rate_error_bpm: float


def beat_likeness(
    signal_mv: NDArray[np.floating], beats: Beats, sampling_rate_hz: float
) -> BeatLikeness | None:
    """Return the similarity of a record's ordinary beats, None with fewer than 3 complete ones.

    Args:
        signal_mv: record, (leads, T), in millivolts.
        beats: beats of the record.
        sampling_rate_hz: sampling rate of the record.

    Raises:
        CorpusError: the signal is not (leads, T).
    """
    signal = np.asarray(signal_mv, np.float64)
    if signal.ndim != 2:
        raise CorpusError(
            f"expected a record of shape (leads, T), got {signal.shape}; pass one record at a time"
        )
    offsets = np.arange(*(round(edge * sampling_rate_hz) for edge in COMPARED_S))
    at = np.rint(beats.times_s[beats.kinds == BeatKind.ORDINARY] * sampling_rate_hz)
    at = at[(at + offsets[0] >= 0) & (at + offsets[-1] < signal.shape[1])].astype(np.int64)
    if len(at) < FEWEST_BEATS:
        return None
    single = np.moveaxis(signal[:, at[:, None] + offsets], 1, 0)  # (beats, leads, samples)
    return window_likeness(single, -int(offsets[0]), sampling_rate_hz)


def window_likeness(
    single: NDArray[np.floating], r_sample: int, sampling_rate_hz: float
) -> BeatLikeness | None:
    """Return the similarity of beats that are already cut out, None with fewer than 3.

    Args:
        single: single beats, (beats, leads, samples), with R at the same sample of each.
        r_sample: index of that sample.
        sampling_rate_hz: sampling rate of the beats.
    """
    if len(single) < FEWEST_BEATS:
        return None
    first, last = (r_sample + round(edge * sampling_rate_hz) for edge in COMPARED_S)
    single = single[:, :, max(0, first) : last]
    single = single - single.mean(axis=2, keepdims=True)
    middle = np.median(single, axis=0)
    size = np.linalg.norm(single, axis=2) * np.linalg.norm(middle, axis=1)
    correlation = (single * middle).sum(axis=2) / np.maximum(size, 1e-12)
    peak = np.abs(middle).argmax(axis=1)
    heights = np.take_along_axis(single, peak[None, :, None], axis=2)[:, :, 0]
    spread = heights.std(axis=0) / np.maximum(np.abs(heights.mean(axis=0)), 1e-12)
    return BeatLikeness(float(correlation.mean()), float(np.median(spread)), len(single))


def beat_agreement(requested: Beats, found: Beats) -> BeatAgreement:
    """Compare the beats found in a record with the requested ones, each matched at most once."""
    matched = _matches(requested.times_s, found.times_s)
    rates = [
        60 / np.median(np.diff(each.times_s)) if len(each) > 1 else np.nan
        for each in (found, requested)
    ]
    return BeatAgreement(
        matched / len(requested) if len(requested) else np.nan,
        matched / len(found) if len(found) else np.nan,
        float(rates[0] - rates[1]),
    )


def rr_variation(beats: Sequence[Beats]) -> NDArray[np.float64]:
    """Standard deviation of RR divided by mean RR, per record; NaN with fewer than 3 intervals."""
    found = []
    for each in beats:
        rr = np.diff(each.times_s)
        found.append(rr.std() / rr.mean() if len(rr) >= 3 else np.nan)
    return np.array(found)


def _matches(requested_s: NDArray[np.float64], found_s: NDArray[np.float64]) -> int:
    """Count requested times with a found time within the tolerance, each used once."""
    count, place = 0, 0
    for time in requested_s:
        while place < len(found_s) and found_s[place] < time - TOLERANCE_S:
            place += 1
        if place < len(found_s) and found_s[place] <= time + TOLERANCE_S:
            count, place = count + 1, place + 1
    return count
