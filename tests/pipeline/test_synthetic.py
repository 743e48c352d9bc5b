from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ecgtransfer.corpus import ECGSet
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.pipeline import (
    GenerateSettings,
    Run,
    SamplerSettings,
    export,
    synthesise,
    synthetic,
    unfinished_shards,
)
from ecgtransfer.signals import read_comments
from ecgtransfer.synthesis import Shard
from tests.pipeline.small_run import SAMPLER, content


def asked(*counts, **changes):
    return GenerateSettings(**{"counts": counts, "method": "source", "sampler": SAMPLER} | changes)


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run")


def test_counts_are_exact_and_labels_may_be_several(run, source):
    ecgset = synthesise(run, source, asked("AFIB=3", "PVC+CRBBB=2"))
    assert ecgset.folder == run.folder / "synthetic-source" / "set"
    decoded = [ecgset.label_space.decode(row) for row in ecgset.labels]
    assert decoded == [("AFIB",)] * 3 + [("CRBBB", "PVC")] * 2
    assert ecgset.origin == "generated"
    assert ecgset.card["method"] == "source"
    assert ecgset.card["model_fingerprint"] == source.fingerprint
    card = run.stage("synthetic-source").card
    assert card["results"] == {"records": 5, "fingerprint": ecgset.fingerprint}
    assert np.isfinite(ecgset.signals_mv()).all()


def test_so_many_of_each_class_that_the_source_met(run, narrow):
    ecgset = synthesise(run, narrow, asked(per_class=2))
    assert ecgset.labels.sum(axis=0).tolist() == [2, 2] + [0] * 7


def test_a_label_that_the_model_never_saw_is_refused_with_those_it_knows(run, narrow, source):
    with pytest.raises(ConfigError, match=r"the target states \(NORM, AFIB\), got 'PVC'$"):
        synthesise(run, narrow, asked("PVC=1"))
    with pytest.raises(
        ConfigError, match=r"the target states \(NORM, AFIB, 1AVB, .*STE_\), got 'WPW'$"
    ):
        synthesise(run, source, asked("WPW=1"))
    assert not run.folder.exists()


def test_a_set_that_is_done_is_found(transferred, source):
    before = content(transferred.run.folder / "synthetic-tgdp")
    again = synthesise(transferred.run, source, asked(per_class=2, method="tgdp"))
    assert len(again) == 18
    assert content(transferred.run.folder / "synthetic-tgdp") == before
    with pytest.raises(RunError, match=r"generate\.per_class 2, asked for 3"):
        synthesise(transferred.run, source, asked(per_class=3, method="tgdp"))


def test_sets_of_other_names_lie_beside(run, source):
    first = synthesise(run, source, asked("AFIB=1"))
    second = synthesise(run, source, asked("AFIB=1", name="more", seed=1))
    assert second.folder == run.folder / "more-source" / "set"
    assert not np.array_equal(first.signals_mv(), second.signals_mv())


def test_an_interrupted_set_goes_on_to_the_same_records(tmp_path, run, source):
    def stop(done, total):
        if done == 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesise(run, source, asked("AFIB=66"), stop)
    assert not run.stage("synthetic-source").is_done
    counted = []
    synthesise(run, source, asked("AFIB=66"), lambda done, total: counted.append(done))
    assert counted == [64, 66]
    other = Run.create(tmp_path / "other")
    synthesise(other, source, asked("AFIB=66"))
    assert content(run.folder / "synthetic-source/set") == content(
        other.folder / "synthetic-source/set"
    )


def test_shards_become_the_set_and_only_then_is_the_stage_done(tmp_path, run, source):
    told = []
    second = synthesise(run, source, asked("AFIB=20"), shard=Shard(2, 2), disk=told.append)
    stage = run.stage("synthetic-source")
    assert second.folder == stage.folder / "set.shards" / "2-of-2"
    assert not stage.is_done
    assert unfinished_shards(run, "synthetic", "source", 2) == (Shard(1, 2),)
    with pytest.raises(
        RunError, match=r"set lacks shard 1/2; generate it with the same command and"
    ):
        synthesise(run, source, asked("AFIB=20"))
    synthesise(run, source, asked("AFIB=20"), shard=Shard(1, 2), disk=told.append)
    assert not stage.is_done
    ecgset = synthesise(run, source, asked("AFIB=20"), disk=told.append)
    assert stage.card["results"] == {"records": 20, "fingerprint": ecgset.fingerprint}
    assert {path.name for path in stage.folder.iterdir()} == {"set", "request.json", "card.json"}
    assert told[0].needed < told[1].needed < told[2].needed
    other = Run.create(tmp_path / "other")
    synthesise(other, source, asked("AFIB=20"))
    assert content(stage.folder / "set") == content(other.folder / "synthetic-source/set")
    assert synthesise(run, source, asked("AFIB=20"), shard=Shard(1, 2)).folder == ecgset.folder


