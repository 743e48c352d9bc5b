import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from ecgtransfer.errors import ConfigError
from ecgtransfer.training import (
    label_weights,
    record_noise,
    seeded_initialisation,
    shuffled_batches,
    step_generator,
)
from ecgtransfer.training.batches import SHUFFLED_AT_ONCE


@pytest.mark.parametrize(
    ("n", "batch_size"), [(10, 5), (10, 3), (7, 16), (1, 4), (5, 5), (3, 6000)]
)
def test_every_record_comes_once_an_epoch(n, batch_size):
    order = shuffled_batches(n, batch_size, seed=0)
    epochs = 3 * batch_size
    dealt = np.concatenate([order(step) for step in range(n * epochs // batch_size)])
    assert dealt.dtype == np.int64
    for epoch in dealt.reshape(epochs, n):
        assert sorted(epoch) == list(range(n))


def test_few_records_are_dealt_anew_each_epoch_beyond_what_is_drawn_at_once():
    n, batch_size = 4, 100
    order = shuffled_batches(n, batch_size, seed=0)
    steps = 3 * SHUFFLED_AT_ONCE // batch_size // n * n
    epochs = np.concatenate([order(step) for step in range(steps)]).reshape(-1, n)
    assert np.array_equal(np.sort(epochs, axis=1), np.tile(np.arange(n), (len(epochs), 1)))
    counts = np.unique(epochs, axis=0, return_counts=True)[1]
    assert len(counts) == 24  # every order of four records
    assert chisquare(counts).pvalue > 0.001


def test_a_batch_that_is_changed_changes_no_other():
    order = shuffled_batches(50, 10, seed=0)
    kept = order(0).copy()
    order(0)[:] = -1
    assert np.array_equal(order(0), kept)


def test_epochs_and_seeds_have_orders_of_their_own():
    order = shuffled_batches(100, 100, seed=0)
    assert not np.array_equal(order(0), order(1))
    assert not np.array_equal(order(0), shuffled_batches(100, 100, seed=1)(0))


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 31.0)])
def test_the_batch_of_a_step_does_not_depend_on_what_was_asked_before(weights):
    steps = [12, 3, 40, 3, 0]
    order = shuffled_batches(30, 8, seed=4, weights=weights)
    asked = {step: order(step) for step in steps}
    for step in range(41):
        fresh = shuffled_batches(30, 8, seed=4, weights=weights)(step)
        assert fresh.shape == (8,)
        assert step not in asked or np.array_equal(asked[step], fresh)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_weighted_records_come_in_proportion_to_their_weights(kind):
    weights = np.array([5.0, 1.0, 0.0, 3.0, 11.0, 0.0, 2.0, 0.0], kind)
    order = shuffled_batches(len(weights), 500, seed=2, weights=weights)
    counts = np.bincount(np.concatenate([order(step) for step in range(40)]), minlength=8)
    drawn = weights > 0
    assert not counts[~drawn].any()
    expected = 20_000 * weights[drawn].astype(float) / weights.sum()
    assert chisquare(counts[drawn], expected).pvalue > 0.001


def test_a_last_record_without_weight_is_not_drawn_however_the_sum_is_rounded(monkeypatch):
    weights = np.ones(1001, np.float32)
    weights[-1] = 0

    class Highest:
        def random(self, n):
            return np.full(n, np.nextafter(1.0, 0.0))

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Highest())
    assert set(shuffled_batches(1001, 4, seed=0, weights=weights)(0)) == {999}


@pytest.mark.parametrize(
    "weights",
    [
        np.ones(3),
        np.ones((4, 1)),
        np.zeros(4),
        np.array([1, 1, 1, -1.0]),
        np.array([1, 1, 1, np.nan]),
        np.array([1, 1, 1, np.inf]),
    ],
)
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ConfigError, match="one finite weight of at least 0 for each of 4 records"):
        shuffled_batches(4, 2, seed=0, weights=weights)


