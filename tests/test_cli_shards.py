"""`generate` in shards, as it is called: one by one, from several processes, and joined."""

import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from ecgtransfer_cli import main
from ecgtransfer_cli.app import app
from typer.testing import CliRunner

from ecgtransfer.corpus import ECGSet
from tests.pipeline.small_run import content, lasting

GENERATE = ("generate", "RUN", "--method", "source", "--count", "AFIB=20", "--steps", "2")
STAGE = "synthetic-source"


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the program with some words, in this process: its exit code, stdout and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["ecgtransfer", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main.main()
        except SystemExit as end:
            code = end.code or 0
        told = capsys.readouterr()
        return SimpleNamespace(code=code, out=told.out, err=told.err)

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory, ecgset):
    """A run with a source model, of which every test takes a copy."""
    run = tmp_path_factory.mktemp("shards") / "run"
    words = ("train", run, "--set", ecgset.folder, "--preset", "tiny", "--plain", "--steps", 2)
    result = CliRunner().invoke(app, [*map(str, words), "--batch-size", "4", "--quiet"])
    assert result.exit_code == 0, result.output
    return run


@pytest.fixture
def copies(tmp_path, trained):
    """Makes copies of the trained run by name; `generate` with its folder."""

    def copy(name):
        shutil.copytree(trained, tmp_path / name)
        return tuple(str(tmp_path / name) if word == "RUN" else word for word in GENERATE)

    return copy


@pytest.fixture
def one_piece(call, copies, tmp_path):
    """A run whose 20 records were drawn by one call."""
    assert call(*copies("one-piece"), "--quiet").code == 0
    return tmp_path / "one-piece"


def test_shards_are_drawn_one_by_one_and_joined_by_the_command_without(
    call, copies, one_piece, tmp_path
):
    generate = copies("run")
    stage = tmp_path / "run" / STAGE
    told = call(*generate, "--shard", "2/2")
    assert told.code == 0
    assert "Shards still to generate: --shard 1/2." in told.out
    assert "shard 2/2 needs 0.1 MB of disk, " in told.err
    assert "synthetic records: 4 of 4 in" in told.err
    told = call(*generate)
    assert (told.code, told.err.count("\n")) == (1, 1)
    assert "lacks shard 1/2; generate it with the same command and --shard 1/2, then" in told.err
    held = json.loads(call(*generate, "--shard", "1/2", "--json").out)
    assert (held["records"], held["shard"], held["unfinished_shards"]) == (16, "1/2", [])
    assert held["counts"]["AFIB"] == 16
    assert held["disk"]["free_mb"] > held["disk"]["needed_mb"] > 0.2
    assert "wfdb" not in held
    assert not (stage / "card.json").exists()
    assert "the same command without --shard joins them." in call(*generate, "--shard", "1/2").out
    held = json.loads(call(*generate, "--json").out)
    assert (held["records"], held["counts"]["AFIB"]) == (20, 20)
    assert lasting(stage) == lasting(one_piece / STAGE)
    assert "disk" not in json.loads(call(*generate, "--json").out)
    again = json.loads(call(*generate, "--shard", "2/2", "--json").out)
    assert again["records"] == 20


def test_processes_of_torchrun_take_a_shard_each_and_one_joins_them(copies, one_piece, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, "-m", "ecgtransfer_cli.main", *copies("run"), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    held = json.loads(done.stdout)
    assert (held["records"], held["counts"]["AFIB"]) == (20, 20)
    assert done.stderr.count("the set needs") == 1
    assert lasting(tmp_path / "run" / STAGE) == lasting(one_piece / STAGE)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--shard", "3"), "expected a shard such as 3/16, got '3'"),
        (("--shard", "3/2"), "expected a shard of 1/2 to 2/2, got 3/2"),
        (("--shard", "1/3"), "20 records are 2 calls of the network .* take at most 2"),
    ],
)
def test_a_shard_that_cannot_be_drawn_is_one_sentence(call, copies, tmp_path, words, sentence):
    generate = copies("run")
    told = call(*generate, *words)
    assert (told.code, told.out, told.err.count("\n")) == (1, "", 1)
    assert re.search(sentence, told.err)


def test_another_number_of_shards_and_other_settings_are_refused(call, copies, tmp_path):
    generate = copies("run")
    assert call(*generate, "--shard", "1/2", "--quiet").code == 0
    before = content(tmp_path / "run")
    told = call(*generate, "--shard", "1/1")
    assert (told.code, told.err.count("\n")) == (1, 1)
    assert "is being generated in 2 shards, not in 1" in told.err
    told = call(*generate, "--shard", "2/2", "--seed", 1)
    assert told.code == 1
    assert "with other settings (generate.seed 0, asked for 1)" in told.err
    assert content(tmp_path / "run") == before


def test_a_set_becomes_tar_shards(call, one_piece, tmp_path):
    generated = one_piece / STAGE / "set"
    words = ("data", "export", generated, "--webdataset", tmp_path / "tars", "--shard-records", 8)
    held = json.loads(call(*words, "--json").out)
    assert (held["records"], held["webdataset"]) == (20, str(tmp_path / "tars"))
    index = json.loads((tmp_path / "tars" / "index.json").read_text())
    assert [shard["records"] for shard in index["shards"]] == [8, 8, 4]
    assert index["set_fingerprint"] == ECGSet.open(generated).fingerprint
