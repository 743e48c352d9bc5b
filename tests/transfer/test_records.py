import numpy as np
import pytest
import torch

from ecgtransfer.diffusion import NoiseConfig
from ecgtransfer.errors import CorpusError
from ecgtransfer.transfer import DomainRecords
from ecgtransfer.transfer.records import (
    MIN_COORDINATES,
    HeldOutDraws,
    draw_noise,
    refuse_other_labels,
    refuse_shared_patients,
)


def records(patients, labels=2):
    n = len(patients)
    label = None if labels is None else torch.zeros(n, labels)
    return DomainRecords(torch.arange(n * 2.0).reshape(n, 1, 2), label, tuple(patients))


def test_take_gives_signals_and_labels_of_the_records_asked_for():
    x0, label = records("abc").take([2, 0, 2])
    assert x0[:, 0, 0].tolist() == [4.0, 0.0, 4.0]
    assert label.shape == (3, 2)
    assert records("abc", None).take([1])[1] is None


def test_take_copies_so_that_a_batch_may_be_changed():
    domain = records("abc")
    x0, label = domain.take(np.array([0, 1]))
    x0.add_(1)
    label.add_(1)
    assert domain.x0[0].tolist() == [[0.0, 1.0]]
    assert not domain.label.any()


@pytest.mark.parametrize("shape", [(3,), (2, 5)])
def test_records_of_any_shape_are_noised_at_levels_of_their_own(shape, rng):
    x0 = torch.zeros(400, *shape, dtype=torch.float64)
    sigma, noise = draw_noise(x0, NoiseConfig(log_mean=1.0, log_std=0.5), rng)
    assert sigma.shape == (400,)
    assert sigma.dtype == noise.dtype == torch.float64
    assert noise.shape == x0.shape
    assert abs(sigma.log().mean() - 1.0) < 0.1
    assert abs(noise.std() - 1.0) < 0.1


@pytest.mark.parametrize("shape", [(300,), (20, 50)])
def test_held_out_draws_give_every_record_the_stated_number_of_noises(shape):
    domain = DomainRecords(torch.zeros(7, *shape), None, tuple("abcdefg"))
    one, two, other = (
        HeldOutDraws.of(domain, NoiseConfig(), draws=4, seed=seed) for seed in (0, 0, 1)
    )
    assert np.bincount(one.index).tolist() == [4] * 7
    assert one.sigma.shape == (28,)
    assert one.noise.shape == (28, *shape)
    assert len(one.noise.flatten(1).unique(dim=0)) == 28
    assert torch.equal(one.noise, two.noise)
    assert torch.equal(one.sigma, two.sigma)
    assert not torch.equal(one.noise, other.noise)


def test_small_records_are_noised_until_a_score_rests_on_enough_numbers():
    domain = DomainRecords(torch.zeros(5, 2), None, tuple("abcde"))
    draws = HeldOutDraws.of(domain, NoiseConfig(), draws=4, seed=0)
    (count,) = set(np.bincount(draws.index))
    assert count * domain.x0.numel() >= MIN_COORDINATES > (count - 1) * domain.x0.numel()


def test_a_subset_keeps_labels_and_patients_together():
    domain = DomainRecords(torch.arange(8.0).reshape(4, 2), torch.eye(4), tuple("abcd"))
    part = domain.subset(np.array([2, 0]))
    assert part.x0.tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert torch.equal(part.label, torch.eye(4)[[2, 0]])
    assert part.patient == ("c", "a")


def test_a_patient_on_both_sides_is_refused_by_name():
    refuse_shared_patients(records("abc"), records("def"))
    with pytest.raises(CorpusError, match=r"2 patients in both \(b, c\); split by patient"):
        refuse_shared_patients(records("abc"), records("cbd"))


def test_domains_in_two_label_spaces_are_refused():
    refuse_other_labels(records("a"), records("b"))
    with pytest.raises(CorpusError, match=r"one label space, got \[2, 3\] labels"):
        refuse_other_labels(records("a", 2), records("b", 3))
    with pytest.raises(CorpusError, match=r"one label space, got \[2, None\] labels"):
        refuse_other_labels(records("a", 2), records("b", None))


def test_records_without_patients_or_labels_of_their_own_are_refused():
    with pytest.raises(CorpusError, match="at least one record of a domain"):
        records("")
    with pytest.raises(CorpusError, match="2 records, got 2 labels and 1 patients"):
        DomainRecords(torch.zeros(2, 1, 2), torch.zeros(2, 1), ("a",))
    with pytest.raises(CorpusError, match="2 records, got 1 labels and 2 patients"):
        DomainRecords(torch.zeros(2, 1, 2), torch.zeros(1, 1), ("a", "b"))
