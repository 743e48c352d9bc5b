import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.testing import assert_close

from ecgtransfer.diffusion import NoiseConfig
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.training import TrainConfig, load_weights
from ecgtransfer.transfer import (
    DomainClassifier,
    DomainClassifierConfig,
    DomainRecords,
    EncoderEnsemble,
    fit_domain_classifier,
    log_density_ratio,
    ratio_diagnostics,
)
from ecgtransfer.transfer.calibration import (
    balanced_logistic_regression,
    cross_fitted_platt,
    platt,
    stacked_platt,
)
from ecgtransfer.transfer.density_ratio import _balanced_draws, _signal_encoder
from ecgtransfer.transfer.diagnostics import domain_auc
from ecgtransfer.transfer.out_of_fold import (
    SOURCE_DRAWS,
    TARGET_DRAWS,
    OutOfFold,
    common_patient_folds,
)
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
SHORT = TrainConfig(steps=3, batch_size=8, validate_every=3)
#: Networks alone.
TINY = DomainClassifierConfig(widths=(16,), train=TRAIN, band_powers=False)


def of_signals(config, leads, labels):
    """An untrained classifier of signals (B, leads, T): `config.folds` networks."""
    encoders = [_signal_encoder(config, leads, labels) for _ in range(config.folds)]
    return DomainClassifier(EncoderEnsemble(encoders), config.noise is not None)


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


def both(rng, shift, labels=2):
    """Source and target records to learn from."""
    return domain(rng, 400, "s", labels=labels), domain(rng, 150, "t", shift, labels)


def others(rng, shift, labels=2):
    """Source and target records of other patients."""
    return domain(rng, 300, "v", labels=labels), domain(rng, 100, "w", shift, labels)


def test_the_classifier_separates_shifted_domains_without_bounds_on_the_ratio(rng, tmp_path):
    found = fit_domain_classifier(*both(rng, 0.6), TINY, tmp_path)
    assert found.diagnostics.auc > 0.95
    assert found.result.validation < 0.35
    # Softmax on top of a sigmoid would confine the log-ratio to [-1, 1].
    source, target = map(found.classifier.log_ratio, others(rng, 0.6))
    assert target.shape == (100,)
    assert target.mean() > 1.5
    assert source.mean() < -1.5
    assert found.diagnostics.calibration_error < 0.1


def test_the_classifier_is_at_chance_on_equal_domains(rng, tmp_path):
    found = fit_domain_classifier(*both(rng, 0.0), TINY, tmp_path)
    assert 0.42 < found.diagnostics.auc < 0.58
    assert found.result.validation > 0.68  # log 2 = 0.693 at chance
    assert not found.diagnostics.beats_chance
    assert found.diagnostics.effective_fraction > 0.8
    assert found.diagnostics.mean_ratio == pytest.approx(1.0, abs=0.05)


def test_a_shift_that_only_the_label_reveals_is_found(rng, tmp_path):
    # In the target the sign of the first lead follows the label; in the source it does not.
    def signed(records, follows):
        sign = 2 * records.label[:, 0] - 1
        if not follows:
            sign = sign[torch.randperm(len(sign), generator=rng)]
        records.x0[:, 0] += 1.5 * sign[:, None]
        return records

    sets = [signed(part, follows) for part, follows in zip(both(rng, 0.0), [0, 1], strict=True)]
    found = fit_domain_classifier(*sets, TINY, tmp_path)
    assert found.diagnostics.auc > 0.7  # 0.75 is the most: half of the source agrees by chance
    blind = [DomainRecords(part.x0, None, part.patient) for part in sets]
    without = fit_domain_classifier(*blind, TINY, tmp_path / "blind")
    assert without.diagnostics.auc < 0.62


