import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.transfer import (
    DomainRecords,
    MeanLogH,
    cross_fit,
    guided,
    measure_guidance,
    noise_level_edges,
    patient_folds,
)

EDGES = noise_level_edges(0.05, 20.0, bins=5)


class Exact(nn.Module):
    """A closed-form log h, times a number, as a network."""

    def __init__(self, pair, times=1.0):
        super().__init__()
        self.pair, self.times = pair, nn.Parameter(torch.tensor(times))

    def forward(self, x, sigma, label):
        return self.times * self.pair.log_h(x, sigma)


def drawn(pair, shape, rng, n, per_patient=1):
    patients = tuple(f"p{number // per_patient}" for number in range(n))
    return DomainRecords(pair.draw_target((n, *shape), rng), None, patients)


def test_the_mean_of_several_log_h_has_the_mean_of_their_slopes(pair, shape, rng):
    x = pair.draw_source((6, *shape), rng)
    sigma = torch.rand(6, generator=rng) + 0.1
    both = guided(pair.denoise_source, MeanLogH([Exact(pair, 0.5), Exact(pair, 1.5)]))
    assert_close(both(x, sigma, None), pair.denoise_target(x, sigma))


def test_each_fold_is_fitted_without_the_patients_that_weigh_it(pair, shape, rng):
    target, seen = drawn(pair, shape, rng, 23, per_patient=3), []

    def fit_fold(number, fit, held_out):
        assert not set(fit.patient) & set(held_out.patient)
        assert set(fit.patient) | set(held_out.patient) == set(target.patient)
        seen.append((number, held_out))
        return Exact(pair)

    cross_fit(pair.denoise_source, target, fit_fold, EDGES, folds=4)
    assert [number for number, _ in seen] == [0, 1, 2, 3]
    weighed = torch.cat([held_out.x0 for _, held_out in seen])
    assert_close(weighed.flatten(1).sum(1).sort().values, target.x0.flatten(1).sum(1).sort().values)


def test_the_weight_is_measured_on_the_records_that_the_fold_missed(shape):
    # Records so far apart that noise leaves no doubt which one a point comes from.
    x0 = 1000.0 * torch.arange(12.0).reshape(12, *[1] * len(shape)).expand(12, *shape)
    target = DomainRecords(x0, None, tuple(map(str, range(12))))

    class Known(nn.Module):
        """A slope of 1 at records that it was fitted on, and of 0 at others."""

        def __init__(self, fit):
            super().__init__()
            self.fitted = fit.x0.flatten(1)[:, 0] / 1000

        def forward(self, x, sigma, label):
            place = (x.detach().flatten(1)[:, 0] / 1000).round()
            return torch.isin(place, self.fitted) * x.flatten(1).sum(1)

    found = cross_fit(
        lambda x, sigma, label: x, target, lambda _, fit, held_out: Known(fit), EDGES, folds=3
    )
    assert found.measured.cross == (0.0,) * 5
    assert min(found.measured.sq_norm) > 0  # of the mean, which knows every record from two folds


def test_exact_folds_are_followed_all_the_way(pair, shape, rng):
    target = drawn(pair, shape, rng, 400)
    found = cross_fit(pair.denoise_source, target, lambda *_: Exact(pair), EDGES, folds=5, draws=16)
    assert_close(torch.tensor(found.weight.values), torch.ones(5), atol=0.2, rtol=0)
    x, sigma = pair.draw_target((8, *shape), rng), torch.full((8,), 0.5)
    error = found.guided(pair.denoise_source)(x, sigma, None) - pair.denoise_target(x, sigma)
    start = pair.denoise_source(x, sigma) - pair.denoise_target(x, sigma)
    assert error.abs().sum() < 0.2 * start.abs().sum()


class Disturbed(Exact):
    """An exact log h with a step of its own besides, the same everywhere."""

    def __init__(self, pair, slope):
        super().__init__(pair)
        self.slope = slope

    def forward(self, x, sigma, label):
        step = self.slope * x.flatten(1).sum(1) / (1 + sigma**2)
        return super().forward(x, sigma, label) + step


def test_the_mean_is_followed_as_far_as_the_mean_deserves(pair, shape, rng):
    # What disturbs each network cancels in their mean, which is exact.
    target = drawn(pair, shape, rng, 400)
    found = cross_fit(
        pair.denoise_source,
        target,
        lambda number, *_: Disturbed(pair, (0.8, -0.8)[number]),
        EDGES,
        folds=2,
        draws=16,
    )
    assert_close(torch.tensor(found.weight.values), torch.ones(5), atol=0.25, rtol=0)
    fresh = pair.draw_target((2000, *shape), rng)
    best = measure_guidance(pair.denoise_source, found.log_h, fresh, None, EDGES, generator=rng)
    assert_close(found.weight.values, best.weight().values, atol=0.25, rtol=0)
    explained, most = found.measured.explained(found.weight), best.explained(best.weight())
    assert_close(torch.tensor(explained), torch.tensor(most), atol=0.15, rtol=0)


def test_records_without_a_label_get_a_weight_of_their_own(pair, shape, rng):
    class TwiceWithout(Exact):
        """The exact log h with a label, twice that without one."""

        def forward(self, x, sigma, label):
            return super().forward(x, sigma, label) * (2 if label is None else 1)

    records = drawn(pair, shape, rng, 400)
    target = DomainRecords(records.x0, torch.ones(400, 1), records.patient)
    options = {"folds": 2, "draws": 16}
    fitted = [pair.denoise_source, target, lambda *_: TwiceWithout(pair), EDGES]
    found = cross_fit(*fitted, **options, without_label=True)
    assert_close(torch.tensor(found.weight.values), torch.ones(5), atol=0.25, rtol=0)
    halves = torch.tensor(found.weight_without_label.values)
    assert_close(halves, torch.full((5,), 0.5), atol=0.13, rtol=0)
    assert cross_fit(*fitted, **options).weight_without_label is None


def test_folds_that_point_away_are_not_followed(pair, shape, rng):
    target = drawn(pair, shape, rng, 60)
    found = cross_fit(pair.denoise_source, target, lambda *_: Exact(pair, -1.0), EDGES, folds=3)
    assert found.weight.values == (0.0,) * 5
    assert not any(p.requires_grad for p in found.log_h.parameters())


def test_every_patient_is_in_one_fold_with_all_records(rng):
    records = DomainRecords(torch.zeros(20, 2), torch.eye(20), tuple("aabbccddeeffgghhiijj"))
    folds = patient_folds(records, 3, seed=0)
    held_out = [part.patient for _, part in folds]
    assert sorted(sum(held_out, ())) == sorted(records.patient)
    assert all(not set(fit.patient) & set(part.patient) for fit, part in folds)
    assert max(map(len, held_out)) - min(map(len, held_out)) <= 2
    for fit, part in folds:
        assert torch.equal(
            torch.cat([fit.label, part.label]).sum(0), torch.ones(20, dtype=torch.float64)
        )
    assert patient_folds(records, 3, seed=0)[1][1].patient == held_out[1]


def test_folds_without_a_patient_each_are_refused(pair, shape, rng):
    target = drawn(pair, shape, rng, 6, per_patient=2)
    for folds in (1, 4):
        with pytest.raises(CorpusError, match=f"got {folds} folds of 3 patients"):
            cross_fit(pair.denoise_source, target, lambda *_: Exact(pair), EDGES, folds=folds)
    with pytest.raises(ConfigError, match="at least one guidance network"):
        MeanLogH([])
