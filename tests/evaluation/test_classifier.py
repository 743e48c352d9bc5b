import dataclasses
import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from ecgtransfer.errors import ConfigError, CorpusError, RunError
from ecgtransfer.evaluation.augmentation import Augmentation
from ecgtransfer.evaluation.classifier import (
    ClassifierConfig,
    ClassifierTraining,
    LabelledRecords,
    lead_scale,
    load_classifier,
    train_classifier,
)
from ecgtransfer.evaluation.metrics import macro_auroc
from ecgtransfer.training import WEIGHTS

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
        ({"pretraining_steps": 0}, "at least 1 step"),
        ({"finetuning_rate": 0.0}, "finite learning rate"),
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


def test_bad_validation_and_signals_are_refused(tmp_path):
    config = dataclasses.replace(TINY, steps=2, selection="macro_auroc")
    records = toy_records(1, 20)
    with pytest.raises(CorpusError, match="validation records"):
        train_classifier(records, NAMES, config, tmp_path, validation=records.select(np.array([0])))
    classifier = train_classifier(records, NAMES, config, tmp_path / "other")
    with pytest.raises(CorpusError, match="8 leads"):
        classifier(np.zeros((2, 12, 128)))


def weights(classifier):
    return {name: tensor.clone() for name, tensor in classifier.encoder.state_dict().items()}


def distance(first, second):
    return sum(float((first[name] - second[name]).square().sum()) for name in first) ** 0.5


def test_a_training_starts_from_the_weights_it_is_given(tmp_path):
    source, target = toy_records(1, 60), toy_records(2, 30)
    start = train_classifier(source, NAMES, TINY, tmp_path / "source")
    still = dataclasses.replace(TINY, steps=3, learning_rate=1e-9, weight_decay=0.0)
    random = train_classifier(target, NAMES, still, tmp_path / "random")
    before = weights(start)
    after = train_classifier(target, NAMES, still, tmp_path / "target", start=start)
    assert distance(weights(after), before) < 1e-4 < distance(weights(random), before)
    assert distance(weights(start), before) == 0
    assert_allclose(after.lead_scale_mv, lead_scale(target))


def test_a_start_of_other_shape_or_labels_is_refused(tmp_path):
    records = toy_records(1, 20)
    start = train_classifier(records, NAMES, dataclasses.replace(TINY, steps=1), tmp_path)
    with pytest.raises(ConfigError, match="pre-train it with the same settings"):
        ClassifierTraining(records, NAMES, ClassifierConfig(), start=start)
    with pytest.raises(ConfigError, match="expected to start from a classifier"):
        ClassifierTraining(records, ("SLOW", "TALL", "FAST"), TINY, start=start)


def test_added_records_of_another_length_are_refused():
    longer = LabelledRecords(np.zeros((3, 8, 200), np.float32), np.eye(3, dtype=np.float32))
    with pytest.raises(CorpusError, match="128 samples, as the others have, got 200"):
        ClassifierTraining(toy_records(1, 20), NAMES, TINY, added=longer)
    with pytest.raises(CorpusError, match="128 samples to join with, got 8 and 200"):
        toy_records(1, 20).joined(longer)


def test_joined_records_are_the_ones_of_both_in_order():
    first, second = toy_records(1, 5), toy_records(2, 7)
    both = first.joined(second)
    assert_array_equal(both.signals_mv[5:], second.signals_mv)
    assert_array_equal(both.labels[:5], first.labels)
    assert both.patients is None


def test_the_key_of_a_training_is_that_of_all_that_decides_its_weights(tmp_path):
    records, other = toy_records(1, 20), toy_records(2, 20)
    start = train_classifier(other, NAMES, dataclasses.replace(TINY, steps=1), tmp_path)
    base = {"records": records, "label_names": NAMES, "config": TINY}
    variants = [
        {},
        {"seed": 1},
        {"records": other},
        {"added": other},
        {"start": start},
        {"validation": other},
        {"augmentation": Augmentation(NAMES, 100)},
        {"augmentation": Augmentation(NAMES, 200)},
        {"lead_scale_mv": np.full(8, 3.0)},
        {"config": dataclasses.replace(TINY, balance=1.0)},
        {"config": dataclasses.replace(TINY, weight_decay=0.1)},
        {"added": other, "config": dataclasses.replace(TINY, added_share=None)},
    ]
    keys = [ClassifierTraining(**{**base, **change}).key for change in variants]
    assert len(set(keys)) == len(variants)
    without_part = dataclasses.replace(TINY, folds=5, thresholds="youden", pretraining_steps=7)
    same = [{}, {"records": toy_records(1, 20)}, {"config": without_part}]
    assert {ClassifierTraining(**{**base, **change}).key for change in same} == {keys[0]}


@pytest.mark.parametrize("augmented", [False, True])
def test_an_interrupted_training_ends_in_the_same_weights(tmp_path, augmented):
    if augmented:
        pytest.importorskip("ecg_augmentations", reason="ecg-augmentations is not installed")
    training = ClassifierTraining(
        toy_records(1, 30),
        NAMES,
        dataclasses.replace(TINY, steps=12),
        added=toy_records(2, 30),
        augmentation=Augmentation(NAMES, 100) if augmented else None,
    )

    def stop(now):
        if now.step == 5:
            raise KeyboardInterrupt

    whole = training.run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        training.run(tmp_path / "stopped", stop)
    steps = []
    resumed = training.run(tmp_path / "stopped", lambda now: steps.append(now.step))
    assert steps[0] == 6
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name])


def test_augmentation_changes_the_training_and_not_the_records(tmp_path):
    pytest.importorskip("ecg_augmentations", reason="ecg-augmentations is not installed")
    records = toy_records(1, 30)
    before = records.signals_mv.copy()
    config = dataclasses.replace(TINY, steps=3)
    plain = train_classifier(records, NAMES, config, tmp_path / "plain")
    changed = train_classifier(
        records, NAMES, config, tmp_path / "changed", augmentation=Augmentation(NAMES, 100)
    )
    assert distance(weights(plain), weights(changed)) > 0
    assert_array_equal(records.signals_mv, before)
    card = json.loads((tmp_path / "changed" / "card.json").read_text())
    assert [one["transform"] for one in card["augmentation"]] == ["gaussian noise", "muscle noise"]


@pytest.mark.parametrize(("share", "expected"), [(0.75, 0.75), (None, 0.5)])
def test_added_records_have_their_share_of_the_batches(share, expected):
    config = dataclasses.replace(TINY, added_share=share, batch_size=64)
    records, added = toy_records(1, 40), toy_records(2, 40)
    batch = ClassifierTraining(records, NAMES, config, added=added)._batches()
    own = (records.signals_mv / lead_scale(records)[:, None].astype(np.float32))[:, 0, 0]
    drawn = np.concatenate([batch(step)[0][:, 0, 0].numpy() for step in range(40)])
    assert np.isin(drawn, own).mean() == pytest.approx(1 - expected, abs=0.04)


def test_a_finished_training_is_read_and_not_repeated(tmp_path, monkeypatch):
    training = ClassifierTraining(toy_records(1, 20), NAMES, dataclasses.replace(TINY, steps=2))
    first = training.run(tmp_path)
    monkeypatch.setattr("ecgtransfer.evaluation.classifier.fit", None)
    assert training.run(tmp_path).fingerprint() == first.fingerprint()
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(TypeError):
        training.run(tmp_path)
