from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.diffusion import mean_denoising_loss
from ecgtransfer.errors import ConfigError, DivergedError
from ecgtransfer.experiments.networks import VectorDenoiser
from ecgtransfer.experiments.problems import problem
from ecgtransfer.experiments.transfer_methods import METHODS, maximum_likelihood, method
from ecgtransfer.experiments.transfer_task import (
    FOLDS,
    NOISE,
    RATES,
    TUNING_RATES,
    TransferTask,
    loss_terms,
)
from ecgtransfer.training import seeded_initialisation
from ecgtransfer.transfer import DomainRecords, RatioDiagnostics
from ecgtransfer.transfer import methods as shipped
from ecgtransfer.transfer.methods import tgdp

TRAINED = [name for name, each in METHODS.items() if each.group != "reference"]


def drawn(law, n, name, rng):
    x0, component = law.sample(n, rng)
    label = law.one_hot(component)
    return DomainRecords(
        x0.float(),
        None if label is None else label.float(),
        tuple(f"{name} {number}" for number in range(n)),
    )


def task_of(name, n, folder, steps=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    chosen = problem(name)
    with seeded_initialisation(seed):
        source = VectorDenoiser(chosen.dimension, chosen.labels).eval().requires_grad_(False)
    return TransferTask(
        problem=chosen,
        source=source,
        source_fit=drawn(chosen.source, 400, "source", rng),
        target=drawn(chosen.target, n, "target", rng),
        steps=steps,
        seed=seed,
        folder=folder,
    )


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """All methods after three steps of training, in a problem with labels."""
    given = task_of("conditional", 20, tmp_path_factory.mktemp("short"))
    return given, {name: each.transfer(given) for name, each in METHODS.items()}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_a_denoiser_of_the_target(short, name, rng):
    given, results = short
    x0, component = given.problem.target.sample(6, rng)
    x, sigma = x0.float(), torch.full((6,), 0.7)
    label = given.problem.target.one_hot(component).float()
    denoised = results[name].denoise(x, sigma, label)
    assert denoised.shape == x.shape
    assert denoised.isfinite().all()
    assert not denoised.requires_grad


@pytest.mark.parametrize("name", TRAINED)
def test_every_method_that_trains_says_what_it_cost_and_what_it_chose(short, name):
    result = short[1][name]
    assert result.parameters > 0
    assert result.seconds > 0
    assert result.selection_seconds > 0
    assert result.chosen


def test_no_method_touches_the_source_model(short):
    given, _ = short
    fresh = task_of("conditional", 20, given.folder).source
    assert_close(given.source.state_dict(), fresh.state_dict())


def test_the_ceiling_of_an_exact_source_model_is_the_exact_target(rng, tmp_path):
    given = task_of("paper", 10, tmp_path)
    exact = replace(given, source=given.problem.source.denoise)
    x = given.problem.target.sample(50, rng)[0]
    sigma = torch.linspace(0.05, 10, 50, dtype=torch.float64)
    found = METHODS["exact"].transfer(exact).denoise(x, sigma, None)
    assert_close(found, METHODS["exact-target"].transfer(exact).denoise(x, sigma, None))


def test_parameters_are_counted(short):
    given, results = short
    source = sum(p.numel() for p in given.source.parameters())
    guidance = results["consistency"].parameters
    assert results["finetune"].parameters == results["scratch"].parameters == source
    assert results["tgdp"].parameters == FOLDS * guidance
    assert results["stack"].parameters == FOLDS * (guidance + source)
    assert results["difffit"].parameters < results["lora"].parameters < source


def test_the_rule_keeps_the_candidate_with_the_least_loss_on_held_out_target_records(tmp_path):
    given = task_of("paper", 50, tmp_path)
    fit, held_out = given.split
    assert set(fit.patient) | set(held_out.patient) == set(given.target.patient)
    good, bad = given.problem.target.denoise, given.problem.source.denoise
    assert given.held_out_loss(good) < given.held_out_loss(bad)
    # The same noise every time, and the loss is that of the held-out records.
    assert given.held_out_loss(good) == given.held_out_loss(good)
    big = task_of("paper", 20_000, tmp_path)
    generator = torch.Generator().manual_seed(1)
    sigma = torch.exp(NOISE.log_mean + NOISE.log_std * torch.randn(20_000, generator=generator))
    noise = torch.randn(20_000, 2, generator=generator)
    expected = mean_denoising_loss(good, big.target.x0, None, sigma, noise)
    assert abs(big.held_out_loss(good) - expected) < 0.03
    trained = given.select((0.0, 1.0, 2.0), lambda each: (torch.nn.Identity(), each), float_of, "x")
    assert trained.chosen == {"x": 0.0}
    assert (trained.seconds, trained.selection_seconds) == (0.0, 3.0)


def test_a_candidate_that_diverges_is_not_kept(tmp_path):
    given = task_of("paper", 20, tmp_path)

    def train(candidate):
        if candidate > 1:
            raise DivergedError(f"step {candidate} is inf")
        return torch.nn.Identity(), candidate

    assert given.select((2.0, 1.0), train, lambda _: 0.0, "x").chosen == {"x": 1.0}
    with pytest.raises(DivergedError, match=r"step 3\.0 is inf"):
        given.select((2.0, 3.0), train, lambda _: 0.0, "x")


def float_of(network):
    """A score that grows from call to call."""
    float_of.calls = getattr(float_of, "calls", 0) + 1
    return float(float_of.calls)


def test_the_first_fold_is_the_split_of_all_methods(short):
    given, _ = short
    first = given.cross_fitted.model.log_h.networks[0]
    assert_close(first.state_dict(), given.consistency.result.network.state_dict())


@pytest.mark.parametrize("name", ["tgdp", "stack", "finetune", "lora", "difffit", "scratch"])
def test_the_disk_gives_back_what_the_shipped_methods_fitted(short, name, rng):
    given, results = short
    source, _ = given.domains
    fitted = given.stack if name == "stack" else given.cross_fitted
    folder = given.folder / name
    if name not in ("tgdp", "stack"):
        folder = given.folder / f"{name}-{results[name].chosen['learning_rate']}"
    details = fitted.details if name in ("tgdp", "stack") else {}
    model = shipped.METHODS[name].load(source, folder, details, folder / "card.json")
    x0, component = given.problem.target.sample(6, rng)
    noisy = x0.float(), torch.full((6,), 0.7), given.problem.target.one_hot(component).float()
    with torch.no_grad():
        assert_close(model.denoiser()(*noisy), results[name].denoise(*noisy))


def test_every_shipped_method_is_in_the_study():
    assert shipped.METHODS.keys() <= METHODS.keys()


@pytest.mark.parametrize("name", ["paper", "conditional"])
def test_maximum_likelihood_finds_the_law_from_many_records(name, rng):
    law = problem(name).target
    x0, component = law.sample(40_000, rng)
    start = replace(
        law,
        weights=torch.full_like(law.weights, 1 / len(law.weights)),
        means=law.means + 0.2,
        variances=2 * law.variances,
    )
    found = maximum_likelihood(start, x0, law.one_hot(component))
    assert_close(found.weights, law.weights, atol=0.02, rtol=0)
    assert_close(found.means, law.means, atol=0.03, rtol=0)
    assert_close(found.variances, law.variances, atol=0.02, rtol=0.05)


def test_maximum_likelihood_never_grows_less_likely(rng):
    law = problem("unequal").target
    x0 = law.sample(30, rng)[0]
    found = maximum_likelihood(law, x0, None)
    assert found.log_density(x0).mean() > law.log_density(x0).mean()


def test_terms_left_out_weigh_nothing():
    config = loss_terms(cycle=True)
    assert (config.eta_guidance, config.eta_cycle, config.eta_consistency) == (0.0, 1.0, 0.0)
    assert loss_terms(guidance=True, form="kl").form == "kl"


def test_a_few_steps_of_consistency_lower_the_loss_on_fresh_target_records(tmp_path):
    given = task_of("paper", 200, tmp_path, steps=60)
    rng = np.random.default_rng(0)
    x0 = given.problem.target.sample(4000, torch.Generator().manual_seed(5))[0].float()
    sigma = torch.from_numpy(np.exp(rng.normal(-0.5, 1.2, 4000))).float()
    noise = torch.from_numpy(rng.standard_normal((4000, 2))).float()

    def loss(denoise):
        return mean_denoising_loss(denoise, x0, None, sigma, noise)

    before = loss(given.source)
    for name in ("consistency", "calibrated"):
        assert loss(METHODS[name].transfer(given).denoise) < before - 0.03


@pytest.mark.parametrize("beats", [False, True])
def test_a_ratio_that_knows_nothing_draws_no_positives(tmp_path, monkeypatch, beats):
    given, used = task_of("paper", 20, tmp_path), []
    fit_guidance = tgdp.fit_guidance

    def watched(*arguments, **options):
        used.append(arguments[5])
        return fit_guidance(*arguments, **options)

    monkeypatch.setattr(tgdp, "fit_guidance", watched)
    monkeypatch.setattr(RatioDiagnostics, "beats_chance", beats)
    given.fitted_guidance("guidance", loss_terms(guidance=True, cycle=True), 2e-3)
    assert used[0].target_positives == (0.5 if beats else 1.0)
    assert used[0].eta_cycle == (1.0 if beats else 0.0)


def test_fine_tuning_is_offered_a_rate_ten_times_lower(short):
    assert min(TUNING_RATES) * 10 <= min(RATES)
    assert short[1]["finetune"].chosen["learning_rate"] in TUNING_RATES


def test_an_unknown_method_is_refused_with_the_names():
    with pytest.raises(ConfigError, match=r"expected a method of exact-target, .* got 'magic'"):
        method("magic")
