import numpy as np
import pytest

from ecgtransfer.errors import CorpusError
from ecgtransfer.evaluation.beat_to_beat import beat_agreement, beat_likeness, rr_variation
from ecgtransfer.signals import BeatKind, Beats

RATE = 100


def beats(times, kinds=None):
    kinds = [BeatKind.ORDINARY] * len(times) if kinds is None else kinds
    return Beats(np.array(times, float), np.array(kinds, np.int8), 10.0)


def record(times, heights, leads=8):
    t = np.arange(1000) / RATE
    one = sum(
        h * np.exp(-0.5 * ((t - at) / 0.02) ** 2) for at, h in zip(times, heights, strict=True)
    )
    return np.tile(one, (leads, 1))


def test_equal_beats_are_alike():
    times = np.arange(0.5, 9.5, 0.8)
    likeness = beat_likeness(record(times, np.ones(len(times))), beats(times), RATE)
    assert likeness.correlation == pytest.approx(1, abs=1e-3)
    assert likeness.r_spread == pytest.approx(0, abs=1e-3)


def test_the_spread_of_r_is_that_of_the_heights():
    rng = np.random.default_rng(0)
    times = np.arange(0.5, 9.5, 0.5)
    heights = 1 + 0.1 * rng.normal(size=len(times))
    likeness = beat_likeness(record(times, heights), beats(times), RATE)
    assert likeness.r_spread == pytest.approx(heights.std() / heights.mean(), rel=0.05)
    assert likeness.correlation == pytest.approx(1, abs=1e-3)  # scale is no matter of shape


def test_noise_lowers_the_correlation_as_expected():
    rng = np.random.default_rng(1)
    times = np.arange(0.5, 9.5, 0.5)
    clean = record(times, np.ones(len(times)))
    noise = 0.1 * rng.normal(size=clean.shape)
    likeness = beat_likeness(clean + noise, beats(times), RATE)
    window = clean[0, 25:90] - clean[0, 25:90].mean()
    expected = np.sqrt(window.var() / (window.var() + 0.01))
    assert likeness.correlation == pytest.approx(expected, abs=0.02)


def test_ventricular_beats_do_not_count():
    times = np.arange(0.5, 9.5, 0.8)
    heights = np.ones(len(times))
    heights[4] = -3
    kinds = [BeatKind.VENTRICULAR if k == 4 else BeatKind.ORDINARY for k in range(len(times))]
    with_kinds = beat_likeness(record(times, heights), beats(times, kinds), RATE)
    without = beat_likeness(record(times, heights), beats(times), RATE)
    assert with_kinds.correlation > 0.99 > without.correlation
    assert with_kinds.beats == without.beats - 1


def test_too_few_beats_tell_nothing():
    assert beat_likeness(record([1.0, 2.0], [1, 1]), beats([1.0, 2.0]), RATE) is None


def test_a_batch_is_refused():
    with pytest.raises(CorpusError, match=r"expected a record of shape \(leads, T\)"):
        beat_likeness(np.zeros((2, 8, 1000)), beats([1.0]), RATE)


def test_agreement_counts_each_beat_once():
    requested = beats([1.0, 2.0, 3.0, 4.0])
    found = beats([1.04, 2.06, 3.0, 3.3, 4.0])
    agreement = beat_agreement(requested, found)
    assert agreement.sensitivity == 3 / 4
    assert agreement.positive_predictive_value == 3 / 5
    assert agreement.heart_rate_error_bpm == pytest.approx(
        60 / np.median(np.diff(found.times_s)) - 60
    )


def test_no_beats_are_no_agreement():
    nothing = beats([])
    assert np.isnan(beat_agreement(nothing, nothing).sensitivity)
    assert np.isnan(beat_agreement(beats([1.0]), nothing).heart_rate_error_bpm)
    assert beat_agreement(beats([1.0, 2.0]), nothing).sensitivity == 0


def test_variation_of_rr():
    times = np.cumsum([0.5, 1.0, 0.8, 1.2, 1.0])
    rr = np.array([1.0, 0.8, 1.2, 1.0])
    assert rr_variation([beats(times), beats([1.0, 2.0])])[0] == pytest.approx(rr.std() / rr.mean())
    assert np.isnan(rr_variation([beats([1.0, 2.0])])[0])
