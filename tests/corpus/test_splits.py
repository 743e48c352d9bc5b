import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from ecgtransfer.corpus import (
    common_folds,
    dealt_folds,
    patient_halves,
    patient_split,
    stratified_folds,
    take_patients,
)
from ecgtransfer.errors import CorpusError


def cohort(seed, patients=200, labels=4, repeated=0.2):
    """Records of patients, some with several, with labels from common to rare."""
    rng = np.random.default_rng(seed)
    owner = [p for p in range(patients) for _ in range(1 + int(rng.random() < repeated))]
    records = pd.DataFrame({"name": [f"r{i}" for i in range(len(owner))], "patient": owner})
    records["patient"] = "p" + records["patient"].astype(str)
    rates = np.array([0.6, 0.2, 0.08, 0.02])[:labels]
    return records, (rng.random((len(owner), labels)) < rates).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    patients=st.integers(4, 120),
    repeated=st.floats(0, 1),
    weights=st.lists(st.integers(1, 9), min_size=2, max_size=4),
)
def test_parts_cover_all_records_and_share_no_patient(seed, patients, repeated, weights):
    records, labels = cohort(seed, patients, repeated=repeated)
    fractions = np.array(weights) / np.sum(weights)
    parts = patient_split(records, labels, fractions.tolist(), seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(records)))
    owners = [set(records["patient"].iloc[part]) for part in parts]
    assert sum(map(len, owners)) == records["patient"].nunique()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 199))
def test_where_a_record_is_a_patient_sizes_are_exact(seed, n):
    records, labels = cohort(seed, 200, repeated=0)
    taken, rest = take_patients(records, labels, n, seed)
    assert (len(taken), len(rest)) == (n, 200 - n)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(5, 150))
def test_sizes_are_exact_with_some_patients_of_two_records(seed, n):
    records, labels = cohort(seed)
    taken, _ = take_patients(records, labels, n, seed)
    assert len(taken) == n


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_rows_does_not_matter(seed):
    records, labels = cohort(seed)
    shuffled = np.random.default_rng(seed).permutation(len(records))
    one = take_patients(records, labels, 60, seed)[0]
    other = take_patients(records.iloc[shuffled], labels[shuffled], 60, seed)[0]
    names = records["name"].iloc
    assert set(names[one]) == set(names[shuffled[other]])


def test_the_seed_decides():
    records, labels = cohort(0)
    first = take_patients(records, labels, 60, 1)[0]
    assert np.array_equal(first, take_patients(records, labels, 60, 1)[0])
    assert not np.array_equal(first, take_patients(records, labels, 60, 2)[0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_part_has_its_share_of_every_label(seed):
    records, labels = cohort(seed, patients=1000)
    parts = patient_split(records, labels, (0.7, 0.2, 0.1), seed)
    shares = np.stack([labels[part].sum(axis=0) for part in parts]) / labels.sum(axis=0)
    sizes = np.array([len(part) for part in parts]) / len(records)
    np.testing.assert_allclose(sizes, [0.7, 0.2, 0.1], atol=1 / len(records))
    wanted = np.array([[0.7], [0.2], [0.1]])
    assert np.abs(shares - wanted).max() < 1.5 / labels.sum(axis=0).min()


@pytest.mark.parametrize("seed", range(10))
def test_a_label_of_two_patients_is_in_both_parts(seed):
    records, labels = cohort(seed, patients=106, labels=3, repeated=0)
    rare = np.zeros((106, 1), dtype=np.float32)
    rare[[3, 50]] = 1
    labels = np.hstack([labels, rare])
    for n in (10, 80):
        for part in take_patients(records, labels, n, seed):
            assert labels[part].any(axis=0).all()


def test_first_ones_of_labels_fill_at_most_half_of_a_part():
    labels = np.eye(40, dtype=np.float32)[np.arange(1000) % 39 + 1]
    labels[:600] = np.eye(40, dtype=np.float32)[0]
    records = pd.DataFrame({"patient": [str(i) for i in range(1000)]})
    taken, _ = take_patients(records, labels, 10, 0)
    assert labels[taken, 0].sum() >= 4


def test_patients_of_several_records_come_as_near_as_they_allow():
    records = pd.DataFrame({"patient": list("aaabbbccc")})
    taken, rest = take_patients(records, np.zeros((9, 1)), 4, 0)
    assert len(taken) in (3, 6)
    assert len(taken) + len(rest) == 9


def test_sizes_are_mended_by_swapping_patients():
    records = pd.DataFrame({"patient": list("aabbccdde")})
    labels = np.array([[1], [0]] * 4 + [[1]])
    for n in range(1, 9):
        assert len(take_patients(records, labels, n, 3)[0]) == n


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((1.0,), "two or more positive parts"),
        ((0.5, 0.0, 0.5), "two or more positive parts"),
        (("a", "b"), "two or more positive parts"),
        ((0.5, 0.6), "fractions that sum to 1"),
        ((3, 4), "parts that sum to 9 records"),
    ],
)
def test_parts_that_do_not_add_up_are_refused(parts, message):
    records = pd.DataFrame({"patient": list("aabbccdde")})
    with pytest.raises(CorpusError, match=message):
        patient_split(records, np.zeros((9, 1)), parts, 0)


