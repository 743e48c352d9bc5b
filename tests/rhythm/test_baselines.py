import math

import numpy as np
import pytest
from scipy import integrate
from small_rhythm import train_of

from ecgtransfer.errors import ConfigError
from ecgtransfer.rhythm import GammaRenewal, ResampledTrains

#: Too short for three beats, so that all trains can be summed over.
DURATION_S = 0.4
RENEWAL = GammaRenewal(shape=2.0, scale_s=0.1, kind_probability=(0.7, 0.2, 0.1))
TRAINS = [
    train_of(0.1, 0.4, 0.62, 0.9, kinds=[1, 1, 2, 3]),
    train_of(0.3, 0.55, 0.8, kinds=[1, 1, 0]),
]


def laws():
    return [RENEWAL, ResampledTrains(TRAINS, 0.1, RENEWAL)]


def total_probability(law):
    """Sum over all trains of at most two beats, by Simpson's rule."""
    grid = np.linspace(1e-6, DURATION_S - 1e-6, 101)

    def density(*times, kinds):
        train = train_of(*times, kinds=kinds, duration_s=DURATION_S)
        return math.exp(law.log_likelihood([train])[0])

    none = math.exp(law.log_likelihood([train_of(duration_s=DURATION_S)])[0])
    one = integrate.simpson([density(t, kinds=[0]) for t in grid], grid)
    two = 0.0
    for start in grid[grid < DURATION_S - 0.151]:
        second = np.linspace(start + 0.1501, DURATION_S - 1e-6, 21)
        inner = integrate.simpson([density(start, t, kinds=[0, 0]) for t in second], second)
        two += inner * (grid[1] - grid[0])
    return none + one + two


@pytest.mark.parametrize("number", [0, 1])
def test_the_likelihood_of_all_trains_sums_to_one(number):
    assert total_probability(laws()[number]) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("number", [0, 1])
def test_kinds_are_summed_over_where_they_are_unknown(number):
    law = laws()[number]
    known = [train_of(0.1, 0.3, kinds=[a, b]) for a in (1, 2, 3) for b in (1, 2, 3)]
    together = np.logaddexp.reduce(law.log_likelihood(known))
    unknown = law.log_likelihood([train_of(0.1, 0.3, kinds=[0, 0])])[0]
    assert unknown == pytest.approx(together)


@pytest.mark.parametrize("number", [0, 1])
def test_samples_follow_the_likelihood(number):
    law, rng = laws()[number], np.random.default_rng(0)
    drawn = [law.sample(2.0, rng) for _ in range(4000)]
    counts = np.bincount([len(train.times_s) for train in drawn], minlength=3)
    # P(no beat before 0.2 s), from the likelihood of a window that ends there.
    none = math.exp(law.log_likelihood([train_of(duration_s=0.2)])[0])
    waiting = np.mean([train.times_s[0] >= 0.2 for train in drawn])
    if number == 0:
        assert waiting == pytest.approx(none, abs=0.03)
    assert counts[:1].sum() == 0
    first = np.array([train.times_s[0] for train in drawn])
    for low, high in ((0.0, 0.1), (0.1, 0.2)):
        grid = np.linspace(low + 1e-6, high - 1e-6, 201)
        one = [train_of(t, duration_s=t + 1e-9, kinds=[0]) for t in grid]
        expected = integrate.simpson(np.exp(law.log_likelihood(one)), grid)
        assert np.mean((first >= low) & (first < high)) == pytest.approx(expected, abs=0.03)


def test_a_fitted_gamma_renewal_process_is_the_one_that_made_the_trains():
    rng = np.random.default_rng(1)
    truth = GammaRenewal(shape=20.0, scale_s=0.03, kind_probability=(0.8, 0.15, 0.05))
    trains = [truth.sample(10.0, rng) for _ in range(300)]
    fitted = GammaRenewal.fitted(trains)
    assert fitted.mean_rr_s == pytest.approx(truth.mean_rr_s, rel=0.01)
    assert fitted.shape == pytest.approx(truth.shape, rel=0.1)
    assert fitted.kind_probability == pytest.approx(truth.kind_probability, abs=0.02)


def test_mean_rr_of_samples():
    rng = np.random.default_rng(2)
    rr_s = np.concatenate([RENEWAL.sample(100.0, rng).rr_s for _ in range(50)])
    assert rr_s.mean() == pytest.approx(RENEWAL.mean_rr_s, rel=0.02)


def test_a_resampled_train_is_a_training_train_from_another_moment():
    rng = np.random.default_rng(0)
    law = ResampledTrains([train_of(0.1, 0.4, 0.62, 0.9)], 1e-9, RENEWAL)
    drawn = law.sample(2.0, rng).rr_s
    cycle = np.array([0.3, 0.22, 0.28])
    starts = [np.resize(np.roll(cycle, -k), len(drawn)) for k in range(3)]
    assert min(np.abs(drawn - start).max() for start in starts) < 1e-6


def test_the_fitted_jitter_is_that_of_the_trains():
    rng = np.random.default_rng(3)
    trains = []
    for _ in range(60):
        rr_s = 0.8 * np.exp(0.04 * rng.logistic(size=10))
        times = np.cumsum([0.3, *rr_s])
        trains.append(train_of(*times, duration_s=times[-1] + 0.3))
    # The train that is resampled has a jitter of its own: the difference is wider.
    assert ResampledTrains.fitted(trains, rng).jitter in (0.04, 0.08)


def test_trains_without_intervals_are_refused():
    with pytest.raises(ConfigError, match="at least 2 different RR intervals, got 0 in 1 trains"):
        GammaRenewal.fitted([train_of(0.1)])
    with pytest.raises(ConfigError, match="at least 2 different RR intervals, got 0 in 0 trains"):
        GammaRenewal.fitted([])
    with pytest.raises(ConfigError, match="expected a train with an RR interval, got none in 1"):
        ResampledTrains([train_of(0.1)], 0.1, RENEWAL)
