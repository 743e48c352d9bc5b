import pytest
from numpy.testing import assert_allclose
from scipy.stats import binomtest

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.statistics import (
    effective_records,
    newcombe_difference,
    proportion,
    share_estimate,
    wilson_estimate,
)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 17), (10, 10), (495, 500)])
def test_the_interval_of_a_share_is_wilsons(successes, trials):
    found = wilson_estimate(successes / trials, trials)
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert_allclose([found.low, found.high], [expected.low, expected.high], atol=1e-12)
    adjusted = wilson_estimate(successes / trials, trials, 9)
    expected = binomtest(successes, trials).proportion_ci(1 - 0.05 / 9, method="wilson")
    assert_allclose([adjusted.low, adjusted.high], [expected.low, expected.high], atol=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((48, 80), (56, 70), 0.0524, 0.3339),
        ((3, 10), (9, 10), 0.1705, 0.8090),
        ((2, 7), (6, 7), 0.0582, 0.8062),
        ((0, 29), (5, 56), -0.0381, 0.1926),
        ((0, 10), (10, 10), 0.6075, 1.0),
    ],
)
def test_the_interval_of_a_difference_is_newcombes(first, second, low, high):
    """Table II of Newcombe 1998, method 10."""
    found = newcombe_difference(first[0] / first[1], first[1], second[0] / second[1], second[1])
    assert_allclose([found.low, found.high], [low, high], atol=5e-5)


def test_intervals_of_shares_adjust_for_comparisons_and_refuse_nonsense():
    with pytest.raises(
        CorpusError, match=r"share in \[0, 1\] of at least 1 record, got 1\.5 of 10"
    ):
        wilson_estimate(1.5, 10)
    with pytest.raises(CorpusError, match=r"at least 1 record, got 0\.5 of 0"):
        wilson_estimate(0.5, 0)
    with pytest.raises(ConfigError, match="at least 1 comparison, got 0"):
        newcombe_difference(0.5, 10, 0.5, 10, comparisons=0)
    with pytest.raises(CorpusError, match="one patient per record"):
        effective_records([])


def test_records_of_a_patient_count_as_what_they_hold():
    assert effective_records(list("abcd")) == 4
    assert effective_records(list("aaabbb")) == pytest.approx(2)
    assert effective_records(list("aab")) == pytest.approx(9 / 5)


def test_the_interval_of_a_share_is_that_of_wilson_or_of_the_draws():
    wilson = binomtest(3, 40).proportion_ci(method="wilson")
    narrow = share_estimate(3 / 40, 0.001, 40)
    assert (narrow.low, narrow.high) == pytest.approx((wilson.low, wilson.high))
    wide = share_estimate(0.5, 0.4, 40)
    assert (wide.low, wide.high) == pytest.approx((0.1, 0.9))
    cut = share_estimate(0.9, 0.4, 40)
    assert (cut.low, cut.high) == pytest.approx((0.5, 1))


def test_proportions_of_nothing_are_none():
    assert proportion(0, 0) is None
    assert (proportion(0, 4).low, proportion(4, 4).high) == (0, 1)


def test_a_proportion_has_the_interval_of_clopper_and_pearson():
    found = proportion(3, 17)
    expected = binomtest(3, 17).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx(3 / 17)
