import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.diffusion import classifier_free, karras_sigmas, sample
from ecgtransfer.errors import ConfigError
from ecgtransfer.experiments.problems import problem
from ecgtransfer.transfer import guided, guided_at_scale
from ecgtransfer.transfer.guided import hiding_labels, log_h_gradient, noised

SIGMA = torch.logspace(-2, 1.5, 64, dtype=torch.float64)


@pytest.fixture
def x(shape, rng):
    return 2 * torch.randn(64, *shape, generator=rng)


def test_guided_source_denoiser_is_the_target_denoiser(pair, x):
    denoise = guided(pair.denoise_source, pair.log_h)
    assert_close(denoise(x, SIGMA, None), pair.denoise_target(x, SIGMA))


def draws(denoise, shape, solver="dpmpp2m"):
    """Sampler's draws from 4000 records of standard normal noise."""
    noise = torch.randn(4000, *shape, generator=torch.Generator().manual_seed(3))
    return sample(denoise, noise, None, karras_sigmas(40, 0.005, 60.0), solver)


def assert_law(x0, mean, std):
    """Mean and standard deviation of each coordinate, to five standard errors."""
    assert_close(x0.mean(0), torch.as_tensor(mean).expand(x0.shape[1:]), atol=0.1, rtol=0)
    assert_close(x0.std(0), torch.as_tensor(std).expand(x0.shape[1:]), atol=0.08, rtol=0)


@pytest.mark.parametrize("solver", ["dpmpp2m", "heun"])
def test_the_sampler_reaches_mean_and_variance_of_the_target(pair, shape, solver):
    x0 = draws(guided(pair.denoise_source, pair.log_h), shape, solver)
    assert_law(x0, pair.mean, pair.std)


def test_the_unguided_sampler_stays_at_the_source(pair, shape):
    assert_law(draws(pair.denoise_source, shape), 0.0, 1.0)


def test_the_wrong_sign_does_not_reach_the_target(pair, shape):
    x0 = draws(guided(pair.denoise_source, lambda *at: -pair.log_h(*at)), shape)
    # The first coordinate is wanted at 0.8 and driven away from it.
    assert x0.flatten(1)[:, 0].mean() < 0.0


def test_without_sigma_squared_the_target_is_not_reached(pair, shape):
    def published(x, sigma, label):
        return pair.denoise_source(x, sigma) + log_h_gradient(pair.log_h, x, sigma, label)

    with pytest.raises(AssertionError):
        assert_law(draws(published, shape), pair.mean, pair.std)


def test_weight_zero_is_the_source_denoiser_bit_for_bit(pair, x):
    denoise = guided(pair.denoise_source, pair.log_h, 0.0)
    assert torch.equal(denoise(x, SIGMA, None), pair.denoise_source(x, SIGMA))


def test_the_weight_scales_the_step_and_may_depend_on_the_noise_level(pair, x):
    source, target = pair.denoise_source(x, SIGMA), pair.denoise_target(x, SIGMA)
    by_level = guided(pair.denoise_source, pair.log_h, lambda sigma: 1 / (1 + sigma))
    part = (1 / (1 + SIGMA)).reshape(-1, 1, 1)
    assert_close(by_level(x, SIGMA, None), source + part * (target - source))
    half = guided(pair.denoise_source, pair.log_h, 0.5)
    assert_close(half(x, SIGMA, None), (source + target) / 2)


def test_log_h_is_differentiated_once_a_step(pair, x):
    calls = []

    def counted(x, sigma, label):
        calls.append(x)
        return pair.log_h(x, sigma)

    guided(pair.denoise_source, counted)(x, SIGMA, None)
    assert len(calls) == 1


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_guidance_works_where_gradients_are_off(pair, x, mode):
    expected = guided(pair.denoise_source, pair.log_h)(x, SIGMA, None)
    with mode():
        found = guided(pair.denoise_source, pair.log_h)(x + 0, SIGMA + 0, None)
    assert_close(found, expected)
    assert not found.requires_grad


def test_the_label_reaches_denoiser_and_guidance(rng):
    x, label = torch.randn(5, 2, 3, generator=rng), torch.eye(5)
    seen = []

    def denoise(x, sigma, label):
        seen.append(label)
        return x

    def log_h(x, sigma, label):
        seen.append(label)
        return (x.flatten(1).sum(1)) * label[:, 0]

    out = guided(denoise, log_h)(x, torch.full((5,), 2.0), label)
    assert all(torch.equal(one, label) for one in seen)
    assert len(seen) == 2
    # Slope 1 on the record whose label says so, times sigma^2; none on the others.
    assert_close(out[0], x[0] + 4)
    assert_close(out[1:], x[1:])


def test_classifier_free_guidance_is_independent_of_the_transfer(pair, x):
    def by_label(x, sigma, label):
        return pair.denoise_source(x, sigma) + (0 if label is None else 0.1)

    before = guided(classifier_free(by_label, 3.0), pair.log_h)
    after = classifier_free(guided(by_label, pair.log_h), 3.0)
    label = torch.ones(64, 1)
    assert_close(before(x, SIGMA, label), after(x, SIGMA, label))
    assert_close(before(x, SIGMA, label), pair.denoise_target(x, SIGMA) + 0.3)


