import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ecgtransfer.corpus import protocol_splits
from ecgtransfer.errors import ConfigError, CorpusError


def test_protocols_by_published_folds():
    folds = np.tile(np.arange(1, 11), 3)
    labels = np.ones((30, 1))
    (paper,) = protocol_splits("paper", folds, None, labels)
    assert_array_equal(np.unique(folds[paper.train]), [10])
    assert_array_equal(np.unique(folds[paper.test]), np.arange(1, 9))
    assert paper.validation is None
    (standard,) = protocol_splits("standard", folds, None, labels)
    assert_array_equal(np.unique(folds[standard.train]), np.arange(1, 9))
    assert_array_equal(np.unique(folds[standard.validation]), [9])
    assert_array_equal(np.unique(folds[standard.test]), [10])


def test_a_cross_validation_tests_every_record_once_and_parts_no_patient():
    patients = np.repeat(np.arange(30), 2)
    labels = (np.random.default_rng(1).random((30, 3)) < 0.3)[np.arange(60) // 2]
    splits = protocol_splits("cross-validation", None, patients, labels, parts=4, seed=1)
    assert_array_equal(np.sort(np.concatenate([split.test for split in splits])), np.arange(60))
    for split in splits:
        assert not set(patients[split.train]) & set(patients[split.test])
        assert len(split.train) + len(split.test) == 60


def test_bad_protocols_are_refused():
    labels, folds = np.ones((10, 1)), np.arange(1, 11)
    with pytest.raises(CorpusError, match=r"'paper' .*, and 10 of 10 records have none"):
        protocol_splits("paper", None, None, labels)
    with pytest.raises(CorpusError, match=r"'standard' .*, and 1 of 10 records have none"):
        protocol_splits("standard", np.where(folds == 3, np.nan, folds), None, labels)
    with pytest.raises(CorpusError, match="the training part of 'paper' is empty"):
        protocol_splits("paper", np.ones(10), None, labels)
    with pytest.raises(CorpusError, match="1 patients are in both training and test, such as 7"):
        protocol_splits("paper", folds, np.r_[7, np.arange(8), 7], labels)
    with pytest.raises(CorpusError, match="both test and validation"):
        protocol_splits("split", None, None, labels, train=[0], test=[1, 2], validation=[2])
    with pytest.raises(CorpusError, match="needs the record indices"):
        protocol_splits("split", None, None, labels, train=[0])
    with pytest.raises(ConfigError, match="at least 2 parts"):
        protocol_splits("cross-validation", None, None, labels, parts=1)
    with pytest.raises(ConfigError, match="unknown protocol 'holdout'"):
        protocol_splits("holdout", None, None, labels)
