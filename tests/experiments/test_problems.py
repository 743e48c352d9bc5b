"""Each problem against quadrature, Monte Carlo and what its description promises."""

import math

import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.errors import ConfigError
from ecgtransfer.experiments import PROBLEMS, Problem, problem
from ecgtransfer.transfer import guided

every_problem = pytest.mark.parametrize("name", list(PROBLEMS))


def labels_of(law, x0):
    """One-hot labels for records, each label in turn, or None where there are none."""
    if not law.labels:
        return None
    return law.one_hot(torch.arange(len(x0)) % len(law.weights))


def plane(of, half_width=9.0, points=401):
    """Grid over the first two coordinates, (N, d), the others 0, and the area of a cell.

    For smooth densities that vanish at the border the plain sum is exact to rounding.
    """
    axis = torch.linspace(-half_width, half_width, points, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    grid = torch.nn.functional.pad(grid, (0, of.dimension - 2))
    return grid, float(axis[1] - axis[0]) ** 2


def every_label(of, grid):
    """Constant labels over the grid, or None alone."""
    if not of.labels:
        return [None]
    return [one.expand(len(grid), of.labels) for one in torch.eye(of.labels, dtype=torch.float64)]


def mean_over_source(of, function):
    """E_p[function(log r)], over the plane and the labels; further coordinates do not matter."""
    grid, cell = plane(of)
    # Where they are 0, further coordinates have this density in both domains.
    variance = float(of.source.variances[0])
    beyond = -(of.dimension - 2) / 2 * math.log(2 * math.pi * variance)
    total = 0.0
    for label in every_label(of, grid):
        log_p = of.source.log_density(grid, label=label) - beyond
        total += float((log_p + function(of.log_ratio(grid, label))).exp().sum()) * cell
    return total


@every_problem
def test_guided_source_denoiser_is_the_target_denoiser(name, rng):
    of = problem(name)
    x = 1.5 * torch.randn(60, of.dimension, generator=rng, dtype=torch.float64)
    sigma = torch.logspace(-2.5, 1.9, 60, dtype=torch.float64)
    for label in {None, labels_of(of.target, x)}:
        denoise = guided(of.source.denoise, of.log_h)
        expected = of.target.denoise(x, sigma, label)
        assert_close(denoise(x, sigma, label), expected, rtol=1e-8, atol=1e-10)
        # And the guidance has something to do.
        unguided = of.source.denoise(x, sigma, label)
        assert float((unguided - expected).abs().max()) > 0.3


@every_problem
def test_log_h_is_the_log_of_the_mean_ratio_given_the_noised_record(name):
    of = problem(name)
    grid, _ = plane(of)
    x = 0.3 * of.source.means[0] + 0.2 * of.target.means[0]
    sigma = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)
    for label in every_label(of, grid):
        prior = of.source.log_density(grid, label=label)
        closeness = (x - grid).square().sum(1) / (2 * sigma[:, None] ** 2)
        posterior = torch.softmax(prior - closeness, 1)
        expected = (posterior @ of.log_ratio(grid, label).exp()).log()
        log_h = of.log_h(x.expand(3, -1), sigma, None if label is None else label[:3])
        assert_close(log_h, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["paper", "unequal", "new-mode", "conditional", "paper-8"])
def test_log_h_is_what_draws_of_the_source_average_to(name, rng):
    of = problem(name)
    x0, component = of.source.sample(200_000, rng)
    label = of.source.one_hot(component)
    ratio = of.log_ratio(x0, label).exp()
    level = torch.tensor([1.0], dtype=torch.float64)
    # Between the domains, where the mean is neither 0 nor 1; coordinates beyond the plane do
    # not matter to the ratio, so records need not be near x in them.
    x = 0.5 * (of.source.means[0] + of.target.means[0])[None]
    rows = torch.ones(len(x0), dtype=torch.bool) if label is None else label[:, 0] == 1
    weight = torch.softmax(-(x0[rows, :2] - x[0, :2]).square().sum(1) / (2 * level**2), 0)
    estimate = weight @ ratio[rows]
    error = (weight.square() @ (ratio[rows] - estimate).square()).sqrt()
    expected = of.log_h(x, level, None if label is None else label[rows][:1]).exp()[0]
    assert error < 0.05 * estimate
    assert abs(estimate - expected) < 4 * error


