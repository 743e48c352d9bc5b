import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ecgtransfer.corpus import ECGSet, SetPart, join_sets
from ecgtransfer.errors import ConfigError, CorpusError, RunError
from ecgtransfer.evaluation import PrivacySettings
from ecgtransfer.evaluation.gate import GateSettings, GateVerdict
from ecgtransfer.export import training_arrays
from ecgtransfer.pipeline import (
    AdaptedModel,
    AugmentRequest,
    AugmentSettings,
    GenerateSettings,
    Run,
    TargetSettings,
    TransferSettings,
    augment,
    default_run,
    evaluate,
    load,
    load_target,
    request_augmentation,
    request_augmented_sets,
    train_source,
    write_augmented,
)
from ecgtransfer.pipeline import augmented as augmented_module
from ecgtransfer.pipeline import augmented_files as files_module
from ecgtransfer.pipeline.augmented import combinations, read_verdicts, synthetic_weight
from tests.pipeline.small_run import (
    CLASSIFIER,
    SAMPLER,
    Interrupting,
    Silent,
    content,
    lasting,
    transfer_settings,
)

GATE = GateSettings(training=CLASSIFIER)
SMALL = AugmentSettings(method="source", sampler=SAMPLER, gate=None)


class SomePass:
    """A gate that drops every third record of a round, by its index."""

    def __init__(self, monkeypatch, every=3):
        def judge(gate, ecgset, number):
            path = gate.folder / augmented_module.gate_file(number)
            if not path.exists():
                rows = [(k, "AFIB" if k % every == 0 else "", "", "") for k in range(len(ecgset))]
                augmented_module._write_rows(path, augmented_module.GATE_COLUMNS, rows)
            return read_verdicts(gate.folder, number, len(ecgset))

        monkeypatch.setattr(augmented_module._Gate, "judge", judge)


@pytest.fixture(scope="module")
def made(tmp_path_factory, settled, source):
    """An augmentation with a gate and its files; look only."""
    folder = tmp_path_factory.mktemp("augmented")
    shutil.copytree(settled.folder, folder / "run")
    run = Run.open(folder / "run")
    settings = replace(SMALL, gate=GATE, at_least=6)
    with pytest.MonkeyPatch.context() as patch:
        # A model after five steps generates no ECG that obeys a rule.
        SomePass(patch)
        made = augment(run, source, load_target(run, source), settings, Silent())
    sets = write_augmented(made, source, folder / "to", Silent())
    return made, sets


def test_the_counts_are_those_asked_for_after_the_gate(made):
    made, sets = made
    summary = made.summary
    assert summary.added == summary.wanted
    assert len(summary.rounds) > 1
    assert summary.synthetic_records == sum(summary.wanted.values())
    together = {n: summary.recorded[n] + summary.synthetic[n] for n in summary.recorded}
    present = [name for name, count in summary.recorded.items() if count]
    assert min(together[name] for name in present) >= 6
    train = sets.train
    found = dict(zip(train.names, train.labels.sum(axis=0).astype(int), strict=True))
    assert found == together


def test_no_test_patient_is_in_the_training_set(made):
    made, sets = made
    train, test = set(sets.train.records.patient), set(sets.test.records.patient)
    assert not train & test
    target = made.target
    everyone = set(target.ecgset.records.patient)
    assert test == set(target.ecgset.records.patient.iloc[target.test])
    assert test <= everyone
    recorded = sets.train.records[np.array(sets.train.record_origins) == "simulated"]
    assert set(recorded.patient) == everyone - test
    # Nor is a test signal, under whatever name.
    signals = {record.signal_mv.tobytes() for record in sets.test}
    assert not signals & {record.signal_mv.tobytes() for record in sets.train}


def test_recorded_records_are_copied_and_test_records_are_untouched(made):
    made, sets = made
    target = made.target
    np.testing.assert_array_equal(
        sets.train.independent_mv(slice(0, len(target.train))),
        target.ecgset.independent_mv(target.train),
    )
    np.testing.assert_array_equal(
        sets.test.independent_mv(), target.ecgset.independent_mv(target.test)
    )
    assert sets.test.origin == target.ecgset.origin == "simulated"
    assert sets.test.records.name.tolist() == target.ecgset.records.name.iloc[target.test].tolist()


