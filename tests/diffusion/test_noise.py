import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.diffusion import NoiseConfig, draw_sigma, karras_sigmas, sampling_sigmas
from ecgtransfer.errors import ConfigError


def test_karras_sigmas_fall_from_the_largest_level_to_the_smallest_and_end_in_zero():
    sigmas = karras_sigmas(10, 0.01, 50.0)
    assert sigmas.shape == (11,)
    assert_close(sigmas[[0, -2, -1]], torch.tensor([50.0, 0.01, 0.0], dtype=torch.float64))
    assert (sigmas.diff() < 0).all()


def test_karras_sigmas_are_evenly_spaced_after_the_rho_th_root():
    steps = karras_sigmas(9, 0.02, 20.0, rho=5.0)[:-1].pow(1 / 5.0).diff()
    assert_close(steps, steps[:1].expand(8))


@pytest.mark.parametrize(
    ("model", "expected"), [((0.03, 40.0), (0.1, 30.0)), ((0.2, 20.0), (0.2, 20.0))]
)
def test_records_are_drawn_between_levels_that_the_model_knows_and_that_matter(model, expected):
    low, high = model
    sigmas = sampling_sigmas(12, NoiseConfig(sigma_min=low, sigma_max=high))
    assert len(sigmas) == 13
    assert sigmas[-1] == 0
    assert (sigmas[-2].item(), sigmas[0].item()) == pytest.approx(expected)


def test_drawn_levels_have_the_stated_logarithmic_mean_and_spread(rng):
    config = NoiseConfig(log_mean=-0.7, log_std=1.4)
    logs = draw_sigma(20_000, config, rng).log()
    assert abs(logs.mean().item() + 0.7) < 4 * 1.4 / 20_000**0.5
    assert abs(logs.std().item() - 1.4) < 0.03


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"sigma_min": 2.0, "sigma_max": 1.0}, "0 < sigma_min < sigma_max"),
        ({"sigma_min": 0.0}, "0 < sigma_min < sigma_max"),
        ({"log_std": 0.0}, "log_std above 0"),
    ],
)
def test_impossible_noise_is_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        NoiseConfig(**arguments)


@pytest.mark.parametrize(
    ("steps", "low", "high", "sentence"),
    [(1, 0.1, 1.0, "at least 2 sampler steps"), (5, 1.0, 1.0, "0 < sigma_min < sigma_max")],
)
def test_impossible_schedules_are_refused(steps, low, high, sentence):
    with pytest.raises(ConfigError, match=sentence):
        karras_sigmas(steps, low, high)