def test_the_noise_dependent_classifier_is_a_log_h_that_fades_with_the_noise(rng, tmp_path):
    config = replace(TINY, noise=NoiseConfig())
    found = fit_domain_classifier(*both(rng, 0.6), config, tmp_path)
    assert (found.diagnostics.n_source, found.diagnostics.n_target) == (400, 150)
    assert found.diagnostics.beats_chance
    x0, label = others(rng, 0.6)[1].take(range(100))
    noise = torch.randn(x0.shape, generator=rng)
    ratio = {
        sigma: found.classifier(x0 + sigma * noise, torch.full((100,), sigma), label)
        for sigma in (0.1, 30.0)
    }
    assert ratio[0.1].shape == (100,)
    assert ratio[0.1].mean() > 0.7
    assert ratio[30.0].abs().mean() < ratio[0.1].abs().mean() / 2


def test_few_target_records_met_again_and_again_still_give_a_ratio(rng, tmp_path):
    # 24 target records, met some hundred times: logits of unseen records shift together.
    source, target = domain(rng, 600, "s"), domain(rng, 24, "t", 0.35)
    train = replace(TRAIN, steps=120, patience=0, validate_every=20, validate_from=40)
    found = fit_domain_classifier(source, target, replace(TINY, train=train), tmp_path)
    assert found.result.best_step >= 40
    assert found.result.validation < 0.6
    assert found.diagnostics.beats_chance
    loss = ratio_diagnostics(*map(found.classifier.log_ratio, others(rng, 0.35))).log_loss
    assert loss < 0.6


def test_the_same_seed_gives_the_same_classifier_and_leaves_the_global_one_alone(rng, tmp_path):
    sets = both(rng, 0.3)
    config = replace(TINY, sobolev=0.01, train=SHORT)
    before = torch.get_rng_state()
    one, two = (
        fit_domain_classifier(*sets, config, tmp_path / name).classifier.log_ratio(sets[1])
        for name in ("one", "two")
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, two)


def test_weights_on_disk_carry_the_ensemble_and_its_calibration(rng, tmp_path):
    sets = both(rng, 0.6, labels=0)
    config = replace(TINY, train=replace(TRAIN, steps=10, batch_size=8, validate_every=5))
    fitted = fit_domain_classifier(*sets, config, tmp_path).classifier
    loaded = of_signals(config, leads=2, labels=0)
    load_weights(loaded, tmp_path / "weights.safetensors")
    assert float(loaded.slope) != 1.0
    assert_close(loaded.log_ratio(sets[1], batch_size=7), fitted.log_ratio(sets[1]))


def test_the_sobolev_penalty_flattens_the_logit(rng, tmp_path):
    sets = both(rng, 0.6)
    x0, label = sets[1].take(range(100))

    def steepness(sobolev):
        config = replace(TINY, sobolev=sobolev, train=replace(TRAIN, steps=40))
        classifier = fit_domain_classifier(*sets, config, tmp_path / str(sobolev)).classifier
        x = x0.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(classifier.logit(x, None, label).sum(), x)
        return float(gradient.square().sum())

    assert steepness(3.0) < steepness(0.0) / 2


def test_the_patients_of_both_domains_are_dealt_evenly_into_common_folds():
    # Patient p3 is in both domains, s0 has three records.
    source = DomainRecords(
        torch.zeros(22, 1), None, ("s0", "s0", "s0", *map("s{}".format, range(1, 19)), "p3")
    )
    target = DomainRecords(torch.zeros(11, 1), None, tuple(map("p{}".format, range(11))))
    fold = common_patient_folds(source, target, 5, seed=0)
    ours, theirs = fold[:22], fold[22:]
    assert len(set(ours[:3])) == 1
    assert ours[-1] == theirs[3]
    assert sorted(np.bincount(theirs)) == [2, 2, 2, 2, 3]
    assert sorted(np.bincount(ours[2:-1])) == [3, 4, 4, 4, 4]
    assert np.array_equal(common_patient_folds(source, target, 5, seed=0), fold)
    assert not np.array_equal(common_patient_folds(source, target, 5, seed=1), fold)
    assert set(common_patient_folds(source, target.subset(np.arange(3)), 5, seed=0)) == {0, 1, 2}


