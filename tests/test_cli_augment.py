"""`ecgtransfer augment` as it is called."""

import json

import numpy as np
import pytest
from ecgtransfer_cli.app import app
from typer.testing import CliRunner

from ecgtransfer import pipeline
from ecgtransfer.corpus import ECGSet, label_space
from ecgtransfer.pipeline import SourceSettings
from ecgtransfer.simulation import TARGET_HOSPITAL, simulate_ecgset
from tests.pipeline.small_run import STEPS, content, small_config


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clinic") / "set"
    return simulate_ecgset(folder, TARGET_HOSPITAL, 36, 2, label_space("icbeb9")).folder


@pytest.fixture(scope="module")
def model(tmp_path_factory, ecgset):
    run = pipeline.Run.create(tmp_path_factory.mktemp("source") / "run")
    settings = SourceSettings(
        source=ecgset.folder, preset="tiny", steps=STEPS, batch_size=4, precision="float32"
    )
    pipeline.train_source(run, settings)
    return pipeline.export_source(run, run.folder.parent / "model").folder


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def asked(tmp_path_factory, clinic, model):
    to = tmp_path_factory.mktemp("made") / "augmented"
    return (
        *("augment", clinic, "--to", to, "--source", model, "--method", "source"),
        *("--train-records", 16, "--at-least", 5, "--no-gate"),
    ), to


@pytest.fixture(scope="module")
def made(asked):
    words, to = asked
    result = call(*words)
    assert result.exit_code == 0, result.output
    return result, to


def test_one_command_makes_a_training_set(made):
    result, to = made
    assert "records train, 20 test; transfers the source model, then adds" in result.stderr
    assert "Augmented training set, not for diagnosis" in result.stdout
    assert "Training records of each class" in result.stdout
    train, test = ECGSet.open(to / "train"), ECGSet.open(to / "test")
    assert train.origin == "mixed"
    assert not set(train.records.patient) & set(test.records.patient)
    assert np.load(to / "arrays/train/X.npy").shape == (len(train), 12, 1000)
    assert (to / "wfdb/test/labels.csv").exists()
    assert (to / "ptbxl/ptbxl_database.csv").exists()
    assert "Switched off" in (to / "README.md").read_text()
    assert (to / "run/transfer-source/card.json").exists()


def test_the_same_command_finds_it_done(made, asked):
    words, to = asked
    before = content(to)
    result = call(*words, "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["result"]["train_records"] == 16
    assert told["train"] == str(to / "train")
    assert content(to) == before
    assert call(*words, "--quiet").stdout == ""


def test_other_settings_than_those_of_the_transfer_are_refused(made, asked, tmp_path):
    words, to = asked
    before = content(to)
    result = call(*words, "--config", small_config(tmp_path))
    assert "was trained, got others (" in str(result.exception)
    assert "n_source" in str(result.exception)
    (tmp_path / "same.toml").write_text("n_source = 2000\n")
    assert call(*words, "--config", tmp_path / "same.toml", "--quiet").exit_code == 0
    assert content(to) == before


def test_a_second_set_of_a_run_has_its_own_folder_and_name(made, clinic, tmp_path):
    _, to = made
    words = ("augment", clinic, "--run", to / "run", "--no-gate", "--no-wfdb", "--no-ptbxl")
    result = call(*words, "--to", to, "--ratio", 0.5)
    assert "holds an augmented set with other settings" in str(result.exception)
    result = call(*words, "--to", tmp_path / "half", "--ratio", 0.5)
    assert "with other settings" in str(result.exception)
    result = call(
        *words, "--to", tmp_path / "half", "--ratio", 0.5, "--name", "half", "--no-arrays"
    )
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "half").iterdir() if path.name[0] != ".") == [
        "README.md", "augmented.json", "test", "train"
    ]  # fmt: skip


def test_the_gate_is_reported_by_class(made, monkeypatch):
    from ecgtransfer_cli.augment import _gate

    from ecgtransfer.evaluation.gate import GateCount

    class Told:
        class summary:
            gate = (
                GateCount("AFIB", 20, 12, 6, 3, {"NORM": 2}, "irregular RR", 15, 1),
                GateCount("LVH", 5, 5, 0, 0, {}, None, 4, None, judged=False),
            )

    (grid,) = _gate(Told)
    assert grid.rows[0] == ("AFIB", 20, 12, 6, "1 of 15", "3", {"NORM": 2})
    assert grid.rows[1][3:] == ("no rule", "-", "not judged (4 recorded)", "")


def test_wrong_use(clinic, tmp_path):
    assert call("augment", clinic).exit_code == 2
    assert call("augment", clinic, "--to", tmp_path / "to", "--at-least", 0).exit_code == 2
    result = call("augment", clinic, "--to", tmp_path / "to", "--ratio", -1)
    assert "expected a ratio above 0" in str(result.exception)
    result = call("augment", tmp_path / "nothing", "--to", tmp_path / "to")
    assert "no ECG set at" in str(result.exception)
    assert not (tmp_path / "to").exists()
