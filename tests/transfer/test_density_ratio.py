import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ecgtransfer.diffusion import NoiseConfig
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.training import TrainConfig, load_weights
from ecgtransfer.transfer import (
    DomainClassifier,
    DomainClassifierConfig,
    DomainRecords,
    fit_domain_classifier,
    log_density_ratio,
)
from ecgtransfer.transfer.density_ratio import cross_fitted_platt, platt
from tests.gaussian import GaussianPair

TRAIN = TrainConfig(
    steps=80,
    batch_size=32,
    learning_rate=3e-3,
    warmup_steps=5,
    ema_decay=0.9,
    validate_every=10,
    patience=4,
)
TINY = DomainClassifierConfig(widths=(16,), train=TRAIN)


def test_unequal_corpora_give_the_ratio_once_the_numbers_are_taken_out(rng):
    pair, n_source, n_target = GaussianPair(0.6, 0.8), 16_000, 2_000
    x0 = torch.cat(
        [pair.draw_source((n_source, 1, 1), rng), pair.draw_target((n_target, 1, 1), rng)]
    ).flatten()
    is_target = (torch.arange(len(x0)) >= n_source).double()
    design = torch.stack([x0**2, x0, torch.ones_like(x0)], 1)
    coefficients = torch.zeros(3)
    for _ in range(20):  # Newton's method for logistic regression
        p = (design @ coefficients).sigmoid()
        hessian = design.T @ (design * (p * (1 - p))[:, None])
        coefficients += torch.linalg.solve(hessian, design.T @ (is_target - p))
    at = torch.linspace(-0.5, 1.5, 9)
    logit = torch.stack([at**2, at, torch.ones_like(at)], 1) @ coefficients
    expected = pair.log_ratio(at.reshape(-1, 1, 1))
    assert_close(log_density_ratio(logit, n_source, n_target), expected, atol=0.15, rtol=0)
    assert (logit - expected).abs().min() > 1.5  # The logit itself is off by log 8.


def test_a_domain_without_records_has_no_ratio():
    with pytest.raises(ConfigError, match="at least one record of each domain, got 0 source"):
        log_density_ratio(torch.zeros(3), 0, 5)


def domain(rng, n, name, shift=0.0, labels=2):
    """Records of one patient each; `shift` moves the first lead."""
    x0 = torch.randn(n, 2, 32, generator=rng)
    x0[:, 0] += shift
    label = torch.eye(labels)[torch.arange(n) % labels] if labels else None
    return DomainRecords(x0, label, tuple(f"{name}{i}" for i in range(n)))


def four(rng, shift, labels=2):
    return (
        domain(rng, 300, "s", labels=labels),
        domain(rng, 100, "t", shift, labels),
        domain(rng, 300, "v", labels=labels),
        domain(rng, 100, "w", shift, labels),
    )


def test_the_classifier_separates_shifted_domains_without_bounds_on_the_ratio(rng, tmp_path):
    sets = four(rng, 0.6)
    found = fit_domain_classifier(*sets, TINY, tmp_path)
    assert found.diagnostics.auc > 0.95
    assert found.result.validation < 0.35
    # Softmax on top of a sigmoid would confine the log-ratio to [-1, 1].
    log_ratio = found.classifier.log_ratio(sets[3])
    assert log_ratio.shape == (100,)
    assert log_ratio.mean() > 1.5
    assert found.classifier.log_ratio(sets[2]).mean() < -1.5
    assert found.diagnostics.calibration_error < 0.1


def test_the_classifier_is_at_chance_on_equal_domains(rng, tmp_path):
    found = fit_domain_classifier(*four(rng, 0.0), TINY, tmp_path)
    assert 0.38 < found.diagnostics.auc < 0.62
    assert found.result.validation > 0.66  # log 2 = 0.693 at chance
    assert found.diagnostics.effective_fraction > 0.8
    assert found.diagnostics.mean_ratio == pytest.approx(1.0, abs=0.1)


