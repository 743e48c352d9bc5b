import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.distances import (
    frechet_distance,
    frechet_limit,
    median_distance,
    mmd,
    neighbour_mixing,
    prdc,
    vendi_score,
)
from ecgtransfer.evaluation.signal_distances import (
    band_power_error,
    lead_correlation_difference,
    lead_correlations,
    log_spectral_distance,
)
from ecgtransfer.signals import INDEPENDENT_LEADS, LEADS


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


def test_frechet_distance_holds_with_fewer_records_than_features(rng):
    a, b = rng.normal(size=(10, 40)), rng.normal(size=(15, 40))
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    trace = np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    expected = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + trace
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_one_law_falls_as_one_over_n(rng):
    small, large = (
        np.mean([frechet_distance(*rng.normal(size=(2, n, 16))) for _ in range(20)])
        for n in (200, 800)
    )
    assert 3 < small / large < 5


def test_the_extrapolated_frechet_distance_is_twice_the_whole_less_the_halves(rng):
    a, b = rng.normal(size=(21, 3)), rng.normal(size=(30, 3)) + 1
    halves = frechet_distance(a[:10], b[:15]), frechet_distance(a[10:20], b[15:])
    expected = 2 * frechet_distance(a, b) - np.mean(halves)
    assert frechet_limit(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_the_extrapolated_frechet_distance_loses_nine_tenths_of_its_bias(rng, step):
    """Twelve features at two records each, the fewest allowed; without bias |μ|² = 12 step²."""
    pairs = [(rng.normal(size=(24, 12)), rng.normal(size=(24, 12)) + step) for _ in range(300)]
    bias = np.mean([frechet_distance(*pair) for pair in pairs]) - 12 * step**2
    left = [frechet_limit(*pair) - 12 * step**2 for pair in pairs]
    assert bias > 3
    assert abs(np.mean(left)) + 2 * np.std(left) / np.sqrt(300) < bias / 10


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
    monkeypatch.setattr("ecgtransfer.evaluation.distances.DISTANCES_AT_ONCE", 100)
    assert_allclose(prdc(real, generated, k), expected)


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


def kernel_mean_of_gaussians(step, variance, size, width):
    """E exp(−|U − V|² / 2 w²) where U − V is normal, |mean|² = step, variance in each dimension."""
    total = width**2 + variance
    return (width**2 / total) ** (size / 2) * np.exp(-step / (2 * total))


def test_mmd_is_a_double_loop_over_pairs_also_in_small_blocks(rng, monkeypatch):
    a, b, width = rng.normal(size=(13, 3)), rng.normal(size=(9, 3)) + 0.5, 1.7

    def kernel(u, v):
        return np.exp(-((u - v) ** 2).sum() / (2 * width**2))

    within_a = np.mean([kernel(u, v) for i, u in enumerate(a) for j, v in enumerate(a) if i != j])
    within_b = np.mean([kernel(u, v) for i, u in enumerate(b) for j, v in enumerate(b) if i != j])
    across = np.mean([kernel(u, v) for u in a for v in b])
    expected = within_a + within_b - 2 * across
    assert mmd(a, b, width) == pytest.approx(expected, abs=1e-12)
    assert mmd(b, a, width) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr("ecgtransfer.evaluation.distances.DISTANCES_AT_ONCE", 20)
    assert mmd(a, b, width) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("step", [0.0, 1.0])
def test_mmd_has_the_mean_of_its_law_even_for_eight_records(rng, step):
    """0 for sets of one law, the closed form of two Gaussians else: no bias of few records."""
    width, size = 2.0, 2
    same = kernel_mean_of_gaussians(0, 2, size, width)
    expected = 2 * same - 2 * kernel_mean_of_gaussians(size * step**2, 2, size, width)
    values = [
        mmd(rng.normal(size=(8, size)), rng.normal(size=(8, size)) + step, width)
        for _ in range(2000)
    ]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - expected) < 4 * error
    assert error < 0.01  # the pairs of a record with itself would add 0.15


def test_mmd_sees_a_spread_that_no_mean_shows(rng):
    a = rng.normal(size=(400, 2))
    assert mmd(a, 2 * rng.normal(size=(400, 2))) > 0.03
    assert abs(mmd(a, rng.normal(size=(400, 2)))) < 0.01


