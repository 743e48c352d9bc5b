import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation import (
    band_power_error,
    compare_with_halves,
    frechet_distance,
    frechet_from_moments,
    measure_fidelity,
    patient_halves,
    prdc,
)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def with_moments(rng, n, mean, covariance):
    """A cloud (n, F) whose sample mean and covariance are exactly those given."""
    white = rng.normal(size=(n, len(mean)))
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white.T))).T
    return mean + white @ np.linalg.cholesky(covariance).T


def covariance(rng, size):
    root = rng.normal(size=(size, size))
    return root @ root.T / size + 0.1 * np.eye(size)


def test_frechet_distance_of_gaussian_clouds_is_the_closed_formula(rng):
    """Commuting covariances: |μ_a − μ_b|² + Σ (√λ_a − √λ_b)²."""
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    values_a, values_b = rng.uniform(0.2, 3, (2, 6))
    mean_a, mean_b = rng.normal(size=(2, 6))
    a = with_moments(rng, 500, mean_a, turn * values_a @ turn.T)
    b = with_moments(rng, 400, mean_b, turn * values_b @ turn.T)
    closed = ((mean_a - mean_b) ** 2).sum() + ((values_a**0.5 - values_b**0.5) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(closed, abs=1e-6)


def test_frechet_distance_is_that_of_a_matrix_square_root(rng):
    mean_a, mean_b = rng.normal(size=(2, 8))
    cov_a, cov_b = covariance(rng, 8), covariance(rng, 8)
    root = sqrtm(cov_a @ cov_b).real
    reference = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    clouds = with_moments(rng, 300, mean_a, cov_a), with_moments(rng, 200, mean_b, cov_b)
    assert frechet_distance(*clouds) == pytest.approx(reference, abs=1e-6)
    assert frechet_from_moments(mean_a, cov_a, mean_b, cov_b) == pytest.approx(reference, abs=1e-6)


def test_frechet_distance_holds_with_fewer_records_than_features(rng):
    a, b = rng.normal(size=(10, 40)), rng.normal(size=(15, 40))
    moments = [(x.mean(axis=0), np.cov(x.T)) for x in (a, b)]
    by_moments = frechet_from_moments(*moments[0], *moments[1])
    assert frechet_distance(a, b) == pytest.approx(by_moments, rel=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_one_law_falls_as_one_over_n(rng):
    small, large = (
        np.mean([frechet_distance(*rng.normal(size=(2, n, 16))) for _ in range(20)])
        for n in (200, 800)
    )
    assert 3 < small / large < 5


def test_prdc_of_identical_sets_is_full(rng):
    real = rng.normal(size=(50, 4))
    scores = prdc(real, real)
    assert (scores.precision, scores.recall, scores.coverage) == (1, 1, 1)


def test_prdc_of_far_sets_is_zero(rng):
    real = rng.normal(size=(50, 4))
    assert prdc(real, real + 100) == (0, 0, 0, 0)


def test_prdc_of_one_mode_of_two_is_precise_but_covers_half(rng):
    real = rng.normal(size=(200, 2)) + np.repeat([[0, 0], [50, 0]], 100, axis=0)
    scores = prdc(real, rng.normal(size=(200, 2)))
    assert scores.precision > 0.9
    assert 0.4 < scores.recall <= 0.5
    assert 0.4 < scores.coverage <= 0.5


def test_prdc_is_its_definition_also_in_small_blocks(rng, monkeypatch):
    real, generated, k = rng.normal(size=(30, 3)), 0.7 * rng.normal(size=(40, 3)) + 0.5, 3
    radius = np.sort(cdist(real, real), axis=1)[:, k]
    generated_radius = np.sort(cdist(generated, generated), axis=1)[:, k]
    distance = cdist(real, generated)
    inside = distance <= radius[:, None]
    expected = (
        inside.any(axis=0).mean(),
        (distance <= generated_radius[None]).any(axis=1).mean(),
        inside.sum() / (k * 40),
        inside.any(axis=1).mean(),
    )
    assert_allclose(prdc(real, generated, k), expected)
    monkeypatch.setattr("ecgtransfer.evaluation.fidelity.DISTANCES_AT_ONCE", 100)
    assert_allclose(prdc(real, generated, k), expected)


def test_halves_share_no_patient(rng):
    patients = rng.integers(0, 30, 100).astype(str)
    for _ in range(20):
        left, right = patient_halves(patients, rng)
        assert len(left) == len(right) > 40
        assert not set(patients[left]) & set(patients[right])


def test_a_generator_as_good_as_real_scores_like_the_reference(rng):
    comparison = compare_with_halves(
        rng.normal(size=(100, 20)), rng.normal(size=(300, 20)), repeats=30
    )
    assert comparison.records == 50
    assert abs(comparison.excess.value) < 0.15 * comparison.reference.value
    assert comparison.excess.value == pytest.approx(
        comparison.score.value - comparison.reference.value
    )
    assert "real against real" in str(comparison)


def test_a_shifted_generator_scores_worse_than_the_reference_by_its_shift(rng):
    comparison = compare_with_halves(
        rng.normal(size=(100, 20)), rng.normal(size=(300, 20)) + 1, repeats=30
    )
    assert comparison.excess.low > 0
    assert comparison.excess.value == pytest.approx(20, rel=0.2)


def test_score_and_reference_use_the_number_of_records_that_is_asked(rng):
    seen = []

    def count(a, b):
        seen.append((len(a), len(b)))
        return 0.0

    comparison = compare_with_halves(
        rng.normal(size=(100, 2)),
        rng.normal(size=(30, 2)),
        np.repeat(np.arange(50), 2),
        score=count,
        repeats=3,
    )
    assert set(seen) == {(30, 30)}
    assert comparison.records == 30


def test_band_power_error_is_the_gain_of_the_band():
    time = np.arange(1000) / 100

    def waves(gain):
        low, high = np.sin(2 * np.pi * 10 * time), np.sin(2 * np.pi * 30 * time)
        return np.broadcast_to(low + gain * high, (4, 8, 1000))

    error = band_power_error(waves(1.0), waves(10.0), 100)
    assert list(error) == ["0.5-5 Hz", "5-15 Hz", "15-25 Hz", "25-35 Hz", "35-42 Hz", "42-50 Hz"]
    assert error["25-35 Hz"] == pytest.approx(2, abs=1e-3)
    assert error["5-15 Hz"] == pytest.approx(0, abs=1e-3)


def test_band_powers_of_equal_noise_agree_whatever_the_number_of_records(rng):
    error = band_power_error(rng.normal(size=(60, 8, 1000)), rng.normal(size=(90, 8, 800)), 100)
    assert_allclose(list(error.values()), 0, atol=0.05)


def test_flat_records_have_a_finite_band_power_error():
    flat = np.zeros((2, 8, 1000), np.float32)
    assert_array_equal(list(band_power_error(flat, flat, 100).values()), 0)


def test_all_measures_come_with_their_reference_as_rows_and_json(rng):
    features, signals = rng.normal(size=(40, 5)), rng.normal(size=(40, 8, 500))
    result = measure_fidelity(features, features + 1, signals, 2 * signals, 100, repeats=5)
    rows = result.rows()
    assert {len(row) for row in rows} == {3}
    assert [row[0] for row in rows[1:6]] == [
        "Frechet distance",
        "precision",
        "recall",
        "density",
        "coverage",
    ]
    assert "Frechet distance" in str(result)
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["frechet_distance"]["records"] == 20
    louder = plain["log10_power_error"]["15-25 Hz"]
    assert louder["score"]["value"] == pytest.approx(np.log10(4), abs=0.05)
    assert louder["real_versus_real"]["low"] < 0 < louder["real_versus_real"]["high"]
    assert plain["frechet_distance"]["excess"]["value"] > 0
    assert result.prdc["coverage"].excess.value < 0


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros(3), np.zeros((3, 1)), "features"),
        (np.zeros((3, 2)), np.zeros((3, 1)), "features"),
        (np.full((3, 2), np.nan), np.zeros((3, 2)), "finite features"),
        (np.zeros((1, 2)), np.zeros((3, 2)), "at least 2 records"),
    ],
)
def test_bad_features_are_refused(a, b, message):
    with pytest.raises(CorpusError, match=message):
        frechet_distance(a, b)


