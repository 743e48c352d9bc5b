from dataclasses import replace
from types import SimpleNamespace

import pytest

from ecgtransfer.evaluation import UtilityEvaluation
from ecgtransfer.evaluation.fidelity.result import Rule
from ecgtransfer.evaluation.physiology.result import PhysiologyResult, RuleResult, ShareComparison
from ecgtransfer.pipeline import Answer, Benefit
from ecgtransfer.pipeline.demo_summary import (
    benefits_of,
    fidelity_sentence,
    physiology_sentence,
    privacy_sentence,
)
from ecgtransfer.statistics import Estimate


def benefit(low, high, **changes):
    values = {
        "label": "AFIB",
        "labels": 1,
        "training_records": 30,
        "synthetic_records": 120,
        "test_patients": 300,
        "trainings": 5,
        "without": Estimate(0.7, 0.6, 0.8),
        "augmented": Estimate(0.75, 0.65, 0.85),
        "difference": Estimate(0.05, low, high),
    }
    return Benefit(**(values | changes))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.09, "helps"),
        (0.0, 0.09, "undecided"),
        (-0.1, 0.2, "undecided"),
        (-0.1, 0.0, "undecided"),
        (-0.2, -0.1, "harms"),
    ],
)
def test_an_interval_with_0_is_undecided(low, high, verdict):
    found = benefit(low, high)
    assert found.verdict == verdict
    assert ("undecided" in found.sentence) == (verdict == "undecided")
    assert benefit(low, high, trainings=1).verdict == "undecided"


def test_a_benefit_states_both_scores_the_difference_and_who_was_tested():
    assert benefit(0.01, 0.09).sentence == (
        "AUROC of AFIB on 300 simulated test patients: 0.70 [0.60, 0.80] from the clinic's 30 "
        "records, 0.75 [0.65, 0.85] with 120 synthetic ones; difference +0.05 [+0.01, +0.09]: the "
        "synthetic records help."
    )
    mean = benefit(-0.09, -0.01, label=None, labels=9).sentence
    assert mean.startswith("Mean AUROC of 9 labels on 300")
    assert mean.endswith("the synthetic records harm.")
    assert "one training" in benefit(0.01, 0.09, trainings=1).sentence


def test_benefits_are_those_of_the_arm_with_the_methods_records(answered):
    (utility,) = (
        each for each in answered.answers.values() if isinstance(each.evaluation, UtilityEvaluation)
    )
    result = utility.evaluation.result
    change = next(one for one in result.differences if one.name == "target only + tgdp x1")
    label, *_ = change.per_class_auroc
    of_label, mean = benefits_of([utility], "tgdp", label)
    assert of_label.difference == change.per_class_auroc[label]
    assert of_label.without == result.arm("target only").per_class_auroc[label]
    assert of_label.augmented == result.arm(change.name).per_class_auroc[label]
    assert (mean.label, mean.labels) == (None, len(change.per_class_auroc))
    assert mean.difference == change.macro_auroc
    assert mean.test_patients == result.test_patients
    assert [one.label for one in benefits_of([utility], "tgdp", "no such label")] == [None]
    assert benefits_of([utility], "no such method", label) == ()
    shortened = replace(
        utility.evaluation,
        result=replace(result, differences=tuple(one for one in result.differences if one.control)),
    )
    assert benefits_of([Answer("utility", shortened)], "tgdp", label) == ()


def test_fidelity_counts_its_rules():
    rules = (
        Rule("recall", True, ""),
        Rule("diversity", False, ""),
        Rule("precision", None, ""),
        Rule("two-sample AUC", None, "", required=False),
    )
    result = SimpleNamespace(rules=lambda: rules, frechet=SimpleNamespace(records=60))
    assert fidelity_sentence(result) == (
        "Similarity to the clinic's test records, with limits from two halves of these records: 1 "
        "of 3 measures are within, 1 beyond (diversity), 1 undecided (precision); 60 records per "
        "side."
    )


def share(generated, real):
    estimates = [Estimate(value, 0.0, 1.0) for value in (real, generated)]
    change = Estimate(generated - real, -1.0, 1.0)
    return ShareComparison(*estimates, change, change, 20, 20)


def test_physiology_states_the_shares_of_each_tested_label():
    rules = tuple(
        RuleResult(label, "", shares, None, None, 20, 20, verdict)
        for label, shares, verdict in (
            ("NORM", share(0.65, 0.82), "broken"),
            ("PVC", share(0.9, 0.91), "kept"),
            ("PAC", None, "not tested"),
            ("AFIB", share(0.7, 0.7), "not tested"),
        )
    )
    result = PhysiologyResult({}, "kept", {}, (), rules, (None, None))
    assert physiology_sentence(result) == (
        "Synthetic against simulated records that meet the ECG criterion of their label: PVC (90 % "
        "against 91 %) as often; NORM (65 % against 82 %) less often; 2 labels could not be tested."
    )
    nothing = replace(result, rules=rules[2:])
    assert "none of 2 labels could be tested" in physiology_sentence(nothing)


@pytest.mark.parametrize(
    ("suspected", "passed", "words"),
    [
        (0, True, "no suspected copies of a training record among 120 synthetic ones, and none of"),
        (1, False, "1 suspected copy of a training record among 120 synthetic ones, and 1 of"),
    ],
)
def test_privacy_counts_copies_and_attacks(suspected, passed, words):
    attack = SimpleNamespace(passed=passed, detectable=0.68)
    result = SimpleNamespace(
        copies=SimpleNamespace(suspected=(None,) * suspected, generated_records=120),
        spaces=(SimpleNamespace(closeness=SimpleNamespace(passed=True), membership=attack),),
    )
    sentence = privacy_sentence(result)
    assert words in sentence
    assert "of 2 attacks" in sentence
    assert "AUC below 0.68" in sentence
