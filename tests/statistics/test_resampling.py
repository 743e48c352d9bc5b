import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.stats import norm

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.metrics import (
    macro_auroc,
    weighted_f2,
    weighted_g2,
    weighted_macro_auroc,
    weighted_macro_average_precision,
)
from ecgtransfer.statistics import Estimate, bootstrap, draw_resamples, paired_bootstrap


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


def test_intervals_of_paired_differences_cover_at_their_nominal_rate(rng):
    """Scores N(d, 1) of positives against N(0, 1): area Φ(d / √2), so the difference is known.

    1,000 studies of 60 patients, every third with two records of the same labels and like scores.
    """
    true = norm.cdf(1.5 / np.sqrt(2)) - norm.cdf(1 / np.sqrt(2))
    patients = np.repeat(np.arange(60), np.where(np.arange(60) % 3, 1, 2))
    covered = 0
    for seed in range(1000):
        y_true = (rng.random((60, 3)) < 0.35)[patients].astype(float)
        common = rng.normal(size=(60, 3))[patients]

        def scores(shift, y_true=y_true, common=common):
            own = rng.normal(size=(60, 3))[patients]
            again = rng.normal(size=y_true.shape)
            return shift * y_true + 0.7 * common + 0.5 * own + 0.26**0.5 * again

        change = paired_bootstrap(
            weighted_macro_auroc,
            y_true,
            scores(1.0),
            scores(1.5),
            patients,
            resamples=300,
            seed=seed,
        )
        covered += change.low <= true <= change.high
    assert 0.93 <= covered / 1000 <= 0.97


def test_paired_difference_is_narrower_than_its_parts_and_has_its_sign(rng):
    y_true, worse = labels_and_scores(rng)
    better = worse + 0.03 * y_true
    change = paired_bootstrap(weighted_macro_auroc, y_true, worse, better)
    alone = bootstrap(weighted_macro_auroc, y_true, worse)
    assert change.value == pytest.approx(macro_auroc(y_true, better) - macro_auroc(y_true, worse))
    assert 0 < change.low < change.value < change.high
    assert change.high - change.low < (alone.high - alone.low) / 2
    same = paired_bootstrap(weighted_macro_auroc, y_true, worse, worse, resamples=50)
    assert same == Estimate(0.0, 0.0, 0.0)


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
