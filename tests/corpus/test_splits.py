import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgtransfer.corpus import patient_split, select_records, take_patients
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


RECORDS = pd.DataFrame(
    {
        "device": ["CS-12", "AT-6 C 5.5", "CS-12 E", None],
        "fold": [1, 8, 9, 10],
        "age": [40.0, 60.5, None, -1.0],
        "sex": ["male", "female", "female", "male"],
        "paced": [True, False, False, False],
        "beats": pd.array([9, None, 12, 13], dtype="Int64"),
    }
)


@pytest.mark.parametrize(
    ("expressions", "rows"),
    [
        ([], [0, 1, 2, 3]),
        (["fold=1-8"], [0, 1]),
        (["fold=1|9-10"], [0, 2, 3]),
        (["fold!=1-8"], [2, 3]),
        (["device=AT-6 C 5.5"], [1]),
        (["device=CS-12|CS-12 E"], [0, 2]),
        (["device!=AT-6 C 5.5"], [0, 2, 3]),
        ([" device = CS-12 "], [0]),
        (["age=40-60.5"], [0, 1]),
        (["age=-1"], [3]),
        (["age!=40"], [1, 2, 3]),
        (["sex=female", "fold=9"], [2]),
        (["paced=False"], [1, 2, 3]),
        (["beats=10-20"], [2, 3]),
    ],
)
def test_records_are_selected_by_expressions(expressions, rows):
    assert select_records(RECORDS, expressions).tolist() == rows


@pytest.mark.parametrize(
    ("expressions", "message"),
    [
        (["fold"], "cannot read the selection 'fold'"),
        (["fold="], "cannot read the selection 'fold='"),
        (["fold>3"], "cannot read the selection"),
        (["folds=3"], "unknown column 'folds'; expected one of device, fold, age, sex"),
        (["fold=a"], "cannot read 'a' in 'fold=a'"),
        (["fold=8-1"], "runs backwards"),
        (["device=AT-6"], "no record has device 'AT-6'; there is AT-6 C 5.5, CS-12"),
        (["fold=3"], "no record satisfies fold=3"),
        (["fold=1", "sex=female"], "no record satisfies fold=1 and sex=female"),
        ("fold=1", r"bare string 'fold=1'; give \['fold=1'\]"),
    ],
)
def test_a_selection_that_cannot_be_meant_is_refused(expressions, message):
    with pytest.raises(CorpusError, match=message):
        select_records(RECORDS, expressions)
