from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ecgtransfer.corpus import LabelSpace, microvolts, write_ecgset
from ecgtransfer.errors import ConfigError, CorpusError, RunError
from ecgtransfer.pipeline import Run, TargetSettings, load_target, split_target
from ecgtransfer.pipeline.target import domain_records


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run")


def rewritten(ecgset, folder, *, names=None, labels=None, samples=1000, rate=100, patients=None):
    """The set again with other labels, length, rate or patients."""
    records = ecgset.records if patients is None else ecgset.records.assign(patient=patients)
    return write_ecgset(
        folder,
        microvolts(ecgset.independent_mv()[..., :samples]),
        ecgset.labels if labels is None else labels,
        records,
        ecgset.label_space if names is None else LabelSpace(tuple(names)),
        rate,
        "simulated",
    )


def test_labels_are_joined_by_name_whatever_their_order(tmp_path, run, source, clinic):
    order = np.random.default_rng(1).permutation(9)
    names = [clinic.label_space.names[column] for column in order]
    permuted = rewritten(clinic, tmp_path / "permuted", names=names, labels=clinic.labels[:, order])
    target = split_target(run, source, TargetSettings(permuted.folder, train_records=16))
    assert np.array_equal(target.labels, clinic.labels)
    other = Run.create(tmp_path / "other")
    straight = split_target(other, source, TargetSettings(clinic.folder, train_records=16))
    for part in ("fit", "held_out", "test"):
        assert np.array_equal(getattr(target, part), getattr(straight, part))


def test_a_label_that_the_source_does_not_know_is_refused(tmp_path, run, source, clinic):
    names = ["WPW" if name == "AFIB" else name for name in clinic.label_space.names]
    strange = rewritten(clinic, tmp_path / "strange", names=names)
    with pytest.raises(CorpusError, match=r"knows \(NORM, AFIB, .*\), .* also has WPW; prepare it"):
        split_target(run, source, TargetSettings(strange.folder))
    assert not run.folder.exists()


def test_a_label_that_no_record_has_does_no_harm(tmp_path, run, source, clinic):
    labels = np.hstack([np.zeros((len(clinic), 1), np.float32), clinic.labels])
    wider = rewritten(
        clinic, tmp_path / "wider", names=["WPW", *clinic.label_space.names], labels=labels
    )
    target = split_target(run, source, TargetSettings(wider.folder))
    assert np.array_equal(target.labels, clinic.labels)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rate": 125}, "1000 samples at 100 Hz .* got 1000 at 125 Hz; prepare"),
        ({"samples": 800}, "1000 samples at 100 Hz .* got 800 at 100 Hz; prepare"),
    ],
)
def test_another_rate_or_length_is_refused(tmp_path, run, source, clinic, changes, sentence):
    other = rewritten(clinic, tmp_path / "other", **changes)
    with pytest.raises(CorpusError, match=sentence):
        split_target(run, source, TargetSettings(other.folder))


def test_no_patient_is_in_two_parts(tmp_path, run, source, clinic):
    patients = [f"p{number // 2}" for number in range(len(clinic))]
    pairs = rewritten(clinic, tmp_path / "pairs", patients=patients)
    target = split_target(run, source, TargetSettings(pairs.folder, train_records=16))
    parts = {name: set(getattr(target, name).tolist()) for name in ("fit", "held_out", "test")}
    assert sorted(number for part in parts.values() for number in part) == list(range(36))
    assert len(target.train) == 16
    assert set(target.train.tolist()) == parts["fit"] | parts["held_out"]
    met = [{patients[number] for number in part} for part in parts.values()]
    assert not (met[0] & met[1] | met[0] & met[2] | met[1] & met[2])


def test_the_split_is_read_back_and_the_same_elsewhere(tmp_path, settled, source, clinic):
    held = load_target(settled, source)
    again = split_target(settled, source, TargetSettings(clinic.folder, train_records=16))
    elsewhere = split_target(
        Run.create(tmp_path / "run"), source, TargetSettings(clinic.folder, train_records=16)
    )
    for part in ("fit", "held_out", "test"):
        assert np.array_equal(getattr(held, part), getattr(again, part))
        assert np.array_equal(getattr(held, part), getattr(elsewhere, part))
    assert held.fingerprint == again.fingerprint == elsewhere.fingerprint
    table = pd.read_csv(settled.folder / "target" / "split.csv")
    assert table.name.tolist() == clinic.records.name.tolist()
    assert table.part.value_counts().to_dict() == {"test": 20, "fit": 13, "held_out": 3}


def test_a_run_has_one_target(settled, source, clinic):
    with pytest.raises(RunError, match=r"target\.seed 0, asked for 1"):
        split_target(settled, source, TargetSettings(clinic.folder, train_records=16, seed=1))


