from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecgtransfer.corpus import label_space
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation import ClassifierConfig, Intervals
from ecgtransfer.evaluation.gate import (
    GateClassifiers,
    GateCount,
    GateSettings,
    GateVerdict,
    broken_rules,
    can_judge,
    conformal_p_values,
    gate_counts,
    gate_folds,
    verdicts,
)
from ecgtransfer.evaluation.labelled import LabelledRecords
from ecgtransfer.evaluation.physiology.rules import NOT_NORMAL, RULES
from ecgtransfer.storage import from_card, to_card

LONG_PR = Intervals(pr_ms=240.0, qrs_ms=90.0, rr_irregularity=0.02)
NORMAL = replace(LONG_PR, pr_ms=160.0)


def test_a_record_breaks_the_rules_of_its_own_labels():
    assert broken_rules(NORMAL, ("NORM",)) == ()
    assert broken_rules(LONG_PR, ("NORM",)) == ("NORM",)
    assert broken_rules(NORMAL, ("1AVB",)) == ("1AVB",)
    assert broken_rules(LONG_PR, ("1AVB",)) == ()
    # A rule is not asked of records with a label that excuses from it; others have no rule.
    assert broken_rules(LONG_PR, ("NORM", "1AVB")) == ()
    assert broken_rules(LONG_PR, ("LVH",)) == ()


def test_a_normal_record_with_a_contradicting_statement_has_no_rule():
    irregular = replace(NORMAL, rr_irregularity=0.3)
    for name in ("SARRH", "BIGU", "TRIGU", "PRC(S)", "AFLT"):
        assert broken_rules(irregular, ("NORM", name)) == ()
    for name in ("LPR", "2AVB", "3AVB", "WPW"):
        assert broken_rules(LONG_PR, ("NORM", name)) == ()
    for name in ("IVCD", "PACE"):
        assert broken_rules(replace(NORMAL, qrs_ms=130.0), ("NORM", name)) == ()
    for name in ("SR", "STACH", "SBRAD", "SVARR", "LAFB", "LPFB", "IRBBB"):
        assert broken_rules(irregular, ("NORM", name)) == ("NORM",)
    assert set(NOT_NORMAL) <= set(label_space("scp71").names)


def test_a_record_that_cannot_be_delineated_breaks_each_rule():
    failed = Intervals(failed="no beats")
    assert broken_rules(failed, ("AFIB", "CRBBB", "LVH")) == ("AFIB", "CRBBB")


def test_conformal_p_values_by_hand():
    # Fold 1: scores 0.2 and 0.6; fold 2: 0.4. The record has 0.5 by the first classifier, which is
    # at least 0.2, and 0.3 by the second: (1 + 1 + 0) / (1 + 3).
    p_values = conformal_p_values(
        [np.array([0.2, 0.6]), np.array([0.4])],
        [np.array([0.5, 0.7]), np.array([0.3, 0.9])],
    )
    np.testing.assert_allclose(p_values, [2 / 4, 4 / 4])


def test_conformal_p_values_of_like_records_fail_as_often_as_asked_for():
    rng = np.random.default_rng(3)
    agreed, independent = [], []
    for _ in range(300):
        scores = list(rng.normal(size=(2, 39)))
        own = rng.normal(size=(2, 50))
        agreed.append(np.mean(conformal_p_values(scores, [own[0], own[0]]) < 0.1))
        independent.append(np.mean(conformal_p_values(scores, list(own)) < 0.1))
    # The lowest 7 of 79 ranks are below 0.1 where the classifiers agree, fewer where they do not.
    assert np.mean(agreed) == pytest.approx(7 / 79, abs=0.01)
    assert np.mean(independent) < np.mean(agreed)


def test_few_recorded_records_reject_nothing():
    lowest = conformal_p_values([np.ones(8)], [np.zeros(1)])
    assert lowest[0] == pytest.approx(1 / 9)
    assert not lowest[0] < GateSettings().error
    assert conformal_p_values([np.ones(10)], [np.zeros(1)])[0] < GateSettings().error


@pytest.mark.parametrize("error", [0.1, 0.05, 0.2])
def test_a_class_is_judged_where_the_lowest_p_value_is_below_the_error(error):
    judged = [
        bool(conformal_p_values([np.ones(n)], [np.zeros(1)])[0] < error) for n in range(1, 40)
    ]
    assert [can_judge(n, error) for n in range(1, 40)] == judged
    assert judged.index(True) + 1 == round(1 / error)
    assert not can_judge(0, error)


def test_a_class_with_few_recorded_records_is_counted_as_not_judged():
    given = [(("AFIB",), GateVerdict()), (("LVH",), GateVerdict())]
    recorded = [(("AFIB",), None)] * 10 + [(("LVH",), None)] * 9
    afib, lvh = gate_counts(("AFIB", "LVH"), given, recorded, 0.1)
    assert (afib.judged, lvh.judged) == (True, False)
    without = gate_counts(("AFIB", "LVH"), given, recorded, None)
    assert [each.judged for each in without] == [False, False]
    # Cards of an earlier version do not state it.
    assert from_card(GateCount, to_card(afib), Path("card.json")) == afib
    assert "judged" not in to_card(afib)
    assert from_card(GateCount, to_card(lvh), Path("card.json")) == lvh


def test_conformal_p_values_need_a_score_for_each_fold():
    with pytest.raises(CorpusError, match="for each fold, got 1 and 2 folds"):
        conformal_p_values([np.ones(2)], [np.ones(1), np.ones(1)])
    with pytest.raises(CorpusError, match="got 0 and 0 folds"):
        conformal_p_values([], [])