def test_a_shift_that_only_the_label_reveals_is_found(rng, tmp_path):
    # In the target the sign of the first lead follows the label; in the source it does not.
    def signed(records, follows):
        sign = 2 * records.label[:, 0] - 1
        if not follows:
            sign = sign[torch.randperm(len(sign), generator=rng)]
        records.x0[:, 0] += 1.5 * sign[:, None]
        return records

    sets = [
        signed(part, follows) for part, follows in zip(four(rng, 0.0), [0, 1, 0, 1], strict=True)
    ]
    found = fit_domain_classifier(*sets, TINY, tmp_path)
    assert found.diagnostics.auc > 0.7  # 0.75 is the most: half of the source agrees by chance
    blind = [DomainRecords(part.x0, None, part.patient) for part in sets]
    without = fit_domain_classifier(*blind, TINY, tmp_path / "blind")
    assert without.diagnostics.auc < 0.62


def test_the_noise_dependent_classifier_is_a_log_h_that_fades_with_the_noise(rng, tmp_path):
    config = DomainClassifierConfig(widths=(16,), noise=NoiseConfig(), train=TRAIN)
    sets = four(rng, 0.6)
    classifier = fit_domain_classifier(*sets, config, tmp_path).classifier
    x0, label = sets[3].take(range(100))
    noise = torch.randn(x0.shape, generator=rng)
    ratio = {
        sigma: classifier(x0 + sigma * noise, torch.full((100,), sigma), label)
        for sigma in (0.1, 30.0)
    }
    assert ratio[0.1].shape == (100,)
    assert ratio[0.1].mean() > 0.7
    assert ratio[30.0].abs().mean() < ratio[0.1].abs().mean() / 2


def test_the_same_seed_gives_the_same_classifier_and_leaves_the_global_one_alone(rng, tmp_path):
    sets = four(rng, 0.3)
    config = DomainClassifierConfig(
        widths=(16,), sobolev=0.01, train=TrainConfig(steps=3, batch_size=8, validate_every=3)
    )
    before = torch.get_rng_state()
    one, two = (
        fit_domain_classifier(*sets, config, tmp_path / name).classifier.log_ratio(sets[2])
        for name in ("one", "two")
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, two)


def test_weights_on_disk_carry_the_calibration(rng, tmp_path):
    sets = four(rng, 0.6, labels=0)
    config = DomainClassifierConfig(
        widths=(16,), train=TrainConfig(steps=10, batch_size=8, validate_every=5)
    )
    fitted = fit_domain_classifier(*sets, config, tmp_path).classifier
    loaded = DomainClassifier.of_signals(config, leads=2, labels=0)
    load_weights(loaded, tmp_path / "weights.safetensors")
    assert float(loaded.slope) != 1.0
    assert_close(loaded.log_ratio(sets[3], batch_size=7), fitted.log_ratio(sets[3]))


def test_the_sobolev_penalty_flattens_the_logit(rng, tmp_path):
    sets = four(rng, 0.6)
    x0, label = sets[3].take(range(100))

    def steepness(sobolev):
        config = DomainClassifierConfig(widths=(16,), sobolev=sobolev, train=TRAIN)
        classifier = fit_domain_classifier(*sets, config, tmp_path / str(sobolev)).classifier
        x = x0.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(classifier.logit(x, None, label).sum(), x)
        return float(gradient.square().sum())

    assert steepness(3.0) < steepness(0.0) / 2


def test_validation_on_training_patients_is_refused(rng, tmp_path):
    source, target, held_source, held_target = four(rng, 0.0)
    with pytest.raises(CorpusError, match=r"300 patients in both \(s0, s1, s10\)"):
        fit_domain_classifier(source, target, source, held_target, TINY, tmp_path)
    with pytest.raises(CorpusError, match="100 patients in both"):
        fit_domain_classifier(source, target, held_source, target, TINY, tmp_path)


