"""Scores against closed forms of Gaussians, POT, scikit-learn and scipy."""

import math

import numpy as np
import ot
import pytest
import scipy.stats
import torch
from sklearn.metrics.pairwise import rbf_kernel
from torch.testing import assert_close

from ecgtransfer.diffusion import NoiseConfig
from ecgtransfer.errors import ConfigError
from ecgtransfer.experiments.gaussian_mixture import GaussianMixture
from ecgtransfer.experiments.problems import Problem, problem
from ecgtransfer.experiments.scores import (
    BANDWIDTHS,
    MMD_RECORDS,
    SCORE_LEVELS,
    KernelDiscrepancy,
    ScoreBoard,
    SlicedDistance,
    directions,
)

NOISE = NoiseConfig()

#: Leaves nothing of the sampler's own error: its steps are many, and noise of size 400 hides where
#: the target lies.
WELL_SAMPLED = {
    "noise": NoiseConfig(sigma_max=400.0),
    "steps": 100,
    "n_generated": 20_000,
    "n_reference": 20_000,
}


def gaussian(mean, variance, label_of=(0,), labels=0, weights=(1.0,)) -> GaussianMixture:
    """Components with the rows of `mean` for means, all of one variance."""
    means = torch.tensor(mean, dtype=torch.float64).reshape(len(weights), -1)
    return GaussianMixture(
        weights=torch.tensor(weights, dtype=torch.float64),
        means=means,
        variances=torch.full((len(weights),), variance, dtype=torch.float64),
        label_of=torch.tensor(label_of),
        labels=labels,
    )


def between(source, target, scale=1.0) -> Problem:
    return Problem(name="test", title="A test.", source=source, target=target, scale=scale)


def board_of(of, seed=0, noise=NOISE, **sizes) -> ScoreBoard:
    return ScoreBoard.of(of, noise=noise, seed=seed, **sizes)


def normal(seed, n, d):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def shifted(denoise, by):
    """The denoiser of the same law moved by `by`."""

    def moved(x, sigma, label):
        return denoise(x - by.to(x), sigma, label) + by.to(x)

    return moved


@pytest.fixture(scope="module")
def paper():
    return problem("paper")


@pytest.fixture(scope="module")
def board(paper):
    return board_of(paper)


@pytest.mark.parametrize(("n", "m", "d"), [(40, 100, 2), (100, 40, 3), (64, 64, 5), (37, 101, 1)])
def test_sliced_distance_is_that_of_pot_for_any_two_set_sizes(n, m, d):
    x, reference = normal(1, n, d) * 1.3 + 0.2, normal(2, m, d)
    projections = directions(d)
    ours = SlicedDistance.of(reference, projections, n)(x)
    theirs = ot.sliced_wasserstein_distance(
        x.numpy(), reference.numpy(), projections=projections.numpy(), p=2
    )
    assert ours == pytest.approx(float(theirs), rel=1e-9)


def test_directions_have_unit_length_and_no_preferred_axis():
    for dimension in (2, 8):
        vectors = directions(dimension)
        assert_close(vectors.norm(dim=0), torch.ones(128, dtype=torch.float64))
        second_moment = vectors @ vectors.T / 128
        isotropic = torch.eye(dimension, dtype=torch.float64) / dimension
        assert_close(second_moment, isotropic, rtol=0, atol=1e-12 if dimension == 2 else 0.04)


def test_mmd_is_the_unbiased_statistic_of_kernels_from_scikit_learn():
    x, reference, median = normal(1, 300, 3) + 0.3, normal(2, 250, 3), 2.1

    def mean_kernel(a, b):
        gammas = [1 / (2 * (share * median) ** 2) for share in BANDWIDTHS]
        return np.mean([rbf_kernel(a.numpy(), b.numpy(), gamma) for gamma in gammas], axis=0)

    within = [mean_kernel(a, a) for a in (x, reference)]
    off_diagonal = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in within]
    expected = sum(off_diagonal) - 2 * mean_kernel(x, reference).mean()
    assert KernelDiscrepancy.of(reference, median).squared(x) == pytest.approx(expected, rel=1e-9)


