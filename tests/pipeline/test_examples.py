"""The scripts in `examples/`, with a small source model and a simulated clinic."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ecgtransfer.corpus import ECGSet
from ecgtransfer.pipeline import PrivacySettings, source_records, surrogate
from tests.pipeline.small_run import CLASSIFIER, transfer_settings

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def few_drawn(monkeypatch):
    """Few records of the source model, in two steps each."""
    monkeypatch.setattr(source_records, "RECORD_STEPS", 2)
    monkeypatch.setattr(surrogate, "SURROGATE_RECORDS", 30)


def test_classifiers_with_and_without_synthetic_records(tmp_path, given, clinic):
    transfer = {"settings": transfer_settings("source"), "train_records": 24}
    scores = example("augment_classifier").main(
        clinic.folder,
        tmp_path / "run",
        str(given.folder),
        transfer,
        {"ratio": 1.0, "gate": False},
        steps=3,
    )
    assert len(scores) == 4
    assert all(0 <= score <= 1 for score in scores.values())


def test_methods_are_compared_on_one_split(tmp_path, given, clinic):
    results = example("compare_methods").main(
        clinic.folder,
        tmp_path / "run",
        ("source", "finetune"),
        str(given.folder),
        transfer_settings,
    )
    assert list(results) == ["source", "finetune"]
    assert results["source"].held_out_loss == results["source"].source_loss
    assert np.isfinite(results["finetune"].held_out_loss)


def test_a_set_is_shared_only_if_no_privacy_test_fails(tmp_path, given, clinic, monkeypatch):
    module = example("share_with_privacy")
    settings = PrivacySettings(name="shared", classifier=CLASSIFIER)
    asked = {
        "source": str(given.folder),
        "transfer": {"settings": transfer_settings("source"), "train_records": 16},
        "privacy": settings,
        "per_class": 3,
    }
    to = tmp_path / "shared" / "clinic"
    to.parent.mkdir()
    sentences = module.main(clinic.folder, tmp_path / "run", to, **asked)
    report = to.with_name("clinic-privacy.txt")
    passed = sentences[0].startswith("Passed") or "Passed" in sentences[0].split(":")[1]
    assert to.exists() == report.exists() == passed
    if passed:
        assert len(ECGSet.open(tmp_path / "run/shared-source/set")) == 27
        assert report.read_text().splitlines()[0] == sentences[0]


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_explains_itself(name):
    told = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", "--help"], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    assert f"examples/{name}.py" in told.stdout
    assert f"`{name}.py`" in (EXAMPLES / "README.md").read_text()
