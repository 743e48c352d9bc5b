import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_rhythm import train_of

from ecgtransfer.rhythm import RHYTHM_FEATURES, early_intervals, is_regular, rhythm_features


def features(beats):
    return dict(zip(RHYTHM_FEATURES, rhythm_features([beats])[0], strict=True))


def test_a_regular_train():
    found = features(train_of(*np.arange(0.5, 9.9, 0.8), duration_s=10.0))
    assert found["beats"] == 12
    assert found["rate_bpm"] == pytest.approx(75)
    for name in ("sdnn_ms", "rmssd_ms", "irregularity", "early_share"):
        assert found[name] == pytest.approx(0, abs=1e-9)
    assert np.isnan(found["pause"])
    assert found["first_beat_s"] == 0.5
    assert found["last_beat_s"] == pytest.approx(0.7)


def test_an_early_beat_with_its_pause():
    rr_s = np.array([1.0, 1.0, 1.0, 0.6, 1.4, 1.0, 1.0, 1.0])
    kinds = [1, 1, 1, 1, 2, 1, 1, 1, 1]
    found = features(train_of(*np.cumsum([0.1, *rr_s]), kinds=kinds, duration_s=10.0))
    assert found["early_share"] == pytest.approx(1 / 8)
    assert found["pause"] == pytest.approx(1.4)
    assert (found["shortest_rr"], found["longest_rr"]) == pytest.approx((0.6, 1.4))
    assert found["ventricular_share"] == pytest.approx(1 / 9)
    assert found["supraventricular_share"] == 0
    assert found["sdnn_ms"] == pytest.approx(1000 * rr_s.std())
    assert found["rmssd_ms"] == pytest.approx(1000 * np.sqrt(np.mean(np.diff(rr_s) ** 2)))
    assert found["irregularity"] == pytest.approx(rr_s.std() / rr_s.mean())


def test_the_correlation_of_successive_intervals_is_numpys():
    rr_s = np.random.default_rng(0).uniform(0.5, 1.2, 10)
    found = features(train_of(*np.cumsum([0.1, *rr_s]), duration_s=20.0))
    assert found["lag_correlation"] == pytest.approx(np.corrcoef(rr_s[:-1], rr_s[1:])[0, 1])


def test_early_intervals_are_below_four_fifths_of_their_neighbours():
    assert_array_equal(early_intervals(np.array([1.0, 0.79, 1.0])), [False, True, False])
    assert_array_equal(early_intervals(np.array([1.0, 0.81, 1.0])), [False, False, False])
    assert_array_equal(early_intervals(np.array([1.0])), [False])


def test_regular_is_below_eight_per_cent():
    near, far = (
        train_of(*np.cumsum([0.1, 1, 1 + x, 1, 1 + x]), duration_s=9.0) for x in (0.1, 0.2)
    )
    assert_array_equal(is_regular([near, far, train_of(0.1, 0.9)]), [True, False, False])


@pytest.mark.parametrize("times_s", [(), (0.5,), (0.5, 1.25)])
def test_few_beats_have_few_features(times_s):
    found = features(train_of(*times_s))
    assert found["beats"] == len(times_s)
    assert np.isnan(found["sdnn_ms"])
    assert_allclose(found["rate_bpm"], 80 if len(times_s) == 2 else np.nan)


def test_no_train_is_no_row():
    assert rhythm_features([]).shape == (0, len(RHYTHM_FEATURES))
