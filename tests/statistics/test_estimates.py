import math

import numpy as np
import pytest
import scipy.stats
from scipy.stats import norm
from scipy.stats import t as student

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.statistics import (
    Estimate,
    reflected_estimate,
    simultaneous_estimates,
    student_draws,
    student_estimate,
    student_reach,
)


def test_an_estimate_prints_and_goes_to_json():
    assert str(Estimate(0.91234, 0.8, 1.0)) == "0.912 [0.800, 1.000]"
    assert Estimate(0.9, 0.8, 1.0).to_dict() == {"value": 0.9, "low": 0.8, "high": 1.0}


def test_a_reflected_interval_takes_back_what_noise_adds():
    """|mean of 50 normals| is 0.11 on average where the truth is 0, and more in the resamples."""
    rng, covered = np.random.default_rng(0), {"reflected": 0, "percentile": 0}
    for _ in range(400):
        values = rng.normal(size=50)
        draws = np.abs(rng.choice(values, size=(200, 50)).mean(axis=1))
        found = abs(values.mean())
        covered["reflected"] += reflected_estimate(found, draws).low <= 0
        covered["percentile"] += np.quantile(draws, 0.025) <= 0
    assert covered["percentile"] == 0
    assert covered["reflected"] / 400 > 0.9
    assert reflected_estimate(0.5, [0.4, 0.5, 0.9]).high == pytest.approx(0.595)


def test_simultaneous_intervals_hold_all_values_at_once():
    """Ten independent means: alone each holds in 95 % of studies, all ten in 0.95^10 = 60 %."""
    rng = np.random.default_rng(0)
    all_alone = all_at_once = 0
    for _ in range(400):
        values = rng.normal(size=10)
        draws = values + rng.normal(size=(400, 10))
        joint = simultaneous_estimates(values, draws)
        all_at_once += all(one.low <= 0 <= one.high for one in joint)
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        all_alone += ((low <= 0) & (high >= 0)).all()
        assert (np.array([one.low for one in joint]) <= low).all()
        assert (np.array([one.high for one in joint]) >= high).all()
    assert 0.5 < all_alone / 400 < 0.7
    assert 0.92 < all_at_once / 400 < 0.98


def test_simultaneous_intervals_of_the_same_score_cost_nothing():
    draws = np.random.default_rng(0).normal(size=4000)
    alone = simultaneous_estimates([0.0], draws[:, None])[0]
    thrice = simultaneous_estimates([0.0] * 3, np.repeat(draws[:, None], 3, axis=1))[1]
    assert (thrice.low, thrice.high) == pytest.approx((alone.low, alone.high), abs=0.06)
    assert (alone.low, alone.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


def test_a_score_that_never_moves_keeps_its_point():
    draws = np.column_stack([np.zeros(100), np.random.default_rng(0).normal(size=100)])
    still, moving = simultaneous_estimates([0.0, 0.0], draws)
    assert still == Estimate(0.0, 0.0, 0.0)
    assert moving.low < -1 < 1 < moving.high


def test_scores_and_draws_that_do_not_agree_are_refused():
    with pytest.raises(CorpusError, match=r"expected scores \(C,\) and their draws"):
        simultaneous_estimates([0.0, 1.0], np.zeros((10, 3)))


@pytest.mark.parametrize("numbers", [(np.nan, 0, 1), (0.5, 1, 0), (0.5, np.nan, 1)])
def test_an_estimate_that_is_none_is_refused(numbers):
    with pytest.raises(ConfigError, match="finite value and low <= high"):
        Estimate(*numbers)


def test_draws_get_the_variance_and_the_quantiles_that_few_patients_ask_for():
    normal = norm.ppf((np.arange(4000) + 0.5) / 4000)
    scaled = student_draws(3.0, 3 + normal, normal, 4.0, 10**9)
    assert np.allclose(scaled, 3 + 2 * normal, atol=0.01)
    assert np.allclose(student_draws(3.0, 3 + normal, normal, 0.5, 10**9), 3 + normal, atol=0.01)
    few = student_draws(0.0, 5 * normal, normal, 1.0, 2)
    for share in (0.025, 0.6, 0.99):
        assert np.quantile(few, share) == pytest.approx(5 * student(2).ppf(share), rel=0.02)
    assert np.array_equal(student_draws(1.0, np.ones(5), np.zeros(5), 1.0, 3), np.ones(5))
    assert np.isfinite(student_draws(0.0, np.eye(1000)[0], np.eye(1000)[0], 1.0, 1)).all()


def test_simultaneous_intervals_of_few_patients_hold_all_values_at_once():
    """Six means of five normals each, with normal draws of their estimated standard errors."""
    rng, held = np.random.default_rng(0), {"student": 0, "normal": 0, "one quantile": 0}
    one = student(4).ppf(0.975) / norm.ppf(0.975)
    for _ in range(400):
        values = rng.normal(size=(6, 5))
        means, errors = values.mean(axis=1), values.std(axis=1, ddof=1) / 5**0.5
        draws = means + errors * rng.normal(size=(1000, 6))
        spread = [
            student_draws(*each, each[1], 0.0, 4) for each in zip(means, draws.T, strict=True)
        ]
        for name, drawn in (
            ("student", np.stack(spread, axis=1)),
            ("normal", draws),
            ("one quantile", means + one * (draws - means)),
        ):
            found = simultaneous_estimates(means, drawn)
            held[name] += all(each.low <= 0 <= each.high for each in found)
    assert held["normal"] / 400 < 0.8
    assert held["one quantile"] / 400 < 0.92
    assert 0.92 < held["student"] / 400 < 0.98


def test_the_interval_over_seeds_is_that_of_scipy():
    values = [0.31, 0.28, 0.4, 0.35, 0.22]
    low, high = scipy.stats.t.interval(
        0.95, len(values) - 1, loc=np.mean(values), scale=scipy.stats.sem(values)
    )
    ours = student_estimate(values)
    assert (ours.value, ours.low, ours.high) == pytest.approx((np.mean(values), low, high))


@pytest.mark.parametrize("values", [[], [0.3], [0.3, math.inf], [0.3, math.nan, 0.2]])
def test_an_interval_without_two_finite_values_is_refused(values):
    with pytest.raises(ConfigError, match="expected at least 2 finite values"):
        student_estimate(values)


def test_the_reach_of_draws_is_students():
    """Of a mean of n values whose variance is 1/n of theirs: the interval of Student's t."""
    values = np.array([0.31, 0.28, 0.4, 0.35, 0.22])
    low, high = scipy.stats.t.interval(0.95, 4, loc=0, scale=scipy.stats.sem(values))
    assert (-student_reach(values, 1 / 5), student_reach(values, 1 / 5)) == pytest.approx(
        (low, high)
    )