def test_bad_moments_are_refused():
    with pytest.raises(CorpusError, match="expected means"):
        frechet_from_moments([0, 0], np.eye(2), [0], np.eye(1))
    with pytest.raises(CorpusError, match="positive semidefinite"):
        frechet_from_moments([0, 0], np.diag([1.0, -1.0]), [0, 0], np.eye(2))


def test_bad_neighbours_are_refused():
    with pytest.raises(ConfigError, match="k must be at least 1"):
        prdc(np.zeros((9, 2)), np.zeros((9, 2)), k=0)
    with pytest.raises(CorpusError, match="more than 5 records"):
        prdc(np.zeros((9, 2)), np.zeros((5, 2)))


def test_bad_halves_are_refused(rng):
    with pytest.raises(CorpusError, match="hold up to 2 each"):
        patient_halves(["a", "a", "a", "b", "b", "c"], rng, 3)
    with pytest.raises(CorpusError, match="one patient per record"):
        patient_halves([], rng)
    features = np.zeros((4, 2))
    with pytest.raises(CorpusError, match="one patient per record"):
        compare_with_halves(features, features, [1, 2])
    with pytest.raises(CorpusError, match="only 4 are generated"):
        compare_with_halves(np.zeros((20, 2)), features, records=5)
    with pytest.raises(ConfigError, match="at least 2 repeats"):
        compare_with_halves(features, features, repeats=1)


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        (np.zeros((8, 1000)), "expected signals"),
        (np.zeros((2, 8, 300)), "at least 400 samples"),
        (np.full((2, 8, 400), np.inf), "finite signals"),
    ],
)
def test_bad_signals_are_refused(signals, message):
    with pytest.raises(CorpusError, match=message):
        band_power_error(np.zeros((2, 8, 1000)), signals, 100)


def test_a_rate_below_the_bands_is_refused():
    with pytest.raises(ConfigError, match="at least 100 Hz"):
        band_power_error(np.zeros((2, 8, 1000)), np.zeros((2, 8, 1000)), 50)


def test_features_and_signals_of_different_records_are_refused():
    features, signals = np.zeros((20, 2)), np.zeros((19, 8, 500))
    with pytest.raises(CorpusError, match="same records, got 20 and 19"):
        measure_fidelity(features, features, signals, np.zeros((20, 8, 500)), 100)
