"""Mixtures against scipy, quadrature, autograd and their own draws."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import multivariate_normal
from torch.testing import assert_close

from ecgtransfer.errors import ConfigError
from ecgtransfer.experiments import GaussianMixture

WEIGHTS = (0.5, 0.2, 0.3)
MEANS = ((1.0, -0.5, 0.3), (-0.8, 0.4, 0.0), (0.2, 1.5, -1.0))
VARIANCES = (0.3, 0.05, 0.8)


def mixture(dimension=3, *, labelled=True, **changes):
    """Three components, the first and last of label 0."""
    parts = {
        "weights": torch.tensor(WEIGHTS, dtype=torch.float64),
        "means": torch.tensor(MEANS, dtype=torch.float64)[:, :dimension],
        "variances": torch.tensor(VARIANCES, dtype=torch.float64),
        "label_of": torch.tensor([0, 1, 0] if labelled else [0, 0, 0]),
        "labels": 2 if labelled else 0,
    }
    return GaussianMixture(**{**parts, **changes})


@pytest.fixture
def law():
    return mixture()


@pytest.fixture
def x(rng):
    return 1.5 * torch.randn(40, 3, generator=rng, dtype=torch.float64)


@pytest.fixture
def sigma():
    return torch.logspace(-2.5, 1.9, 40, dtype=torch.float64)


@pytest.fixture
def label():
    """Both labels in turn: (40, 2)."""
    return torch.eye(2, dtype=torch.float64).repeat(20, 1)


def scipy_densities(x, sigma):
    """Weighted density of each component: (B, M)."""
    return np.array(
        [
            [
                weight * multivariate_normal.pdf(point, mean, (variance + level**2) * np.eye(3))
                for weight, mean, variance in zip(WEIGHTS, MEANS, VARIANCES, strict=True)
            ]
            for point, level in zip(x.numpy(), sigma.tolist(), strict=True)
        ]
    )


def test_the_density_is_that_of_scipy(law, x, sigma):
    expected = np.log(scipy_densities(x, sigma).sum(1))
    assert_close(law.log_density(x, sigma), torch.from_numpy(expected))


def test_with_a_label_the_density_is_joint(law, x, sigma, label):
    of_component = scipy_densities(x, sigma)
    expected = np.where(
        label[:, 0] == 1, of_component[:, 0] + of_component[:, 2], of_component[:, 1]
    )
    assert_close(law.log_density(x, sigma, label), torch.from_numpy(np.log(expected)))


def test_the_joint_densities_of_all_labels_sum_to_the_density(law, x, sigma):
    each = [law.log_density(x, sigma, one.expand(40, 2)) for one in torch.eye(2)]
    assert_close(torch.logaddexp(*each), law.log_density(x, sigma))


def test_without_sigma_records_are_clean(law, x, label):
    none = torch.zeros(40, dtype=torch.float64)
    assert_close(law.log_density(x), law.log_density(x, none))
    assert_close(law.responsibilities(x, label=label), law.responsibilities(x, none, label))
    assert_close(law.score(x, None, label), law.score(x, none, label))


@pytest.mark.parametrize("level", [None, 0.05, 0.7])
def test_the_density_integrates_to_one(level):
    law = mixture(1)

    def density(at):
        sigma = None if level is None else torch.tensor([level], dtype=torch.float64)
        return float(law.log_density(torch.tensor([[at]], dtype=torch.float64), sigma).exp())

    total, error = quad(density, -9, 9, points=[-0.8, 0.2, 1.0])
    assert error < 1e-7
    assert total == pytest.approx(1, abs=1e-7)


def test_noised_density_is_the_clean_one_convolved_with_the_noise():
    law = mixture(1)
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    at, level = torch.tensor([[-1.1], [0.1], [2.0]], dtype=torch.float64), 0.4
    kernel = torch.from_numpy(multivariate_normal.pdf((at - grid).numpy().ravel(), 0, level**2))
    clean = law.log_density(grid[:, None]).exp()
    expected = (kernel.reshape(3, -1) * clean).sum(1) * (grid[1] - grid[0])
    noised = law.log_density(at, torch.full((3,), level, dtype=torch.float64)).exp()
    assert_close(noised, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_score_is_the_slope_of_the_log_density(law, x, sigma, label, labelled):
    label = label if labelled else None
    at = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(law.log_density(at, sigma, label).sum(), at)
    assert_close(law.score(x, sigma, label), slope)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_denoiser_obeys_tweedie(law, x, sigma, label, labelled):
    label = label if labelled else None
    expected = x + sigma[:, None] ** 2 * law.score(x, sigma, label)
    assert_close(law.denoise(x, sigma, label), expected, rtol=1e-9, atol=1e-11)


def test_the_denoiser_is_the_mean_of_the_clean_record_given_the_noised():
    law, level = mixture(1), 0.6
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    at = torch.tensor([[-1.1], [0.1], [2.0]], dtype=torch.float64)
    for label in (None, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])):
        prior = law.log_density(
            grid[:, None], None, None if label is None else label.expand(4001, 2)
        )
        posterior = torch.softmax(prior - (at - grid) ** 2 / (2 * level**2), 1)
        denoised = law.denoise(
            at,
            torch.full((3,), level, dtype=torch.float64),
            None if label is None else label.expand(3, 2),
        )
        assert_close(denoised, posterior @ grid[:, None], rtol=1e-9, atol=1e-9)


def test_responsibilities_are_the_shares_of_the_density(law, x, sigma, label):
    of_component = torch.from_numpy(scipy_densities(x, sigma))
    assert_close(law.responsibilities(x, sigma), of_component / of_component.sum(1, keepdim=True))
    given = law.responsibilities(x, sigma, label)
    assert_close(given.sum(1), torch.ones(40, dtype=torch.float64))
    assert bool((given[label[:, 0] == 1, 1] == 0).all())
    assert bool((given[label[:, 1] == 1, 1] == 1).all())


def test_every_answer_has_the_type_of_x(law, x, sigma, label):
    single = (x.float(), sigma.float(), label.float())
    for method in (law.denoise, law.score, law.log_density, law.responsibilities):
        answer = method(*single)
        assert answer.dtype == torch.float32
        assert answer.is_contiguous()
        assert_close(answer, method(*(part.double() for part in single)).float())


def test_draws_have_the_moments_of_the_closed_form(law, rng):
    x0, component = law.sample(200_000, rng)
    assert_close(x0.mean(0), law.mean(), atol=0.012, rtol=0)
    assert_close(x0.T.cov(), law.covariance(), atol=0.02, rtol=0)
    shares = torch.bincount(component) / len(component)
    assert_close(shares, law.weights, atol=0.006, rtol=0, check_dtype=False)
    for number in range(3):
        own = x0[component == number]
        assert_close(own.mean(0), law.means[number], atol=0.02, rtol=0)
        assert_close(own.var(0), law.variances[number].expand(3), rtol=0.03, atol=0)


def test_draws_depend_on_the_generator_alone(law):
    draws = [law.sample(5, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_labels_follow_the_components(law):
    component = torch.tensor([0, 1, 2, 1])
    expected = torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=torch.float64)
    assert_close(law.one_hot(component), expected)
    assert_close(law.label_frequencies, torch.tensor([0.8, 0.2], dtype=torch.float64))


def test_a_mixture_without_labels_has_none():
    law = mixture(labelled=False)
    assert law.one_hot(torch.tensor([0, 2])) is None
    assert law.label_frequencies.shape == (0,)


def test_scaling_changes_variables(law, x, sigma, label):
    scaled = law.scaled(2.5)
    expected = law.log_density(x, sigma, label) - 3 * math.log(2.5)
    assert_close(scaled.log_density(2.5 * x, 2.5 * sigma, label), expected)
    assert_close(scaled.covariance(), 2.5**2 * law.covariance())


def test_far_out_nothing_overflows(law):
    x = torch.full((2, 3), 1e4, dtype=torch.float64)
    sigma = torch.tensor([0.002, 80.0], dtype=torch.float64)
    assert bool(law.log_density(x, sigma).isfinite().all())
    assert bool(law.denoise(x, sigma, None).isfinite().all())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"means": torch.zeros(2, 3, dtype=torch.float64)},
            r"means \(M, d\).*got \(3,\), \(2, 3\)",
        ),
        ({"variances": torch.ones(3)}, "float64, got torch.float32, torch.float64"),
        ({"weights": torch.tensor([0.5, 0.5, 0.5], dtype=torch.float64)}, "sum 1"),
        ({"weights": torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)}, "weights above 0"),
        ({"variances": torch.tensor([0.3, 0.0, 0.1], dtype=torch.float64)}, "variances above 0"),
        ({"label_of": torch.tensor([0, 0, 0])}, "a component for each label index"),
        ({"labels": 0}, "only index 0 without labels"),
    ],
)
def test_what_is_no_mixture_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        mixture(**changes)


def test_shapes_that_would_broadcast_are_refused(law, x, sigma, label):
    with pytest.raises(ConfigError, match=r"x of shape \(B, 3\), got \(40, 2\)"):
        law.log_density(x[:, :2])
    with pytest.raises(ConfigError, match=r"each of 40 records, got shape \(40, 1\)"):
        law.denoise(x, sigma[:, None], None)
    with pytest.raises(ConfigError, match=r"labels \(40, 2\).*got \(1, 2\)"):
        law.score(x, sigma, label[:1])
    with pytest.raises(ConfigError, match="labels None in a mixture of 0 labels"):
        mixture(labelled=False).log_density(x, sigma, label)
