import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.testing import assert_close

from ecgtransfer.rhythm import MODELLED_KINDS, FirstBeat, NextBeat
from ecgtransfer.signals import BeatKind


def mixture(law, batch=(), seed=0, components=3):
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, len(MODELLED_KINDS), components)

    def normal():
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weight = normal().flatten(-2).log_softmax(-1).unflatten(-1, shape[-2:])
    return law(weight, math.log(0.5) + 0.5 * normal(), -1.5 + 0.3 * normal())


def uniforms(n, seed=0):
    return torch.from_numpy(1 - np.random.default_rng(seed).random((n, 3)))


def expanded(law, n):
    return type(law)(*(part.expand(n, *part.shape) for part in law))


def cdf(law, kind, time_s, lowest=0.0):
    """P(this kind, before a time) by Simpson's rule."""
    grid = torch.linspace(lowest + 1e-9, time_s, 20001, dtype=torch.float64)
    density = expanded(law, len(grid)).log_density(grid, torch.full((len(grid),), int(kind))).exp()
    return float(integrate.simpson(density.numpy(), grid.numpy()))


LAWS = [(FirstBeat, 0.0), (NextBeat, 0.15)]


@pytest.mark.parametrize(("law", "lowest"), LAWS)
@pytest.mark.parametrize("time_s", [0.2, 0.6, 3.0])
def test_density_and_survival_sum_to_one(law, lowest, time_s):
    made = mixture(law)
    before = sum(cdf(made, kind, time_s, lowest) for kind in MODELLED_KINDS)
    after = float(made.log_survival(torch.tensor(time_s, dtype=torch.float64)).exp())
    assert before + after == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("law", "lowest"), LAWS)
def test_a_beat_of_unknown_kind_has_the_density_of_all_kinds_together(law, lowest):
    made = expanded(mixture(law), 5)
    time_s = torch.tensor([0.2, 0.3, 0.5, 0.8, 1.3], dtype=torch.float64)
    of_kinds = [made.log_density(time_s, torch.full((5,), int(kind))) for kind in MODELLED_KINDS]
    unknown = made.log_density(time_s, torch.full((5,), int(BeatKind.UNKNOWN)))
    assert_close(unknown, torch.logsumexp(torch.stack(of_kinds), 0))


@pytest.mark.parametrize(("law", "lowest"), LAWS)
def test_draws_have_the_stated_distribution(law, lowest):
    made, n = mixture(law), 20_000
    kind, time_s = expanded(made, n).draw(uniforms(n))
    assert time_s.min() >= lowest
    for each in MODELLED_KINDS:
        of_kind = time_s[kind == each].numpy()
        share = cdf(made, each, 60.0, lowest)
        assert len(of_kind) / n == pytest.approx(share, abs=4 * math.sqrt(share / n))
        for edge in (0.25, 0.5, 0.8, 1.2):
            expected = cdf(made, each, edge, lowest)
            found = np.sum(of_kind < edge) / n
            assert found == pytest.approx(expected, abs=4 * math.sqrt(expected / n) + 1e-4)


def test_one_component_of_the_next_beat_is_scipys_log_logistic():
    one = torch.zeros(3, 1, dtype=torch.float64)
    weight = torch.tensor([[0.0], [-math.inf], [-math.inf]], dtype=torch.float64)
    law = NextBeat(weight, one + math.log(0.7), one + math.log(0.2))
    rr_s = torch.tensor([0.2, 0.7, 1.5], dtype=torch.float64)
    scipys = stats.fisk(c=1 / 0.2, scale=0.7)
    found = expanded(law, 3).log_density(rr_s, torch.ones(3, dtype=torch.int64))
    assert_close(found.numpy(), scipys.logpdf(rr_s) - scipys.logsf(0.15))
    survival = expanded(law, 3).log_survival(rr_s).numpy()
    assert_close(survival, scipys.logsf(rr_s) - scipys.logsf(0.15))


def test_the_first_beat_of_a_regular_rhythm_comes_at_any_time_of_an_interval():
    one = torch.zeros(3, 1, dtype=torch.float64)
    weight = torch.tensor([[0.0], [-math.inf], [-math.inf]], dtype=torch.float64)
    law = expanded(FirstBeat(weight, one + math.log(0.8), one + math.log(1e-3)), 3)
    time_s = torch.tensor([0.1, 0.4, 0.7], dtype=torch.float64)
    density = law.log_density(time_s, torch.ones(3, dtype=torch.int64)).exp()
    assert_close(density, torch.full((3,), 1 / 0.8, dtype=torch.float64), rtol=1e-5, atol=0)
    assert_close(law.log_survival(time_s).exp(), 1 - time_s / 0.8, rtol=1e-5, atol=0)


def test_the_first_beat_comes_as_after_a_moment_in_a_long_renewal_process():
    rng = np.random.default_rng(0)
    rr_s = np.exp(math.log(0.6) + 0.5 * rng.standard_normal(400_000))
    beats = np.cumsum(rr_s)
    moments = rng.uniform(10, beats[-1] - 10, 40_000)
    waiting = beats[np.searchsorted(beats, moments)] - moments
    one = torch.zeros(3, 1, dtype=torch.float64)
    weight = torch.tensor([[0.0], [-math.inf], [-math.inf]], dtype=torch.float64)
    law = FirstBeat(weight, one + math.log(0.6), one + math.log(0.5))
    for edge in (0.1, 0.3, 0.6, 1.0):
        survival = float(law.log_survival(torch.tensor(edge, dtype=torch.float64)).exp())
        assert np.mean(waiting > edge) == pytest.approx(survival, abs=0.012)


@pytest.mark.parametrize(("law", "lowest"), LAWS)
def test_a_time_that_cannot_be_has_no_density(law, lowest):
    before = torch.tensor(lowest - 1e-6, dtype=torch.float64)
    assert mixture(law).log_density(before, torch.tensor(1)) == -math.inf


@pytest.mark.parametrize(("law", "lowest"), LAWS)
def test_gradients_stay_finite_far_from_all_components(law, lowest):
    parts = [part.detach().requires_grad_() for part in mixture(law, seed=2)]
    sharp = law(parts[0], parts[1], parts[2] - 5)
    for time_s in (lowest + 1e-6, 9.9):
        time = torch.tensor(time_s, dtype=torch.float64)
        value = sharp.log_density(time, torch.tensor(1)) + sharp.log_survival(time)
        gradients = torch.autograd.grad(value, parts)
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
