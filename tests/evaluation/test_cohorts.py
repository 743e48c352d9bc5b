import numpy as np
import pytest

from ecgtransfer.errors import ConfigError
from ecgtransfer.evaluation.cohorts import (
    Cohort,
    Cohorts,
    first_with_label,
    match_class_mix,
    require_at_least,
    subsample,
)


def test_a_cohort_reads_its_own_records_alone(ecgset):
    cohort = Cohort(ecgset, ecgset.labels, np.array([3, 5, 9]), "source ")
    records = cohort.load()
    np.testing.assert_array_equal(records.signals_mv, ecgset.independent_mv(cohort.indices))
    np.testing.assert_array_equal(records.labels, ecgset.labels[[3, 5, 9]])
    assert records.patients.tolist() == [f"source {p}" for p in ecgset.records.patient[[3, 5, 9]]]
    chosen = cohort.select(np.array([2, 0]))
    assert chosen.names == tuple(ecgset.records.name[[9, 3]])
    np.testing.assert_array_equal(chosen.own_labels, ecgset.labels[[9, 3]])
    assert Cohorts(cohort, cohort, ("a",)).sampling_rate_hz == ecgset.sampling_rate_hz


def test_a_synthetic_record_is_its_own_patient(ecgset):
    cohort = Cohort(ecgset, ecgset.labels, np.arange(4), None)
    assert cohort.patients is None
    assert cohort.load().patients is None


def test_a_subsample_is_drawn_without_repeats_in_order():
    rng = np.random.default_rng(0)
    drawn = subsample(np.arange(100, 200), 30, rng)
    assert len(set(drawn)) == 30
    assert drawn.tolist() == sorted(drawn)
    assert subsample(np.arange(5), 30, rng).tolist() == [0, 1, 2, 3, 4]


def test_a_side_has_the_class_mix_of_the_other_records():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.eye(3, dtype=np.float32), 400, axis=0)
    test = np.repeat(np.eye(3, dtype=np.float32), [60, 30, 0], axis=0)
    chosen = labels[match_class_mix(labels, test, rng)].sum(axis=0)
    assert chosen[2] == 0
    assert chosen[0] / chosen[1] == pytest.approx(2, rel=0.2)
    assert len(match_class_mix(labels, test, rng, most=50)) == 50


def test_the_first_record_with_a_label_has_it_alone_where_one_does():
    labels = np.array([[1, 1], [0, 1], [1, 0]], np.float32)
    assert first_with_label(labels, 0) == 2
    assert first_with_label(labels[:1], 0) == 0
    assert first_with_label(labels[1:2], 0) is None


def test_too_few_records_are_refused():
    require_at_least(6, 6, "records")
    with pytest.raises(ConfigError, match="at least 6 records, got 5; generate more"):
        require_at_least(5, 6, "records")
