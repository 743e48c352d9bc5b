import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.errors import ConfigError, RunError, StorageError
from ecgtransfer.storage import from_card, to_card
from ecgtransfer.transfer import (
    GuidanceFit,
    NoiseLevelWeight,
    guided,
    measure_guidance,
    noise_level_edges,
)

EDGES = noise_level_edges(0.05, 20.0, bins=6)


@pytest.fixture
def held_out(pair, shape, rng):
    return pair.draw_target((1500, *shape), rng)


def calibrated(pair, log_h, x0, rng, batch_size=1500):
    return measure_guidance(
        pair.denoise_source, log_h, x0, None, EDGES, generator=rng, draws=8, batch_size=batch_size
    ).weight()


def test_the_exact_log_h_gets_weight_one(pair, held_out, rng):
    weight = calibrated(pair, pair.log_h, held_out, rng)
    assert_close(torch.tensor(weight.values), torch.ones(6), atol=0.15, rtol=0)


def test_twice_the_exact_log_h_gets_half_the_weight(pair, held_out, rng):
    weight = calibrated(pair, lambda *at: 2 * pair.log_h(*at), held_out, rng)
    assert_close(torch.tensor(weight.values), torch.full((6,), 0.5), atol=0.08, rtol=0)


def test_half_the_exact_log_h_is_clipped_at_the_highest_weight(pair, held_out, rng):
    weight = calibrated(pair, lambda *at: pair.log_h(*at) / 2, held_out, rng)
    assert weight.values == (1.5,) * 6


def test_noise_in_log_h_shrinks_the_weight(pair, held_out, rng):
    def noisy(x, sigma, label):
        # A slope of random sign, as steep as the true one on average, with nothing to say.
        flat = x.flatten(1).sum(1)
        return pair.log_h(x, sigma) + (3 * torch.sin(40 * flat / (1 + sigma))) / 10

    weight = calibrated(pair, noisy, held_out, rng)
    assert max(weight.values) < 0.75
    assert min(weight.values) >= 0


def test_guidance_that_says_nothing_or_the_opposite_gets_weight_zero(pair, held_out, rng):
    silent = calibrated(pair, lambda *at: 0 * pair.log_h(*at), held_out, rng)
    opposite = calibrated(pair, lambda *at: -pair.log_h(*at), held_out, rng)
    assert silent.values == opposite.values == (0.0,) * 6


def test_the_batch_size_changes_no_weight(pair, held_out):
    one, two = (
        calibrated(pair, pair.log_h, held_out[:40], torch.Generator().manual_seed(1), batch_size=n)
        for n in (7, 999)
    )
    assert_close(one.values, two.values)


def test_the_guidance_that_is_followed_gives_the_square_alone(pair, held_out, rng):
    def measured(log_h, applied=None):
        rng = torch.Generator().manual_seed(2)
        return measure_guidance(
            pair.denoise_source, log_h, held_out, None, EDGES, generator=rng, applied=applied
        )

    def half(*at):
        return pair.log_h(*at) / 2

    one, two, both = measured(pair.log_h), measured(half), measured(pair.log_h, half)
    assert (both.cross, both.sq_norm, both.sq_error) == (one.cross, two.sq_norm, one.sq_error)


def test_fits_of_folds_add_up_to_the_fit_of_all(pair, held_out, rng):
    one, two = (
        measure_guidance(pair.denoise_source, pair.log_h, part, None, EDGES, generator=rng)
        for part in held_out.split(750)
    )
    both = one + two
    assert_close(both.cross, tuple(a + b for a, b in zip(one.cross, two.cross, strict=True)))
    low, high = sorted([one.weight().values[0], two.weight().values[0]])
    assert low <= both.weight().values[0] <= high


