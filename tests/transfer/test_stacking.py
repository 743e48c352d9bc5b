import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.diffusion import denoising_loss, per_record
from ecgtransfer.errors import ConfigError
from ecgtransfer.transfer import (
    DomainRecords,
    NoiseLevelWeight,
    averaged,
    cross_fit_stack,
    extrapolated,
    measure_stack,
    noise_level_edges,
    patient_folds,
    stacked,
    stacking,
)

EDGES = noise_level_edges(0.05, 20.0, bins=5)


@pytest.fixture
def held_out(pair, shape, rng):
    x0 = pair.draw_target((1500, *shape), rng)
    return DomainRecords(x0, None, tuple(map(str, range(1500))))


def fitted(pair, others, held_out, rng):
    return measure_stack(pair.denoise_source, others, held_out, EDGES, draws=8, generator=rng)


def values(weights):
    return torch.tensor([weight.values for weight in weights])


def test_the_exact_target_denoiser_takes_all_the_weight_from_the_source_itself(pair, held_out, rng):
    found = fitted(pair, [pair.denoise_target, pair.denoise_source], held_out, rng).weights()
    assert_close(values(found)[0], torch.ones(5), atol=0.15, rtol=0)
    assert_close(values(found)[1], torch.zeros(5))


def test_half_a_step_is_taken_twice_where_that_is_allowed(pair, held_out, rng):
    half = extrapolated(pair.denoise_source, pair.denoise_target, 0.5)
    fit = fitted(pair, [half], held_out, rng)
    assert_close(values(fit.weights(highest=3.0))[0], torch.full((5,), 2.0), atol=0.3, rtol=0)
    assert values(fit.weights())[0].tolist() == [1.5] * 5


def test_two_equal_denoisers_share_the_weight(pair, held_out, rng):
    found = fitted(pair, [pair.denoise_target, pair.denoise_target], held_out, rng).weights()
    assert_close(values(found).sum(0), torch.ones(5), atol=0.15, rtol=0)


def test_steps_that_explain_two_parts_of_the_error_are_added(pair, shape, held_out, rng):
    def part(keep):
        def denoise(x, sigma, label):
            step = pair.denoise_target(x, sigma) - pair.denoise_source(x, sigma)
            return pair.denoise_source(x, sigma) + keep * step

        return denoise

    first = torch.zeros(shape)
    first[0, 0] = 1.0
    found = fitted(pair, [part(first), part(1 - first)], held_out, rng).weights()
    expected = torch.ones(2, 5) if first.numel() > 1 else torch.tensor([[1.0], [0.0]]).expand(2, 5)
    assert_close(values(found), expected, atol=0.3, rtol=0)


def test_the_stack_denoises_held_out_records_at_least_as_well_as_its_parts(pair, held_out, rng):
    parts = [
        extrapolated(pair.denoise_source, pair.denoise_target, 0.4),
        extrapolated(pair.denoise_source, pair.denoise_target, 1.7),
    ]
    found = stacked(pair.denoise_source, parts, fitted(pair, parts, held_out, rng).weights())
    sigma = torch.exp(torch.randn(1500, generator=rng)).clamp(0.1, 10)
    noise = torch.randn(held_out.x0.shape, generator=rng)

    def loss(denoise):
        return float(denoising_loss(denoise, held_out.x0, None, sigma, noise).mean())

    assert loss(found) < min(map(loss, [*parts, pair.denoise_source]))
    assert loss(found) < loss(pair.denoise_target) + 0.01


def test_fits_of_folds_add_up(pair, held_out, rng):
    one, two = (
        fitted(pair, [pair.denoise_target], held_out.subset(np.arange(part, 1500, 2)), rng)
        for part in (0, 1)
    )
    both = one + two
    assert_close(torch.tensor(both.gram), torch.tensor(one.gram + two.gram))
    expected = (one.cross + two.cross)[:, 0] / (one.gram + two.gram)[:, 0, 0]
    assert_close(values(both.weights())[0], torch.tensor(expected), atol=1e-6, rtol=0)