def test_slope_of_log_h_agrees_with_finite_differences(pair, shape, rng):
    x = torch.randn(3, *shape, generator=rng, requires_grad=True)
    sigma = torch.tensor([0.1, 1.0, 5.0])
    assert torch.autograd.gradcheck(lambda point: pair.log_h(point, sigma), x)
    step = 1e-6
    direction = torch.randn(3, *shape, generator=rng)
    numerical = pair.log_h(x + step * direction, sigma) - pair.log_h(x - step * direction, sigma)
    found = (log_h_gradient(pair.log_h, x, sigma, None) * direction).flatten(1).sum(1)
    assert_close(found, (numerical / (2 * step)).detach(), atol=1e-7, rtol=1e-6)


def test_a_column_of_log_h_is_refused_instead_of_broadcast(pair, x):
    denoise = guided(pair.denoise_source, lambda *at: pair.log_h(*at)[:, None])
    with pytest.raises(ConfigError, match=r"log_h to be one number per record.*\(64, 1\)"):
        denoise(x, SIGMA, None)


def test_a_weight_of_another_shape_is_refused(pair, x):
    denoise = guided(pair.denoise_source, pair.log_h, lambda sigma: sigma[:, None])
    with pytest.raises(ConfigError, match="guidance weight to be one number per record"):
        denoise(x, SIGMA, None)


def test_noise_of_another_shape_is_refused(x):
    with pytest.raises(ConfigError, match="noise of the shape of x0"):
        noised(x, SIGMA, x[:1])
    with pytest.raises(ConfigError, match="sigma to be one number per record"):
        noised(x, SIGMA[:, None], x)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0, 3.5])
def test_the_exact_log_h_at_a_label_scale_is_the_exact_target_at_that_scale(scale, rng):
    laws = problem("conditional")
    x0, component = laws.target.sample(64, rng)
    label = laws.target.one_hot(component)
    x = x0 + SIGMA[:, None] * torch.randn(x0.shape, generator=rng)
    expected = classifier_free(laws.target.denoise, scale)(x, SIGMA, label)
    found = guided_at_scale(laws.source.denoise, laws.log_h, scale)
    assert_close(found(x, SIGMA, label), expected)
    # The source's labels amplified and log h added once is another law, but at scale 1.
    once = guided(classifier_free(laws.source.denoise, scale), laws.log_h)(x, SIGMA, label)
    assert torch.allclose(once, expected, atol=0.02) == (scale == 1.0)


def test_at_a_label_scale_the_sampler_reaches_the_law_of_the_exact_target(rng):
    laws, n = problem("conditional"), 2000
    label = torch.eye(3)[torch.zeros(n, dtype=torch.long)]
    noise = torch.randn(n, 2, generator=rng)
    sigmas = karras_sigmas(20, 0.02, 20.0)
    wanted, found = (
        sample(denoise, noise, label, sigmas)
        for denoise in (
            classifier_free(laws.target.denoise, 2.0),
            guided_at_scale(laws.source.denoise, laws.log_h, 2.0),
        )
    )
    assert_close(found, wanted, atol=1e-6, rtol=0)


def test_each_branch_is_followed_by_its_own_weight(rng):
    laws = problem("conditional")
    x0, component = laws.target.sample(64, rng)
    x, label = x0 + SIGMA[:, None], laws.target.one_hot(component)
    denoise = guided_at_scale(laws.source.denoise, laws.log_h, 2.0, 0.3, 0.8)
    labelled = guided(laws.source.denoise, laws.log_h, 0.3)(x, SIGMA, label)
    unlabelled = guided(laws.source.denoise, laws.log_h, 0.8)(x, SIGMA, None)
    assert_close(denoise(x, SIGMA, label), 2 * labelled - unlabelled)
    same = guided_at_scale(laws.source.denoise, laws.log_h, 2.0, 0.3)
    unlabelled = guided(laws.source.denoise, laws.log_h, 0.3)(x, SIGMA, None)
    assert_close(same(x, SIGMA, label), 2 * labelled - unlabelled)


@pytest.mark.parametrize("hidden", [[0, 1, 0, 0, 1], [0] * 5, [1] * 5])
def test_hidden_labels_are_no_labels_for_these_records_alone(hidden, rng):
    laws, hidden = problem("conditional"), torch.tensor(hidden).bool()
    x, sigma = torch.randn(5, 2, generator=rng), torch.rand(5, generator=rng) + 0.1
    label = torch.eye(3)[[0, 1, 2, 0, 1]]
    for function in (laws.log_h, laws.target.denoise):
        both = function(x, sigma, label), function(x, sigma, None)
        expected = torch.where(hidden.reshape(-1, *[1] * (both[0].ndim - 1)), both[1], both[0])
        assert_close(hiding_labels(function, hidden)(x, sigma, label), expected)
        assert_close(hiding_labels(function, hidden)(x, sigma, None), both[1])
