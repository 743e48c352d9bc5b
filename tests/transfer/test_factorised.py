"""The theorem on a factorised record: q(x, b | y) = q(b | y) q(x | b, y), each factor by itself.

A discrete variable b stands for beats and beat shape. The closed forms are those of a Gaussian pair
for each of its values.
"""

import math
from dataclasses import replace

import torch
from torch.testing import assert_close

from ecgtransfer.diffusion import Condition, denoising_loss
from ecgtransfer.transfer import consistency_loss, guided
from tests.gaussian import GaussianPair

PAIRS = (GaussianPair(mean=0.8, std=0.6), GaussianPair(mean=-1.1, std=1.4))
#: Laws of b under source and target.
P_B, Q_B = (0.7, 0.3), (0.2, 0.8)


def given(values):
    """Records conditioned on b, which stands where a layout would."""
    return Condition(layout=torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1))


def by_value(name):
    """A function of (x, sigma, condition) that follows the pair of each record's b."""

    def follow(x, sigma, condition):
        value = condition.layout[:, 0, 0]
        each = [getattr(pair, name)(x, sigma, None) for pair in PAIRS]
        chosen = value.reshape([-1] + [1] * (each[0].ndim - 1)) > 0
        return torch.where(chosen, each[1], each[0])

    return follow


def joint_log_h(x, sigma, condition):
    """log E_p[r(x0, b) | x, sigma, b] of the joint ratio r = q(x0, b) / p(x0, b)."""
    shift = torch.tensor([math.log(q / p) for p, q in zip(P_B, Q_B, strict=True)])
    return by_value("log_h")(x, sigma, condition) + shift.to(x)[condition.layout[:, 0, 0].long()]


def test_guidance_of_one_factor_given_the_other_is_exact(rng):
    x = torch.randn(64, 1, 3, generator=rng, dtype=torch.float64)
    sigma = torch.linspace(0.05, 5, 64, dtype=torch.float64)
    condition = given([0, 1] * 32)
    target = by_value("denoise_target")(x, sigma, condition)
    denoised = guided(by_value("denoise_source"), by_value("log_h"))(x, sigma, condition)
    assert_close(denoised, target)
    swapped = replace(condition, layout=1 - condition.layout)
    other = guided(by_value("denoise_source"), by_value("log_h"))(x, sigma, swapped)
    assert (other - target).abs().max() > 0.1


def test_the_joint_ratio_guides_like_the_conditional_one(rng):
    x = torch.randn(64, 1, 3, generator=rng, dtype=torch.float64)
    sigma = torch.linspace(0.05, 5, 64, dtype=torch.float64)
    condition = given([0, 1] * 32)
    joint = guided(by_value("denoise_source"), joint_log_h)(x, sigma, condition)
    assert_close(joint, by_value("denoise_target")(x, sigma, condition))


def test_log_h_is_the_mean_joint_ratio_given_the_noised_record_and_the_condition(rng):
    n, sigma = 400_000, 0.9
    for value, pair in enumerate(PAIRS):
        x = torch.tensor([[0.3]], dtype=torch.float64)
        # p(x0 | x) of standard normal x0 is N(x / (1 + sigma^2), sigma^2 / (1 + sigma^2)).
        variance = sigma**2 / (1 + sigma**2)
        x0 = x / (1 + sigma**2) + math.sqrt(variance) * pair.draw_source((n, 1), rng)
        ratio = pair.log_ratio(x0).exp() * Q_B[value] / P_B[value]
        exact = joint_log_h(x, torch.full((1,), sigma, dtype=torch.float64), given([value]))
        assert_close(ratio.mean().log(), exact[0], atol=0.02, rtol=0)


def test_records_drawn_factor_by_factor_follow_the_target(rng):
    n = 200_000
    b = (torch.rand(n, generator=rng, dtype=torch.float64) < Q_B[1]).long()
    each = torch.stack([pair.draw_target((n, 1), rng) for pair in PAIRS])
    x0 = each[b, torch.arange(n)]
    mean = sum(q * pair.mean for q, pair in zip(Q_B, PAIRS, strict=True))
    second = sum(q * (pair.std**2 + pair.mean**2) for q, pair in zip(Q_B, PAIRS, strict=True))
    assert abs(float(x0.mean()) - mean) < 0.02
    assert abs(float(x0.square().mean()) - second) < 0.03


def test_losses_follow_the_condition_of_each_record(rng):
    x0 = torch.randn(16, 1, 3, generator=rng, dtype=torch.float64)
    noise = torch.randn(16, 1, 3, generator=rng, dtype=torch.float64)
    sigma = torch.full((16,), 0.7, dtype=torch.float64)
    condition = given([0, 1] * 8)
    exact = guided(by_value("denoise_source"), by_value("log_h"))
    assert_close(
        consistency_loss(
            by_value("denoise_source"), by_value("log_h"), x0, condition, sigma, noise
        ),
        denoising_loss(exact, x0, condition, sigma, noise),
    )
    assert_close(
        denoising_loss(exact, x0, condition, sigma, noise)[3:5],
        denoising_loss(exact, x0[3:5], condition[3:5], sigma[3:5], noise[3:5]),
    )