def test_one_patient_of_a_domain_is_too_few(rng, tmp_path):
    one = domain(rng, 20, "t")
    one = DomainRecords(one.x0, one.label, ("t0",) * 20)
    with pytest.raises(CorpusError, match=r"two patients of each .*400 source and 1 target p"):
        fit_domain_classifier(both(rng, 0.0)[0], one, TINY, tmp_path)


def test_a_network_learns_from_all_folds_but_its_own_half_of_them_target():
    is_target = np.arange(90) >= 60
    fold = np.arange(90) % 3
    draw = _balanced_draws(is_target, fold, replace(SHORT, batch_size=20))
    met = {0: set(), 1: set(), 2: set()}
    for step in range(30):
        index, member = draw(step)
        assert np.array_equal(np.bincount(member), [20, 20, 20])
        assert not (fold[index] == member).any()
        for number in met:
            assert is_target[index[member == number]].sum() == 10
            met[number].update(index[member == number])
    for number, rows in met.items():
        assert rows == set(np.flatnonzero(fold != number))


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))

    def forward(self, x, sigma, label):
        return self.value.expand(len(x), 1)


@pytest.mark.parametrize("noise", [None, NoiseConfig()])
def test_a_record_is_judged_by_the_network_that_missed_it(rng, noise):
    source, target = domain(rng, 40, "s"), domain(rng, 23, "t")
    fold = common_patient_folds(source, target, 4, seed=3)
    unseen = OutOfFold.of(source, target, fold, noise, seed=0)
    ensemble = EncoderEnsemble([Constant(number) for number in range(4)])
    logits = unseen.outputs(DomainClassifier(ensemble, noise is not None), batch_size=7)
    scale = 1.0 if noise is None else (unseen.noise[0].square() + 1).rsqrt()
    assert_close(logits, scale * torch.from_numpy(fold[unseen.index]).double())
    times = np.bincount(unseen.index)
    if noise is None:
        assert set(times) == {1}
    else:
        assert set(times[:40]) == {SOURCE_DRAWS}
        assert set(times[40:]) == {TARGET_DRAWS}


def test_the_loss_that_stops_the_training_does_not_see_shift_and_scale_of_the_logits(rng):
    source, target = both(rng, 0.3, labels=0)
    fold = common_patient_folds(source, target, 3, seed=0)
    unseen = OutOfFold.of(source, target, fold, None, seed=0)

    class Mean(nn.Module):
        def __init__(self, scale, shift):
            super().__init__()
            self.scale, self.shift = nn.Parameter(torch.tensor(scale)), shift

        def forward(self, x, sigma, label):
            return self.scale * x[:, 0].mean(1, keepdim=True) + self.shift

    plain, moved = (
        DomainClassifier(EncoderEnsemble([Mean(*each)] * 3), False)
        for each in ((1.0, 0.0), (7.0, -5.0))
    )
    assert unseen.calibrated_loss(moved) == pytest.approx(unseen.calibrated_loss(plain), abs=1e-6)
    assert unseen.calibrated_loss(plain) < 0.6
    raw = ratio_diagnostics(*(unseen.outputs(moved)[part] for part in unseen._parts))
    assert raw.log_loss > 1.0  # what used to stop it


def test_an_ensemble_says_the_mean_or_what_one_member_says_of_a_record(rng):
    class Weighing(nn.Module):
        def __init__(self, number):
            super().__init__()
            self.number = number

        def forward(self, x, sigma, label):
            return (self.number * x[:, 0] + 10 * sigma + 100 * label[:, 0])[:, None]

    ensemble = EncoderEnsemble([Weighing(1.0), Weighing(2.0), Weighing(6.0)])
    x = torch.randn(5, 2, generator=rng)
    sigma, label = torch.rand(5, generator=rng), torch.rand(5, 3, generator=rng)
    rest = 10 * sigma + 100 * label[:, 0]
    assert_close(ensemble(x, sigma, label)[:, 0], 3 * x[:, 0] + rest)
    member = torch.tensor([2, 0, 0, 2, 0])
    found = ensemble(x, sigma, label, member)[:, 0]
    assert_close(found, torch.tensor([6.0, 1.0, 1.0, 6.0, 1.0]) * x[:, 0] + rest)
    with pytest.raises(ConfigError, match="at least one network in an ensemble"):
        EncoderEnsemble([])