def test_columns_state_origin_weight_fold_and_patient(made):
    made, sets = made
    table, n = sets.train.records, made.summary.train_records
    assert sets.train.origin == "mixed"
    sets.train.verify()
    assert table.origin.tolist()[:n] == ["simulated"] * n
    assert set(table.origin[n:]) == {"generated"}
    assert (table.fold[:n] >= 1).all()
    assert (table.fold[n:] == -1).all()
    assert (table.weight[:n] == 1).all()
    assert set(table.weight[n:]) == {made.summary.weight}
    assert table.patient.notna().all()
    assert table.patient[n:].nunique() == len(table) - n
    assert table.labels.tolist() == [
        "+".join(sets.train.label_space.decode(row)) for row in sets.train.labels
    ]
    folds = table[:n].groupby("patient").fold.nunique()
    assert (folds == 1).all()


def test_records_that_the_gate_dropped_are_not_added(made):
    made, sets = made
    for number, (ecgset, indices) in enumerate(made.kept(), 1):
        dropped = [k for k, v in enumerate(_verdicts(made, number, ecgset)) if not v.passed]
        assert dropped
        assert not set(dropped) & set(indices.tolist())
    generated = sum(each.generated for each in made.summary.rounds)
    assert sum(each.generated for each in made.summary.gate) >= generated
    assert len(sets.train) == made.summary.train_records + made.summary.synthetic_records


def _verdicts(made, number, ecgset):
    return read_verdicts(made.stage.folder, number, len(ecgset))


def test_the_weight_gives_synthetic_records_half_at_most():
    assert synthetic_weight(80, 40) == 1.0
    assert synthetic_weight(80, 320) == 0.25
    assert 320 * synthetic_weight(80, 320) == 80


def test_a_classifier_of_scikit_learn_learns_from_the_arrays(made):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, PredefinedSplit

    _, sets = made
    folder = sets.forms["arrays/train"]
    X, y, groups, weight, fold = (
        np.load(folder / f"{name}.npy") for name in ("X", "y", "groups", "weight", "fold")
    )
    features, afib = X.std(axis=2), y[:, sets.train.names.index("AFIB")]
    model = LogisticRegression(max_iter=1000).fit(features, afib, sample_weight=weight)
    test = np.load(sets.forms["arrays/test"] / "X.npy")
    assert model.predict_proba(test.std(axis=2)).shape == (len(sets.test), 2)
    # A fold of -1 is trained on and never validated.
    validated = np.concatenate([held for _, held in PredefinedSplit(fold).split()])
    assert len(validated) == (fold > 0).sum()
    assert len(list(GroupKFold(3).split(X, groups=groups))) == 3


def test_every_form_holds_the_same_records(made):
    _, sets = made
    train = sets.train
    assert sorted(sets.forms) == ["arrays/test", "arrays/train", "ptbxl", "wfdb/test", "wfdb/train"]
    np.testing.assert_array_equal(
        np.load(sets.forms["arrays/train"] / "X.npy"), training_arrays(train).X
    )
    assert len((sets.forms["wfdb/train"] / "RECORDS").read_text().split()) == len(train)
    assert len((sets.forms["ptbxl"] / "RECORDS").read_text().split()) == len(train)
    assert len((sets.forms["wfdb/test"] / "RECORDS").read_text().split()) == len(sets.test)
    table = pd.read_csv(sets.forms["wfdb/train"] / "labels.csv")
    assert table.origin.tolist() == train.records.origin.tolist()
    np.testing.assert_allclose(table.weight, train.records.weight)


def test_the_data_sheet_says_what_the_set_is(made):
    made, sets = made
    sheet = (sets.folder / "README.md").read_text()
    summary = made.summary
    assert f"{summary.train_records} recorded and {summary.synthetic_records} synthetic" in sheet
    for heading in ("How it was made", "Quality gate", "Privacy", "Licence", "Do not use it for"):
        assert f"## {heading}" in sheet
    assert "not measured" in sheet
    assert "no licence stated; ask who owns them" in sheet
    assert f"| AFIB | {summary.recorded['AFIB']} | {summary.synthetic['AFIB']} |" in sheet
    numbers = json.loads((sets.folder / "augmented.json").read_text())
    assert numbers["sets"] == {"train": sets.train.fingerprint, "test": sets.test.fingerprint}


