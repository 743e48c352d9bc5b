import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.diffusion import NoiseConfig, denoising_loss
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.experiments.problems import problem
from ecgtransfer.training import TrainConfig
from ecgtransfer.transfer import DomainRecords, TgdpConfig, fit_guidance, guided
from ecgtransfer.transfer.guided import log_h_gradient
from ecgtransfer.transfer.tgdp import held_out_consistency
from tests.gaussian import GaussianPair

PAIR = GaussianPair(mean=0.9, std=0.6)
NOISE = NoiseConfig(log_mean=-0.3, log_std=1.0)
TRAIN = TrainConfig(
    steps=150,
    batch_size=256,
    learning_rate=1e-2,
    warmup_steps=10,
    weight_decay=0.0,
    ema_decay=0.95,
    validate_every=50,
)
ALL = TgdpConfig(eta_cycle=0.3, eta_consistency=0.5, noise=NOISE, train=TRAIN)


class Perceptron(torch.nn.Module):
    """A small log h for records of one coordinate; as log q/p, it fades with the noise."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(
            torch.nn.Linear(2, 32),
            torch.nn.SiLU(),
            torch.nn.Linear(32, 32),
            torch.nn.SiLU(),
            torch.nn.Linear(32, 1),
        )
        generator = torch.Generator().manual_seed(0)
        for layer in self.inner[:-1:2]:
            torch.nn.init.normal_(layer.weight, std=0.5, generator=generator)
            torch.nn.init.zeros_(layer.bias)
        torch.nn.init.zeros_(self.inner[-1].weight)
        torch.nn.init.zeros_(self.inner[-1].bias)

    def forward(self, x, sigma, label):
        scale = (sigma**2 + 1).rsqrt()
        seen = torch.stack([x.flatten(1)[:, 0] * scale, sigma.log() / 4], 1)
        return scale * self.inner(seen)[:, 0]


def domain(draw, n, name, rng):
    return DomainRecords(draw((n, 1, 1), rng), None, tuple(f"{name}{i}" for i in range(n)))


@pytest.fixture
def domains(rng):
    """Source, target and held-out target records."""
    return (
        domain(PAIR.draw_source, 4000, "s", rng),
        domain(PAIR.draw_target, 1000, "t", rng),
        domain(PAIR.draw_target, 1000, "v", rng),
    )


def trained(domains, config, folder, **options):
    source = domains[0]
    options = {"log_ratio": PAIR.log_ratio(source.x0), "noisy_log_ratio": PAIR.log_h} | options
    network = Perceptron()
    result = fit_guidance(PAIR.denoise_source, network, *domains, config, folder, **options)
    return network, result


ONLY = {"eta_guidance": 0.0, "eta_cycle": 0.0, "eta_consistency": 0.0}
RECIPES = {
    "logistic, resampled": ONLY | {"eta_guidance": 1.0, "target_positives": 0.0},
    "logistic, target positives": ONLY | {"eta_guidance": 1.0, "target_positives": 1.0},
    "logistic, half and half": ONLY | {"eta_guidance": 1.0, "target_positives": 0.5},
    "logistic, weighted": ONLY | {"eta_guidance": 1.0, "resample": False},
    "kl": ONLY | {"eta_guidance": 1.0, "form": "kl"},
    "mse": ONLY | {"eta_guidance": 1.0, "form": "mse"},
    "cycle": ONLY | {"eta_cycle": 1.0},
    "consistency": ONLY | {"eta_consistency": 1.0},
    "all three": {},
}


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_each_loss_and_their_sum_closes_most_of_the_gap_to_the_target(domains, recipe, tmp_path):
    config = replace(ALL, **RECIPES[recipe])
    _, result = trained(domains, config, tmp_path)
    score = held_out_consistency(PAIR.denoise_source, domains[2], NOISE, TRAIN.seed)
    at_start, exact = score(Perceptron()), score(Exact())
    assert exact < at_start
    assert result.validation - exact < 0.25 * (at_start - exact)


class Exact(torch.nn.Module):
    """The closed form, with a parameter that says where it is."""

    def __init__(self):
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, sigma, label):
        return PAIR.log_h(x, sigma) + self.place


def short(**change):
    train = replace(TRAIN, steps=4, batch_size=16, validate_every=2)
    return replace(ALL, train=train, **change)


def test_the_denoiser_stays_as_it_is(domains, tmp_path):
    denoiser = torch.nn.Linear(1, 1)
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    network = Perceptron()
    fit_guidance(
        lambda x, sigma, label: denoiser(x),
        network,
        *domains,
        short(eta_cycle=0.0),
        tmp_path,
        log_ratio=PAIR.log_ratio(domains[0].x0),
    )
    assert all(torch.equal(before[name], value) for name, value in denoiser.state_dict().items())
    assert all(parameter.grad is None for parameter in denoiser.parameters())
    assert network.inner[-1].weight.abs().sum() > 0


def test_the_same_seed_gives_the_same_guidance(domains, tmp_path):
    one, _ = trained(domains, short(), tmp_path / "one")
    two, _ = trained(domains, short(sobolev=0.0), tmp_path / "two")
    assert_close(dict(one.state_dict()), dict(two.state_dict()), rtol=0, atol=0)


def test_labels_reach_the_guidance_with_their_records(rng, tmp_path):
    # The label says which record it is of; a mix-up of records and labels would show.
    def labelled(n, name, kind):
        x0 = torch.randn(n, 1, 1, generator=rng)
        label = torch.cat([x0[:, :, 0], torch.full((n, 1), kind)], 1)
        return DomainRecords(x0, label, tuple(f"{name}{i}" for i in range(n)))

    seen = []

    class Watching(Perceptron):
        def forward(self, x, sigma, label):
            seen.append((x.detach(), sigma, label))
            return super().forward(x, sigma, label)

    fit_guidance(
        PAIR.denoise_source,
        Watching(),
        labelled(50, "s", 0.0),
        labelled(30, "t", 1.0),
        labelled(30, "v", 1.0),
        short(eta_cycle=0.0, noise=NoiseConfig(log_mean=-14.0, log_std=0.01)),
        tmp_path,
        log_ratio=torch.zeros(50),
    )
    seen = [(x, label) for x, _, label in seen if label is not None]
    assert all(torch.allclose(x[:, 0, 0], label[:, 0], atol=1e-4) for x, label in seen)
    # 16 source records, then 8 target and 8 source records as positives.
    kinds = next(label[:, 1] for x, label in seen if len(x) == 32)
    assert kinds[:16].sum() == 0
    assert kinds[16:].sum() == 8


class Labelled(torch.nn.Module):
    """log h = <x, a(label)>, with a vector for each label and one for none."""

    def __init__(self):
        super().__init__()
        self.of_label = torch.nn.Parameter(torch.zeros(3, 2))
        self.of_none = torch.nn.Parameter(torch.zeros(2))
        self.asked, self.denoised = [], []

    def forward(self, x, sigma, label):
        self.asked.append((len(x), label is None))
        a = self.of_none if label is None else label.to(x) @ self.of_label
        return (x * a).sum(1) / (1 + sigma**2)


def trained_with_labels(rng, tmp_path, **change):
    laws = problem("conditional")

    def drawn(law, n, name):
        x0, component = law.sample(n, rng)
        return DomainRecords(x0, law.one_hot(component), tuple(f"{name}{i}" for i in range(n)))

    network = Labelled()

    def denoise(x, sigma, label):
        network.denoised.append((len(x), label is None))
        return laws.source.denoise(x, sigma, label)

    config = replace(
        ALL, **(ONLY | {"eta_consistency": 1.0} | change), train=replace(TRAIN, steps=60)
    )
    fit_guidance(
        denoise,
        network,
        drawn(laws.source, 400, "s"),
        drawn(laws.target, 300, "t"),
        drawn(laws.target, 100, "v"),
        config,
        tmp_path,
        log_ratio=torch.zeros(400),
    )
    return laws, network


def test_some_labels_are_hidden_from_the_consistency_term_so_that_log_h_is_trained_without_label(
    rng, tmp_path
):
    laws, network = trained_with_labels(rng, tmp_path)
    trained = [each for each in network.asked if each[0] < 250]
    hidden = sum(n for n, is_hidden in trained if is_hidden)
    assert hidden / sum(n for n, _ in trained) == pytest.approx(0.1, abs=0.02)
    # The source's denoiser is told no more than log h.
    assert [each for each in network.denoised if each[0] < 250] == trained
    # Without a label it says where the target lies as a whole, better than the source does.
    x0 = laws.target.sample(4000, rng)[0]
    sigma, noise = torch.full((4000,), 1.0), torch.randn(4000, 2, generator=rng)

    def loss(denoise):
        return float(denoising_loss(denoise, x0, None, sigma, noise).mean())

    start, best = loss(laws.source.denoise), loss(laws.target.denoise)
    found = loss(guided(laws.source.denoise, network.requires_grad_(False)))
    assert start - found > 0.1 * (start - best)  # a linear log h moves every mode alike


@pytest.mark.parametrize("change", [{"label_dropout": 0.0}, {"eta_consistency": 0.0}])
def test_without_hidden_labels_log_h_says_nothing_where_there_is_no_label(rng, tmp_path, change):
    # Source records have the target's labels, not the source's mix: the other two terms would
    # teach a law without labels that the source's denoiser does not have.
    change = {"eta_guidance": 1.0} | change
    _, network = trained_with_labels(rng, tmp_path, **change)
    assert not replace(ALL, **change).trains_without_label
    assert torch.equal(network.of_none.data, torch.zeros(2))
    assert network.of_label.abs().min() > 0


def test_the_clip_bounds_what_one_record_weighs(domains, tmp_path):
    # One record with an endless ratio: without the clip it would be every positive.
    log_ratio = torch.zeros(4000)
    log_ratio[0] = 500.0
    config = short(target_positives=0.0, log_ratio_clip=1e-6, eta_cycle=0.0)
    clipped, _ = trained(domains, config, tmp_path / "one", log_ratio=log_ratio)
    flat, _ = trained(domains, config, tmp_path / "two", log_ratio=torch.zeros(4000))
    assert_close(dict(clipped.state_dict()), dict(flat.state_dict()), rtol=1e-4, atol=1e-6)


def test_the_sobolev_penalty_is_part_of_the_sum(domains, tmp_path):
    steep, _ = trained(domains, short(), tmp_path / "one")
    flat, _ = trained(domains, short(sobolev=10.0), tmp_path / "two")
    with pytest.raises(AssertionError):
        assert_close(dict(flat.state_dict()), dict(steep.state_dict()))


class Tilt(torch.nn.Module):
    """log h = a times the sum of x, at a = 0."""

    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, sigma, label):
        return self.a * x.flatten(1).sum(1)


@pytest.mark.parametrize("term", ["eta_guidance", "eta_consistency"])
def test_the_length_of_a_record_does_not_shift_the_balance_of_the_losses(term, tmp_path):
    # Guidance pulls at the sum of a record, consistency at the mean of its coordinates: without
    # the division by their number the longer record would hear the guidance loss alone.
    def pull(samples):
        records = [
            DomainRecords(torch.ones(40, 1, samples), None, tuple(f"{i}{n}" for n in range(40)))
            for i in "stv"
        ]
        network = Tilt()
        fit_guidance(
            lambda x, *_: 0 * x,
            network,
            *records,
            replace(
                ALL,
                **(ONLY | {term: 1.0, "resample": False}),
                noise=NoiseConfig(log_mean=0.0, log_std=1e-6),
                train=replace(TRAIN, steps=1, gradient_clip=1e9, validate_every=0),
            ),
            tmp_path / str(samples),
            log_ratio=torch.ones(40),
        )
        return float(network.a.grad)

    # d/da of softplus(f) + e softplus(-f) is (1 - e)/2 a coordinate, that of lambda |a - 1|^2 -4.
    expected = {"eta_guidance": (1 - math.e) / 2, "eta_consistency": -4.0}[term]
    assert [pull(2), pull(50)] == pytest.approx([expected] * 2, rel=0.2)


def test_a_ratio_that_knows_nothing_halves_the_slope_unless_it_is_not_trusted(domains, tmp_path):
    # With half of the positives drawn by r = 1 the minimiser is log(h/2 + 1/2).
    config = replace(ALL, **(ONLY | {"eta_guidance": 1.0}), train=replace(TRAIN, steps=300))
    x = torch.linspace(-0.5, 1.5, 40).reshape(-1, 1, 1)
    sigma = torch.full((40,), 0.5)
    true = log_h_gradient(PAIR.log_h, x, sigma, None)

    def steepness(config, name):
        network, _ = trained(domains, config, tmp_path / name, log_ratio=torch.zeros(4000))
        found = log_h_gradient(network, x, sigma, None)
        return float((found * true).sum() / true.square().sum())

    assert steepness(config, "half") < 0.75
    assert steepness(config.without_useless_ratios(False, True), "target") == pytest.approx(
        1.0, abs=0.2
    )


def test_terms_that_rest_on_a_ratio_which_knows_nothing_are_left_out():
    assert ALL.without_useless_ratios(True, True) == ALL
    assert ALL.without_useless_ratios(False, True) == replace(ALL, target_positives=1.0)
    assert ALL.without_useless_ratios(True, False) == replace(ALL, eta_cycle=0.0)
    weighed = replace(ALL, form="kl")
    assert weighed.without_useless_ratios(False, True) == weighed
    alone = replace(ALL, eta_guidance=0.0, eta_consistency=0.0)
    assert alone.without_useless_ratios(False, False).eta_cycle == ALL.eta_cycle


def test_the_learning_rate_is_chosen_by_held_out_records(domains, tmp_path):
    config = replace(
        short(eta_cycle=0.0), train=replace(TRAIN, steps=40, validate_every=20, batch_size=32)
    )
    scores = {}
    for factors in ((1e-3,), (1.0,), (1e-3, 1.0)):
        folder = tmp_path / f"{len(factors)}{factors[0]}"
        _, scores[factors] = trained(domains, replace(config, rate_factors=factors), folder)
    assert scores[1e-3, 1.0].validation == scores[1.0,].validation < scores[1e-3,].validation
    assert scores[1e-3, 1.0].learning_rate == TRAIN.learning_rate


def test_without_its_inputs_a_loss_is_refused(domains, tmp_path):
    with pytest.raises(ConfigError, match="log_ratio of the source records for the guidance loss"):
        trained(domains, short(), tmp_path, log_ratio=None)
    with pytest.raises(ConfigError, match="one log-ratio for each of 4000 source records"):
        trained(domains, short(), tmp_path, log_ratio=torch.zeros(4000, 1))
    with pytest.raises(ConfigError, match=r"classifier for eta_cycle = 0\.3, got none"):
        trained(domains, short(), tmp_path, noisy_log_ratio=None)


@pytest.mark.parametrize("change", [{"target_positives": 1.0}, {"eta_guidance": 0.0}])
def test_a_loss_that_is_left_out_needs_no_ratio(domains, change, tmp_path):
    config = short(eta_cycle=0.0, **change)
    assert not config.needs_ratio
    _, result = trained(domains, config, tmp_path, log_ratio=None, noisy_log_ratio=None)
    assert result.steps == 4


def test_held_out_patients_that_were_trained_on_are_refused(domains, tmp_path):
    source, target, _ = domains
    with pytest.raises(CorpusError, match="1000 patients in both"):
        trained((source, target, target), short(), tmp_path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"form": "log"}, "mse, kl or logistic, got 'log'"),
        ({"target_positives": 1.5}, "target_positives from 0 to 1, got 1.5"),
        ({"eta_cycle": -0.1}, "loss weights that are not below 0 and not all 0"),
        (ONLY, "loss weights that are not below 0 and not all 0"),
        ({"sobolev": float("inf")}, "loss weights that are not below 0"),
        ({"log_ratio_clip": 0.0}, "log_ratio_clip above 0"),
        ({"label_dropout": 1.0}, "0 <= label_dropout < 1, got 1"),
        ({"rate_factors": ()}, "at least one finite factor of the learning rate"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(change, match):
    with pytest.raises(ConfigError, match=match):
        TgdpConfig(**change)