def test_squared_mmd_of_equal_laws_is_zero_on_average_and_may_be_negative():
    kernel_at = [KernelDiscrepancy.of(normal(seed, 100, 2), 1.7) for seed in range(60)]
    values = [kernel.squared(normal(1000 + n, 100, 2)) for n, kernel in enumerate(kernel_at)]
    assert min(values) < 0 < max(values)
    # Counting each record with itself would add up to 2 / 100.
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values)) < 0.005


def test_mmd_bandwidths_come_from_the_median_distance_of_the_target():
    variance, d = 0.49, 2
    of = between(gaussian([0.0, 0.0], 1.0), gaussian([3.0, 1.0], variance))
    median = board_of(of, n_generated=200, n_reference=500).label_boards[0].kernel.median
    expected = math.sqrt(2 * variance * scipy.stats.chi2(d).median())
    assert median == pytest.approx(expected, rel=0.05)
    other_seed = board_of(of, n_generated=200, n_reference=500, seed=9)
    assert other_seed.label_boards[0].kernel.median == median


def test_the_exact_target_denoiser_is_as_good_as_exact_records(board, paper):
    exact, floor = board.judge(paper.target.denoise), board.reference()
    assert exact.sliced_wasserstein < 0.05
    assert floor.sliced_wasserstein < 0.05
    assert max(exact.mmd, floor.mmd) < 0.03
    assert abs(exact.log_density_gap) < 0.1
    assert abs(floor.log_density_gap) < 0.1
    assert max(exact.mode_weight_error, floor.mode_weight_error) < 0.03
    assert exact.score_error < 1e-5
    assert floor.score_error == 0


def test_the_source_denoiser_is_far_from_the_target(board, paper):
    source, floor = board.judge(paper.source.denoise), board.reference()
    assert source.sliced_wasserstein > 5 * floor.sliced_wasserstein
    assert source.mmd > 0.1
    assert source.log_density_gap > 1
    assert source.score_error > 0.1


def test_a_shift_of_a_gaussian_moves_it_by_its_length_over_the_root_of_two():
    target, by, scale = gaussian([0.5, -0.2], 0.3), torch.tensor([0.6, -1.1]), 1.7
    board = board_of(between(gaussian([0.0, 0.0], 1.0), target, scale), **WELL_SAMPLED)
    scores = board.judge(shifted(target.denoise, by))
    assert scores.sliced_wasserstein == pytest.approx(scale * float(by.norm()) / 2**0.5, rel=0.03)


def test_the_mmd_of_a_shift_is_that_of_two_gaussians_in_closed_form():
    variance, by, d = 0.3, torch.tensor([0.6, -0.8]), 2
    target = gaussian([0.5, -0.2], variance)
    board = board_of(between(gaussian([0.0, 0.0], 1.0), target), **WELL_SAMPLED)
    median = board.label_boards[0].kernel.median

    def expected_kernel(width, distance):
        spread = width**2 + 2 * variance
        return (width**2 / spread) ** (d / 2) * math.exp(-(distance**2) / (2 * spread))

    squared = np.mean(
        [
            2 * expected_kernel(share * median, 0) - 2 * expected_kernel(share * median, 1.0)
            for share in BANDWIDTHS
        ]
    )
    scores = board.judge(shifted(target.denoise, by))
    assert scores.mmd == pytest.approx(math.sqrt(squared), rel=0.08)


def test_log_density_gap_of_a_gaussian_of_another_variance_is_closed_form():
    variance, other, d = 0.4, 0.7, 8
    target = gaussian([0.1] * d, variance)
    board = board_of(between(gaussian([0.0] * d, 1.0), target), **WELL_SAMPLED)
    wide = board.judge(gaussian([0.1] * d, other).denoise)
    assert wide.log_density_gap == pytest.approx(d / 2 * (other / variance - 1), rel=0.05)
    narrow = board.judge(gaussian([0.1] * d, 0.2).denoise)
    assert narrow.log_density_gap == pytest.approx(d / 2 * (0.2 / variance - 1), rel=0.05)


def log_uniform_levels():
    return np.exp(np.linspace(np.log(NOISE.sigma_min), np.log(NOISE.sigma_max), SCORE_LEVELS))