def test_classes_that_the_classifier_cannot_judge_are_named(made):
    made, sets = made
    few = {each.label: each.recorded for each in made.summary.gate if each.recorded <= 9}
    assert few
    warning = made.summary.warnings[-1]
    sheet = (sets.folder / "README.md").read_text()
    assert "resemble recorded ones of their class was not judged for" in warning
    for name, recorded in few.items():
        assert f"{name} ({recorded} recorded)" in warning
        assert re.search(rf"\| {name} \|.*\| not judged \({recorded} recorded\) \|", sheet)
    assert "per label" in sheet
    assert "cross-validation over it would validate on them" in sheet
    assert "do not resemble the recorded training records of each of their classes" in sheet


def test_a_measured_privacy_verdict_enters_the_sheet(made, tmp_path, copied, source):
    made, _ = made
    run = copied(made.run)
    settings = PrivacySettings(name=made.settings.name, classifier=CLASSIFIER)
    answer = evaluate(run, source, load_target(run, source), settings)
    again = augment(run, source, made.target, made.settings, Silent())
    sets = write_augmented(again, source, tmp_path / "to", Silent(), forms=())
    sheet = (sets.folder / "README.md").read_text()
    whole = answer.evaluation.methods["source"].verdicts()[0].sentence
    assert whole in sheet
    assert "Set `augmented-round-2`: not measured" in sheet


def test_a_finished_augmentation_is_kept(made, source):
    made, sets = made
    before, files = lasting(made.run.folder), content(sets.folder)
    again = augment(made.run, source, made.target, made.settings, Silent())
    assert again.summary == made.summary
    write_augmented(again, source, sets.folder, Silent())
    assert lasting(made.run.folder) == before
    assert content(sets.folder) == files


@pytest.mark.parametrize(
    ("task", "step"),
    [
        ("synthetic records", 10),
        ("classifiers of the quality gate", 3),
        ("rules of the recorded records", 1),
        ("training set", 5),
        ("wfdb, test", 2),
    ],
)
def test_an_interrupted_augmentation_resumes_to_the_same_files(
    task, step, tmp_path, settled, source
):
    # Each in one place: cards state paths.
    folder = tmp_path / "here"
    settings = replace(SMALL, gate=replace(GATE, rules=task.startswith("rules")), ratio=0.5)

    def run_all(reporter):
        run = Run.open(folder / "run")
        made = augment(run, source, load_target(run, source), settings, reporter)
        write_augmented(made, source, folder / "to", reporter, forms=("wfdb",))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmented_module, "ROUNDS", 1)
        patch.setattr(augmented_module, "broken_rules", lambda *_: ())
        patch.setattr("ecgtransfer.evaluation.gate.broken_rules", lambda *_: ())
        shutil.copytree(settled.folder, folder / "run")
        with pytest.raises(KeyboardInterrupt):
            run_all(Interrupting(task, step))
        assert not (folder / "to" / "augmented.json").exists()
        run_all(Silent())
        resumed = lasting(folder)
        shutil.rmtree(folder)
        shutil.copytree(settled.folder, folder / "run")
        run_all(Silent())
    assert resumed == lasting(folder)


def test_the_gate_is_trained_on_training_records_alone(tmp_path, copied, settled, source):
    run = copied(settled)
    target = load_target(run, source)
    settings = replace(SMALL, gate=replace(GATE, rules=False), ratio=0.5)
    before = augment(run, source, target, settings, Silent())
    # Other test records change nothing, whatever they are.
    changed = target.ecgset.labels.copy()
    changed[target.test] = 1 - changed[target.test]
    other = Run.open(shutil.copytree(settled.folder, tmp_path / "other"))
    after = augment(other, source, replace(target, labels=changed), settings, Silent())
    assert after.summary == before.summary
    assert lasting(after.stage.folder / "classifiers") == lasting(
        before.stage.folder / "classifiers"
    )


def test_what_the_gate_drops_for_good_is_said(copied, settled, source, monkeypatch):
    SomePass(monkeypatch, every=1)
    run = copied(settled)
    none = r"that pass the quality gate, got none of .* another --name and --to"
    with pytest.raises(RunError, match=none):
        augment(run, source, load_target(run, source), replace(SMALL, gate=GATE), Silent())
    monkeypatch.setattr(augmented_module, "ROUNDS", 1)
    SomePass(monkeypatch, every=2)
    settings = replace(SMALL, gate=GATE, name="few")
    short = augment(run, source, load_target(run, source), settings, Silent())
    assert "fewer synthetic records passed the quality gate" in short.summary.warnings[0]
    assert "--no-gate, the same --run, and another --name and --to" in short.summary.warnings[0]
    assert short.summary.synthetic_records < sum(short.summary.wanted.values())


