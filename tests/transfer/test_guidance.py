import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from ecgtransfer.diffusion import denoising_loss
from ecgtransfer.errors import ConfigError
from ecgtransfer.transfer import (
    GuidanceConfig,
    GuidanceNetwork,
    clip_log_ratio,
    consistency_loss,
    cycle_loss,
    guidance_loss,
    noised_classification_loss,
    sobolev_penalty,
)
from tests.gaussian import GaussianPair

FORMS = ["mse", "kl", "logistic"]
PAIRS = [GaussianPair(0.8, 0.6), GaussianPair(-0.5, 1.3)]
NOISE_LEVELS = [0.1, 1.0, 4.0]


def source_records_behind(x, sigma, nodes=80):
    """Every source record that may hide behind one x, with its probability (Gauss-Hermite).

    p(x0 given x) = N(x / (1 + sigma^2), sigma^2 / (1 + sigma^2)).
    """
    node, mass = np.polynomial.hermite_e.hermegauss(nodes)
    x0 = x / (1 + sigma**2) + sigma / math.sqrt(1 + sigma**2) * torch.tensor(node)
    return x0.reshape(-1, 1, 1), torch.tensor(mass / mass.sum())


def expected_loss(pair, f, x, sigma, form):
    """E_p[guidance loss given x], with log h a number f that is free."""
    x0, mass = source_records_behind(x, sigma)
    noise, level = (x - x0) / sigma, torch.full((len(x0),), sigma)
    log_h = lambda x, sigma, label: f.expand(len(x))  # noqa: E731
    return (mass * guidance_loss(log_h, x0, None, pair.log_ratio(x0), level, noise, form)).sum()


@pytest.mark.parametrize("pair", PAIRS, ids=["narrower", "wider"])
@pytest.mark.parametrize("sigma", NOISE_LEVELS)
@pytest.mark.parametrize("form", FORMS)
def test_guidance_loss_has_its_minimum_at_the_expected_ratio(pair, sigma, form):
    for x in (-1.5, 0.0, 2.0):
        exact = pair.log_h(torch.tensor([[[x]]]), torch.tensor([sigma]))[0]
        f = exact.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(expected_loss(pair, f, x, sigma, form), f)
        assert_close(gradient, torch.zeros(()), atol=1e-9, rtol=0)
        here = expected_loss(pair, exact, x, sigma, form)
        for step in (-0.3, 0.3):
            assert expected_loss(pair, exact + step, x, sigma, form) > here


@pytest.mark.parametrize("pair", PAIRS, ids=["narrower", "wider"])
@pytest.mark.parametrize("form", FORMS)
def test_the_mean_of_the_log_ratio_is_not_a_minimum(pair, form):
    x, sigma = 0.5, 1.0
    x0, mass = source_records_behind(x, sigma)
    regression = (mass * pair.log_ratio(x0)).sum()
    exact = pair.log_h(torch.tensor([[[x]]]), torch.tensor([sigma]))[0]
    assert regression < exact - 0.02  # Jensen: E[log r] < log E[r].
    f = regression.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(expected_loss(pair, f, x, sigma, form), f)
    assert gradient < -1e-4  # The loss asks for a larger f.


class Quadratic(torch.nn.Module):
    """a x^2 + b x + c: the family that the log h of a Gaussian pair is in."""

    def __init__(self):
        super().__init__()
        self.coefficients = torch.nn.Parameter(torch.zeros(3))

    def forward(self, x, sigma, label):
        flat = x.flatten(1)[:, 0]
        return torch.stack([flat**2, flat, torch.ones_like(flat)], 1) @ self.coefficients


