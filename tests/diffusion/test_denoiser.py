import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ecgtransfer.diffusion import (
    ECGDenoiser,
    classifier_free,
    denoised_from_noise,
    denoised_from_score,
    denoising_loss,
    gaussian_denoiser,
    mean_denoising_loss,
    noise_from_denoised,
    per_record,
    score_from_denoised,
)
from ecgtransfer.errors import ConfigError
from ecgtransfer.models import UNet1d, UNetConfig


class Recorder(nn.Module):
    """A network that remembers its input and returns zero."""

    def forward(self, x, sigma, label, dropped=None):
        self.seen = x, sigma, label, dropped
        return torch.zeros_like(x)


def test_score_and_noise_go_there_and_back(rng):
    x, denoised = torch.randn(2, 5, 8, 16, generator=rng, dtype=torch.float64)
    sigma = torch.linspace(0.01, 30, 5, dtype=torch.float64)
    score = score_from_denoised(denoised, x, sigma)
    noise = noise_from_denoised(denoised, x, sigma)
    assert_close(denoised_from_score(score, x, sigma), denoised)
    assert_close(denoised_from_noise(noise, x, sigma), denoised)
    assert_close(score, -noise / per_record(sigma, x))


def test_the_score_of_a_gaussian_is_known(rng):
    x = torch.randn(6, 2, 3, generator=rng, dtype=torch.float64)
    sigma = torch.linspace(0.1, 4, 6, dtype=torch.float64)
    score = score_from_denoised(gaussian_denoiser(x, sigma, None), x, sigma)
    assert_close(score, -x / (1 + per_record(sigma, x) ** 2))


def test_a_fresh_denoiser_is_the_best_linear_one(rng):
    denoiser = ECGDenoiser(UNet1d(UNetConfig(labels=3, widths=(16, 32), attention=1)))
    x, sigma = torch.randn(4, 8, 64, generator=rng), torch.tensor([0.05, 0.5, 1.0, 20.0])
    assert_close(denoiser(x, sigma, torch.eye(4, 3)), gaussian_denoiser(x, sigma, None))


def test_the_network_sees_unit_variance_at_every_noise_level(rng):
    network = Recorder()
    sigma = torch.logspace(-2, 2, 6)
    x = torch.randn(6, 8, 4000, generator=rng) * (1 + sigma**2).sqrt()[:, None, None]
    ECGDenoiser(network)(x, sigma, None)
    assert_close(network.seen[0].flatten(1).std(1), torch.ones(6), atol=0.02, rtol=0)


def test_bfloat16_stays_inside_the_network(rng):
    config = UNetConfig(labels=0, widths=(16, 32), attention=1)
    network = UNet1d(config)
    nn.init.normal_(network.out.weight, std=0.05, generator=rng)
    x, sigma = torch.randn(3, 8, 64, generator=rng), torch.tensor([0.01, 1.0, 40.0])
    exact = ECGDenoiser(network, "float32")(x, sigma, None)
    rounded = ECGDenoiser(network, "bfloat16")(x, sigma, None)
    assert rounded.dtype == torch.float32
    assert_close(rounded, exact, atol=0.03, rtol=0.01)
    assert_close(rounded[0], exact[0], atol=0.01 * 0.05, rtol=1e-4)


def test_the_gaussian_denoiser_scores_one_at_every_noise_level(rng):
    x0 = torch.randn(40, 8, 500, generator=rng)
    noise = torch.randn(x0.shape, generator=rng)
    sigma = torch.logspace(-2, 2, 40)
    loss = denoising_loss(gaussian_denoiser, x0, None, sigma, noise)
    assert loss.shape == (40,)
    assert_close(loss, torch.ones(40), atol=0.1, rtol=0)
    assert abs(loss.mean().item() - 1) < 0.01


def test_no_other_linear_denoiser_scores_lower(rng):
    x0 = torch.randn(40, 8, 500, generator=rng)
    noise, sigma = torch.randn(x0.shape, generator=rng), torch.logspace(-1, 1, 40)
    best = mean_denoising_loss(gaussian_denoiser, x0, None, sigma, noise)
    for factor in (0.9, 1.1):

        def off(x, sigma, label, factor=factor):
            return factor * gaussian_denoiser(x, sigma, label)

        assert mean_denoising_loss(off, x0, None, sigma, noise, batch_size=7) > best


def test_classifier_free_guidance_is_the_stated_extrapolation():
    def denoise(x, sigma, label):
        return x + (0 if label is None else label.sum())

    x, label = torch.zeros(2, 8, 4), torch.ones(2, 1)
    assert classifier_free(denoise, 1.0) is denoise
    assert_close(classifier_free(denoise, 3.0)(x, torch.ones(2), label), torch.full_like(x, 6.0))
    assert_close(classifier_free(denoise, 3.0)(x, torch.ones(2), None), x)


def test_the_branch_without_label_may_be_another_denoiser():
    def labelled(x, sigma, label):
        assert label is not None
        return x + label.sum()

    def unlabelled(x, sigma, label):
        assert label is None
        return x + 5

    x, label = torch.zeros(2, 8, 4), torch.ones(2, 1)
    denoise = classifier_free(labelled, 3.0, unlabelled)
    assert_close(denoise(x, torch.ones(2), label), torch.full_like(x, 5 + 3 * (2 - 5)))
    assert_close(denoise(x, torch.ones(2), None), torch.full_like(x, 5))
    assert classifier_free(labelled, 1.0, unlabelled) is labelled


def test_a_number_per_record_must_be_one_per_record():
    with pytest.raises(ConfigError, match="one number for each of 3 records"):
        per_record(torch.ones(3, 1), torch.zeros(3, 8, 4))