def test_domains_in_other_label_spaces_are_refused(rng, tmp_path):
    sets = list(four(rng, 0.0))
    sets[1] = domain(rng, 100, "t", labels=3)
    with pytest.raises(CorpusError, match="one label space"):
        fit_domain_classifier(*sets, TINY, tmp_path)


def test_one_held_out_record_is_too_few(rng, tmp_path):
    sets = (*four(rng, 0.0)[:3], domain(rng, 1, "w"))
    with pytest.raises(CorpusError, match="at least two held-out records of each domain"):
        fit_domain_classifier(*sets, TINY, tmp_path)


def test_a_noise_level_too_many_or_too_few_is_refused():
    clean = DomainClassifier.of_signals(TINY, leads=2, labels=0)
    noisy = DomainClassifier.of_signals(
        DomainClassifierConfig(widths=(16,), noise=NoiseConfig()), leads=2, labels=0
    )
    x = torch.zeros(2, 2, 32)
    with pytest.raises(ConfigError, match="None for one that does not, got sigma"):
        clean(x, torch.ones(2), None)
    with pytest.raises(ConfigError, match="None for one that does not, got None"):
        noisy(x, None, None)


def test_the_log_ratio_is_slope_times_logit_plus_offset(rng):
    classifier = DomainClassifier.of_signals(TINY, leads=2, labels=0)
    classifier.slope.fill_(0.5)
    classifier.offset.fill_(3.0)
    x = torch.randn(4, 2, 32, generator=rng)
    assert_close(classifier(x, None, None), 0.5 * classifier.logit(x, None, None) + 3.0)


class Reader(nn.Module):
    """(B, d), (B,) or None, (B, K) or None -> (B, 1): linear in x and label, none in the noise."""

    def __init__(self, dimension, labels=0):
        super().__init__()
        self.last = nn.Linear(dimension + labels, 1)

    def forward(self, x, sigma, label):
        return self.last(x if label is None else torch.cat([x, label], 1))


def vectors(rng, shift, n, name):
    """Records from N(shift, I), which is (N, 3)."""
    x0 = torch.tensor(shift) + torch.randn(n, 3, generator=rng)
    return DomainRecords(x0, None, tuple(f"{name}{i}" for i in range(n)))


SHIFT = [0.8, -0.4, 0.0]


def four_of_vectors(rng):
    return [
        vectors(rng, shift, n, name)
        for shift, n, name in (
            ([0.0] * 3, 4000, "s"),
            (SHIFT, 4000, "t"),
            ([0.0] * 3, 2000, "v"),
            (SHIFT, 2000, "w"),
        )
    ]


def test_an_encoder_of_vectors_learns_the_log_ratio_of_two_gaussians(rng, tmp_path):
    train = TrainConfig(
        steps=300,
        batch_size=512,
        learning_rate=0.02,
        warmup_steps=5,
        weight_decay=0.0,
        ema_decay=0.95,
        validate_every=25,
    )
    fitted = fit_domain_classifier(
        *four_of_vectors(rng),
        DomainClassifierConfig(train=train),
        tmp_path,
        encoder=lambda: Reader(3),
    )
    x0, shift = torch.randn(500, 3, generator=rng), torch.tensor(SHIFT)
    expected = x0 @ shift - shift @ shift / 2  # log N(x; m, I) / N(x; 0, I)
    assert_close(fitted.classifier(x0, None, None), expected, atol=0.25, rtol=0)
    assert fitted.diagnostics.mean_ratio == pytest.approx(1.0, abs=0.1)


def test_an_encoder_of_vectors_may_see_noise_and_labels(rng, tmp_path):
    def labelled(records):
        label = torch.eye(2)[torch.arange(len(records)) % 2]
        return DomainRecords(records.x0.double(), label.double(), records.patient)

    sets = [labelled(part) for part in four_of_vectors(rng)]
    config = DomainClassifierConfig(
        noise=NoiseConfig(),
        sobolev=0.01,
        train=TrainConfig(steps=4, batch_size=8, validate_every=2),
    )
    fitted = fit_domain_classifier(
        *sets, config, tmp_path, encoder=lambda: Reader(3, labels=2).double()
    )
    x0, label = sets[3].take(range(5))
    sigma = torch.full((5,), 2.0, dtype=torch.float64)
    last, root = fitted.classifier.encoder.last, 5**0.5
    seen = torch.cat([x0 / root, label], 1) @ last.weight[0] + last.bias
    assert_close(fitted.classifier.logit(x0, sigma, label), seen / root)