def test_three_quarters_are_learned_from_unless_told_otherwise(run, source, clinic):
    target = split_target(run, source, TargetSettings(clinic.folder, select=("fold=1-5",)))
    selected = len(target.train) + len(target.test)
    assert 10 < selected < 36
    assert len(target.train) == round(0.75 * selected)


@pytest.mark.parametrize(
    ("train_records", "error", "sentence"),
    [
        (5, ConfigError, "at least 2 held-out target records .* got 1 of 5 .*; raise --train"),
        (0, CorpusError, "between 1 and 35 of 36 records, got 0"),
        (99, CorpusError, "between 1 and 35 of 36 records, got 99"),
    ],
)
def test_a_number_that_cannot_be_does_not_spoil_the_run(
    run, source, clinic, train_records, error, sentence
):
    with pytest.raises(error, match=sentence):
        split_target(run, source, TargetSettings(clinic.folder, train_records=train_records))
    target = split_target(run, source, TargetSettings(clinic.folder, train_records=10))
    assert len(target.train) == 10


def test_published_folds_decide_who_learns_and_who_tests(tmp_path, source, clinic):
    fold = np.repeat([10, 9, *range(1, 9)], [12, 4, *[2] * 4, *[3] * 4])
    folded = write_ecgset(
        tmp_path / "folded",
        microvolts(clinic.independent_mv()),
        clinic.labels,
        clinic.records.assign(fold=fold),
        clinic.label_space,
        100,
        "simulated",
    )
    paper = split_target(
        Run.create(tmp_path / "paper"), source, TargetSettings(folded.folder, protocol="paper")
    )
    assert set(fold[paper.train]) == {10}
    assert set(fold[paper.test]) == set(range(1, 9))
    run = Run.create(tmp_path / "standard")
    standard = split_target(run, source, TargetSettings(folded.folder, protocol="standard"))
    assert set(fold[standard.fit]) == set(range(1, 9))
    assert (set(fold[standard.held_out]), set(fold[standard.test])) == ({9}, {10})
    assert np.array_equal(load_target(run, source).test, standard.test)


def test_the_parts_of_a_cross_validation_test_every_record_once(tmp_path, source, clinic):
    runs = [Run.create(tmp_path / f"{number}") for number in (1, 2, 3)]
    targets = [
        split_target(
            run,
            source,
            TargetSettings(clinic.folder, protocol="cross-validation", part=(number, 3)),
        )
        for number, run in enumerate(runs, 1)
    ]
    tested = np.concatenate([target.test for target in targets])
    assert sorted(tested) == list(range(len(clinic)))
    for run, target in zip(runs, targets, strict=True):
        assert len(target.train) + len(target.test) == len(clinic)
        assert np.array_equal(load_target(run, source).fit, target.fit)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"protocol": "magic"}, "a protocol of paper, standard, .* got 'magic'"),
        ({"protocol": "paper", "train_records": 5}, "either a number .* got 5 and 'paper'"),
        ({"protocol": "cross-validation"}, "such as 2/5, .* got 'cross-validation' and none"),
        ({"part": (1, 2)}, "such as 2/5, .* got 'split' and one"),
        ({"protocol": "cross-validation", "part": (3, 2)}, "a part such as 2/5, got 3/2"),
    ],
)
def test_a_protocol_that_cannot_be_is_refused(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        TargetSettings(Path("set"), **wrong)


def test_a_target_that_was_never_settled_is_asked_for(trained, source):
    with pytest.raises(RunError, match=r"expected a target in .* run 'ecgtransfer transfer' first"):
        load_target(trained, source)


def test_patients_that_the_source_met_are_left_out_of_the_target(run, narrow, ecgset):
    _, train, held_out = narrow.records()
    met = {*train, *held_out}
    target = split_target(run, narrow, TargetSettings(ecgset.folder))
    assert len(met) + len(target.train) + len(target.test) == len(ecgset)
    assert not met & {*target.train, *target.test}
    card = run.stage("target").card
    assert card["results"]["left_out_as_patients_of_the_source"] == len(met)


def test_a_target_of_the_sources_own_patients_is_refused(run, source, ecgset):
    with pytest.raises(
        CorpusError, match=r"on whom the source model was not trained, .* all 32 selected"
    ):
        split_target(run, source, TargetSettings(ecgset.folder))


def test_records_come_in_model_units_with_labels_and_patients(source, clinic):
    records = domain_records(source, clinic, source.label_space, clinic.labels, np.array([3, 1]))
    expected = source.model.units.to_model(torch.from_numpy(clinic.independent_mv([3, 1])))
    assert torch.allclose(records.x0, expected, atol=1e-5)
    assert np.array_equal(records.label.numpy(), clinic.labels[[3, 1]])
    assert records.patient == tuple(clinic.records.patient.iloc[[3, 1]])