def test_a_shard_of_one_of_several_processes_is_refused(run, source, monkeypatch):
    monkeypatch.setattr(synthetic, "process_number", lambda: (0, 2))
    with pytest.raises(ConfigError, match=r"got shard 1/3 in 2 processes, .*; omit one of them"):
        synthesise(run, source, asked("AFIB=60"), shard=Shard(1, 3))
    assert not run.folder.exists()


def test_the_export_says_what_it_is(run, source):
    synthesise(run, source, asked("AFIB=1", "CLBBB=1"))
    folder = export(run, "synthetic", "source")
    table = pd.read_csv(folder / "ptbxl_database.csv")
    assert table.scp_codes.tolist() == ["{'AFIB': 100.0}", "{'CLBBB': 100.0}"]
    comments = read_comments(folder / table.filename_lr[0])
    assert comments[0].startswith("SYNTHETIC")
    assert f"Model fingerprint: {source.fingerprint}" in comments
    before = content(folder)
    assert content(export(run, "synthetic", "source")) == before


def test_the_only_transfer_is_taken_where_none_is_named(copied, transferred, source):
    run = copied(transferred.run, "source", "target", "transfer-finetune")
    ecgset = synthesise(run, source, asked("AFIB=1", method=None))
    assert ecgset.card["method"] == "finetune"
    named = synthesise(run, source, asked("AFIB=1", method="finetune"))
    assert named.fingerprint == ecgset.fingerprint


def test_none_or_several_transfers_are_asked_about(transferred, trained, source):
    with pytest.raises(RunError, match=r"found none; run 'ecgtransfer transfer' first"):
        synthesise(trained, source, asked("AFIB=1", method=None))
    with pytest.raises(RunError, match=r"transfers by tgdp, stack, finetune, .* one with --method"):
        synthesise(transferred.run, source, asked("AFIB=1", method=None))
    with pytest.raises(RunError, match="expected a finished stage 'transfer-scratch'"):
        synthesise(trained, source, asked("AFIB=1", method="scratch"))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"counts": ()}, "expected either counts .* got none of them"),
        ({"per_class": 1}, "expected either counts .* got several of them"),
        ({"counts": (), "ratio": 0.0}, "expected a positive ratio, got 0"),
        ({"name": ""}, "a name of letters, digits, - and _ for the set, got ''"),
        ({"name": "../up"}, "a name of letters, digits, - and _ for the set"),
        ({"name": "a b"}, "a name of letters, digits, - and _ for the set"),
        ({"name": "transfer"}, "that no other stage has, got 'transfer'"),
        ({"name": "privacy-2"}, "that no other stage has, got 'privacy-2'"),
        ({"name": "stand-ins"}, "that no other stage has, got 'stand-ins'"),
        (
            {"method": "magic"},
            "a method of tgdp, stack, finetune, lora, difffit, scratch, source, got 'magic'",
        ),
    ],
)
def test_what_is_asked_for_is_checked_at_birth(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        asked(**{"counts": ("AFIB=1",)} | wrong)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"steps": 1}, "at least 2 sampler steps, got 1"),
        ({"solver": "euler"}, "a solver of adams, dpmpp2m, heun, got 'euler'"),
        ({"classifier_free_scale": float("nan")}, "finite label scale .* got nan"),
        ({"classifier_free_scale": -1.0}, "finite label scale .* got -1.0"),
    ],
)
def test_the_sampler_is_checked_at_birth(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        SamplerSettings(**wrong)


@pytest.mark.parametrize("solver", ["dpmpp2m", "heun"])
def test_both_solvers_draw(run, source, solver):
    sampler = replace(SAMPLER, solver=solver, classifier_free_scale=1.5)
    ecgset = synthesise(run, source, asked("AFIB=1", sampler=sampler))
    assert ecgset.card["solver"] == solver
    assert ECGSet.open(ecgset.folder).card["classifier_free_scale"] == 1.5
