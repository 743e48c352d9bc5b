import copy
import errno
import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.corpus import LabelSpace, write_ecgset
from ecgtransfer.diffusion import SignalUnits
from ecgtransfer.errors import CorpusError, RunError
from ecgtransfer.pipeline import (
    Run,
    SourceSettings,
    config,
    export_source,
    import_source_model,
    load_source,
    source_training,
    train_source,
)
from ecgtransfer.pipeline import source as source_module
from ecgtransfer.pipeline.source import SourceStart, source_split
from tests.pipeline.small_run import STEPS, Interrupting, content

WEIGHTS = "source/weights.safetensors"


@pytest.fixture
def families(tmp_path):
    """Six short records of three patients, each patient in folds 1 and 2."""
    records = pd.DataFrame(
        {"name": list("uvwxyz"), "patient": list("aabbcc"), "fold": [1, 2, 1, 2, 1, 3]}
    )
    labels = np.ones((6, 1), np.float32)
    return write_ecgset(
        tmp_path / "families",
        np.zeros((6, 8, 100), np.int16),
        labels,
        records,
        LabelSpace(("NORM",)),
        100,
        "simulated",
    )


def test_the_source_trains_and_tells_what_it_came_to(trained, source, ecgset):
    results = trained.stage("source").card["results"]
    assert results["steps"] == STEPS
    assert results["records"] + results["held_out"] == len(ecgset)
    assert results["held_out"] == 2
    assert results["gaussian_loss"] > 0
    assert source.label_space == ecgset.label_space
    assert source.model.config.samples == 1000
    assert not any(p.requires_grad for p in source.model.parameters())
    found, train, held_out = source.records()
    assert found.fingerprint == ecgset.fingerprint
    assert sorted([*train, *held_out]) == list(range(len(ecgset)))


def test_a_source_that_is_done_is_not_trained_again(trained, source_settings, monkeypatch):
    before = content(trained.folder)
    monkeypatch.setattr(source_training, "fit_diffusion", None)
    summary = train_source(trained, source_settings)
    assert summary.steps == STEPS
    assert content(trained.folder) == before


def test_a_path_means_the_same_from_wherever_it_is_given(trained, source_settings, monkeypatch):
    monkeypatch.chdir(source_settings.source.parent)
    relative = replace(source_settings, source=source_settings.source.relative_to(os.getcwd()))
    assert train_source(trained, relative).steps == STEPS


def test_an_interrupted_source_goes_on_to_the_same_weights(tmp_path, trained, source_settings):
    run = Run.create(tmp_path / "run")
    with (
        Interrupting("source model", 3).training("source model") as progress,
        pytest.raises(KeyboardInterrupt),
    ):
        train_source(run, source_settings, progress)
    assert not run.stage("source").is_done
    seen = []
    train_source(run, source_settings, lambda now: seen.append(now.step))
    assert seen == [4, 5]
    assert (run.folder / WEIGHTS).read_bytes() == (trained.folder / WEIGHTS).read_bytes()


def test_a_finished_training_is_kept_by_what_comes_after_it(
    tmp_path, trained, source_settings, monkeypatch
):
    def pressed(*_):
        raise KeyboardInterrupt

    run = Run.create(tmp_path / "run")
    monkeypatch.setattr(source_training, "gaussian_identity", pressed)
    with pytest.raises(KeyboardInterrupt):
        train_source(run, source_settings)
    monkeypatch.undo()
    train_source(run, source_settings, pressed)
    assert (run.folder / WEIGHTS).read_bytes() == (trained.folder / WEIGHTS).read_bytes()
    left = run.folder / "source/checkpoint.safetensors"
    assert not left.exists()
    left.touch()  # of a kill between the card and its removal
    train_source(run, source_settings, pressed)
    assert not left.exists()


def test_a_source_with_other_settings_is_refused(copied, trained, source_settings):
    run = copied(trained)
    with pytest.raises(RunError, match=r"source\.steps 5, asked for 6"):
        train_source(run, replace(source_settings, steps=6))


def test_a_missing_source_set_leaves_no_run(tmp_path):
    run = Run.create(tmp_path / "run")
    with pytest.raises(CorpusError, match="no ECG set at"):
        train_source(run, SourceSettings(tmp_path / "none"))
    assert not run.folder.exists()


def test_a_source_set_that_changed_is_refused(tmp_path, ecgset, source_settings):
    shutil.copytree(ecgset.folder, tmp_path / "set")
    run = Run.create(tmp_path / "run")
    settings = replace(source_settings, source=tmp_path / "set", steps=1)
    train_source(run, settings)
    source = load_source(run)
    write_ecgset(
        tmp_path / "set",
        np.zeros((len(ecgset), 8, 1000), np.int16),
        ecgset.labels,
        ecgset.records,
        ecgset.label_space,
        100,
        "simulated",
        overwrite=True,
    )
    with pytest.raises(RunError, match=r"the set that the source model was trained on .* got "):
        source.records()
    with pytest.raises(RunError, match=r"with other settings \(set "):
        train_source(run, settings)


