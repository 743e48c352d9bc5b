from dataclasses import asdict, replace

import numpy as np
import pytest

from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.pipeline import (
    EvaluateSettings,
    GenerateSettings,
    TargetSettings,
    evaluate,
    load_target,
    settle_target,
    synthesise,
)
from ecgtransfer.pipeline import evaluation as evaluation_module
from ecgtransfer.pipeline.evaluation import _like_test
from tests.pipeline.small_run import EVALUATE, SAMPLER, content

TWO = replace(EVALUATE, methods=("tgdp", "source"))


@pytest.fixture(scope="module")
def target(settled, source):
    return load_target(settled, source)


@pytest.fixture(scope="module")
def evaluated(transferred, source, target):
    """The evaluation of two methods, in the run that everybody looks at."""
    return evaluate(transferred.run, source, target, TWO)


def test_every_number_is_there(evaluated):
    utility = evaluated.utility
    assert [arm["name"] for arm in utility["arms"]] == [
        "target only",
        "target + tgdp",
        "target + source",
    ]
    for arm in utility["arms"]:
        assert {"macro_auroc", "f2", "g2", "per_class_auroc"} <= arm.keys()
        assert arm["macro_auroc"].keys() == {"value", "low", "high"}
    assert utility["test_records"] == 20
    assert evaluated.fidelity.keys() == {"tgdp", "source", "recorded source"}
    for method in ("tgdp", "source"):
        assert {"frechet_distance", "precision", "recall", "density", "coverage"} <= (
            evaluated.fidelity[method].keys()
        )
    assert len(evaluated.verdicts) == 2


def test_every_distance_rests_on_as_many_records(evaluated):
    measures = [
        measure
        for method in evaluated.fidelity.values()
        for measure in method.values()
        if isinstance(measure, dict) and "records" in measure
    ]
    assert len({measure["records"] for measure in measures}) == 1
    assert measures[0]["records"] >= 6


def test_the_tables_have_a_header_and_full_rows(evaluated):
    for rows, names in (
        (evaluated.utility_rows, ["target only", "target + tgdp"]),
        (evaluated.fidelity_rows, ["tgdp", "recorded source", "real against real"]),
    ):
        assert set(names) < set(rows[0])
        assert {len(row) for row in rows} == {len(rows[0])}
    assert evaluated.utility_rows[1][0] == "macro AUROC"
    assert evaluated.fidelity_rows[1][0] == "Frechet distance"


def test_an_evaluation_that_is_done_is_told_not_repeated(
    transferred, source, target, evaluated, monkeypatch
):
    before = content(transferred.run.folder / "evaluation-synthetic")
    monkeypatch.setattr(evaluation_module, "compare_arms", None)
    again = evaluate(transferred.run, source, target, TWO)
    assert asdict(again) == asdict(evaluated)
    assert content(transferred.run.folder / "evaluation-synthetic") == before
    with pytest.raises(RunError, match=r"evaluate\.seeds 1, asked for 2"):
        evaluate(transferred.run, source, target, replace(TWO, seeds=2))


def test_an_interrupted_evaluation_goes_on_to_the_same_numbers(
    copied, transferred, source, target, evaluated
):
    def stop(done, total):
        if done >= total // 2:
            raise KeyboardInterrupt

    run = copied(transferred.run, "source", "target", "synthetic-tgdp", "synthetic-source")
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, source, target, TWO, stop)
    assert asdict(evaluate(run, source, target, TWO)) == asdict(evaluated)


def test_all_sets_of_the_name_are_taken_where_no_method_is_named(
    copied, transferred, source, target, monkeypatch
):
    run = copied(transferred.run, "source", "target", "synthetic-finetune", "synthetic-source")
    asked = {}

    def noted(real, additions, *rest, **options):
        asked.update(additions)
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation_module, "compare_arms", noted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, source, target, EVALUATE)
    assert list(asked) == ["target + finetune", "target + source"]


def test_a_set_that_is_not_there_is_asked_for(copied, trained, source, target):
    run = copied(trained)
    with pytest.raises(RunError, match=r"a finished synthetic set 'synthetic' .*none; run"):
        evaluate(run, source, target, EVALUATE)
    with pytest.raises(RunError, match="expected a finished stage 'synthetic-tgdp'"):
        evaluate(run, source, target, TWO)
    assert not (run.folder / "evaluation-synthetic").exists()


def test_too_few_test_records_are_told_before_anything_is_trained(
    copied, transferred, source, clinic
):
    run = copied(transferred.run, "source", "synthetic-source")
    target = settle_target(run, source, TargetSettings(clinic.folder, train_records=25))
    with pytest.raises(ConfigError, match=r"at least 14 test records .* got 11; train on fewer"):
        evaluate(run, source, target, EVALUATE)


def test_too_few_synthetic_records_are_told_before_anything_is_trained(
    copied, settled, source, target, monkeypatch
):
    run = copied(settled)
    synthesise(run, source, GenerateSettings(("AFIB=2",), method="source", sampler=SAMPLER))
    monkeypatch.setattr(evaluation_module, "compare_arms", None)
    with pytest.raises(ConfigError, match=r"at least 6 records a side .* set of source; generate"):
        evaluate(run, source, target, EVALUATE)


def test_a_synthetic_side_has_the_class_mix_of_the_test_records():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.eye(3, dtype=np.float32), 400, axis=0)
    test = np.repeat(np.eye(3, dtype=np.float32), [60, 30, 0], axis=0)
    chosen = labels[_like_test(rng, labels, test)].sum(axis=0)
    assert chosen[2] == 0
    assert chosen[0] / chosen[1] == pytest.approx(2, rel=0.2)


def test_settings_are_checked_at_birth():
    with pytest.raises(ConfigError, match="at least 1 training seed, got 0"):
        EvaluateSettings(seeds=0)
    with pytest.raises(ConfigError, match=r"a method of tgdp, .* got 'magic'"):
        EvaluateSettings(methods=("magic",))
