from dataclasses import replace

import numpy as np
import pytest

from ecgtransfer.corpus import ECGSet
from ecgtransfer.corpus.sets.ecgset_writer import write_ecgset
from ecgtransfer.errors import CorpusError, RunError
from ecgtransfer.pipeline import (
    Run,
    TargetSettings,
    export_source,
    load_source,
    read_source,
    split_target,
    train_source,
)
from ecgtransfer.pipeline.seen import SEEN, Seen, patient_hashes, signal_hashes
from ecgtransfer.pipeline.source import import_source_model


def part_of(ecgset, folder, numbers, corpus="ptbxl", patient=None, change_mv=0.0):
    """Some records of a set as another set of a corpus."""
    records = ecgset.records.iloc[numbers][["name", "patient", "fold"]].reset_index(drop=True)
    if patient is not None:
        records["patient"] = [patient(name) for name in records.patient]
    signals = np.rint((ecgset.independent_mv(numbers) + change_mv) * 1000).astype(np.int16)
    return write_ecgset(
        folder,
        signals,
        ecgset.labels[numbers],
        records,
        ecgset.label_space,
        ecgset.sampling_rate_hz,
        "recorded",
        card_extra={"corpus": {"name": corpus}} if corpus else None,
    )


@pytest.fixture
def trained_on(tmp_path, ecgset, source_settings):
    """A source trained on the first 16 records as a set of corpus "ptbxl"."""
    made = part_of(ecgset, tmp_path / "source-set", np.arange(16))
    run = Run.create(tmp_path / "source-run")
    train_source(run, replace(source_settings, source=made.folder, steps=1))
    return run


def target_run(tmp_path, theirs):
    own = Run.create(tmp_path / "own")
    import_source_model(own, theirs.stage("source"))
    return own, load_source(own)


def test_a_target_of_the_same_records_in_another_set_is_refused(tmp_path, ecgset, trained_on):
    again = part_of(ecgset, tmp_path / "again", np.arange(15))  # one fewer: another fingerprint
    own, source = target_run(tmp_path, trained_on)
    with pytest.raises(
        CorpusError, match="expected target patients on whom the source model was not"
    ):
        split_target(own, source, TargetSettings(again.folder, train_records=8))


def test_known_patients_are_left_out_by_corpus_and_name(tmp_path, ecgset, trained_on):
    # Other signals of eight of its patients in the same corpus, beside patients who are new.
    mixed = part_of(ecgset, tmp_path / "mixed", np.arange(8, len(ecgset)), change_mv=0.001)
    own, source = target_run(tmp_path, trained_on)
    target = split_target(own, source, TargetSettings(mixed.folder, train_records=10))
    used = np.concatenate([target.train, target.test])
    known = set(ecgset.records.patient.iloc[:16])
    assert not known & set(mixed.records.patient.iloc[used])
    assert len(used) == (~mixed.records.patient.isin(known)).sum()


def test_patients_of_another_corpus_are_other_people(tmp_path, ecgset, trained_on):
    other = part_of(ecgset, tmp_path / "other", np.arange(16), "clinic", change_mv=0.001)
    own, source = target_run(tmp_path, trained_on)
    target = split_target(own, source, TargetSettings(other.folder, train_records=8))
    assert len(target.train) + len(target.test) == 16


def test_a_known_signal_is_left_out_under_any_name(tmp_path, ecgset, trained_on):
    renamed = part_of(
        ecgset, tmp_path / "renamed", np.arange(8, len(ecgset)), "clinic", "x{}".format
    )
    own, source = target_run(tmp_path, trained_on)
    target = split_target(own, source, TargetSettings(renamed.folder, train_records=10))
    used = np.concatenate([target.train, target.test])
    assert used.min() >= 8
    assert len(used) == len(ecgset) - 16


def test_what_the_start_of_a_training_has_seen_counts(
    tmp_path, ecgset, trained_on, source_settings
):
    more = part_of(ecgset, tmp_path / "more", np.arange(16, len(ecgset)), "device-b")
    run = Run.create(tmp_path / "grown")
    train_source(
        run, replace(source_settings, source=more.folder, steps=1), start=load_source(trained_on)
    )
    again = part_of(ecgset, tmp_path / "again", np.arange(15))
    own, source = target_run(tmp_path, run)
    with pytest.raises(
        CorpusError, match="expected target patients on whom the source model was not"
    ):
        split_target(own, source, TargetSettings(again.folder, train_records=8))


def test_a_model_that_is_given_away_still_knows_whom_it_has_seen(tmp_path, trained_on):
    given = export_source(trained_on, tmp_path / "given")
    ours, theirs = load_source(trained_on).seen, read_source(_stage(given.folder)).seen
    assert np.array_equal(ours.patients, theirs.patients)
    assert np.array_equal(ours.signals, theirs.signals)


def test_a_source_that_does_not_say_cannot_be_tested_on_its_corpus(tmp_path, ecgset, trained_on):
    again = part_of(ecgset, tmp_path / "again", np.arange(15))
    (trained_on.folder / "source" / SEEN).unlink()
    own, source = target_run(tmp_path, trained_on)
    with pytest.raises(CorpusError, match="expected a source model that states which patients of"):
        split_target(own, source, TargetSettings(again.folder, train_records=8))


def test_hashes_come_back_from_disk(tmp_path, ecgset):
    seen = Seen.of(ecgset, np.arange(10))
    seen.write(tmp_path)
    again = Seen.read(tmp_path)
    assert np.array_equal(seen.patients, again.patients)
    assert np.array_equal(seen.signals, again.signals)
    assert again.holds(ecgset, np.arange(12)).tolist() == [True] * 10 + [False] * 2
    assert Seen.read(tmp_path / "none") is None
    (tmp_path / SEEN).write_bytes(b"broken")
    with pytest.raises(RunError, match=r"cannot be read .*; copy the source model again"):
        Seen.read(tmp_path)


def test_hashes_differ_by_corpus_patient_and_signal(tmp_path, ecgset):
    one, other = (part_of(ecgset, tmp_path / name, np.arange(6), name) for name in ("one", "other"))
    numbers = np.arange(6)
    assert not np.isin(patient_hashes(one, numbers), patient_hashes(other, numbers)).any()
    assert np.array_equal(signal_hashes(one, numbers), signal_hashes(other, numbers))
    assert len(set(signal_hashes(one, numbers).tolist())) == 6


def _stage(folder):
    from ecgtransfer.pipeline import Stage

    return Stage(folder)


def test_a_set_opens_as_it_was(tmp_path, ecgset):
    made = part_of(ecgset, tmp_path / "set", np.arange(3))
    assert ECGSet.open(made.folder).card["corpus"] == {"name": "ptbxl"}
