import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.metrics import (
    macro_auroc,
    weighted_f2,
    weighted_g2,
    weighted_macro_auroc,
    weighted_macro_average_precision,
)
from ecgtransfer.statistics import bootstrap, draw_resamples


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def labels_and_scores(rng, n=300, classes=5):
    y_true = (rng.random((n, classes)) < 0.2).astype(float)
    y_score = 0.6 * rng.random((n, classes)) + 0.2 * y_true
    return y_true, y_score


def test_resamples_hold_whole_patients_and_every_class(rng):
    patients = np.repeat(np.arange(20), 2)
    y_true = np.zeros((40, 3))
    y_true[:4, 0] = y_true[::2, 1] = 1
    times = draw_resamples(y_true, patients, resamples=200)
    assert times.shape == (200, 40)
    assert_array_equal(times[:, ::2], times[:, 1::2])
    assert_array_equal(times.sum(axis=1), 40)
    assert (times @ y_true[:, :2] > 0).all()
    assert_array_equal(times, draw_resamples(y_true, patients, resamples=200))
    assert not np.array_equal(times, draw_resamples(y_true, patients, resamples=200, seed=1))


def test_intervals_of_repeated_records_are_wide_only_if_patients_are_known(rng):
    y_true, y_score = labels_and_scores(rng, n=60, classes=2)
    y_true, y_score = np.repeat(y_true, 10, axis=0), np.repeat(y_score, 10, axis=0)
    known = bootstrap(weighted_macro_auroc, y_true, y_score, np.repeat(np.arange(60), 10))
    unknown = bootstrap(weighted_macro_auroc, y_true, y_score)
    assert known.value == unknown.value == pytest.approx(macro_auroc(y_true, y_score))
    assert known.high - known.low > 2 * (unknown.high - unknown.low)


def test_bootstrap_intervals_cover_at_their_nominal_rate(rng):
    """Scores N(1, 1) against N(0, 1): the true area is Φ(1/√2) = 0.76025."""
    covered, repetitions = 0, 400
    for seed in range(repetitions):
        y_true = (np.arange(160) < 60).astype(float)[:, None]
        y_score = rng.normal(size=(160, 1)) + y_true
        interval = bootstrap(weighted_macro_auroc, y_true, y_score, resamples=400, seed=seed)
        covered += interval.low <= 0.7602499389065233 <= interval.high
    assert 0.915 < covered / repetitions < 0.98


@pytest.mark.parametrize("score", [weighted_f2, weighted_g2, weighted_macro_average_precision])
def test_every_score_has_an_interval_around_it(rng, score):
    y_true, y_score = labels_and_scores(rng)
    predicted = y_score if score is weighted_macro_average_precision else y_score > 0.4
    interval = bootstrap(score, y_true, predicted, resamples=300)
    assert interval.low < interval.value < interval.high


def test_two_thousand_resamples_of_thousands_of_records_take_seconds(rng):
    y_true, y_score = labels_and_scores(rng, n=3000, classes=9)
    begun = time.process_time()
    bootstrap(weighted_macro_auroc, y_true, y_score)
    assert time.process_time() - begun < 10


def test_bad_resamples_are_refused(rng, monkeypatch):
    y_true = np.eye(9)
    with pytest.raises(ConfigError, match="at least 2 resamples"):
        draw_resamples(y_true, resamples=1)
    with pytest.raises(CorpusError, match="one patient per record"):
        draw_resamples(y_true, np.arange(8))
    monkeypatch.setattr("ecgtransfer.statistics.resampling.DRAWS_PER_RESAMPLE", 3)
    with pytest.raises(CorpusError, match="too few patients for an interval"):
        draw_resamples(y_true, resamples=100)
