"""From files as they are published to numbers on held-out patients, by the public commands."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from ecgtransfer_cli import console
from ecgtransfer_cli.app import app
from typer.testing import CliRunner

from ecgtransfer.corpus import label_space
from ecgtransfer.export import export_wfdb
from ecgtransfer.simulation import TARGET_HOSPITAL, simulate_ecgset
from tests.pipeline.small_run import lasting, small_config

REPOSITORY = Path(__file__).parents[1]

#: `python -c KILLED task step command...`: the command, killed at a step of a task.
KILLED = """
import os, signal, sys
from contextlib import contextmanager
from ecgtransfer_cli import console, main

task, step = sys.argv[1], int(sys.argv[2])

@contextmanager
def progress(self, name):
    yield lambda done, total: name == task and done >= step and os.kill(os.getpid(), signal.SIGKILL)

console.Output.progress = progress
sys.argv = ["ecgtransfer", *sys.argv[3:]]
main.main()
"""


def called(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


@contextmanager
def pressing(step):
    """A progress bar at whose step Ctrl-C arrives, as the system sends it."""

    def tell(done, total):
        if done >= step:
            signal.raise_signal(signal.SIGINT)

    yield tell


@contextmanager
def nothing():
    yield lambda done, total: None


@pytest.fixture(scope="module")
def sets(tmp_path_factory, ecgset):
    """32 records of the source and 36 of the target, from WFDB files, one with the csv of PTB-XL.

    Not both: patients of one corpus that are called alike are the same people.
    """
    folder = tmp_path_factory.mktemp("end-to-end")
    clinic = simulate_ecgset(folder / "clinic", TARGET_HOSPITAL, 36, 2, label_space("icbeb9"))
    for name, simulated, corpus in (("source", ecgset, "ptbxl"), ("target", clinic, "wfdb")):
        export_wfdb(simulated, folder / "published" / name)
        called("data", "prepare", corpus, folder / "published" / name, "--to", folder / name)
    return folder


def stages(sets, run):
    """The commands of a run, by stage."""
    return {
        "train": (
            *("train", run, "--set", sets / "source", "--select", "fold=1-7"),
            *("--validation", "fold=8", "--preset", "tiny", "--steps", 5, "--batch-size", 4),
        ),
        "transfer": (
            *("transfer", run, "--target", sets / "target", "--train-records", 16),
            *("--config", small_config(sets), "--steps", 3),
        ),
        "generate": (
            *("generate", run, "--count", "NORM=50", "--count", "AFIB=14"),
            *("--count", "CRBBB+PVC=3", "--steps", 2),
        ),
        "evaluate": (
            *("evaluate", "utility", run, "--arm", "none", "--ratio", 0.1, "--seeds", 1),
            *("--classifier-steps", 1, "--folds", 2),
        ),
    }


@pytest.fixture(scope="module")
def undisturbed(sets):
    """What a run leaves that nobody disturbed."""
    for command in stages(sets, sets / "run").values():
        called(*command)
    return lasting(sets / "run")


def test_the_chain_ends_in_numbers_and_exported_records(sets, undisturbed):
    assert {name.split("/")[0] for name in undisturbed} == {
        "config.json",
        "source",
        "target",
        "transfer-tgdp",
        "synthetic-tgdp",
        "utility-synthetic",
    }
    results = undisturbed["utility-synthetic/card.json"]["results"]
    assert [arm["name"] for arm in results["evaluation"]["result"]["arms"]] == [
        "target only",
        "target only + tgdp x0.1",
    ]
    exported = sets / "run/synthetic-tgdp/wfdb"
    told = called("data", "prepare", "ptbxl", exported, "--to", sets / "again")
    assert "kept 67 of 67 records" in told.stdout
    assert not [name for name in undisturbed if "partial" in name or "checkpoint" in name]


def test_the_same_commands_leave_the_same_files(sets, undisturbed):
    for command in stages(sets, sets / "twin").values():
        called(*command)
    assert lasting(sets / "twin") == undisturbed


def test_interrupted_killed_and_called_again_it_leaves_the_same_files(
    sets, undisturbed, monkeypatch
):
    run = sets / "disturbed"
    commands = stages(sets, run)

    def kill(task, step, stage):
        command = [sys.executable, "-c", KILLED, task, str(step), *map(str, commands[stage])]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
        assert done.returncode == -signal.SIGKILL, done.stderr

    def press_ctrl_c(task, step, stage):
        def progress(self, name):
            return pressing(step) if name == task else nothing()

        with monkeypatch.context() as patched:
            patched.setattr(console.Output, "progress", progress)
            result = CliRunner().invoke(app, [str(word) for word in commands[stage]])
        assert result.exit_code == 130, result.output

    kill("source model", 3, "train")
    press_ctrl_c("source model", 2, "train")
    press_ctrl_c("source model", 4, "train")
    called(*commands["train"])
    press_ctrl_c("guidance, fold 2 of 3", 2, "transfer")
    called(*commands["transfer"])
    kill("synthetic records", 64, "generate")
    press_ctrl_c("WFDB records", 5, "generate")
    called(*commands["generate"])
    press_ctrl_c("classifiers", 4, "evaluate")
    called(*commands["evaluate"])
    assert lasting(run) == undisturbed