def test_domains_in_other_label_spaces_are_refused(rng, tmp_path):
    with pytest.raises(CorpusError, match="one label space"):
        fit_domain_classifier(domain(rng, 20, "s"), domain(rng, 20, "t", labels=3), TINY, tmp_path)


def test_a_noise_level_too_many_or_too_few_is_refused():
    clean = of_signals(TINY, leads=2, labels=0)
    noisy = of_signals(DomainClassifierConfig(widths=(16,), noise=NoiseConfig()), leads=2, labels=0)
    x = torch.zeros(2, 2, 32)
    with pytest.raises(ConfigError, match="None for one that does not, got sigma"):
        clean(x, torch.ones(2), None)
    with pytest.raises(ConfigError, match="None for one that does not, got None"):
        noisy(x, None, None)


def test_the_log_ratio_is_slope_times_logit_plus_offset(rng):
    classifier = of_signals(TINY, leads=2, labels=0)
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


def both_of_vectors(rng):
    return [vectors(rng, [0.0] * 3, 5000, "s"), vectors(rng, SHIFT, 5000, "t")]


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
        *both_of_vectors(rng),
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

    sets = [labelled(part) for part in both_of_vectors(rng)]
    config = DomainClassifierConfig(
        noise=NoiseConfig(),
        sobolev=0.01,
        train=TrainConfig(steps=4, batch_size=8, validate_every=2),
    )
    fitted = fit_domain_classifier(
        *sets, config, tmp_path, encoder=lambda: Reader(3, labels=2).double()
    )
    x0, label = sets[1].take(range(5))
    sigma = torch.full((5,), 2.0, dtype=torch.float64)
    members, root = fitted.classifier.encoder.members, 5**0.5
    assert len(members) == 5
    weight = torch.stack([member.last.weight[0] for member in members]).mean(0)
    bias = torch.cat([member.last.bias for member in members]).mean()
    seen = torch.cat([x0 / root, label], 1) @ weight + bias
    assert_close(fitted.classifier.logit(x0, sigma, label), seen / root)


def test_the_seed_decides_the_weights_that_an_encoder_starts_from(rng, tmp_path):
    sets = both_of_vectors(rng)
    config = DomainClassifierConfig(train=TrainConfig(steps=2, batch_size=8, validate_every=2))
    ratios = []
    for name in ("one", "two"):
        torch.randn(3)  # the global generator moves on, and decides nothing
        fitted = fit_domain_classifier(*sets, config, tmp_path / name, encoder=lambda: Reader(3))
        ratios.append(fitted.classifier.log_ratio(sets[1]))
    assert torch.equal(*ratios)
    first, second = (member.last.weight for member in fitted.classifier.encoder.members[:2])
    assert not torch.allclose(first, second, atol=0.05)  # networks begin apart


def test_vectors_without_an_encoder_of_their_own_are_refused(rng, tmp_path):
    with pytest.raises(ConfigError, match=r"signals of shape \(N, leads, T\), got \(5000, 3\)"):
        fit_domain_classifier(*both_of_vectors(rng), TINY, tmp_path)


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
        ({"folds": 1}, "at least 2 folds for the domain classifier, got 1"),
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


def test_the_slopes_of_two_independent_logits_are_those_of_their_sum(rng):
    pairs = GaussianPair(1.0, 1.0), GaussianPair(-0.5, 1.0)
    source, target = (
        torch.stack([pair.log_ratio(getattr(pair, name)((40_000, 1, 1), rng)) for pair in pairs], 1)
        for name in ("draw_source", "draw_target")
    )
    distort = torch.tensor([0.25, 3.0])
    slopes, offset = stacked_platt(source * distort - 2, target * distort - 2)
    assert slopes == pytest.approx([4, 1 / 3], rel=0.05)
    assert offset == pytest.approx(2 * slopes.sum(), rel=0.05)
    noise = torch.randn(len(source), 1, generator=rng)
    backwards = stacked_platt(*(torch.cat([-part[:, :1], noise], 1) for part in (source, target)))
    assert backwards[0][0] == 0.0