def test_the_seed_decides_the_weights_that_an_encoder_starts_from(rng, tmp_path):
    sets = four_of_vectors(rng)
    config = DomainClassifierConfig(train=TrainConfig(steps=2, batch_size=8, validate_every=2))
    ratios = []
    for name in ("one", "two"):
        torch.randn(3)  # the global generator moves on, and decides nothing
        fitted = fit_domain_classifier(*sets, config, tmp_path / name, encoder=lambda: Reader(3))
        ratios.append(fitted.classifier.log_ratio(sets[2]))
    assert torch.equal(*ratios)


def test_vectors_without_an_encoder_of_their_own_are_refused(rng, tmp_path):
    with pytest.raises(ConfigError, match=r"signals of shape \(N, leads, T\), got \(4000, 3\)"):
        fit_domain_classifier(*four_of_vectors(rng), TINY, tmp_path)


@pytest.mark.parametrize("encoder", [nn.Flatten(0), nn.Identity()])
def test_an_encoder_without_one_number_per_record_is_refused(encoder):
    class Told(nn.Module):
        def forward(self, x, sigma, label):
            return encoder(x)

    classifier = DomainClassifier(Told(), sees_noise=False)
    with pytest.raises(ConfigError, match=r"one number for each record, shape \(4, 1\), got"):
        classifier(torch.zeros(4, 3), None, None)


def test_the_names_of_the_weights_are_those_of_the_encoder_and_the_calibration():
    assert set(DomainClassifier(Reader(3), sees_noise=False).state_dict()) == {
        "encoder.last.weight",
        "encoder.last.bias",
        "slope",
        "offset",
    }


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"sobolev": -1.0}, "Sobolev weight not below 0"),
        ({"train": TrainConfig(steps=1, batch_size=7, validate_every=1)}, "even batch size"),
        ({"train": TrainConfig(steps=1, batch_size=8)}, "validate_every of at least 1"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(change, match):
    with pytest.raises(ConfigError, match=match):
        DomainClassifierConfig(**change)


def test_platt_recovers_slope_and_offset_of_a_distorted_logit(rng):
    pair = GaussianPair(1.0, 1.0)
    source, target = (
        pair.log_ratio(draw((n, 1, 1), rng))
        for draw, n in ((pair.draw_source, 60_000), (pair.draw_target, 20_000))
    )
    scale, offset = platt(source / 4 - 2, target / 4 - 2)
    assert scale == pytest.approx(4, rel=0.05)
    assert offset == pytest.approx(8, rel=0.05)


def test_platt_stays_finite_where_domains_are_apart_and_flat_where_the_logit_is_backwards():
    low, high = torch.full((30,), -5.0), torch.full((10,), 5.0)
    scale, offset = platt(low, high)
    probability = 1 / (1 + math.exp(-5 * scale - offset))
    assert probability == pytest.approx(11 / 12, abs=1e-3)
    assert platt(high, low)[0] == 0.0


def test_a_record_is_calibrated_without_its_own_draws(rng):
    # Record 0 is far out, four times; calibrations that saw it would be different.
    source, target = torch.randn(40, generator=rng), 1 + torch.randn(40, generator=rng)
    record = np.tile(np.arange(10), 4)
    source[record == 0] = 30.0
    one, _ = cross_fitted_platt(source, target, record, record)
    others = record % 5 != 0
    scale, offset = platt(source[others], target[others])
    assert_close(one[record == 0], scale * source[record == 0] + offset)