def test_without_a_gate_every_record_is_kept(copied, settled, source):
    run = copied(settled)
    made = augment(run, source, load_target(run, source), SMALL, Silent())
    assert made.summary.gate == ()
    assert [each.passed for each in made.summary.rounds] == [made.summary.synthetic_records]
    assert made.summary.synthetic_records == made.summary.train_records
    assert "Switched off" in _sheet(made, source, run.folder.parent / "to")
    assert combinations(made.target).keys() == {
        tuple(names.split("+")) for names in made.summary.added
    }


def _sheet(made, source, folder):
    write_augmented(made, source, folder, Silent(), forms=())
    return (folder / "README.md").read_text()


def test_labels_that_the_model_does_not_know_get_no_records(made, narrow):
    target = made[0].target
    wanted = augmented_module.wanted_records(narrow, target, SMALL)
    assert {name for names in wanted for name in names} == {"NORM", "AFIB"}


def test_an_unreadable_or_changed_judgement_is_refused(made, copied, source):
    made, _ = made
    run = copied(made.run)
    again = augment(run, source, made.target, made.settings, Silent())
    path = again.stage.folder / "gate-1.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(RunError, match=r"expected \d+ verdicts in .*gate-1.csv, found \d+"):
        again.kept()
    path.unlink()
    with pytest.raises(RunError, match="expected the verdicts of the quality gate in"):
        again.kept()
    first = replace(again.summary.rounds[0], fingerprint="0" * 64)
    changed = replace(again.summary, rounds=(first,))
    with pytest.raises(RunError, match="that was judged, got"):
        replace(again, summary=changed).kept()


def test_settings_are_checked():
    assert AugmentSettings().ratio == 1.0
    assert AugmentSettings(at_least=5).ratio is None
    with pytest.raises(ConfigError, match="expected a ratio above 0"):
        AugmentSettings(ratio=-1.0)
    with pytest.raises(ConfigError, match="expected a name for the set"):
        AugmentSettings(name="transfer")
    with pytest.raises(ConfigError, match="does not end with -round- and a number"):
        AugmentSettings(name="x-round-2")
    assert AugmentSettings(name="x-2").name == "x-2"
    assert [augmented_module.round_name("x", number) for number in (1, 2)] == ["x", "x-round-2"]
    with pytest.raises(ConfigError, match="'nothing'"):
        AugmentSettings(method="nothing")
    with pytest.raises(ConfigError, match=r"that does not start with .* augment"):
        GenerateSettings(per_class=1, name="augment-x")


def test_a_folder_with_other_content_is_refused_before_any_work(made, tmp_path, clinic):
    made, sets = made
    request = AugmentRequest(tmp_path / "run", TargetSettings(clinic.folder), SMALL)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="found a file; choose another place"):
        request_augmented_sets(request, tmp_path / "file", Silent())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(RunError, match=r"found 'thesis.tex' in"):
        request_augmented_sets(request, tmp_path / "mine", Silent())
    with pytest.raises(RunError, match="holds an augmented set with other settings"):
        request_augmented_sets(request, sets.folder, Silent())
    assert not request.run.exists()


def test_a_set_of_another_augmentation_is_not_overwritten(made, tmp_path, copied, source):
    made, sets = made
    other = replace(made, fingerprint="another")
    with pytest.raises(RunError, match="belongs to another augmentation"):
        write_augmented(other, source, sets.folder, Silent())
    stated = sets.train.card["augmentation"]["rounds"]
    assert stated == {each.name: each.fingerprint for each in made.summary.rounds}
    with pytest.raises(ConfigError, match="expected forms of arrays, wfdb, ptbxl, got 'csv'"):
        write_augmented(made, source, tmp_path / "to", Silent(), forms=("csv",))


