"""Runs and models of earlier versions are read as they were written, or refused in one sentence."""

import json
import shutil
from pathlib import Path

import pytest

from ecgtransfer.diffusion import DiffusionConfig, DiffusionModel
from ecgtransfer.errors import StorageError
from ecgtransfer.pipeline import Run, SourceSettings, TargetSettings, TransferSettings
from ecgtransfer.pipeline.methods import TransferSummary
from ecgtransfer.pipeline.pretrained import pretrained_models
from ecgtransfer.pipeline.run import Stage
from ecgtransfer.pipeline.source import SourceStart, SourceSummary, read_source
from ecgtransfer.storage import fingerprint, read_json, to_card
from ecgtransfer.training import WEIGHTS, TrainConfig, save_weights
from ecgtransfer.transfer import NoiseLevelWeight

OLDER = Path(__file__).parents[1] / "golden" / "run_of_f0108a4"
STAGES = ("source", "target", "transfer-tgdp")


@pytest.fixture
def older(tmp_path):
    """A copy of the run that a test may change."""
    return Run.open(shutil.copytree(OLDER, tmp_path / "run"))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_of_an_older_run_is_done_and_has_its_fingerprint(older, name):
    stage = older.stage(name)
    request = read_json(stage.folder / "request.json")
    assert stage.is_done
    assert fingerprint(request["settings"]) == request["fingerprint"]
    assert stage.begin(request["settings"]) is True


def test_the_settings_of_an_older_source_are_stated_as_they_were(older):
    stage = older.stage("source")
    asked = {
        "source": stage.read(SourceSettings, "settings.source"),
        "model": stage.read(DiffusionConfig, "settings.model"),
        "train": stage.read(TrainConfig, "settings.train"),
        "set": stage.read(str, "settings.set"),
    }
    assert to_card(asked) == stage.card["settings"]
    assert stage.begin(asked) is True


def test_results_of_an_older_run_are_read(older):
    stage = older.stage("transfer-tgdp")
    held = stage.card["results"]
    assert to_card(stage.read(TransferSummary, "results")) == held
    weight = stage.read(NoiseLevelWeight, "results.details.weight")
    assert to_card(weight) == held["details"]["weight"]
    summary = older.stage("source").read(SourceSummary, "results")
    assert to_card(summary) == older.stage("source").card["results"]
    target = older.stage("target")
    assert target.read(TargetSettings, "settings.target").train_records == 16


def test_an_older_source_model_is_loaded(older):
    stage = older.stage("source")
    model = DiffusionModel(stage.read(DiffusionConfig, "settings.model"))
    save_weights(model, stage.folder / WEIGHTS)
    source = read_source(stage)
    assert source.fingerprint == stage.card["fingerprint"]
    assert source.location == Path("/sets/source")


def test_settings_that_have_changed_since_are_refused_in_one_sentence(older):
    stage = older.stage("transfer-tgdp")
    sentence = (
        r"card\.json lacks the field settings\.transfer\.\w+; use the version of ecgtransfer that "
        r"wrote it, or create it again$"
    )
    with pytest.raises(StorageError, match=sentence):
        stage.read(TransferSettings, "settings.transfer")


def test_a_damaged_card_is_refused_in_one_sentence(older):
    path = older.stage("source").folder / "card.json"
    card = json.loads(path.read_text())
    del card["settings"]["model"]["unet"]["widths"]
    path.write_text(json.dumps(card))
    with pytest.raises(
        StorageError, match=r"card\.json lacks the field settings\.model\.unet\.wid"
    ):
        read_source(older.stage("source"))


@pytest.mark.parametrize("model", pretrained_models(), ids=lambda model: model.name)
def test_cards_of_shipped_models_are_stated_as_they_were(model):
    stage = Stage(model.folder)
    settings = stage.card["settings"]
    assert to_card(stage.read(DiffusionConfig, "settings.model")) == settings["model"]
    assert to_card(stage.read(TrainConfig, "settings.train")) == settings["train"]
    assert to_card(stage.read(SourceSettings, "settings.source")) == settings["source"]
    assert to_card(stage.read(SourceSummary, "results")) == stage.card["results"]
    if "start" in settings:
        assert to_card(stage.read(SourceStart, "settings.start")) == settings["start"]
