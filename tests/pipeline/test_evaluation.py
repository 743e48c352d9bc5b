import json
from dataclasses import replace
from pathlib import Path

import pytest

from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.evaluation import (
    ArmDifference,
    Overall,
    UtilityEvaluation,
    UtilityResult,
)
from ecgtransfer.pipeline import (
    QUESTIONS,
    Answer,
    FidelitySettings,
    GenerateSettings,
    PhysiologySettings,
    PrivacySettings,
    UtilitySettings,
    evaluate,
    synthesise,
)
from ecgtransfer.pipeline.evaluation import read_answer, synthetic_sets
from ecgtransfer.pipeline.surrogate import source_cohort
from ecgtransfer.statistics import (
    Estimate,
)
from tests.pipeline.small_run import CLASSIFIER, SAMPLER, UTILITY, content

#: How each question is asked of the sets `mixed`.
ASK = {
    "utility": replace(UTILITY, name="mixed"),
    "fidelity": FidelitySettings(name="mixed", classifier=CLASSIFIER),
    "physiology": PhysiologySettings(name="mixed"),
    "privacy": PrivacySettings(name="mixed", classifier=CLASSIFIER),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_of_every_method_is_read_back_from_its_card(answered, question):
    answer = answered.answers[question]
    assert answer.question == question
    sentences = " ".join(verdict.sentence for verdict in answer.verdicts)
    assert "tgdp" in sentences
    assert "source" in sentences
    assert len(answer.verdicts) == 2
    assert answer.tables
    assert answer.tests
    told = json.dumps(answer.to_card(), allow_nan=False)
    assert Answer.from_card(question, json.loads(told), Path("card.json")) == answer
    held = read_answer(answered.run.stage(f"{question}-mixed"), question)
    assert held == answer
    assert json.dumps(held.to_json()) == json.dumps(answer.to_json())  # in the same order, too
    assert tuple(answer.evaluation.methods) == ("tgdp", "source")
    assert answer.to_json().keys() == {"verdicts", "tests", "tables", "numbers"}
    json.dumps(answer.to_json(), allow_nan=False)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_that_is_answered_is_not_asked_again(answered, source, question):
    folder = answered.run.folder / f"{question}-mixed"
    before = content(folder)
    settings = ASK[question]
    again = evaluate(answered.run, source, answered.target, settings)
    assert again == answered.answers[question]
    assert content(folder) == before
    with pytest.raises(RunError, match=r"with other settings .*seed 0, asked for 1"):
        evaluate(answered.run, source, answered.target, replace(settings, seed=1))


def older(run, question):
    """The card of a question as version 1 wrote it."""
    path = run.folder / f"{question}-mixed" / "card.json"
    card = json.loads(path.read_text())
    del card["results"]["version"]
    card["results"]["verdicts"] = [{"passed": True, "sentence": "5 harm"}]
    path.write_text(json.dumps(card))


def test_an_answer_of_an_earlier_version_is_given_anew_with_its_trainings(
    copied, answered, source, monkeypatch
):
    run = copied(answered.run)
    older(run, "utility")
    settings = ASK["utility"]
    monkeypatch.setattr("ecgtransfer.evaluation.classifier.fit", None)
    with pytest.raises(RunError, match="with other settings"):
        evaluate(run, source, answered.target, replace(settings, seed=1))
    again = evaluate(run, source, answered.target, settings)
    assert again == answered.answers["utility"]
    held = json.loads((run.folder / "utility-mixed" / "card-1.json").read_text())
    assert held["results"]["verdicts"][0]["sentence"] == "5 harm"


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_of_another_version_is_refused(answered, question):
    card = answered.answers[question].to_card()
    for version in ({"version": 4}, {"version": 2}, {}):
        held = {key: value for key, value in card.items() if key != "version"} | version
        with pytest.raises(RunError, match=f"made by another version .* evaluate {question}'"):
            Answer.from_card(question, held, Path("card.json"))


def test_a_summary_leaves_out_controls_and_sets_without_the_target():
    """One arm without target records, which no recipe equals, must not decide."""

    def change(name, low, high, **kind):
        span = Estimate((low + high) / 2, low, high)
        return ArmDifference(
            name, "target only", 3, 5, span, span, span, span, span, span, synthetic="tgdp", **kind
        )

    helping, neither, harming = (0.01, 0.03), (-0.01, 0.01), (-0.03, -0.01)
    for plain, alone, passed, told in (
        (neither, harming, None, "of 1 arms with its records 0 help and 0 harm"),
        (helping, harming, True, "of 1 arms with its records 1 help and 0 harm"),
        (harming, helping, False, "of 1 arms with its records 0 help and 1 harm"),
    ):
        changes = (
            change("target only + tgdp x1", *plain),
            change("tgdp only", *alone, alone=True),
            change("target only + shuffled tgdp x1", *harming, control=True),
        )
        overall = Overall("tgdp", ("target only + tgdp x1",), 1, Estimate(0.8, 0.7, 0.9), changes)
        result = UtilityResult(
            (), ("target only",), Estimate(0.8, 0.7, 0.9), changes, (), (overall,), (0, 1), 60, 49,
            (),
        )  # fmt: skip
        (found,) = UtilityEvaluation(("tgdp",), result).verdicts()
        assert found.passed is passed
        assert told in found.sentence
        assert "each compared with the same arm without them (49 test patients)." in found.sentence
        assert "The best of 1 arms with tgdp records by its training score" in found.sentence
        assert "49 test patients are few" in found.sentence


def test_utility_has_the_arms_that_were_asked_for(answered):
    result = answered.answers["utility"].evaluation.result
    assert [arm.name for arm in result.arms] == [
        "target only",
        "target only + tgdp x1",
        "target only + shuffled tgdp x1",
        "target only + source x1",
        "target only + shuffled source x1",
    ]
    assert result.test_records == 20


def test_a_control_is_no_good_news_whatever_it_scores(answered):
    answer = answered.answers["utility"]
    differences = answer.evaluation.result.differences
    assert [change.control for change in differences].count(True) == 2
    for change, test in zip(differences, answer.tests, strict=True):
        if change.control:
            assert test.passed is None


def test_a_study_says_how_much_it_trains():
    few = UtilitySettings(arms=(), ratios=(1.0,), seeds=1, classifier=CLASSIFIER)
    assert few.trainings(("tgdp",)) == 2 * (CLASSIFIER.folds + 1)
    assert UtilitySettings().trainings(("tgdp",)) > 400


def test_privacy_is_measured_by_features_that_know_neither_side(answered, source):
    folder = answered.run.folder / "privacy-mixed/embedding"
    card = json.loads((folder / "card.json").read_text())
    known = source_cohort(answered.run, source, answered.target)
    assert len(known) < 2000
    assert card["records"]["real"] == known.load().fingerprint()


def test_patients_of_another_set_are_other_people(answered, source):
    ecgset, train, _ = source.records()
    records = source_cohort(answered.run, source, answered.target)
    assert len(records) == len(train)
    assert not set(records.patients) & set(answered.target.ecgset.records.patient)
    assert records.patients[0] == f"source {ecgset.records.patient.iloc[train[0]]}"


def test_real_numbers_stand_beside_every_generated_one(answered):
    for method in ("tgdp", "source"):
        fidelity = answered.answers["fidelity"].evaluation.methods[method]
        for measure in (fidelity.frechet, fidelity.prdc["recall"], fidelity.diversity):
            assert measure.source is not None
            assert measure.records == fidelity.frechet.records
        rules = answered.answers["physiology"].evaluation.methods[method].rules
        assert any(rule.real_records and rule.generated_records for rule in rules)


def test_all_sets_of_the_name_are_taken_where_no_method_is_named(answered):
    assert synthetic_sets(answered.run, "mixed").methods == ("tgdp", "source")
    assert synthetic_sets(answered.run, "mixed", ["source"]).methods == ("source",)


def test_a_set_that_is_not_there_is_asked_for(copied, trained, source, answered):
    run = copied(trained)
    with pytest.raises(RunError, match=r"a finished synthetic set 'synthetic' .*none; run"):
        evaluate(run, source, answered.target, PrivacySettings())
    with pytest.raises(RunError, match="expected a finished stage 'synthetic-tgdp'"):
        evaluate(run, source, answered.target, FidelitySettings(("tgdp",)))
    with pytest.raises(ConfigError, match=r"a method of tgdp, .* got 'magic'"):
        evaluate(run, source, answered.target, FidelitySettings(("magic",)))
    assert not (run.folder / "privacy-synthetic").exists()


def test_too_few_records_are_told_before_anything_is_trained(copied, settled, source, answered):
    run = copied(settled)
    synthesise(run, source, GenerateSettings(("AFIB=2",), method="source", sampler=SAMPLER))
    with pytest.raises(ConfigError, match=r"at least 6 records with .* set of source .*; generate"):
        evaluate(run, source, answered.target, FidelitySettings(classifier=CLASSIFIER))
    few = replace(answered.target, test=answered.target.test[:10])
    with pytest.raises(ConfigError, match=r"at least 14 test records to measure utility, got 10"):
        evaluate(run, source, few, UTILITY)
    with pytest.raises(ConfigError, match=r"a ratio of 1 needs \d+ synthetic records of"):
        evaluate(run, source, answered.target, replace(UTILITY, seed=1))


def test_settings_are_checked_on_construction():
    with pytest.raises(ConfigError, match="at least 1 training seed, got 0"):
        UtilitySettings(seeds=0)
    with pytest.raises(ConfigError, match=r"arms of oversampled, .* got 'magic'"):
        UtilitySettings(arms=("magic",))
    with pytest.raises(ConfigError, match="one or more ratios"):
        UtilitySettings(ratios=())
