"""What the questions of `ecgtransfer evaluate all` must answer about generators of known worth.

The questions' own tests ask each of them alone; here whole sets lie in a run and are asked about
together, as people ask.
"""

from functools import partial

import numpy as np
import pytest

from ecgtransfer.evaluation import ClassifierConfig, measure_fidelity
from ecgtransfer.evaluation.cohorts import Cohort
from ecgtransfer.pipeline import (
    QUESTIONS,
    FidelitySettings,
    PhysiologySettings,
    PrivacySettings,
    Run,
    SourceSettings,
    TargetSettings,
    UtilitySettings,
    evaluate,
    load_source,
    split_target,
    train_source,
)
from ecgtransfer.simulation import simulate_ecgset
from tests.pipeline.known_generators import (
    ARCHIVE,
    CLINIC,
    PLACES,
    SPACE,
    class_means,
    copies,
    finished_set,
    hold_out_patients,
    noise,
    shuffled_labels,
)

pytestmark = pytest.mark.slow

NAME = "known"
TRAINING, TEST, RATIO = 80, 160, 4
#: Enough for the kinds of heart here, which differ as much as hearts can.
CLASSIFIER = ClassifierConfig(
    widths=(16, 32, 32), steps=40, batch_size=16, learning_rate=5e-3, folds=2
)
#: Five trainings, as the pipeline has by default: of a single one no interval tells the luck, and
#: copies were said to help at one simulated clinic and to harm at another.
ASK = {
    "utility": UtilitySettings(name=NAME, arms=(), ratios=(RATIO,), classifier=CLASSIFIER),
    "fidelity": FidelitySettings(name=NAME, classifier=CLASSIFIER),
    "physiology": PhysiologySettings(name=NAME, records=80),
    "privacy": PrivacySettings(name=NAME, classifier=CLASSIFIER),
}

