"""Runs that several tests look at, made once; who changes one takes a copy."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ecgtransfer.corpus import label_space
from ecgtransfer.pipeline import (
    METHODS,
    FidelitySettings,
    GenerateSettings,
    PhysiologySettings,
    PrivacySettings,
    Run,
    SourceSettings,
    TargetSettings,
    evaluate,
    export_source,
    load_source,
    load_target,
    split_target,
    synthesise,
    train_source,
    transfer,
)
from ecgtransfer.simulation import TARGET_HOSPITAL, simulate_ecgset
from tests.pipeline.small_run import (
    CLASSIFIER,
    SAMPLER,
    STEPS,
    UTILITY,
    no_bars,
    transfer_settings,
)

NAMES = label_space("icbeb9").names
SEEN = ("NORM", "AFIB")


@pytest.fixture(scope="session")
def clinic(tmp_path_factory):
    """The target's set: 36 records of the other hospital, each a patient."""
    folder = tmp_path_factory.mktemp("clinic") / "set"
    return simulate_ecgset(folder, TARGET_HOSPITAL, 36, 2, label_space("icbeb9"))


@pytest.fixture(scope="session")
def source_settings(ecgset):
    return SourceSettings(
        source=ecgset.folder, preset="tiny", steps=STEPS, batch_size=4, precision="float32"
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory, source_settings):
    """A run with its source and nothing else; look only."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "trained")
    train_source(run, source_settings)
    return run


@pytest.fixture(scope="session")
def source(trained):
    return load_source(trained)


@pytest.fixture(scope="session")
def given(tmp_path_factory, trained):
    """The source model as another hospital gets it, without its records."""
    return export_source(trained, tmp_path_factory.mktemp("given") / "our-hospital")


@pytest.fixture(scope="session")
def narrow(tmp_path_factory, source_settings, ecgset):
    """A source that met no other patients than those of one hospital, all of them NORM or AFIB."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "narrow")
    others = ecgset.labels[:, [k for k, name in enumerate(NAMES) if name not in SEEN]].any(axis=1)
    chosen = ecgset.records.name[(ecgset.records.site == "source").to_numpy() & ~others]
    train_source(run, replace(source_settings, select=(f"name={'|'.join(chosen)}",), steps=1))
    return load_source(run)


@pytest.fixture(scope="session")
def settled(tmp_path_factory, trained, source, clinic):
    """The same with 16 target records to learn from; look only."""
    folder = tmp_path_factory.mktemp("runs") / "settled"
    shutil.copytree(trained.folder, folder)
    run = Run.open(folder)
    split_target(run, source, TargetSettings(clinic.folder, train_records=16))
    return run


@pytest.fixture(scope="session")
def transferred(tmp_path_factory, settled, source):
    """The same with every method and 2 synthetic records a class of each; look only.

    `run`, and `summaries` by method.
    """
    folder = tmp_path_factory.mktemp("runs") / "transferred"
    shutil.copytree(settled.folder, folder)
    run = Run.open(folder)
    target = load_target(run, source)
    summaries = {
        method: transfer(run, source, target, transfer_settings(method), no_bars)
        for method in METHODS
    }
    for method in METHODS:
        synthesise(run, source, GenerateSettings(per_class=2, method=method, sampler=SAMPLER))
    return SimpleNamespace(run=run, summaries=summaries)


@pytest.fixture(scope="session")
def answered(tmp_path_factory, settled, source):
    """A copy with sets `mixed` in the target's mix by two methods and all four answers; look only.

    `run`, `target`, and `answers` by question.
    """
    folder = tmp_path_factory.mktemp("runs") / "answered"
    shutil.copytree(settled.folder, folder)
    run = Run.open(folder)
    target = load_target(run, source)
    for method in ("tgdp", "source"):
        transfer(run, source, target, transfer_settings(method), no_bars)
        asked = GenerateSettings(ratio=1.0, method=method, name="mixed", sampler=SAMPLER)
        synthesise(run, source, asked)
    answers = [
        evaluate(run, source, target, settings)
        for settings in (
            replace(UTILITY, name="mixed"),
            FidelitySettings(name="mixed", classifier=CLASSIFIER),
            PhysiologySettings(name="mixed"),
            PrivacySettings(name="mixed", classifier=CLASSIFIER),
        )
    ]
    return SimpleNamespace(run=run, target=target, answers={a.question: a for a in answers})


@pytest.fixture
def copied(tmp_path):
    """A copy of a run that a test may change."""

    def copy(run, *stages):
        folder = tmp_path / "copy"
        folder.mkdir()
        shutil.copy2(run.folder / "config.json", folder)
        for stage in stages or [path.name for path in run.folder.iterdir() if path.is_dir()]:
            shutil.copytree(run.folder / stage, folder / stage)
        return Run.open(folder)

    return copy
