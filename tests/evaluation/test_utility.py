import dataclasses
import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from ecgtransfer.errors import ConfigError, CorpusError, RunError
from ecgtransfer.evaluation import (
    ArmDifference,
    ClassifierConfig,
    Estimate,
    LabelledRecords,
    apply_thresholds,
    challenge_scores,
    choose_thresholds,
    compare_arms,
    load_classifier,
    macro_auroc,
    stratified_folds,
    train_classifier,
)

NAMES = ("SLOW", "FAST", "TALL")
TINY = ClassifierConfig(widths=(16, 16), steps=40, batch_size=16, folds=2, learning_rate=5e-3)


def toy_records(seed, n, shuffled=False):
    """Noisy oscillations (n, 8, 128): slow or fast, and sometimes with one tall spike."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((n, 3), np.float32)
    fast, tall = rng.random(n) < 0.5, rng.random(n) < 0.4
    labels[np.arange(n), fast.astype(int)] = 1
    labels[tall, 2] = 1
    time = np.arange(128) / 128
    cycles = np.where(fast, 9, 6)[:, None, None]
    phase = rng.uniform(0, 2 * np.pi, (n, 8, 1))
    signals = np.sin(2 * np.pi * cycles * time + phase) + rng.normal(size=(n, 8, 128))
    for record in np.flatnonzero(tall):
        at = rng.integers(10, 118)
        signals[record, :, at : at + 3] += 2.0
    if shuffled:
        labels = rng.permutation(labels)
    patients = np.array([f"{seed}-{i}" for i in range(n)])
    return LabelledRecords(signals.astype(np.float32), labels, patients)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """One small study: 14 target records, fresh informative or label-shuffled additions."""
    folder = tmp_path_factory.mktemp("study")
    additions = {
        "target + informative": toy_records(2, 400),
        "target + shuffled": toy_records(3, 400, shuffled=True),
    }
    reports = []
    arguments = (toy_records(1, 14), additions, toy_records(4, 250), NAMES, TINY, folder)
    result = compare_arms(
        *arguments,
        seeds=(0, 1),
        resamples=500,
        progress=lambda done, total: reports.append((done, total)),
    )
    return arguments, result, reports


def test_informative_additions_help_and_shuffled_labels_do_not(study):
    _, result, _ = study
    informative, shuffled = result.differences
    assert informative.verdict == "helps"
    assert informative.macro_auroc.low > 0
    assert informative.f2.value > 0
    assert shuffled.verdict != "helps"
    assert result.verdicts()[0].startswith("target + informative helps: macro AUROC 0.")


def test_progress_counts_the_steps_of_all_trainings(study):
    _, _, reports = study
    done, total = zip(*reports, strict=True)
    assert set(total) == {3 * 2 * 3 * TINY.steps}
    assert done == tuple(sorted(done))
    assert done[-1] == total[0]


def test_a_finished_study_is_read_and_gives_the_same_result(study):
    arguments, result, _ = study
    weights = sorted(arguments[-1].rglob("weights.safetensors"))
    written = [path.stat().st_mtime_ns for path in weights]
    assert compare_arms(*arguments, seeds=(0, 1), resamples=500) == result
    assert [path.stat().st_mtime_ns for path in weights] == written
    assert len(weights) == 3 * 2 * 3


def test_scores_are_means_over_seeds_of_the_classifiers_in_the_folder(study):
    (target, _, test, _, _, folder), result, _ = study
    areas, scores = [], []
    for seed in (0, 1):
        fold_of = stratified_folds(target.labels, target.patients, 2, seed)
        held_out = np.empty(target.labels.shape)
        for fold in (0, 1):
            part = load_classifier(folder / "arm1" / f"seed{seed}" / f"without-fold{fold}")
            held_out[fold_of == fold] = part(target.signals_mv[fold_of == fold])
        given = load_classifier(folder / "arm1" / f"seed{seed}" / "all")(test.signals_mv)
        predicted = apply_thresholds(given, choose_thresholds(target.labels, held_out))
        areas.append(macro_auroc(test.labels, given))
        scores.append(challenge_scores(test.labels, predicted))
    arm = result.arms[1]
    assert arm.macro_auroc_by_seed == pytest.approx(tuple(areas))
    assert arm.macro_auroc.value == pytest.approx(np.mean(areas))
    assert (arm.f2.value, arm.g2.value) == pytest.approx(tuple(np.mean(scores, axis=0)))
    assert arm.target_records == 14
    assert arm.added_records == 400


def test_a_result_is_a_table_and_json(study):
    _, result, _ = study
    rows = result.rows()
    assert {len(row) for row in rows} == {1 + 3 + 2}
    assert [row[0] for row in rows[1:]] == [
        "macro AUROC",
        "F2",
        "G2",
        "AUROC SLOW",
        "AUROC FAST",
        "AUROC TALL",
    ]
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["arms"][0]["name"] == "target only"
    assert plain["differences"][0]["verdict"] == "helps"
    assert plain["verdicts"][0] in str(result)


def test_a_class_without_test_records_is_left_out_and_named(study, tmp_path):
    arguments, _, _ = study
    target, _, test = arguments[:3]
    without = test.select(np.flatnonzero(test.labels[:, 2] == 0))
    quick = dataclasses.replace(TINY, steps=2)
    result = compare_arms(target, {}, without, NAMES, quick, tmp_path, seeds=(0,), resamples=20)
    assert result.left_out == ("TALL",)
    assert list(result.arms[0].per_class_auroc) == ["SLOW", "FAST"]
    assert result.differences == ()
    assert result.test_patients == len(without)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.01, 0.03, "helps"), (-0.01, 0.03, "no evidence"), (-0.03, -0.01, "harms")],
)
def test_the_verdict_is_where_the_interval_lies(low, high, verdict):
    change = Estimate((low + high) / 2, low, high)
    assert ArmDifference("more", change, change, change).verdict == verdict


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


@pytest.mark.parametrize("selection", ["bce", "macro_auroc"])
def test_training_with_validation_records_stops_early_and_learns(tmp_path, selection):
    config = dataclasses.replace(
        TINY, steps=200, validate_every=10, patience=2, selection=selection
    )
    seen = []
    classifier = train_classifier(
        toy_records(1, 200),
        NAMES,
        config,
        tmp_path,
        validation=toy_records(2, 60),
        progress=lambda now: seen.append(now.step),
    )
    test = toy_records(3, 100)
    assert macro_auroc(test.labels, classifier(test.signals_mv)) > 0.9
    assert seen[-1] <= 200


def test_a_classifier_is_the_same_again_and_after_loading(tmp_path):
    records = toy_records(1, 30)
    config = dataclasses.replace(TINY, steps=3, balance=0.0, added_share=None)
    first, again = (
        train_classifier(records, NAMES, config, tmp_path / name, added=records)
        for name in ("first", "again")
    )
    loaded = load_classifier(tmp_path / "first")
    for other in (again, loaded):
        assert_array_equal(first(records.signals_mv), other(records.signals_mv))
    assert first.features(records.signals_mv).shape == (30, 32)
    assert loaded.label_names == NAMES


def test_training_leaves_global_randomness_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_classifier(toy_records(1, 20), NAMES, dataclasses.replace(TINY, steps=2), tmp_path)
    assert_array_equal(torch.rand(3), expected)


def test_a_classifier_does_not_see_the_scale_of_its_records(tmp_path):
    records = toy_records(1, 20)
    smaller = LabelledRecords(records.signals_mv / 8, records.labels)
    config = dataclasses.replace(TINY, steps=3)
    first = train_classifier(records, NAMES, config, tmp_path / "first")
    second = train_classifier(smaller, NAMES, config, tmp_path / "second")
    np.testing.assert_allclose(
        first(records.signals_mv), second(smaller.signals_mv), rtol=1e-4, atol=1e-5
    )


def test_a_folder_of_another_training_is_refused(tmp_path):
    config = dataclasses.replace(TINY, steps=2)
    train_classifier(toy_records(1, 20), NAMES, config, tmp_path)
    with pytest.raises(RunError, match="other records or settings"):
        train_classifier(toy_records(2, 20), NAMES, config, tmp_path)


def test_a_folder_without_classifier_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no classifier"):
        load_classifier(tmp_path)
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(RunError, match="holds no classifier"):
        load_classifier(tmp_path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps": 0}, "at least 1 step"),
        ({"widths": ()}, "widths"),
        ({"balance": 2.0}, "balance"),
        ({"added_share": 1.0}, "added_share"),
        ({"folds": 1}, "at least 2 folds"),
        ({"thresholds": "best"}, "unknown threshold rule"),
        ({"patience": 0}, "patience"),
        ({"selection": "loss"}, "unknown selection"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        ClassifierConfig(**setting)


@pytest.mark.parametrize(
    ("signals", "labels", "patients", "message"),
    [
        (np.zeros((2, 8, 16)), np.zeros((3, 1)), None, "one row of labels each"),
        (np.full((2, 8, 16), np.nan), np.zeros((2, 1)), None, "finite signals"),
        (np.zeros((2, 8, 16)), np.full((2, 1), 0.5), None, "0 and 1 only"),
        (np.zeros((2, 8, 16)), np.zeros((2, 1)), np.zeros(3), "one patient per record"),
    ],
)
def test_bad_records_are_refused(signals, labels, patients, message):
    with pytest.raises(CorpusError, match=message):
        LabelledRecords(signals, labels, patients)


def test_bad_studies_are_refused(tmp_path):
    target, test = toy_records(1, 14), toy_records(2, 20)
    with pytest.raises(CorpusError, match="in both target and test"):
        compare_arms(target, {}, target, NAMES, TINY, tmp_path)
    with pytest.raises(CorpusError, match="one LabelSpace"):
        compare_arms(target, {}, test, NAMES[:2], TINY, tmp_path)
    twelve = LabelledRecords(np.zeros((2, 12, 128), np.float32), np.eye(2, 3))
    with pytest.raises(CorpusError, match="8 leads in every set"):
        compare_arms(target, {"more": twelve}, test, NAMES, TINY, tmp_path)
    with pytest.raises(ConfigError, match="different seeds"):
        compare_arms(target, {}, test, NAMES, TINY, tmp_path, seeds=(1, 1))
    with pytest.raises(ConfigError, match="arm without additions"):
        compare_arms(target, {"target only": test}, test, NAMES, TINY, tmp_path)
    with pytest.raises(CorpusError, match="positive and negative test records"):
        compare_arms(target, {}, test.select(np.array([0])), NAMES, TINY, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bad_folds_are_refused():
    with pytest.raises(CorpusError, match="at least 3 patients"):
        stratified_folds(np.eye(4), [1, 1, 2, 2], 3, 0)
    with pytest.raises(CorpusError, match="one patient per record"):
        stratified_folds(np.eye(4), [1, 1], 2, 0)


def test_bad_validation_and_signals_are_refused(tmp_path):
    config = dataclasses.replace(TINY, steps=2, selection="macro_auroc")
    records = toy_records(1, 20)
    with pytest.raises(CorpusError, match="validation records"):
        train_classifier(records, NAMES, config, tmp_path, validation=records.select(np.array([0])))
    classifier = train_classifier(records, NAMES, config, tmp_path / "other")
    with pytest.raises(CorpusError, match="8 leads"):
        classifier(np.zeros((2, 12, 128)))
