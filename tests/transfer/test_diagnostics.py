import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from ecgtransfer.errors import ConfigError
from ecgtransfer.transfer import RatioDiagnostics, ratio_diagnostics
from ecgtransfer.transfer.diagnostics import (
    balanced_log_loss,
    calibration_error,
    domain_auc,
    effective_fraction,
)
from tests.gaussian import GaussianPair

PAIR = GaussianPair(mean=0.5, std=0.8)


def diagnosed(log_ratio, rng, n=20_000):
    source, target = PAIR.draw_source((n, 1, 1), rng), PAIR.draw_target((n, 1, 1), rng)
    return ratio_diagnostics(log_ratio(source), log_ratio(target))


def test_the_true_ratio_satisfies_both_identities_and_is_calibrated(rng):
    found = diagnosed(PAIR.log_ratio, rng)
    assert found.mean_ratio == pytest.approx(1, abs=4 * found.mean_ratio_error)
    assert found.mean_inverse_ratio == pytest.approx(1, abs=4 * found.mean_inverse_ratio_error)
    assert found.mean_ratio_error < 0.01
    assert found.calibration_error < 0.02
    assert found.warning is None
    assert f"E_p[r] = {found.mean_ratio:.3g}" in str(found)
    assert "warning" not in str(found)


@pytest.mark.parametrize("slip", [lambda r: r + 1, lambda r: 3 * r, lambda r: -r])
def test_a_wrong_ratio_breaks_an_identity_and_the_calibration(slip, rng):
    found = diagnosed(lambda x0: slip(PAIR.log_ratio(x0)), rng)
    off = max(
        abs(found.mean_ratio - 1) / found.mean_ratio_error,
        abs(found.mean_inverse_ratio - 1) / found.mean_inverse_ratio_error,
    )
    assert off > 4
    assert found.calibration_error > 0.05


def test_effective_sample_size_agrees_with_its_closed_form(rng):
    # E_p[r]^2 / E_p[r^2] with E_p[r^2] = exp(m^2) for two normals of variance 1.
    pair = GaussianPair(mean=0.5, std=1.0)
    log_ratio = pair.log_ratio(pair.draw_source((200_000, 1, 1), rng))
    assert effective_fraction(log_ratio) == pytest.approx(math.exp(-0.25), rel=0.02)


def test_effective_sample_size_of_equal_and_of_one_sided_weights():
    assert effective_fraction(torch.full((50,), -700.0)) == pytest.approx(1.0)
    assert effective_fraction(torch.tensor([900.0, 0.0, 0.0, 0.0])) == pytest.approx(0.25)


def test_auc_agrees_with_the_share_of_pairs_in_order():
    source, target = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 3.0])
    in_order = (target[:, None] > source).double() + (target[:, None] == source).double() / 2
    assert domain_auc(source, target) == pytest.approx(float(in_order.mean()))
    assert domain_auc(source, source) == pytest.approx(0.5)


def test_auc_of_several_folds_counts_the_pairs_within_each():
    # In order within both folds; the second fold's network puts every logit ten higher.
    source, target = torch.tensor([0.0, 1.0, 10.0, 13.0]), torch.tensor([2.0, 11.0, 12.0])
    ours, theirs = np.array([0, 0, 1, 1]), np.array([0, 1, 1])
    assert domain_auc(source, target, ours, theirs) == pytest.approx((2 + 1 + 1) / (2 + 2 + 2))
    assert domain_auc(source + 100 * torch.from_numpy(ours), target, ours, theirs) < 0.5
    both = torch.cat([source, target])
    whole = roc_auc_score(np.arange(7) >= 4, both)
    assert domain_auc(source, target, 0 * ours, 0 * theirs) == pytest.approx(whole)
    with pytest.raises(ConfigError, match="a fold with records of both domains"):
        domain_auc(source, target, ours, theirs + 2)


def test_the_log_loss_counts_both_domains_alike(rng):
    source, target = PAIR.draw_source((500, 1, 1), rng), PAIR.draw_target((40, 1, 1), rng)
    ratios = PAIR.log_ratio(source), PAIR.log_ratio(target)
    value, error = balanced_log_loss(*ratios)
    weight = np.repeat([1 / 500, 1 / 40], [500, 40])
    expected = log_loss(np.arange(540) >= 500, torch.cat(ratios).sigmoid(), sample_weight=weight)
    assert value == pytest.approx(expected)
    found = ratio_diagnostics(*ratios)
    assert (found.log_loss, found.log_loss_error) == (value, error)