def test_a_patient_on_both_sides_is_refused(made, tmp_path, source):
    made, _ = made
    target = made.target
    leaky = replace(target, test=np.append(target.test, target.train[0]))
    with pytest.raises(RunError, match="expected no test patient in the training set"):
        write_augmented(replace(made, target=leaky), source, tmp_path / "to", Silent())
    assert not (tmp_path / "to" / "train").exists()


def test_a_mixed_or_generated_set_is_no_target(made, copied, trained, source):
    _, sets = made
    request = AugmentRequest(copied(trained).folder, TargetSettings(sets.train.folder), SMALL)
    with pytest.raises(CorpusError, match=r"expected recorded ECGs in .* got a mixed set"):
        request_augmentation(request, Silent())


def test_a_mixed_or_generated_set_trains_no_source(made, tmp_path, source_settings):
    made, sets = made
    for name, folder in (("mixed", sets.train.folder), ("generated", made.kept()[0][0].folder)):
        run = Run.create(tmp_path / name)
        with pytest.raises(CorpusError, match=rf"expected recorded ECGs in .* got a {name} set"):
            train_source(run, replace(source_settings, source=folder))
        assert not run.folder.exists()


@pytest.mark.parametrize("place", ["to", "to/train", "to/x/run"])
def test_a_run_in_the_folder_of_the_sets_is_refused(place, tmp_path, clinic):
    request = AugmentRequest(tmp_path / place, TargetSettings(clinic.folder), SMALL)
    with pytest.raises(RunError, match=r"expected a run outside of .*to, or .*to/run, got"):
        request_augmented_sets(request, tmp_path / "to", Silent())
    assert not (tmp_path / "to").exists()


def test_the_folds_of_the_clinic_are_kept_beside(made, tmp_path):
    made, _ = made
    target = made.target
    whole = np.arange(len(target.ecgset))
    stated = join_sets(
        tmp_path / "folded",
        [SetPart(target.ecgset, whole, {"fold": whole % 10 + 1})],
        target.ecgset.label_space,
    )
    parts = files_module.training_parts(replace(made, target=replace(target, ecgset=stated)))
    table = parts[0].table()
    assert table.set_fold.tolist() == (target.train % 10 + 1).tolist()
    assert table.fold.tolist() == made.folds.tolist()


def test_one_request_splits_transfers_generates_and_writes(tmp_path, given, clinic):
    plans, to = [], tmp_path / "to"
    request = AugmentRequest(
        default_run(to),
        TargetSettings(clinic.folder, train_records=16),
        replace(SMALL, method=None),
        TransferSettings(**vars(transfer_settings("finetune"))),
        source=str(given.folder),
    )
    made, sets = request_augmented_sets(request, to, Silent(), forms=(), note=plans.append)
    assert made.settings.method == "finetune"
    assert (to / "run" / "transfer-finetune" / "card.json").exists()
    assert f"{clinic.folder}: 16 records train, 20 test; transfers the source model" in plans[0]
    assert "then adds 16 synthetic records; about" in plans[0]
    assert str(to) in plans[0]
    # Again, with no more than the set and the run: its split and its transfer are used.
    again = AugmentRequest(to / "run", TargetSettings(clinic.folder), replace(SMALL, method=None))
    same, _ = request_augmented_sets(again, to, Silent(), forms=(), note=plans.append)
    assert same.fingerprint == made.fingerprint
    assert len(plans) == 1
    # The settings of its transfer may be stated again; others are refused.
    stated = replace(again, transfer=request.transfer)
    same, _ = request_augmented_sets(stated, to, Silent(), forms=())
    assert same.fingerprint == made.fingerprint
    other = replace(again, transfer=replace(request.transfer, n_source=17))
    with pytest.raises(RunError, match=r"was trained, got others \(n_source\) in --config"):
        request_augmented_sets(other, to, Silent(), forms=())
    with pytest.raises(RunError, match="'target' with other settings"):
        request_augmentation(
            replace(again, target=replace(again.target, train_records=20)), Silent()
        )
    with pytest.raises(RunError, match=r"expected the set that the run .* was split on"):
        request_augmentation(replace(again, target=TargetSettings(sets.test.folder)), Silent())


def test_several_transfers_need_a_method(copied, settled, clinic):
    run = copied(settled)
    for method in ("lora", "finetune"):
        stage = run.stage(f"transfer-{method}")
        stage.begin({"method": method})
        stage.finish({})
    request = AugmentRequest(run.folder, TargetSettings(clinic.folder), replace(SMALL, method=None))
    with pytest.raises(RunError, match=r"transfers by finetune, lora; name one with --method"):
        request_augmentation(request, Silent())


