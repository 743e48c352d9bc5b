import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.diffusion import Condition, NoiseConfig
from ecgtransfer.errors import ConfigError
from ecgtransfer.training import TrainConfig, load_weights
from ecgtransfer.transfer import (
    DomainClassifier,
    DomainClassifierConfig,
    DomainRecords,
    EncoderEnsemble,
    fit_domain_classifier,
    ratio_diagnostics,
)
from ecgtransfer.transfer.band_powers import (
    BAND_EDGES,
    BandPowerClassifier,
    fit_band_powers,
    log_band_powers,
)
from ecgtransfer.transfer.out_of_fold import OutOfFold, common_patient_folds

LEADS, SAMPLES = 2, 200
FEATURES = LEADS * (len(BAND_EDGES) + 1)
#: Networks that learn nothing in two steps.
UNTRAINED = DomainClassifierConfig(
    widths=(16,), train=TrainConfig(steps=2, batch_size=8, validate_every=2, learning_rate=1e-6)
)


def domain(rng, n, name, gain=1.0):
    """White noise, in the second lead with a standard deviation of `gain`."""
    x0 = torch.randn(n, LEADS, SAMPLES, generator=rng)
    x0[:, 1] *= gain
    return DomainRecords(x0, None, tuple(f"{name}{i}" for i in range(n)))


def test_a_sine_is_in_its_band_alone_and_a_gain_in_all():
    time = torch.arange(SAMPLES)
    x = torch.stack([torch.sin(2 * math.pi * 0.12 * time), torch.zeros(SAMPLES)])[None]
    powers = log_band_powers(x).reshape(LEADS, -1)
    assert powers.shape == (LEADS, len(BAND_EDGES) + 1)
    band = sum(edge <= 0.12 for edge in BAND_EDGES)
    others = [number for number in range(len(BAND_EDGES) + 1) if abs(number - band) > 1]
    assert powers[0, band] > powers[0, others].max() + 2
    assert (powers[1] == powers[1, 0]).all()
    assert powers.isfinite().all()
    noise = torch.randn(3, LEADS, SAMPLES, generator=torch.Generator().manual_seed(0))
    assert_close(log_band_powers(10 * noise), log_band_powers(noise) + 2)


def test_the_mean_power_of_white_noise_is_that_of_the_window():
    noise = torch.randn(400, 1, 1000, generator=torch.Generator().manual_seed(0))
    window = torch.hann_window(1000)
    expected = window.square().sum().log10()
    found = (10 ** log_band_powers(noise)).mean(0).log10()
    assert_close(found, expected.expand(len(BAND_EDGES) + 1), atol=0.05, rtol=0)


def test_bands_without_a_frequency_are_omitted():
    # 20 samples: frequencies 0, 0.05, ..., 0.5; none from 0.005 to 0.04 or from 0.07 to 0.1.
    assert log_band_powers(torch.ones(5, LEADS, 20)).shape == (5, LEADS * 8)


def test_each_classifier_is_fitted_without_its_fold(rng):
    source, target = domain(rng, 60, "s"), domain(rng, 20, "t", 1.1)
    fold = common_patient_folds(source, target, 4, seed=0)
    is_target = np.arange(80) >= 60
    members = fit_band_powers(source.joined(target), is_target, fold).members
    assert len(members) == 4
    # Other records of fold 2 change all classifiers but that of fold 2.
    changed = source.joined(target)
    changed.x0[torch.from_numpy(fold == 2)] *= 1.3
    again = fit_band_powers(changed, is_target, fold).members
    same = [torch.equal(one.weight, two.weight) for one, two in zip(members, again, strict=True)]
    assert same == [False, False, True, False]


def test_eighty_records_show_a_gain_of_ten_percent(rng):
    source, target = domain(rng, 500, "s"), domain(rng, 80, "t", 1.1)
    fold = common_patient_folds(source, target, 5, seed=0)
    fitted = fit_band_powers(source.joined(target), np.arange(580) >= 500, fold)
    unseen = OutOfFold.of(source, target, fold, None, seed=0)
    # The log-ratio of 200 samples of variance 1.21 against 1 has a mean of 1.7 in the target.
    assert unseen.calibrated_loss(DomainClassifier(fitted, False)) < 0.6


def test_a_network_that_learned_nothing_leaves_the_ratio_to_the_band_powers(rng, tmp_path):
    source, target = domain(rng, 500, "s"), domain(rng, 80, "t", 1.1)
    found = fit_domain_classifier(source, target, UNTRAINED, tmp_path)
    assert found.diagnostics.beats_chance
    assert found.diagnostics.auc > 0.75
    unseen = domain(rng, 300, "v"), domain(rng, 300, "w", 1.1)
    after = ratio_diagnostics(*map(found.classifier.log_ratio, unseen))
    assert after.log_loss < 0.6
    assert after.mean_ratio == pytest.approx(1, abs=0.2)
    alone = fit_domain_classifier(
        source, target, replace(UNTRAINED, band_powers=False), tmp_path / "alone"
    )
    assert alone.classifier.linear is None
    assert ratio_diagnostics(*map(alone.classifier.log_ratio, unseen)).log_loss > 0.65


def test_band_powers_of_equal_domains_do_not_beat_chance(rng, tmp_path):
    found = fit_domain_classifier(domain(rng, 300, "s"), domain(rng, 60, "t"), UNTRAINED, tmp_path)
    assert not found.diagnostics.beats_chance
    assert found.diagnostics.mean_ratio == pytest.approx(1, abs=0.1)


def test_weights_on_disk_carry_the_band_powers(rng, tmp_path):
    source, target = domain(rng, 60, "s"), domain(rng, 20, "t", 1.3)
    fitted = fit_domain_classifier(source, target, UNTRAINED, tmp_path).classifier
    loaded = DomainClassifier(
        fitted.encoder,
        False,
        EncoderEnsemble([BandPowerClassifier(torch.zeros(FEATURES), 0.0) for _ in range(5)]),
    )
    load_weights(loaded, tmp_path / "weights.safetensors")
    assert float(loaded.slope[1]) > 0
    assert_close(loaded.log_ratio(target, batch_size=7), fitted.log_ratio(target))


def test_the_log_ratio_is_the_weighted_sum_of_both_logits(rng):
    class First(torch.nn.Module):
        def forward(self, x, sigma, label):
            return x[:, 0, :1]

    linear = BandPowerClassifier(torch.linspace(-1, 1, FEATURES), 0.5)
    classifier = DomainClassifier(First(), False, linear)
    classifier.slope.copy_(torch.tensor([0.5, 2.0]))
    classifier.offset.fill_(3.0)
    x = torch.randn(4, LEADS, SAMPLES, generator=rng)
    logit = log_band_powers(x) @ torch.linspace(-1, 1, FEATURES) + 0.5
    assert_close(classifier(x, None, None), 0.5 * x[:, 0, 0] + 2 * logit + 3)


def test_a_conditioned_record_and_a_record_with_noise(rng, tmp_path):
    labelled = [
        DomainRecords(part.x0, Condition(label=torch.ones(len(part), 3)), part.patient)
        for part in (domain(rng, 30, "s"), domain(rng, 12, "t"))
    ]
    assert fit_domain_classifier(*labelled, UNTRAINED, tmp_path).classifier.linear is not None
    noisy = replace(UNTRAINED, noise=NoiseConfig())
    found = fit_domain_classifier(*labelled, noisy, tmp_path / "noisy")
    assert found.classifier.linear is None
    with pytest.raises(ConfigError, match="no linear classifier beside a domain classifier that s"):
        DomainClassifier(found.classifier.encoder, True, found.classifier.encoder)