def test_the_sums_do_not_depend_on_how_many_records_go_through_at_once(pair, held_out, monkeypatch):
    few = held_out.subset(np.arange(7))

    def found():
        generator = torch.Generator().manual_seed(3)
        return measure_stack(
            pair.denoise_source, [pair.denoise_target], few, EDGES, draws=5, generator=generator
        )

    together = found()
    monkeypatch.setattr(stacking, "records_at_once", lambda x0: 4)
    apart = found()
    np.testing.assert_allclose(apart.gram, together.gram)
    np.testing.assert_allclose(apart.cross, together.cross)


def test_each_fold_is_weighed_on_the_patients_that_it_missed(pair, held_out):
    records, asked = held_out.subset(np.arange(60)), []

    def fit_fold(number, fit, held_out):
        asked.append((number, fit.patient, held_out.patient))
        part = extrapolated(pair.denoise_source, pair.denoise_target, 0.5 + number)
        return [part, pair.denoise_target]

    pooled = cross_fit_stack(pair.denoise_source, records, fit_fold, EDGES, folds=3, seed=4)
    means = [
        extrapolated(pair.denoise_source, pair.denoise_target, 0.5 + 1),
        pair.denoise_target,
    ]
    folds = patient_folds(records, 3, seed=4)
    assert asked == [
        (number, fit.patient, missed.patient) for number, (fit, missed) in enumerate(folds)
    ]
    apart = [
        measure_stack(
            pair.denoise_source,
            [
                extrapolated(pair.denoise_source, pair.denoise_target, 0.5 + number),
                pair.denoise_target,
            ],
            missed,
            EDGES,
            generator=torch.Generator().manual_seed(4 + number),
            applied=means,
        )
        for number, (_, missed) in enumerate(folds)
    ]
    np.testing.assert_allclose(pooled.gram, sum(fit.gram for fit in apart))
    np.testing.assert_allclose(pooled.cross, sum(fit.cross for fit in apart))


def test_the_weights_are_those_of_the_means_over_folds(pair, shape, held_out, rng):
    # What disturbs each fold's denoiser cancels in the mean, which is exact.
    def fit_fold(number, fit, held_out):
        def denoise(x, sigma, label):
            step = (0.8, -0.8)[number] * per_record(sigma**2 / (1 + sigma**2), x)
            return pair.denoise_target(x, sigma) + step

        return [denoise]

    found = cross_fit_stack(pair.denoise_source, held_out, fit_fold, EDGES, folds=2, draws=8)
    assert_close(values(found.weights())[0], torch.ones(5), atol=0.25, rtol=0)


def test_the_mean_of_denoisers(pair, shape, rng):
    x, sigma = torch.randn((3, *shape), generator=rng), torch.tensor([0.2, 1.0, 5.0])
    mean = averaged([pair.denoise_source, pair.denoise_target])(x, sigma, None)
    assert_close(mean, (pair.denoise_source(x, sigma) + pair.denoise_target(x, sigma)) / 2)
    with pytest.raises(ConfigError, match="at least one denoiser to average"):
        averaged([])


def test_what_does_not_fit_together_is_refused(pair, held_out, rng):
    fit = fitted(pair, [pair.denoise_target], held_out, rng)
    with pytest.raises(ConfigError, match="as many denoisers"):
        fit + fitted(pair, [pair.denoise_target] * 2, held_out, rng)
    with pytest.raises(ConfigError, match="at least one denoiser to stack"):
        fitted(pair, [], held_out, rng)
    with pytest.raises(ConfigError, match="as many denoisers in every fold, got 1, 2"):
        cross_fit_stack(
            pair.denoise_source,
            held_out,
            lambda number, *_: [pair.denoise_target] * (number + 1),
            EDGES,
            folds=2,
        )
    with pytest.raises(ConfigError, match="a weight for each denoiser, got 1 for 2"):
        stacked(
            pair.denoise_source,
            [pair.denoise_target] * 2,
            [NoiseLevelWeight((1.0,), (1.0,))],
        )