def fitted(loss):
    """Quadratic log h with the least mean loss (L-BFGS)."""
    log_h = Quadratic()
    optimiser = torch.optim.LBFGS(log_h.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        value = loss(log_h).mean()
        value.backward()
        return value

    optimiser.step(closure)
    return log_h


def assert_is_log_h_of(log_h, pair, sigma):
    x = torch.linspace(-1, 2, 7).reshape(-1, 1, 1)
    level = torch.full((7,), sigma)
    assert_close(log_h(x, level, None), pair.log_h(x, level), atol=0.12, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_fitted_guidance_is_log_h_and_not_the_ratio_itself(form, rng):
    pair, sigma = PAIRS[0], 0.7
    x0 = pair.draw_source((40_000, 1, 1), rng)
    noise = torch.randn(x0.shape, generator=rng)
    level = torch.full((len(x0),), sigma)
    log_h = fitted(lambda f: guidance_loss(f, x0, None, pair.log_ratio(x0), level, noise, form))
    assert_is_log_h_of(log_h, pair, sigma)
    assert abs(log_h.coefficients[0] - (1 - 1 / pair.std**2) / 2) > 0.4  # Not log r.


@pytest.mark.parametrize("resampled", [0.0, 0.5, 1.0])
def test_classification_of_noised_records_learns_log_h_from_either_kind_of_positive(resampled, rng):
    pair, sigma, n = PAIRS[0], 0.7, 40_000
    x0 = pair.draw_source((2 * n, 1, 1), rng)
    drawn = torch.multinomial(pair.log_ratio(x0).exp(), n, True, generator=rng)
    drawn = drawn[: int(resampled * n)]
    positives = torch.cat([x0[drawn], pair.draw_target((n - len(drawn), 1, 1), rng)])
    both = torch.cat([x0[:n], positives])
    is_target = torch.arange(2 * n) >= n
    noise, level = torch.randn(both.shape, generator=rng), torch.full((2 * n,), sigma)
    log_h = fitted(lambda f: noised_classification_loss(f, both, None, is_target, level, noise))
    assert_is_log_h_of(log_h, pair, sigma)


def test_the_logistic_form_has_a_bounded_gradient_where_the_others_have_none():
    f = torch.tensor([-800.0, -3.0, 0.0, 3.0, 800.0], requires_grad=True)
    log_ratio = torch.tensor([2.0, 1.0, 0.0, -5.0, -math.inf])
    x0 = torch.zeros(5, 1, 1)
    loss = guidance_loss(lambda *_: f, x0, None, log_ratio, torch.ones(5), x0)
    (gradient,) = torch.autograd.grad(loss.sum(), f)
    assert loss.isfinite().all()
    assert ((gradient >= -log_ratio.exp()) & (gradient <= 1)).all()


def test_a_ratio_of_zero_is_a_plain_negative():
    f, x0 = torch.tensor([1.7]), torch.zeros(1, 1, 1)
    loss = guidance_loss(lambda *_: f, x0, None, torch.tensor([-math.inf]), torch.ones(1), x0)
    assert_close(loss, F.softplus(f))


def test_the_log_ratio_is_confined_only_where_it_is_asked_to_be(rng):
    # A softmax on top of a sigmoid confines log r to [-1, 1]; here nothing but the clip does.
    log_ratio = torch.tensor([-30.0, -1.0, 0.0, 2.0, 30.0])
    f = log_ratio.clone().requires_grad_()
    x0 = torch.zeros(5, 1, 1)
    loss = guidance_loss(lambda *_: f, x0, None, log_ratio, torch.ones(5), x0, "kl")
    (gradient,) = torch.autograd.grad(loss.sum(), f)
    assert_close(gradient / log_ratio.exp(), torch.zeros(5))
    assert_close(clip_log_ratio(log_ratio, 10), torch.tensor([-10.0, -1.0, 0.0, 2.0, 10.0]))


def test_cycle_loss_is_zero_at_the_classifier_and_grows_linearly_far_from_it(pair, shape, rng):
    x0 = pair.draw_target((32, *shape), rng)
    noise, sigma = torch.randn(x0.shape, generator=rng), torch.rand(32, generator=rng) + 0.1

    def off_by(gap):
        return cycle_loss(lambda *at: pair.log_h(*at) + gap, x0, None, pair.log_h, sigma, noise)

    assert_close(off_by(0.0), torch.zeros(32))
    assert_close(off_by(0.2), torch.full((32,), 0.02))
    assert_close(off_by(-50.0), torch.full((32,), 49.5))


def test_consistency_loss_of_the_exact_guidance_is_the_denoising_loss_of_the_target(
    pair, shape, rng
):
    x0 = pair.draw_target((64, *shape), rng)
    noise, sigma = torch.randn(x0.shape, generator=rng), torch.rand(64, generator=rng) + 0.1
    exact = consistency_loss(pair.denoise_source, pair.log_h, x0, None, sigma, noise)
    assert exact.shape == (64,)
    assert_close(exact, denoising_loss(pair.denoise_target, x0, None, sigma, noise))


def test_consistency_loss_has_its_minimum_at_the_exact_log_h(rng):
    pair, sigma = PAIRS[0], 0.7
    x0 = pair.draw_target((40_000, 1, 1), rng)
    noise, level = torch.randn(x0.shape, generator=rng), torch.full((len(x0),), sigma)
    log_h = fitted(lambda f: consistency_loss(pair.denoise_source, f, x0, None, level, noise))
    # Up to the constant, which has no slope.
    difference = log_h(x0[:9], level[:9], None) - pair.log_h(x0[:9], level[:9])
    assert_close(difference, difference.mean().expand(9), atol=0.1, rtol=0)


def test_sobolev_penalty_is_the_squared_slope_of_each_record(rng):
    x0 = torch.randn(4, 2, 3, generator=rng)
    found = sobolev_penalty(
        lambda x, sigma, label: 3 * x.flatten(1).sum(1), x0, None, torch.ones(4), x0
    )
    assert_close(found, torch.full((4,), 9.0 * 6))


class LinearDenoiser(torch.nn.Module):
    """A denoiser with a parameter, to see whether it stays where it is."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x, sigma, label):
        return self.gain * x


@pytest.fixture
def network(rng):
    """A small guidance network away from its zero start."""
    network = GuidanceNetwork(
        GuidanceConfig(labels=3, leads=2, fold=2, width=4, dilations=(1, 2), conditioning=6)
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
    return network


@pytest.fixture
def batch(rng):
    """x0, label, sigma, noise of six records."""
    label = (torch.rand(6, 3, generator=rng) < 0.5).double()
    return (
        torch.randn(6, 2, 8, generator=rng),
        label,
        0.2 + torch.rand(6, generator=rng),
        torch.randn(6, 2, 8, generator=rng),
    )


def moved(module):
    return {
        name
        for name, parameter in module.named_parameters()
        if parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
    }


def names(module):
    return {name for name, _ in module.named_parameters()}


#: The embedding of a missing label; no record of `batch` misses its label.
UNUSED = {"conditioning.no_label"}
#: A constant in log h has no slope.
SLOPELESS = {"constant.weight", "constant.bias"}


@pytest.mark.parametrize("form", FORMS)
def test_guidance_loss_trains_the_guidance_network_only(network, batch, form):
    x0, label, sigma, noise = batch
    log_ratio = torch.linspace(-1, 1, 6).requires_grad_()
    guidance_loss(network, x0, label, log_ratio, sigma, noise, form).mean().backward()
    assert moved(network) == names(network) - UNUSED
    assert log_ratio.grad is None


def test_classification_loss_trains_the_guidance_network(network, batch):
    x0, label, sigma, noise = batch
    is_target = torch.arange(6) > 2
    noised_classification_loss(network, x0, label, is_target, sigma, noise).mean().backward()
    assert moved(network) == names(network) - UNUSED


def test_cycle_loss_trains_the_guidance_network_and_not_the_classifier(network, batch):
    x0, label, sigma, noise = batch
    classifier = GuidanceNetwork(network.config)
    torch.nn.init.ones_(classifier.constant.bias)
    cycle_loss(network, x0, label, classifier, sigma, noise).mean().backward()
    assert moved(network) == names(network) - UNUSED
    assert moved(classifier) == set()


def test_consistency_loss_trains_the_guidance_network_only(network, batch):
    x0, label, sigma, noise = batch
    denoiser = LinearDenoiser()
    consistency_loss(denoiser, network, x0, label, sigma, noise).mean().backward()
    assert moved(network) == names(network) - UNUSED - SLOPELESS
    assert moved(denoiser) == set()


def test_consistency_gradient_is_the_derivative_of_the_consistency_loss(network, batch):
    # Without create_graph the loss would have a value and no gradient.
    x0, label, sigma, noise = batch
    weight = network.field.weight

    def value():
        return consistency_loss(LinearDenoiser(), network, x0, label, sigma, noise).mean()

    (gradient,) = torch.autograd.grad(value(), weight)
    step = 1e-5 * gradient / gradient.norm()
    with torch.no_grad():
        weight += step
        above = value()
        weight -= 2 * step
        below = value()
    assert_close((above - below) / 2e-5, gradient.norm(), rtol=1e-6, atol=0)


def test_sobolev_penalty_trains_the_guidance_network(network, batch):
    x0, label, sigma, noise = batch
    sobolev_penalty(network, x0, label, sigma, noise).mean().backward()
    assert moved(network) == names(network) - UNUSED - SLOPELESS


def test_slope_losses_keep_no_graph_where_gradients_are_off(network, batch):
    x0, label, sigma, noise = batch
    with torch.no_grad():
        found = consistency_loss(LinearDenoiser(), network, x0, label, sigma, noise)
    assert not found.requires_grad
    expected = consistency_loss(LinearDenoiser(), network, x0, label, sigma, noise)
    assert_close(found, expected.detach())


def column(x, sigma, label):
    return x.flatten(1).sum(1, keepdim=True)


def row(x, sigma, label):
    return x.flatten(1).sum(1)


def losses(log_h, log_ratio, noisy):
    x0 = torch.zeros(6, 1, 2)
    at = (torch.ones(6), x0)
    return [
        lambda: guidance_loss(log_h, x0, None, log_ratio, *at),
        lambda: cycle_loss(log_h, x0, None, noisy, *at),
        lambda: consistency_loss(lambda x, *_: x, log_h, x0, None, *at),
        lambda: sobolev_penalty(log_h, x0, None, *at),
        lambda: noised_classification_loss(log_h, x0, None, log_ratio > 0, *at),
    ]


@pytest.mark.parametrize("which", range(5))
def test_a_column_of_log_h_is_refused_by_every_loss(which):
    # (B, 1) - (B,) would broadcast to (B, B), whose minimiser is the batch mean.
    assert losses(row, torch.zeros(6), row)[which]().shape == (6,)
    with pytest.raises(ConfigError, match=r"log_h to be one number per record.*\(6, 1\)"):
        losses(column, torch.zeros(6), row)[which]()


def test_a_column_on_the_other_side_is_refused_too():
    with pytest.raises(ConfigError, match=r"log_ratio to be one number per record.*\(6, 1\)"):
        losses(row, torch.zeros(6, 1), row)[0]()
    with pytest.raises(ConfigError, match=r"noisy_log_ratio to be one number per record.*\(6, 1\)"):
        losses(row, torch.zeros(6), column)[1]()
    with pytest.raises(ConfigError, match=r"is_target to be one number per record.*\(6, 1\)"):
        losses(row, torch.zeros(6, 1), row)[4]()


def test_an_unknown_form_is_refused():
    x0 = torch.zeros(2, 1, 1)
    with pytest.raises(ConfigError, match="mse, kl or logistic, got 'log'"):
        guidance_loss(row, x0, None, torch.zeros(2), torch.ones(2), x0, "log")


def test_a_clip_that_is_not_above_zero_is_refused():
    with pytest.raises(ConfigError, match="limit of the log-ratio above 0"):
        clip_log_ratio(torch.zeros(2), 0.0)