def test_what_guidance_explains_is_the_fall_of_the_denoising_loss(pair, held_out, rng):
    fit = measure_guidance(pair.denoise_source, pair.log_h, held_out, None, EDGES, generator=rng)
    explained = fit.explained(1.0)
    sigma = torch.full((len(held_out),), (EDGES[3] * EDGES[4]) ** 0.5)
    x = held_out + sigma.reshape(-1, 1, 1) * torch.randn(held_out.shape, generator=rng)
    error = {
        name: (denoise(x, sigma, None) - held_out).square().mean()
        for name, denoise in {
            "source": pair.denoise_source,
            "target": guided(pair.denoise_source, pair.log_h),
        }.items()
    }
    assert explained[3] == pytest.approx(float(1 - error["target"] / error["source"]), abs=0.08)
    assert all(
        best >= full for best, full in zip(fit.explained(fit.weight(10.0)), explained, strict=True)
    )


def test_a_fit_without_error_explains_nothing():
    assert GuidanceFit((0.1, 1.0), (0.0,), (0.0,), (0.0,)).explained() == (0.0,)


def test_the_weight_is_linear_in_the_logarithm_of_sigma_and_constant_outside():
    weight = NoiseLevelWeight((0.1, 1.0, 10.0), (0.2, 0.6, 1.0))
    sigma = torch.tensor([0.01, 0.1, 10**-0.5, 1.0, 10**0.5, 10.0, 99.0])
    assert_close(weight(sigma), torch.tensor([0.2, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0]))
    assert_close(NoiseLevelWeight((1.0,), (0.7,))(sigma), torch.full((7,), 0.7))


def test_the_weight_survives_a_json_file():
    weight = NoiseLevelWeight((0.1, 1.0), (0.25, 1 / 3))
    held = json.loads(json.dumps(to_card(weight)))
    assert from_card(NoiseLevelWeight, held, Path("card.json")) == weight


def test_edges_are_even_in_the_logarithm():
    edges = noise_level_edges(0.01, 100.0, bins=4)
    assert_close(edges, (0.01, 0.1, 1.0, 10.0, 100.0))


@pytest.mark.parametrize(
    ("sigmas", "values", "match"),
    [
        ((), (), "as many weights as noise levels"),
        ((0.1, 1.0), (1.0,), "as many weights as noise levels"),
        ((1.0, 0.1), (1.0, 1.0), "noise levels that increase"),
        ((0.0, 0.1), (1.0, 1.0), "noise levels that increase"),
        ((0.1, 1.0), (1.0, -0.1), "weights that are finite and not below 0"),
        ((0.1, 1.0), (1.0, float("nan")), "weights that are finite and not below 0"),
    ],
)
def test_a_weight_that_cannot_be_is_refused(sigmas, values, match):
    with pytest.raises(ConfigError, match=match):
        NoiseLevelWeight(sigmas, values)


def test_a_weight_file_of_another_kind_is_refused():
    with pytest.raises(StorageError, match=r"card\.json lacks the field sigmas; use the version"):
        from_card(NoiseLevelWeight, {"weight": [1.0]}, Path("card.json"))
    with pytest.raises(StorageError, match=r"card\.json is not valid \(expected as many weights"):
        from_card(NoiseLevelWeight, {"sigmas": [1.0], "values": []}, Path("card.json"))


def test_edges_that_cannot_be_are_refused(pair, held_out):
    with pytest.raises(ConfigError, match="0 < sigma_min < sigma_max and at least one bin"):
        noise_level_edges(1.0, 0.1)
    with pytest.raises(ConfigError, match="at least two increasing noise levels"):
        measure_guidance(pair.denoise_source, pair.log_h, held_out, None, (1.0,))
    with pytest.raises(ConfigError, match="at least one held-out record"):
        measure_guidance(pair.denoise_source, pair.log_h, held_out[:0], None, EDGES)


def test_fits_at_other_noise_levels_do_not_add_up():
    one = GuidanceFit((0.1, 1.0), (1.0,), (1.0,), (1.0,))
    with pytest.raises(ConfigError, match="fits at the same noise levels"):
        one + GuidanceFit((0.1, 2.0), (1.0,), (1.0,), (1.0,))


def test_guidance_that_is_not_finite_stops_with_its_noise_level(pair, held_out, rng):
    with pytest.raises(RunError, match="finite numbers from denoiser and guidance at sigma"):
        calibrated(pair, lambda *at: float("nan") * pair.log_h(*at), held_out, rng)
