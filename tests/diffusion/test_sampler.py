import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.diffusion import karras_sigmas, per_record, sample
from ecgtransfer.errors import ConfigError

MEAN, SPREAD = 1.5, 0.4


def gaussian(x, sigma, label):
    """Exact denoiser of N(MEAN, SPREAD^2)."""
    variance = per_record(sigma, x) ** 2
    return (SPREAD**2 * x + variance * MEAN) / (SPREAD**2 + variance)


def exact_end(noise, sigma_max):
    """Where the probability flow of the Gaussian takes sigma_max * noise, in closed form."""
    at_top = math.sqrt(SPREAD**2 + sigma_max**2)
    return MEAN + SPREAD / at_top * (noise * sigma_max - MEAN)


@pytest.mark.parametrize("solver", ["adams", "dpmpp2m", "heun"])
def test_the_sampler_reaches_mean_and_spread_of_the_law(solver, rng):
    noise = torch.randn(20_000, 1, 1, generator=rng, dtype=torch.float64)
    x0 = sample(gaussian, noise, None, karras_sigmas(200, 1e-3, 100.0), solver)
    assert abs(x0.mean().item() - MEAN) < 0.02
    assert abs(x0.std().item() - SPREAD) < 0.01


@pytest.mark.parametrize(("solver", "order"), [("adams", 3), ("dpmpp2m", 2), ("heun", 2)])
def test_the_error_falls_with_the_order_of_the_solver(solver, order):
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(-1, 1, 1)
    counts = [32, 64, 128, 256]
    errors = []
    for steps in counts:
        sigmas = karras_sigmas(steps, 1e-3, 20.0)
        end = sample(gaussian, noise, None, sigmas, solver)
        # the last step, to sigma = 0, is one denoising: its error is of the order of sigma_min
        errors.append((end - exact_end(noise, 20.0)).abs().max().item())
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert order - 0.3 < -slope < order + 0.6


def test_the_solvers_agree_in_the_limit():
    noise = torch.linspace(-2, 2, 5, dtype=torch.float64).reshape(-1, 1, 1)
    sigmas = karras_sigmas(400, 1e-3, 20.0)
    first, *others = (
        sample(gaussian, noise, None, sigmas, solver) for solver in ("adams", "dpmpp2m", "heun")
    )
    for other in others:
        assert_close(first, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("solver", "calls"), [("adams", 7), ("dpmpp2m", 7), ("heun", 13)])
def test_a_record_costs_as_many_calls_as_is_said(solver, calls):
    asked = []

    def counting(x, sigma, label):
        asked.append(float(sigma[0]))
        return gaussian(x, sigma, label)

    sample(counting, torch.zeros(1, 1, 1), None, karras_sigmas(7, 0.1, 1.0), solver)
    assert len(asked) == calls


def test_the_label_reaches_the_denoiser():
    seen = []

    def remember(x, sigma, label):
        seen.append(label)
        return x

    label = torch.eye(2)
    sample(remember, torch.zeros(2, 8, 4), label, karras_sigmas(2, 0.1, 1.0))
    assert all(told is label for told in seen)


def test_an_unknown_solver_is_refused():
    with pytest.raises(ConfigError, match="expected a solver of adams, dpmpp2m, heun, got 'euler'"):
        sample(gaussian, torch.zeros(1, 1, 1), None, karras_sigmas(2, 0.1, 1.0), "euler")


@pytest.mark.parametrize(
    "sigmas", [[1.0, 0.5], [0.5, 1.0, 0.0], [0.0], [1.0, 1.0, 0.0], [float("nan"), 0.0]]
)
def test_levels_that_do_not_fall_to_zero_are_refused(sigmas):
    with pytest.raises(ConfigError, match="falling noise levels that end in 0"):
        sample(gaussian, torch.zeros(1, 1, 1), None, torch.tensor(sigmas))