@pytest.mark.parametrize(("n", "batch_size"), [(0, 4), (4, 0)])
def test_empty_batches_are_refused(n, batch_size):
    with pytest.raises(ConfigError, match=f"got {n} records and batch size {batch_size}"):
        shuffled_batches(n, batch_size, seed=0)


LABELS = np.array([[1, 0, 0]] * 8 + [[0, 1, 0]] * 2 + [[0, 0, 0]] * 4, np.float32)


def test_at_power_one_every_diagnosis_is_drawn_as_often():
    weights = label_weights(LABELS, power=1.0)
    np.testing.assert_allclose([weights[:8].sum(), weights[8:10].sum(), weights[10:].sum()], 1 / 3)


def test_at_power_zero_the_records_come_as_they_are():
    np.testing.assert_allclose(label_weights(LABELS, power=0.0), 1 / 14, rtol=1e-6)


@pytest.mark.parametrize("power", [0.0, 0.3, 0.5, 1.0])
def test_records_weigh_the_stated_power_of_their_rarity_and_one_in_all(power):
    weights = label_weights(LABELS, power)
    assert weights.shape == (14,)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(weights[8] / weights[0], 4**power, rtol=1e-6)
    np.testing.assert_allclose(weights[10] / weights[0], 2**power, rtol=1e-6)


def test_a_record_of_several_diagnoses_weighs_as_its_rarest():
    labels = np.array([[1, 0], [1, 0], [1, 0], [1, 1]], np.float32)
    weights = label_weights(labels, power=1.0)
    np.testing.assert_allclose(weights[3] / weights[0], 4, rtol=1e-6)


@pytest.mark.parametrize("labels", [np.zeros((5, 3)), np.zeros((5, 0))])
def test_records_without_any_label_all_weigh_the_same(labels):
    np.testing.assert_allclose(label_weights(labels, power=1.0), 0.2)


def first_draws(generator):
    return tuple(torch.randn(4, generator=generator).tolist())


def test_step_generators_differ_by_seed_step_and_rank_and_by_nothing_else():
    keys = [(seed, step, rank) for seed in (0, 1, 2) for step in (0, 1, 999) for rank in (0, 1)]
    assert len({first_draws(step_generator(*key)) for key in keys}) == len(keys)
    assert first_draws(step_generator(1, 2, 0)) == first_draws(step_generator(1, 2))


def test_step_generators_draw_independent_noise():
    rows = torch.stack(
        [torch.randn(2000, generator=step_generator(0, step)) for step in range(20)]
    ).numpy()
    correlation = np.corrcoef(rows)[np.triu_indices(20, 1)]
    assert np.abs(correlation).max() < 5 / 2000**0.5


def test_the_noise_of_a_record_depends_on_its_seed_alone():
    seeds = [3, 2**62, 0, 3 + 2**32]  # some differ beyond the 32 bits that torch would take
    noise = record_noise(seeds, (2, 50))
    assert noise.shape == (4, 2, 50)
    for place, seed in enumerate(seeds):
        assert torch.equal(record_noise([seed], (2, 50))[0], noise[place])
    assert torch.equal(record_noise(seeds[::-1], (2, 50)), noise.flip(0))
    assert len(noise[:, 0, 0].unique()) == 4


def test_record_noise_is_standard_normal():
    noise = record_noise(range(200), (8, 100))
    assert abs(noise.mean().item()) < 4 / noise.numel() ** 0.5
    assert abs(noise.std().item() - 1) < 4 / (2 * noise.numel()) ** 0.5


def test_seeded_networks_are_the_same_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    with seeded_initialisation(5):
        one = nn.Linear(4, 4)
    assert torch.equal(torch.get_rng_state(), before)
    nn.Linear(4, 4)  # moves the global generator, which must not matter
    with seeded_initialisation(5):
        same = nn.Linear(4, 4)
    with seeded_initialisation(6):
        other = nn.Linear(4, 4)
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)


def test_the_global_generator_comes_back_after_an_error_too():
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded_initialisation(5):
        torch.randn(1 // 0)
    assert torch.equal(torch.get_rng_state(), before)