def test_the_width_of_the_kernel_is_the_median_distance_within_the_first_set(rng):
    a, b = rng.normal(size=(30, 3)), rng.normal(size=(20, 3)) + 1
    assert median_distance(a) == np.median(cdist(a, a)[np.triu_indices(30, 1)])
    assert mmd(a, b) == mmd(a, b, median_distance(a))


def test_the_median_distance_of_many_records_is_near_that_of_all(rng):
    """|u − v|² of standard normals in two dimensions is 4 times an exponential."""
    assert median_distance(rng.normal(size=(5000, 2))) == pytest.approx(
        np.sqrt(4 * np.log(2)), rel=0.03
    )


def test_vendi_score_of_identical_records_is_one():
    assert vendi_score(np.ones((7, 7))) == pytest.approx(1)


def test_vendi_score_of_orthogonal_records_is_their_number():
    assert vendi_score(np.eye(7)) == pytest.approx(7)


def test_vendi_score_counts_prototypes_and_not_records():
    groups = np.repeat(np.arange(4), 25)
    assert vendi_score(groups[:, None] == groups[None]) == pytest.approx(4)


def test_vendi_score_of_two_records_is_the_entropy_of_their_overlap():
    """Eigenvalues (1 ± s) / 2."""
    s = 0.3
    share = np.array([1 + s, 1 - s]) / 2
    expected = np.exp(-(share * np.log(share)).sum())
    assert vendi_score([[1, s], [s, 1]]) == pytest.approx(expected)


def test_neighbour_mixing_is_that_of_an_independent_search_also_in_small_blocks(rng, monkeypatch):
    from sklearn.neighbors import NearestNeighbors

    a, b, k = rng.normal(size=(40, 3)), rng.normal(size=(30, 3)) + 0.4, 4
    pooled = np.concatenate([a, b])
    nearest = NearestNeighbors(n_neighbors=k).fit(pooled).kneighbors(return_distance=False)
    expected = ((nearest >= 40) != (np.arange(70) >= 40)[:, None]).mean()
    assert 0.2 < expected < 0.5
    assert neighbour_mixing(a, b, k) == pytest.approx(expected)
    monkeypatch.setattr("ecgtransfer.evaluation.distances.DISTANCES_AT_ONCE", 100)
    assert neighbour_mixing(a, b, k) == pytest.approx(expected)


def test_neighbour_mixing_of_one_law_is_the_share_of_other_records_and_of_far_sets_nothing(rng):
    values = [
        neighbour_mixing(rng.normal(size=(40, 2)), rng.normal(size=(20, 2))) for _ in range(200)
    ]
    expected = 2 * 40 * 20 / (60 * 59)
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / np.sqrt(200))
    far = rng.normal(size=(40, 2))
    assert neighbour_mixing(far, far[:20] + 100) == 0


def test_log_spectral_distance_is_the_gain_of_the_lead_in_decibels(rng):
    real = rng.normal(size=(5, 8, 1000))
    louder = real * np.where(np.arange(8) == 3, 2.0, 1.0)[None, :, None]
    distance = log_spectral_distance(real, louder, 100)
    assert list(distance) == ["all leads", *INDEPENDENT_LEADS]
    gain = 20 * np.log10(2)
    assert distance["V2"] == pytest.approx(gain, abs=1e-4)
    assert distance["V1"] == pytest.approx(0, abs=1e-9)
    assert distance["all leads"] == pytest.approx(gain / 8, abs=1e-4)


def test_log_spectral_distance_is_the_root_mean_square_over_frequencies(rng):
    """A tenfold amplitude in half of the band: 20 dB in half of the bins, 20 / √2 as a whole."""
    spectrum = np.fft.rfft(rng.normal(size=(3, 1, 2000)))
    frequency = np.fft.rfftfreq(2000, 1 / 100)
    low = np.fft.irfft(spectrum, 2000)
    high = np.fft.irfft(np.where(frequency > 25.25, 10 * spectrum, spectrum), 2000)
    distance = log_spectral_distance(low, high, 100)
    assert list(distance) == ["all leads", "lead 1"]
    assert distance["lead 1"] == pytest.approx(20 / np.sqrt(2), rel=0.02)