@every_problem
def test_the_mean_ratio_over_the_source_is_one(name):
    assert mean_over_source(problem(name), lambda f: f) == pytest.approx(1, abs=1e-9)


@every_problem
def test_model_units_make_the_source_one_wide(name):
    of = problem(name)
    assert float(of.source.covariance().diagonal().mean()) == pytest.approx(1)
    assert of.n_source == 10_000
    assert of.name == name
    assert of.title.endswith(".")
    assert of.title.count(".") == 1


@every_problem
def test_log_h_starts_at_the_log_ratio_and_ends_flat(name, rng):
    of = problem(name)
    x = torch.randn(20, of.dimension, generator=rng, dtype=torch.float64)
    label = labels_of(of.target, x)
    clean = torch.zeros(20, dtype=torch.float64)
    assert_close(of.log_h(x, clean, label), of.log_ratio(x, label))
    flat = of.log_h(x, torch.full((20,), 1e4, dtype=torch.float64), label)
    frequencies = of.target.label_frequencies.log() - of.source.label_frequencies.log()
    expected = torch.zeros(20, dtype=torch.float64) if label is None else label @ frequencies
    assert_close(flat, expected, atol=1e-3, rtol=0)


def test_log_h_is_precise_in_float32_under_much_noise():
    of = problem("paper")
    x = 80 * torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    sigma = torch.full((50,), 80.0)
    single = of.log_h(x, sigma, None)
    assert single.dtype == torch.float32
    assert_close(single, of.log_h(x.double(), sigma.double(), None).float(), rtol=1e-6, atol=0)
    at = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(of.log_h(at, sigma, None).sum(), at)
    assert slope.dtype == torch.float32


@pytest.mark.parametrize("name", ["paper", "paper-8", "paper-32"])
def test_the_paper_leaves_two_dozen_of_ten_thousand_source_records(name):
    """Along a = x1 + x2 and b = x1 - x2, r = cosh(5b) / cosh(5a) with a, b independent under p.

    E_p[cosh(5b)^2] = (1 + e^10) / 2, and E_p[1 / cosh(5a)^2] is one integral.
    """
    a = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
    normal = (-(a**2) / 0.4).exp() / math.sqrt(0.4 * math.pi)
    along = math.exp(-2.5) * float((normal / torch.cosh(5 * a)).sum() * (a[1] - a[0]))
    expected = (1 + math.exp(10)) / 2 * along
    assert mean_over_source(problem(name), lambda f: 2 * f) == pytest.approx(expected, rel=1e-6)
    assert 10_000 / expected == pytest.approx(24, abs=1)


def test_one_mode_of_the_paper_against_another_has_a_squared_ratio_of_exp_10():
    of = problem("paper")
    between = (of.source.means[0] - of.target.means[0]).square().sum() / of.source.variances[0]
    assert float(between) == pytest.approx(10)


def test_the_paper_is_in_the_papers_own_units():
    of = problem("paper")
    own = of.scale * of.source.means, of.scale * of.target.means
    assert_close(own[0], torch.tensor([[0.5, 0.5], [-0.5, -0.5]], dtype=torch.float64))
    assert_close(own[1], torch.tensor([[0.5, -0.5], [-0.5, 0.5]], dtype=torch.float64))
    assert_close(of.scale**2 * of.target.variances, torch.full((2,), 0.1, dtype=torch.float64))


@pytest.mark.parametrize("dimension", [8, 32])
def test_more_dimensions_keep_the_papers_shift(dimension, rng):
    plain, wide = problem("paper"), problem(f"paper-{dimension}")
    assert wide.dimension == dimension
    x = torch.randn(30, dimension, generator=rng, dtype=torch.float64)
    in_plane = wide.scale / plain.scale * x[:, :2]
    assert_close(wide.log_ratio(x, None), plain.log_ratio(in_plane, None))