def test_score_error_of_a_shifted_gaussian_is_closed_form():
    """Scores of equal variance v differ by the constant shift / (v + sigma^2)."""
    variance, d = 0.5, 2
    of = between(gaussian([0.3, -0.4], variance), gaussian([0.0, 0.0], variance))
    error = board_of(of, n_generated=10, n_reference=10).judge(of.source.denoise).score_error
    sigma = log_uniform_levels()
    expected = np.sqrt(np.mean(sigma**2 * 0.25 / (variance + sigma**2) ** 2 / d))
    assert error == pytest.approx(expected, rel=1e-4)


def test_score_error_of_another_variance_is_closed_form():
    """Scores of variance v and w differ by x (1 / (w + s) - 1 / (v + s)), E x^2 = w + s."""
    v, w, d = 1.0, 0.2, 32
    of = between(gaussian([0.0] * d, v), gaussian([0.0] * d, w))
    error = board_of(of, n_generated=10, n_reference=10).judge(of.source.denoise).score_error
    s = log_uniform_levels() ** 2
    expected = np.sqrt(np.mean(s * (w + s) * (1 / (w + s) - 1 / (v + s)) ** 2))
    assert error == pytest.approx(expected, rel=0.02)


def test_score_error_of_a_mixture_agrees_with_slopes_of_its_log_density(board, paper):
    """The same noised points, but the scores by autograd of independent log densities."""

    def slope(mixture, x, sigma):
        variance = mixture.variances + sigma[:, None] ** 2
        x = x.clone().requires_grad_()
        square = (x[:, None, :] - mixture.means).square().sum(dim=2)
        log_terms = mixture.weights.log() - square / (2 * variance) - variance.log()
        torch.logsumexp(log_terms, dim=1).sum().backward()
        return x.grad

    x, sigma = board.points.double(), board.levels.double()
    difference = slope(paper.source, x, sigma) - slope(paper.target, x, sigma)
    expected = (sigma[:, None] * difference).square().mean().sqrt()
    assert board.judge(paper.source.denoise).score_error == pytest.approx(float(expected), rel=1e-4)


def test_noised_points_have_the_levels_and_the_spread_of_the_target(board):
    assert_close(
        board.levels.unique().double(), torch.tensor(log_uniform_levels()), rtol=1e-5, atol=0
    )
    largest = board.levels == board.levels.max()
    assert float(board.points[largest].std()) == pytest.approx(NOISE.sigma_max, rel=0.1)
    assert len(board.points) <= 12 * 512


def test_mode_weights_are_those_of_the_generated_law():
    means = [[-3.0, 0.0], [3.0, 0.0]]
    target = gaussian(means, 0.1, (0, 0), weights=(0.3, 0.7))
    tilted = gaussian(means, 0.1, (0, 0), weights=(0.8, 0.2))
    board = board_of(between(gaussian([0.0, 0.0], 1.0), target))
    share = float((board.generated(tilted.denoise)[:, 0] < 0).double().mean())
    scores = board.judge(tilted.denoise)
    assert scores.mode_weights == pytest.approx((share, 1 - share), abs=1e-6)
    assert scores.mode_weights == pytest.approx((0.8, 0.2), abs=0.03)
    assert scores.mode_weight_error == pytest.approx(share - 0.3, abs=1e-6)


def two_labels(first, second, weights=(0.25, 0.75)) -> GaussianMixture:
    return gaussian([first, second], 0.2, (0, 1), labels=2, weights=weights)


def test_labels_of_generated_records_have_the_frequencies_of_the_target():
    target = two_labels([-1.0, 0.0], [1.0, 0.0])
    board = board_of(between(two_labels([0.0, 1.0], [0.0, -1.0], (0.5, 0.5)), target))
    assert [one.frequency for one in board.label_boards] == pytest.approx([0.25, 0.75])
    assert_close(board.label.mean(dim=0), torch.tensor([0.25, 0.75]), rtol=0, atol=0.03)
    for number, one in enumerate(board.label_boards):
        assert (board.label[one.rows, number] == 1).all()
    assert sum(len(one.rows) for one in board.label_boards) == len(board.label)


