import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ecgtransfer.corpus import ECGSet
from ecgtransfer.errors import RunError
from ecgtransfer.pipeline import (
    QUESTIONS,
    DemoSettings,
    GenerateSettings,
    Run,
    load_source,
    load_target,
    run_demo,
    source_records,
    synthesise,
    transfer,
)
from ecgtransfer.pipeline import demo as demo_module
from tests.pipeline.small_run import (
    SAMPLER,
    UTILITY,
    Interrupting,
    Silent,
    lasting,
    no_bars,
    transfer_settings,
)


@pytest.fixture(scope="module")
def settings(given):
    return DemoSettings(
        source=str(given.folder),
        target_records=36,
        train_records=16,
        ratio=1.0,
        surrogate_records=30,
        transfer=transfer_settings(source_records="model"),
        utility=UTILITY,
    )


@pytest.fixture(autouse=True, scope="module")
def few_drawn():
    """Records of the source model in two steps each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_records, "RECORD_STEPS", 2)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Fingerprints tell where a set lies, so runs that are compared take turns in one place."""
    return tmp_path_factory.mktemp("demo") / "run"


@pytest.fixture(scope="module")
def shown(place, settings):
    """The summary of a demonstration, and what it left."""
    summary = run_demo(place, settings, Silent())
    return summary, lasting(place)


def test_the_demonstration_shows_the_whole_method(place, shown):
    summary, left = shown
    assert summary.transfer.method == "tgdp"
    assert len(ECGSet.open(summary.synthetic)) == 16
    assert (summary.wfdb / "ptbxl_database.csv").exists()
    assert summary.figures
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in summary.figures)
    results = json.loads(summary.results.read_text())
    assert results.keys() == {"source", "transfer", "benefits", "answers", "settings"}
    assert list(results["answers"]) == sorted(QUESTIONS)
    assert results["answers"]["utility"]["numbers"]["result"]["arms"][0]["name"] == "target only"
    assert "not for diagnosis" in summary.report.read_text()
    assert not [name for name in left if "partial" in name or "checkpoint" in name]


def test_the_opening_line_states_steps_sizes_duration_and_place(settings):
    line = settings.opening(Path("somewhere"))
    assert "\n" not in line
    for words in ("6 steps", "16 simulated ECGs", "test on 20 others", "minutes", "somewhere"):
        assert words in line


def test_the_summary_calls_the_clinics_records_simulated(shown):
    summary, _ = shown
    sentences = summary.sentences()
    assert len(sentences) == len(summary.benefits) + 3
    assert "simulated test patients" in sentences[0]
    assert [one.label for one in summary.benefits][-1] is None
    assert "a real record" not in summary.report.read_text()
    assert "a simulated record of the target" in summary.report.read_text()


def test_run_again_it_finds_everything_done(place, settings, shown, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("this was done already")

    summary, left = shown
    for name in ("simulate_ecgset", "draw_recordings"):
        monkeypatch.setattr(demo_module, name, fail)
    told = []
    speaker = Silent()
    monkeypatch.setattr(speaker, "training", lambda task: _noted(told, task))
    again = run_demo(place, settings, speaker)
    assert told == []
    assert again == summary
    assert lasting(place) == left


def _noted(told, task):
    told.append(task)
    return Silent().training(task)


def test_what_the_user_adds_to_the_run_does_not_disturb_it(place, settings, shown):
    summary, _ = shown
    source = load_source(Run.open(place))
    added = GenerateSettings(("AFIB=1",), method="source", sampler=SAMPLER)
    run = Run.open(place)
    transfer(run, source, load_target(run, source), transfer_settings("source"), no_bars)
    synthesise(run, source, added)
    assert run_demo(place, settings, Silent()) == summary
    for stage in ("transfer-source", "synthetic-source"):
        shutil.rmtree(place / stage)


def test_a_demonstration_with_other_settings_is_refused(place, settings, shown):
    with pytest.raises(RunError, match=r"'clinic' with other .*seed 0, asked for 1"):
        run_demo(place, replace(settings, seed=1), Silent())


def test_interrupted_again_and_again_it_ends_in_the_same_files(place, settings, shown):
    _, left = shown
    shutil.rmtree(place)
    for task, step in (
        ("guidance", 4),
        ("synthetic records", 1),
        ("WFDB records", 7),
        ("classifiers", 9),
    ):
        with pytest.raises(KeyboardInterrupt):
            run_demo(place, settings, Interrupting(task, step))
    run_demo(place, settings, Silent())
    assert lasting(place) == left