def test_a_refused_set_leaves_no_run(tmp_path, given, made):
    run = tmp_path / "run"
    target = TargetSettings(made[1].train.folder)
    with pytest.raises(CorpusError, match="got a mixed set"):
        request_augmentation(AugmentRequest(run, target, SMALL, source=str(given.folder)), Silent())
    assert not run.exists()


@pytest.fixture
def adapted(copied, settled, source, clinic):
    run = copied(settled)
    model = load(run.folder)
    settings = transfer_settings("finetune")
    return model.transfer(clinic, run.folder, settings=settings, train_records=16), clinic


def test_five_lines_of_python(adapted, tmp_path):
    import ecgtransfer as et

    adapted, _ = adapted
    ecgs = adapted.generate({"AFIB": 3, "CRBBB+PVC": 1}, seed=0, steps=2)
    assert ecgs.folder == adapted.folder / "synthetic-finetune" / "set"
    assert ecgs.signals_mv().shape == (4, 12, 1000)
    assert ecgs.labels.sum(axis=0)[ecgs.names.index("AFIB")] == 3
    figure = et.plot(ecgs[0], tmp_path / "ecg.png")
    assert (tmp_path / "ecg.png").read_bytes().startswith(b"\x89PNG")
    texts = {text.get_text() for axes in figure.axes for text in axes.texts}
    texts |= {text.get_text() for text in figure.texts}
    assert any("SYNTHETIC" in text for text in texts)
    # The same records again are read, others get a name of their own.
    assert adapted.generate({"AFIB": 3, "CRBBB+PVC": 1}, seed=0, steps=2).folder == ecgs.folder
    other = adapted.generate({"AFIB": 2}, steps=2)
    assert other.folder != ecgs.folder
    assert adapted.generate({"AFIB": 2}, steps=2).folder == other.folder
    with pytest.raises(RunError, match="'synthetic-finetune' with other settings"):
        adapted.generate({"AFIB": 2}, steps=2, name="synthetic")


def test_python_and_files_give_the_same_training_set(adapted, tmp_path, monkeypatch):
    monkeypatch.setattr(augmented_module, "ROUNDS", 1)
    adapted, clinic = adapted
    X, y, groups, weight = adapted.augment(clinic, at_least=4, gate=False)
    made = adapted.augmentation(at_least=4, gate=False)
    sets = adapted.write(made, tmp_path / "to")
    arrays = training_arrays(sets.train)
    for ours, theirs in zip((X, y, groups, weight), arrays, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    test = adapted.test()
    np.testing.assert_array_equal(test.X, sets.test.signals_mv())
    assert not set(test.groups) & set(groups)
    assert (test.weight == 1).all()
    # Other settings take another name in the run.
    assert len(adapted.augment(ratio=0.5, gate=False).X) < len(X)
    reopened = AdaptedModel.open(adapted.folder)
    assert reopened.method == "finetune"
    assert reopened.summary == adapted.summary
    np.testing.assert_array_equal(reopened.augment(at_least=4, gate=False).y, y)


def test_a_model_is_loaded_by_name(trained):
    model = load("ptbxl-cascade")
    assert {"NORM", "AFIB", "CRBBB"} <= set(model.names)
    assert load(trained.folder).name == str(trained.folder)
    with pytest.raises(RunError, match="expected a source model at 'nowhere'"):
        load("nowhere")
    with pytest.raises(RunError, match="expected one finished transfer"):
        AdaptedModel.open(trained.folder)


def test_every_verdict_is_read_as_it_was_written(tmp_path):
    rows = [(0, "AFIB+NORM", "", ""), (1, "", "AFIB", "NORM"), (2, "", "", "")]
    augmented_module._write_rows(tmp_path / "gate-1.csv", augmented_module.GATE_COLUMNS, rows)
    assert read_verdicts(tmp_path, 1, 3) == [
        GateVerdict(("AFIB", "NORM")),
        GateVerdict((), ("AFIB",), "NORM"),
        GateVerdict(),
    ]


def test_sets_reopen_from_disk(made):
    _, sets = made
    assert ECGSet.open(sets.folder / "train").fingerprint == sets.train.fingerprint