def test_twelve_leads_have_their_names():
    signals = np.zeros((2, 12, 400))
    assert list(log_spectral_distance(signals, signals, 100)) == ["all leads", *LEADS]


def test_spectra_of_equal_noise_agree(rng):
    distance = log_spectral_distance(
        rng.normal(size=(200, 2, 1000)), rng.normal(size=(300, 2, 1000)), 100
    )
    assert max(distance.values()) < 0.5


def test_lead_correlations_are_those_of_each_record_also_in_small_blocks(rng, monkeypatch):
    signals = rng.normal(size=(4, 3, 50)) + rng.normal(size=(4, 1, 50)) + 7
    pairs = np.triu_indices(3, 1)
    expected = [np.corrcoef(record)[pairs] for record in signals]
    assert_allclose(lead_correlations(signals), expected)
    monkeypatch.setattr("ecgtransfer.evaluation.distances.DISTANCES_AT_ONCE", 1)
    assert_allclose(lead_correlations(signals), expected)


def test_a_flat_lead_correlates_with_nothing(rng):
    signals = rng.normal(size=(2, 2, 50))
    signals[:, 1] = 3.0
    assert_array_equal(lead_correlations(signals), 0)


def test_lead_correlation_difference_of_a_turned_lead_is_twice_its_correlation(rng):
    real = np.repeat(rng.normal(size=(6, 1, 50)), 2, axis=1)
    turned = real * np.array([1.0, -1.0])[None, :, None]
    assert lead_correlation_difference(real, turned) == pytest.approx(2)
    assert lead_correlation_difference(real, 5 * real + 1) == pytest.approx(0, abs=1e-12)


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


def test_too_few_records_to_extrapolate_are_refused(rng):
    with pytest.raises(CorpusError, match="of 5 features needs at least 10 records, got 10 and 9"):
        frechet_limit(rng.normal(size=(10, 5)), rng.normal(size=(9, 5)))


def test_bad_neighbours_are_refused():
    with pytest.raises(ConfigError, match="k must be at least 1"):
        prdc(np.zeros((9, 2)), np.zeros((9, 2)), k=0)
    with pytest.raises(CorpusError, match="more than 5 records"):
        prdc(np.zeros((9, 2)), np.zeros((5, 2)))
    with pytest.raises(ConfigError, match="k must be at least 1"):
        neighbour_mixing(np.zeros((9, 2)), np.zeros((9, 2)), k=0)
    with pytest.raises(CorpusError, match="more than 5 records"):
        neighbour_mixing(np.zeros((9, 2)), np.zeros((5, 2)))


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


@pytest.mark.parametrize(
    ("similarity", "message"),
    [
        (np.ones((2, 3)), "expected similarities"),
        (np.zeros((0, 0)), "expected similarities"),
        (2 * np.eye(3), "ones on the diagonal"),
        ([[1, 0.5], [0.2, 1]], "symmetric"),
        ([[1, 2], [2, 1]], "positive semidefinite"),
    ],
)
def test_bad_similarities_are_refused(similarity, message):
    with pytest.raises(CorpusError, match=message):
        vendi_score(similarity)


def test_bad_kernels_are_refused(rng):
    a = rng.normal(size=(5, 2))
    with pytest.raises(ConfigError, match="bandwidth must be positive"):
        mmd(a, a, 0)
    with pytest.raises(CorpusError, match="at least 2 records"):
        mmd(a, a[:1])
    with pytest.raises(CorpusError, match="half of the pairs"):
        mmd(np.zeros((5, 2)), a)
    with pytest.raises(CorpusError, match="at least 2 records"):
        median_distance(a[:1])


def test_signals_of_other_leads_are_refused(rng):
    eight, one = rng.normal(size=(2, 8, 400)), rng.normal(size=(2, 1, 400))
    with pytest.raises(CorpusError, match="same leads, got 8 and 1"):
        log_spectral_distance(eight, one, 100)
    with pytest.raises(CorpusError, match="same leads, got 28 and 21"):
        lead_correlation_difference(eight, eight[:, :7])
    with pytest.raises(CorpusError, match="at least 2 leads, got 1"):
        lead_correlations(one)
    with pytest.raises(CorpusError, match="expected signals"):
        lead_correlations(eight[0])