def test_the_error_of_the_log_loss_is_its_spread_over_samples(rng):
    found = torch.tensor(
        [
            balanced_log_loss(
                PAIR.log_ratio(PAIR.draw_source((60, 1, 1), rng)),
                PAIR.log_ratio(PAIR.draw_target((20, 1, 1), rng)),
            )
            for _ in range(400)
        ]
    )
    assert float(found[:, 0].std()) == pytest.approx(float(found[:, 1].mean()), rel=0.15)


def test_the_true_ratio_beats_chance_and_others_do_not(rng):
    assert diagnosed(PAIR.log_ratio, rng, 500).beats_chance
    assert not diagnosed(lambda x0: 0 * PAIR.log_ratio(x0), rng, 500).beats_chance
    assert not diagnosed(lambda x0: -PAIR.log_ratio(x0), rng, 500).beats_chance
    constant = ratio_diagnostics(torch.zeros(30), torch.zeros(30))
    assert constant.log_loss == pytest.approx(math.log(2))
    assert constant.log_loss_error == pytest.approx(0.0)


def test_calibration_error_counts_both_domains_alike():
    # Always "even": right, whatever the numbers of records.
    assert calibration_error(torch.zeros(900), torch.zeros(10)) == pytest.approx(0.0)
    # Always "target, surely": wrong for half of the mass.
    assert calibration_error(torch.full((90,), 50.0), torch.full((9,), 50.0)) == pytest.approx(0.5)


def test_the_papers_own_pair_raises_the_warning():
    # An effective sample size of 12 among 10,000 (FACTS of the 2-D study).
    log_ratio = torch.full((10_000,), -30.0)
    log_ratio[:12] = math.log(10_000 / 12)
    found = ratio_diagnostics(log_ratio, torch.zeros(50))
    assert found.effective_records == pytest.approx(12, rel=1e-3)
    assert found.warning.startswith("the domains hardly overlap: the effective sample size")
    assert "10000 source records, weighted by the density ratio, is 12.0" in found.warning
    assert found.warning in str(found)


def test_source_records_that_all_look_alike_and_foreign_raise_the_warning():
    # Equal weights, so a perfect effective sample size, but no source record near the target.
    found = ratio_diagnostics(torch.full((5000,), -6.0), torch.full((50,), 6.0))
    assert found.effective_fraction == pytest.approx(1.0)
    assert found.warning.startswith("the domains hardly overlap: the source records cover 0%")


def test_few_effective_records_raise_the_warning_though_their_share_is_large():
    found = ratio_diagnostics(torch.zeros(15), torch.zeros(50))
    assert found.effective_fraction == pytest.approx(1.0)
    assert "15 source records, weighted by the density ratio, is 15.0" in found.warning


def test_the_mean_of_several_diagnostics_is_that_of_each_number(rng):
    both = [diagnosed(PAIR.log_ratio, rng, n) for n in (100, 301)]
    mean = RatioDiagnostics.mean(both)
    assert mean.n_source == 200
    assert isinstance(mean.n_target, int)
    for name in ("mean_ratio", "mean_ratio_error", "auc", "log_loss", "log_loss_error"):
        assert getattr(mean, name) == pytest.approx(
            (getattr(both[0], name) + getattr(both[1], name)) / 2
        )
    assert RatioDiagnostics.mean(both[:1]) == both[0]


def test_diagnostics_are_plain_numbers():
    found = ratio_diagnostics(torch.zeros(30), torch.zeros(30))
    assert isinstance(found, RatioDiagnostics)
    assert all(isinstance(value, int | float) for value in vars(found).values())


@pytest.mark.parametrize(
    "log_ratio", [torch.zeros(1), torch.zeros(3, 1), torch.tensor([0.0, math.inf])]
)
def test_log_ratios_that_say_nothing_are_refused(log_ratio):
    with pytest.raises(ConfigError, match="at least two finite log-ratios of held-out source"):
        ratio_diagnostics(log_ratio, torch.zeros(3))
    with pytest.raises(ConfigError, match="at least two finite log-ratios of held-out target"):
        ratio_diagnostics(torch.zeros(3), log_ratio)