@pytest.mark.parametrize(
    ("records", "labels", "message"),
    [
        ({"patient": ["a", "b"]}, np.zeros((3, 1)), r"labels of shape \(2, K\)"),
        ({"patient": ["a", "b"]}, np.zeros(2), r"labels of shape \(2, K\)"),
        ({"name": ["a", "b"]}, np.zeros((2, 1)), "needs a column patient"),
        ({"patient": ["a", None]}, np.zeros((2, 1)), "needs every record's patient"),
    ],
)
def test_a_table_that_cannot_be_split_is_refused(records, labels, message):
    with pytest.raises(CorpusError, match=message):
        patient_split(pd.DataFrame(records), labels, (0.5, 0.5), 0)


@pytest.mark.parametrize("n", [0, 9, -1])
def test_all_or_none_cannot_be_taken(n):
    records = pd.DataFrame({"patient": list("aabbccdde")})
    with pytest.raises(CorpusError, match=f"between 1 and 8 of 9 records, got {n}"):
        take_patients(records, np.zeros((9, 1)), n, 0)


def test_folds_spread_every_label_and_keep_patients_whole():
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 60, 90)
    labels = (rng.random((90, 4)) < [0.6, 0.2, 0.1, 0.05]).astype(int)
    fold_of = stratified_folds(labels, patients, 3, seed=0)
    for patient in np.unique(patients):
        assert len(set(fold_of[patients == patient])) == 1
    counts = np.array([labels[fold_of == fold].sum(axis=0) for fold in range(3)])
    assert (np.ptp(counts[:, 1:], axis=0) <= 4).all()
    assert np.ptp(np.bincount(fold_of)) <= 12
    assert_array_equal(fold_of, stratified_folds(labels, patients, 3, seed=0))


def test_folds_divide_a_rare_label_evenly():
    labels = np.zeros((80, 9), int)
    labels[np.arange(80), np.repeat(np.arange(9), [26, 14, 11, 10, 8, 4, 3, 2, 2])] = 1
    fold_of = stratified_folds(labels, None, 3, seed=1)
    counts = np.array([labels[fold_of == fold].sum(axis=0) for fold in range(3)])
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert np.ptp(np.bincount(fold_of)) <= 3


def test_bad_folds_are_refused():
    with pytest.raises(CorpusError, match="at least 3 patients"):
        stratified_folds(np.eye(4), [1, 1, 2, 2], 3, 0)
    with pytest.raises(CorpusError, match="one patient per record"):
        stratified_folds(np.eye(4), [1, 1], 2, 0)


def test_halves_share_no_patient():
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 30, 100).astype(str)
    for _ in range(20):
        left, right = patient_halves(patients, rng)
        assert len(left) == len(right) > 40
        assert not set(patients[left]) & set(patients[right])


def test_halves_that_are_too_long_and_no_patients_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(CorpusError, match="hold up to 2 each"):
        patient_halves(["a", "a", "a", "b", "b", "c"], rng, 3)
    with pytest.raises(CorpusError, match="one patient per record"):
        patient_halves([], rng)


def test_dealt_folds_keep_patients_whole_and_differ_by_one_patient():
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 23, 90).astype(str)
    fold_of = dealt_folds(patients, 5, rng)
    names, first = np.unique(patients, return_index=True)
    assert all(len(set(fold_of[patients == name])) == 1 for name in names)
    assert np.ptp(np.bincount(fold_of[first], minlength=5)) <= 1


def test_dealt_folds_have_their_share_of_each_set_of_labels():
    """Patients with a record of both kinds are a kind of their own."""
    rng = np.random.default_rng(0)
    kind = np.r_[np.zeros(30, int), np.ones(20, int), np.full(10, 2)]
    patients = np.r_[np.arange(60), np.arange(50, 60)]
    labels = np.r_[np.stack([kind != 1, kind == 1], axis=1), np.tile([False, True], (10, 1))]
    fold_of = dealt_folds(patients, 5, rng, labels)
    for each in range(3):
        assert np.ptp(np.bincount(fold_of[:60][kind == each], minlength=5)) <= 1
    assert (fold_of[60:] == fold_of[50:60]).all()


def test_common_folds_of_one_domain_deal_its_sorted_patients():
    patients = ["c", "a", "b", "a", "d"]
    (fold_of,) = common_folds([patients], 2, np.random.default_rng(3))
    order = np.random.default_rng(3).permutation(4)
    expected = {"abcd"[place]: number % 2 for number, place in enumerate(order)}
    assert fold_of.tolist() == [expected[name] for name in patients]


def test_a_patient_of_two_domains_has_one_fold():
    one, other = common_folds([["a", "b", "c"], ["c", "d", "a"]], 2, np.random.default_rng(0))
    assert (other[2], other[0]) == (one[0], one[2])