def test_swapped_labels_are_seen_though_the_records_together_look_right():
    """All labels together have the target's law; each label's records are two units off."""
    target = two_labels([-1.0, 0.0], [1.0, 0.0], (0.5, 0.5))
    board = board_of(between(target, target))

    def swapped(x, sigma, label):
        return target.denoise(x, sigma, label.flip(1))

    right, wrong = board.judge(target.denoise), board.judge(swapped)
    assert right.sliced_wasserstein < 0.1
    assert wrong.sliced_wasserstein == pytest.approx(2 / 2**0.5, rel=0.03)
    assert wrong.mmd > 0.5 > 10 * right.mmd
    assert wrong.mode_weight_error < 0.03
    # E[log q(x, y)] falls by (2 units)^2 / (2 variance) = 10 where every label is wrong.
    assert wrong.log_density_gap == pytest.approx(10, rel=0.05)


def test_mode_weights_are_read_from_the_records_and_not_from_the_labels_asked_for():
    target = two_labels([-3.0, 0.0], [3.0, 0.0])

    def first_label_alone(x, sigma, label):
        return target.denoise(x, sigma, torch.tensor([1.0, 0.0]).expand(len(x), 2))

    scores = board_of(between(target, target)).judge(first_label_alone)
    assert scores.mode_weights == pytest.approx((1, 0), abs=1e-6)
    assert scores.mode_weight_error == pytest.approx(0.75, abs=1e-6)


def test_every_denoiser_starts_from_the_same_noise_and_the_seed_decides_it(board, paper):
    first, again = (board.generated(paper.target.denoise) for _ in range(2))
    assert torch.equal(first, again)
    assert first.dtype == torch.float32
    sizes = {"n_generated": 50, "n_reference": 60}
    same, other = board_of(paper, seed=0, **sizes), board_of(paper, seed=1, **sizes)
    assert torch.equal(board_of(paper, seed=0, **sizes).noise, same.noise)
    assert not torch.equal(same.noise, other.noise)
    assert board_of(paper, seed=0, **sizes).reference() == same.reference()


def test_records_of_a_board_are_not_those_that_the_same_seed_draws_elsewhere(paper):
    board = board_of(paper, seed=5, n_generated=50, n_reference=60)
    elsewhere, _ = paper.target.sample(60, torch.Generator().manual_seed(5))
    gathered = torch.cat([board.exact, board.label_boards[0].kernel.reference])
    assert float(torch.cdist(gathered, elsewhere).min()) > 0
    assert float(torch.cdist(board.exact, board.label_boards[0].kernel.reference).min()) > 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_denoiser_that_diverges_scores_inf_and_raises_nothing(board, value):
    scores = board.judge(lambda x, sigma, label: torch.full_like(x, value))
    assert scores.sliced_wasserstein == scores.mmd == scores.log_density_gap == math.inf
    assert scores.score_error == scores.mode_weight_error == math.inf
    assert scores.mode_weights == (math.inf, math.inf)


def test_a_denoiser_that_explodes_but_stays_finite_scores_finitely(board):
    scores = board.judge(lambda x, sigma, label: torch.full_like(x, 1e30))
    assert 1e28 < scores.sliced_wasserstein < math.inf
    assert 1e28 < scores.log_density_gap < math.inf
    assert 0 < scores.mmd < 2


def test_the_score_error_leaves_no_graph_behind(board):
    weight = torch.ones(1, requires_grad=True)
    seen = []

    def denoise(x, sigma, label):
        seen.append((x * weight).requires_grad)
        return x * weight

    board.judge(denoise)
    assert not any(seen)


def test_too_few_records_of_a_label_are_refused():
    target = two_labels([-1.0, 0.0], [1.0, 0.0], (0.002, 0.998))
    with pytest.raises(ConfigError, match="of label 0; raise n_generated"):
        board_of(between(target, target), n_generated=20, n_reference=20)


def test_mmd_takes_the_first_records_alone():
    reference, x = normal(1, MMD_RECORDS + 5, 2), normal(2, MMD_RECORDS + 5, 2) + 0.1
    all_of_them = KernelDiscrepancy.of(reference, 1.0).squared(x)
    first = KernelDiscrepancy.of(reference[:MMD_RECORDS], 1.0).squared(x[:MMD_RECORDS])
    assert all_of_them == first