def test_balanced_logistic_regression_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    is_target = np.arange(90) >= 70
    features = rng.normal(size=(90, 4)) + 0.7 * is_target[:, None]
    weight, bias = balanced_logistic_regression(features, is_target, penalty=0.1)
    off = 1 / 22  # Platt's targets as records of both classes, with these weights
    mass = np.where(is_target, 0.5 / 20, 0.5 / 70)
    theirs = LogisticRegression(C=10, tol=1e-10, max_iter=10_000).fit(
        np.concatenate([features, features]),
        np.concatenate([is_target, ~is_target]),
        np.concatenate([mass * (1 - off), mass * off]),
    )
    assert weight == pytest.approx(theirs.coef_[0], abs=1e-4)
    assert bias == pytest.approx(theirs.intercept_[0], abs=1e-4)


def test_platt_stays_finite_where_domains_are_apart_and_flat_where_the_logit_is_backwards():
    low, high = torch.full((30,), -5.0), torch.full((10,), 5.0)
    scale, offset = platt(low, high)
    assert 1 / (1 + math.exp(-5 * scale - offset)) == pytest.approx(11 / 12, abs=1e-3)
    assert 1 / (1 + math.exp(5 * scale - offset)) == pytest.approx(1 / 12, abs=1e-3)
    assert platt(high, low)[0] == 0.0


@pytest.mark.parametrize("n", [60, 2000])
def test_a_ratio_that_knows_nothing_is_one_whatever_the_numbers_of_records(rng, n):
    # Platt's own targets, one for each domain, gave an offset of -0.107 here and E_p[r] = 0.90.
    scale, offset = platt(torch.ones(n), -torch.ones(16))
    assert (scale, offset) == (0.0, pytest.approx(0.0, abs=1e-6))
    ratios = []
    for _ in range(200):
        source, target = torch.randn(n, generator=rng), torch.randn(16, generator=rng)
        scale, offset = platt(source, target)
        ratios.append(float((scale * source + offset).exp().mean()))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.02)


def test_logits_of_several_draws_are_calibrated_as_so_many_records(rng):
    source, target = torch.randn(40, generator=rng), 3 + torch.randn(10, generator=rng)
    once = platt(source, target)
    assert platt(source.repeat(4), target.repeat(4), fewest=10) == pytest.approx(once, rel=1e-4)
    assert platt(source.repeat(4), target.repeat(4))[0] > 1.1 * once[0]


def test_each_fold_is_calibrated_on_the_others(rng):
    # Fold 0 of the source is far out; calibrations that saw it would be different.
    source, target = torch.randn(40, generator=rng), 1 + torch.randn(20, generator=rng)
    ours, theirs = np.arange(40) % 4, np.arange(20) % 4
    source[ours == 0] = 30.0
    one, two = cross_fitted_platt(source[:, None], target[:, None], ours, theirs)
    scale, offset = platt(source[ours != 0], target[theirs != 0], None)
    assert_close(one[ours == 0], scale * source[ours == 0] + offset)
    assert_close(two[theirs == 0], scale * target[theirs == 0] + offset)


def test_the_auc_out_of_fold_does_not_lean_away_from_chance(rng):
    ours, theirs = np.arange(400) % 5, np.arange(16) % 5
    within, pooled = [], []
    for _ in range(200):
        source, target = torch.randn(400, generator=rng), torch.randn(16, generator=rng)
        each = cross_fitted_platt(source[:, None], target[:, None], ours, theirs)
        within.append(domain_auc(*each, ours, theirs))
        pooled.append(domain_auc(*each))
    assert np.mean(within) == pytest.approx(0.5, abs=0.02)
    assert np.mean(pooled) < np.mean(within) - 0.01  # why the AUC counts pairs within folds