def waves(labels, rng):
    """Records whose class is the sign of a slow wave in every lead, (n, 8, 128)."""
    wave = np.sin(np.linspace(0, 4 * np.pi, 128))
    sign = 1 - 2 * labels[:, 1]
    noise = rng.normal(scale=0.1, size=(len(labels), 8, 128))
    return (sign[:, None, None] * wave + noise).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    rng = np.random.default_rng(0)
    labels = np.eye(2, dtype=np.float32)[np.arange(48) % 2]
    records = LabelledRecords(waves(labels, rng), labels)
    patients = np.array([str(k // 2) for k in range(48)])
    folds = gate_folds(labels, patients, 3, 0)
    folder = tmp_path_factory.mktemp("gate")
    config = ClassifierConfig(widths=(16, 16), steps=30, batch_size=16)
    counted = []
    gate = GateClassifiers.fit(
        records, ("A", "B"), folds, config, folder, progress=lambda *now: counted.append(now)
    )
    return gate, folds, folder, records, config, counted


def test_classifiers_judge_by_records_that_they_were_not_trained_on(fitted):
    gate, folds, folder, records, config, counted = fitted
    assert counted[-1] == (90, 90)
    assert len(gate.members) == 3
    for fold, member, known in zip((1, 2, 3), gate.members, gate.probabilities, strict=True):
        held = folds == fold
        np.testing.assert_allclose(known, member(records.signals_mv[held]), rtol=1e-6)
    # Finished trainings are read, not repeated.
    again = GateClassifiers.fit(records, ("A", "B"), folds, config, folder)
    np.testing.assert_array_equal(again.probabilities[0], gate.probabilities[0])


def test_records_of_another_class_are_unlike_and_named(fitted):
    gate, *_ = fitted
    labels = np.eye(2, dtype=np.float32)[np.arange(60) % 2]
    rng = np.random.default_rng(1)
    right = gate.judge(waves(labels, rng), labels, 0.1)
    assert sum(bool(unlike) for unlike, _ in right) <= 15
    wrong = gate.judge(waves(labels[:, ::-1], rng), labels, 0.1)
    assert wrong[0] == (("A",), "B")
    assert wrong[1] == (("B",), "A")
    assert all(unlike for unlike, _ in wrong)


def test_a_record_with_every_label_is_assigned_to_none(fitted):
    gate, *_ = fitted
    both = np.ones((4, 2), np.float32)
    signals = waves(np.eye(2, dtype=np.float32)[[0, 1, 0, 1]], np.random.default_rng(2))
    assert {assigned for _, assigned in gate.judge(signals, both, 0.1)} == {None}


def test_folds_keep_patients_together():
    labels = np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    patients = np.array([f"p{k // 3}" for k in range(30)])
    folds = gate_folds(labels, patients, 4, 0)
    assert set(folds) == {1, 2, 3, 4}
    assert all(len(set(folds[patients == name])) == 1 for name in set(patients))
    assert set(gate_folds(labels[:6], patients[:6], 4, 0)) == {1, 2}
    with pytest.raises(CorpusError, match="at least 2 patients, got 1"):
        gate_folds(labels[:3], patients[:3], 4, 0)


def test_verdicts_join_both_checks():
    names, labels = ("NORM", "1AVB"), np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    found = verdicts(
        names,
        labels,
        [NORMAL, NORMAL, LONG_PR],
        [((), None), ((), None), (("1AVB",), "NORM")],
    )
    assert found == [
        GateVerdict(),
        GateVerdict(broken=("1AVB",)),
        GateVerdict(unlike=("1AVB",), assigned="NORM"),
    ]
    assert [verdict.passed for verdict in found] == [True, False, False]
    assert verdicts(names, labels, None, None) == [GateVerdict()] * 3
    with pytest.raises(CorpusError, match="findings on each of 3 records, got 1"):
        verdicts(names, labels, [NORMAL], None)


def test_verdicts_are_counted_by_class_beside_recorded_records():
    given = [
        (("AFIB",), GateVerdict()),
        (("AFIB",), GateVerdict(broken=("AFIB",))),
        (("AFIB", "LVH"), GateVerdict(unlike=("AFIB",), assigned="NORM")),
    ]
    recorded = [(("AFIB",), ("AFIB",)), (("AFIB",), ()), (("LVH",), ())]
    afib, lvh = gate_counts(("NORM", "AFIB", "LVH"), given, recorded, 0.1)
    assert (afib.label, afib.generated, afib.passed, afib.broken, afib.unlike) == (
        "AFIB", 3, 1, 1, 1
    )  # fmt: skip
    assert (afib.recorded, afib.recorded_broken, afib.rule) == (2, 1, RULES["AFIB"].sentence)
    assert afib.assigned == {"NORM": 1}
    assert (lvh.generated, lvh.passed, lvh.rule, lvh.recorded_broken) == (1, 0, None, None)
    without = gate_counts(("AFIB",), given, [(names, None) for names, _ in recorded], 0.1)
    assert without[0].recorded_broken is None


def test_settings_of_the_gate_are_checked():
    with pytest.raises(ConfigError, match="error of the gate between 0 and 1, got 0"):
        GateSettings(error=0.0)
    with pytest.raises(ConfigError, match="expected rules, a classifier or both"):
        GateSettings(rules=False, classifier=False)


def test_every_class_with_a_rule_is_one_of_the_nine():
    assert set(RULES) == set(label_space("icbeb9").names)