def test_a_training_begins_with_the_weights_and_units_of_another(
    tmp_path, trained, source, source_settings, monkeypatch, rng
):
    gated = replace(config.PRESETS["tiny"], spectral=1)
    monkeypatch.setitem(config.PRESETS, "tiny", gated)
    run = Run.create(tmp_path)
    still = replace(source_settings, steps=1, learning_rate=1e-30, select=("fold=1-5",))
    train_source(run, still, start=source)
    found = load_source(run)
    assert found.model.config.unet.spectral == 1
    assert found.start == SourceStart(
        source.fingerprint, source.summary.steps, source.summary.seconds
    )
    x = torch.randn(4, *source.model.units.shape, generator=rng)
    sigma, label = torch.rand(4, generator=rng) + 0.1, torch.zeros(4, len(source.label_space))
    assert_close(found.model(x, sigma, label), source.model(x, sigma, label))
    assert torch.equal(found.model.units.amplitude_mv, source.model.units.amplitude_mv)
    assert (
        f"training {source.fingerprint}: {STEPS} steps"
        in export_source(run, tmp_path / "given").model_card
    )
    assert load_source(trained).start is None


def test_a_training_does_not_begin_with_a_model_that_it_cannot_hold(
    tmp_path, source, source_settings, monkeypatch
):
    tiny = config.PRESETS["tiny"]
    monkeypatch.setitem(config.PRESETS, "tiny", replace(tiny, widths=(32, 48, 64)))
    with pytest.raises(RunError, match=r"layers are among those of the preset, got \d+ that"):
        train_source(Run.create(tmp_path / "narrow"), source_settings, start=source)
    monkeypatch.setitem(config.PRESETS, "tiny", tiny)
    other = replace(source, model=copy.deepcopy(source.model))
    other.model.units = SignalUnits(8, 500)
    with pytest.raises(RunError, match=r"got one of NORM.* on 8 leads and 500 samples"):
        train_source(Run.create(tmp_path / "short"), source_settings, start=other)
    assert list(tmp_path.iterdir()) == []


def test_another_run_takes_a_source_over(tmp_path, trained, source):
    run = Run.create(tmp_path / "other")
    import_source_model(run, trained.stage("source"))
    taken = load_source(Run.open(run.folder))
    assert taken.fingerprint == source.fingerprint
    assert (run.folder / WEIGHTS).read_bytes() == (trained.folder / WEIGHTS).read_bytes()
    before = content(run.folder)
    import_source_model(run, trained.stage("source"))
    assert content(run.folder) == before


def test_one_run_holds_one_source(tmp_path, trained, source_settings):
    run = Run.create(tmp_path / "other")
    train_source(run, replace(source_settings, steps=1))
    before = content(run.folder)
    with pytest.raises(RunError, match=r"already holds another source than .*another run folder"):
        import_source_model(run, trained.stage("source"))
    assert content(run.folder) == before


def test_a_source_that_is_not_finished_cannot_be_taken_over(tmp_path):
    other = Run.create(tmp_path / "other")
    with pytest.raises(RunError, match="expected a finished stage 'source'"):
        import_source_model(Run.create(tmp_path / "run"), other.stage("source"))
    with pytest.raises(RunError, match="expected a finished stage 'source'"):
        load_source(other)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_half_source(tmp_path, trained, monkeypatch):
    def full_disk(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = Run.create(tmp_path / "run")
    monkeypatch.setattr(source_module.shutil, "copy2", full_disk)
    with pytest.raises(RunError, match=r"source could not be written .*No space left .*make room"):
        import_source_model(run, trained.stage("source"))
    assert list(content(run.folder)) == ["config.json"]
    monkeypatch.undo()
    import_source_model(run, trained.stage("source"))
    assert run.stage("source").is_done


def test_named_validation_records_are_held_out(families):
    settings = SourceSettings(families.folder, select=("patient=a|b",), validation=("fold=3",))
    train, held_out = source_split(families, replace(settings, select=("patient=a|b",)))
    assert (train.tolist(), held_out.tolist()) == ([0, 1, 2, 3], [5])


@pytest.mark.parametrize(
    ("select", "validation", "sentence"),
    [
        ("fold=1-2", "fold=2", "2 are in both; narrow --select or --validation"),
        ("fold=1", "fold=2", "of other patients .* 2 patients are in both"),
    ],
)
def test_training_and_validation_must_not_overlap(families, select, validation, sentence):
    settings = SourceSettings(families.folder, select=(select,), validation=(validation,))
    with pytest.raises(RunError, match=sentence):
        source_split(families, settings)