def test_unequal_differs_in_all_and_leaves_a_thousand_records():
    of = problem("unequal")
    for part in ("weights", "means", "variances"):
        source, target = getattr(of.source, part), getattr(of.target, part)
        assert float((source - target).abs().max()) > 0.05
        assert len(source.unique()) > 1
    assert 10_000 / mean_over_source(of, lambda f: 2 * f) == pytest.approx(1250, rel=0.02)


def test_separated_has_ratios_beyond_ten_thousand_and_finite(rng):
    of = problem("separated")
    log_ratio = of.log_ratio(of.target.sample(10_000, rng)[0], None)
    assert bool(log_ratio.isfinite().all())
    beyond = float((log_ratio > math.log(1e4)).double().mean())
    assert beyond == pytest.approx(0.5, abs=0.03)
    assert float((of.log_ratio(of.source.sample(10_000, rng)[0], None) > math.log(1e4)).sum()) < 4
    deviation = float(of.source.variances[0].sqrt())
    across = torch.cdist(of.source.means, of.target.means) / deviation
    assert_close(across.amin(0), torch.full((4,), 5.0, dtype=torch.float64))
    for law in (of.source, of.target):
        assert float(torch.pdist(law.means).min()) / deviation > 7


def test_the_new_mode_holds_a_thousandth_of_the_source(rng):
    of = problem("new-mode")
    new = of.target.means[2]
    reach = 4 * float(of.target.variances[2].sqrt())
    shares = []
    for law in (of.source, of.target):
        near = (law.sample(400_000, rng)[0] - new).square().sum(1).sqrt() < reach
        shares.append(float(near.double().mean()))
    assert shares[0] == pytest.approx(1e-3, abs=2.5e-4)
    assert shares[1] == pytest.approx(0.3, abs=0.005)
    at_modes = of.log_ratio(of.target.means, None).exp()
    expected = torch.tensor([0.35 / 0.4995, 0.35 / 0.4995, 300.0], dtype=torch.float64)
    assert_close(at_modes, expected, rtol=1e-6, atol=0)


def test_conditional_changes_label_frequencies_and_the_law_of_every_label():
    of = problem("conditional")
    assert of.labels == 3
    expected = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]], dtype=torch.float64)
    assert_close(of.source.label_frequencies, expected[0])
    assert_close(of.target.label_frequencies, expected[1])
    grid, cell = plane(of)
    for number, label in enumerate(every_label(of, grid)):
        laws = [
            law.log_density(grid, label=label).exp() / law.label_frequencies[number]
            for law in (of.source, of.target)
        ]
        assert [float(law.sum()) * cell for law in laws] == pytest.approx([1, 1], abs=1e-9)
        total_variation = float((laws[0] - laws[1]).abs().sum()) * cell / 2
        assert 0.4 < total_variation < 0.95


def test_the_label_says_what_x_does_not(rng):
    of = problem("conditional")
    x0, component = of.target.sample(2000, rng)
    label = of.target.one_hot(component)
    sigma = torch.full((2000,), 0.5, dtype=torch.float64)
    apart = of.log_h(x0, sigma, label) - of.log_h(x0, sigma, None)
    assert float(apart.std()) > 0.1


def test_an_unknown_problem_is_refused_with_the_names_of_all():
    with pytest.raises(ConfigError, match=r"'papre'; expected one of paper, unequal, separated"):
        problem("papre")


def test_mixtures_that_do_not_match_are_refused():
    plain, wide, labelled = (problem(name) for name in ("paper", "paper-8", "conditional"))
    with pytest.raises(ConfigError, match=r"equal dimension and labels, got \(2, 0\) and \(8, 0\)"):
        Problem("x", "X.", plain.source, wide.target, 1.0)
    with pytest.raises(ConfigError, match=r"got \(2, 0\) and \(2, 3\)"):
        Problem("x", "X.", plain.source, labelled.target, 1.0)
    with pytest.raises(ConfigError, match="scale above 0, got 0"):
        Problem("x", "X.", plain.source, plain.target, 0.0)