PASSED, FAILED, NEITHER = {True}, {False}, {None}
#: How a verdict may come out. Copies teach a classifier nothing new. The mean of twenty patients is
#: a little like each of them, by which an attacker knows them (Homer et al. 2008). Twenty hearts of
#: a class show that a rule is broken, and never that it is kept.
EXPECTED = {
    hold_out_patients: {
        "utility": PASSED | NEITHER,
        "fidelity": PASSED,
        "physiology": NEITHER,
        "privacy": PASSED,
    },
    copies: {
        "utility": NEITHER,
        "fidelity": PASSED | NEITHER,
        "physiology": NEITHER,
        "privacy": FAILED,
    },
    noise: {
        "utility": NEITHER | FAILED,
        "fidelity": FAILED,
        "physiology": FAILED,
        "privacy": PASSED,
    },
    shuffled_labels: {
        "utility": FAILED,
        "fidelity": FAILED,
        "physiology": FAILED,
        "privacy": PASSED,
    },
    class_means: {
        "utility": NEITHER | FAILED,
        "fidelity": FAILED,
        "physiology": FAILED,
        "privacy": FAILED,
    },
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return asked(tmp_path_factory.mktemp("known"))


def asked(folder):
    """Answers by question about a run that has a set of each generator."""
    archive = simulate_ecgset(folder / "archive", ARCHIVE, 80, 1, SPACE)
    clinic = simulate_ecgset(folder / "clinic", CLINIC, TRAINING + TEST, 2, SPACE)
    non_members = simulate_ecgset(folder / "non_members", CLINIC, RATIO * TRAINING, 3, SPACE)
    run = Run.create(folder / "run")
    untrained = SourceSettings(
        source=archive.folder, preset="tiny", steps=1, batch_size=4, precision="float32"
    )
    train_source(run, untrained)
    source = load_source(run)
    target = split_target(run, source, TargetSettings(clinic.folder, train_records=TRAINING))
    training = Cohort(target.ecgset, target.labels, target.train).load()
    others = Cohort(non_members, non_members.labels, np.arange(len(non_members))).load()
    for generator in PLACES:
        made = generator(training, others, np.random.default_rng(5))
        finished_set(run, NAME, generator, made)
    with pytest.MonkeyPatch.context() as patch:
        # A test of two samples in each repeat is what costs; fewer make intervals wider alone.
        quick = partial(measure_fidelity, repeats=10)
        patch.setattr("ecgtransfer.evaluation.fidelity.study.measure_fidelity", quick)
        patch.setattr("ecgtransfer.evaluation.fidelity.repeats.BOOSTED_HALVES", 2)
        return {
            question: evaluate(run, source, target, settings) for question, settings in ASK.items()
        }


def told(verdicts, generator):
    """Verdicts about the set of a generator: sentences without its name, and how they came out."""
    name = f"{PLACES[generator]}: "
    return {
        verdict.sentence.removeprefix(name): verdict.passed
        for verdict in verdicts
        if verdict.sentence.startswith(name)
    }


def result(answers, question, generator):
    return answers[question].evaluation.methods[PLACES[generator]]


def broken_rules(answers, generator):
    """Rules of fidelity that the set of a generator breaks."""
    (sentence,) = told(answers["fidelity"].verdicts, generator)
    return set(sentence.rstrip(".").partition(" rules: ")[2].split(", "))


def gain(answers, generator):
    """By how much a set changes the macro AUROC, with the interval of all sets together."""
    name = f"target only + {PLACES[generator]} x{RATIO}"
    (change,) = [
        each for each in answers["utility"].evaluation.result.differences if each.name == name
    ]
    return change.adjusted


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("generator", list(EXPECTED), ids=lambda generator: generator.__name__)
def test_a_question_knows_what_a_generator_is_worth(answers, generator, question):
    (sentence, passed), *others = told(answers[question].verdicts, generator).items()
    assert not others
    assert passed in EXPECTED[generator][question], sentence


def test_hold_out_patients_look_like_real_ones(answers):
    found = result(answers, "fidelity", hold_out_patients)
    measures = found.measures()
    for name in ("Frechet distance", "precision", "recall", "coverage", "diversity"):
        excess, real = measures[name].excess, measures[name].reference
        spread = real.high - real.low
        assert excess.low - spread < 0 < excess.high + spread, name
    for auc in found.two_sample.values():
        assert auc.score.low < 0.5 < auc.score.high
    assert set(found.per_class) == set(SPACE.names)


def test_the_hearts_of_hold_out_patients_beat_like_real_ones(answers):
    found = result(answers, "physiology", hold_out_patients)
    assert found.failure_verdict == "kept"
    of_all = [row for row in found.intervals if row.group == "all records"]
    assert len(of_all) == 13
    for row in of_all:
        assert row.distance.score.value <= row.distance.reference.high, row.measure


@pytest.mark.parametrize("space", ["signal", "embedding"])
def test_hold_out_patients_are_as_near_to_non_members_as_to_training_patients(answers, space):
    found = result(answers, "privacy", hold_out_patients)
    assert found.copies.suspected == ()
    (near,) = (each for each in found.spaces if each.space == space)
    for one in (near.closeness.share, near.membership.auc):
        assert one.low < 0.5 < one.high


def test_every_copy_is_found_noisy_or_not_and_every_copied_patient(answers):
    found = result(answers, "privacy", copies)
    assert len(found.copies.suspected) == RATIO * TRAINING
    assert found.copies.copied_patients == TRAINING
    tests = told(answers["privacy"].tests, copies)
    assert list(tests.values()) == [False] * 5, tests


def test_noise_is_no_heart_and_is_told_from_one_every_time(answers):
    hearts = result(answers, "physiology", noise)
    assert hearts.failed["all records"].generated.low > 0.9
    assert hearts.failure_verdict == "broken"
    assert {"Frechet distance", "recall", "coverage", "log spectral distance"} <= broken_rules(
        answers, noise
    )
    looks = result(answers, "fidelity", noise)
    assert looks.two_sample["linear"].score.low > 0.95


def test_shuffled_labels_are_seen_wherever_a_question_looks_at_classes_and_nowhere_else(answers):
    assert broken_rules(answers, shuffled_labels) == {"Frechet distance of classes"}
    hearts = result(answers, "physiology", shuffled_labels)
    assert hearts.failure_verdict == "kept"
    assert {rule.label: rule.verdict for rule in hearts.rules} == dict.fromkeys(
        SPACE.names, "broken"
    )
    right = result(answers, "privacy", hold_out_patients)
    assert result(answers, "privacy", shuffled_labels) == right
    assert gain(answers, shuffled_labels).high < gain(answers, hold_out_patients).low


def test_class_means_lack_the_diversity_of_every_class(answers):
    """Not of the whole: four hearts that are all different make most of what sets hearts apart."""
    assert {"diversity of classes", "recall"} <= broken_rules(answers, class_means)
    for name, own in result(answers, "fidelity", class_means).per_class.items():
        assert own.diversity.score.high < 0.5 * own.diversity.reference.low, name
