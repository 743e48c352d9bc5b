"""Every command as it is called: help, a good call, JSON, quiet, wrong use, our errors, bugs."""

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import typer
from ecgtransfer_cli import console, main
from ecgtransfer_cli.app import app
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner

import ecgtransfer
from ecgtransfer import pipeline
from ecgtransfer.corpus import ECGSet, FetchProgress
from ecgtransfer.corpus.sets import ecgset_writer
from ecgtransfer.experiments import study
from ecgtransfer.experiments.study import StudySettings
from ecgtransfer.pipeline import DemoSettings, pretrained, source_records
from ecgtransfer.training import Progress
from tests.corpus.layouts import (
    PTBXL_LEADS,
    twelve_leads_uv,
    write_challenge,
    write_dat,
    write_reference,
)
from tests.pipeline.small_run import (
    STEPS,
    UTILITY,
    Interrupting,
    content,
    small_config,
    transfer_settings,
)

COMMANDS = (
    "demo",
    "augment",
    "train",
    "transfer",
    "generate",
    "evaluate utility",
    "evaluate fidelity",
    "evaluate physiology",
    "evaluate privacy",
    "evaluate blind",
    "evaluate all",
    "report",
    "models list",
    "models show",
    "models get",
    "models export",
    "mixtures",
    "data fetch",
    "data prepare",
    "data verify",
    "data show",
    "data export",
)
SMALL_DEMO = partial(
    DemoSettings,
    target_records=36,
    train_records=16,
    ratio=1.0,
    surrogate_records=30,
    transfer=transfer_settings("source"),
    utility=UTILITY,
)


SMALL_STUDY = StudySettings(
    problems=("paper", "unequal"),
    sizes=(10, 30),
    methods=("exact-target", "source", "finetune"),
    steps=STEPS,
    source_steps=STEPS,
    sampler_steps=2,
    generated=50,
)


@pytest.fixture
def call(capsys, monkeypatch):
    """`ecgtransfer` with some words, in this process: exit code, stdout, stderr."""

    def run(*words):
        return _call(monkeypatch, capsys, *words)

    return run


def _call(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["ecgtransfer", *(str(word) for word in words)])
    code = 0
    try:
        main.main()
    except SystemExit as end:
        code = end.code or 0
    out, err = capsys.readouterr()
    return SimpleNamespace(code=code, out=out, err=err)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Smallest networks, where the command line has no option for it; 80 columns."""
    monkeypatch.setattr(study, "FULL", SMALL_STUDY)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory, ecgset):
    """A copy of the set under a folder of its own, for a target with other patients' names."""
    from ecgtransfer.simulation import TARGET_HOSPITAL, simulate_ecgset

    folder = tmp_path_factory.mktemp("clinic") / "set"
    return simulate_ecgset(folder, TARGET_HOSPITAL, 36, 2, ecgset.label_space).folder


@pytest.fixture(scope="module")
def words(ecgset, clinic):
    """The commands of a whole run in `RUN`, as they stand in the README, small."""
    shorter = ("--steps", STEPS)
    return {
        "train": (
            *("train", "RUN", "--set", ecgset.folder, "--preset", "tiny", "--plain", *shorter),
            *("--batch-size", 4, "--precision", "float32"),
        ),
        "transfer": (
            *("transfer", "RUN", "--target", clinic, "--train-records", 16, *shorter),
            *("--config", small_config(clinic.parent)),
        ),
        "generate": ("generate", "RUN", "--per-class", 2, "--steps", 2),
        "evaluate": (
            *("evaluate", "utility", "RUN", "--arm", "none", "--ratio", 0.1, "--seeds", 1),
            *("--classifier-steps", 1, "--folds", 2),
        ),
    }


def placed(words, run):
    return [run if word == "RUN" else word for word in words]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, words):
    """A run that the four commands made, and what each printed; look only."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    printed = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("COLUMNS", "80")
        for name, command in words.items():
            result = CliRunner().invoke(app, [str(word) for word in placed(command, folder)])
            assert result.exit_code == 0, result.output
            printed[name] = result
    return SimpleNamespace(folder=folder, printed=printed)


# --- help --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_the_program_takes(call, command):
    told = call(*command.split(), "--help")
    assert told.code == 0
    example = re.search(rf"^  Example: ecgtransfer ({command}\b.*)$", told.out, flags=re.MULTILINE)
    assert example, told.out
    parsed = typer.main.get_command(app).make_context("ecgtransfer", shlex.split(example[1]))
    group, rest = typer.main.get_command(app), [*parsed._protected_args, *parsed.args]
    while hasattr(group, "resolve_command"):
        name, group, rest = group.resolve_command(parsed, rest)
        parsed = group.make_context(name, rest, parent=parsed)
        rest = [*getattr(parsed, "_protected_args", ()), *parsed.args]
    assert not rest


def test_help_names_every_command(call):
    told = call("--help")
    top = typer.main.get_command(app)
    assert {name.split()[0] for name in COMMANDS} == set(top.commands)
    assert {f"data {name}" for name in top.commands["data"].commands} < set(COMMANDS)
    for name in top.commands:
        assert re.search(rf"^  {name} ", told.out, flags=re.MULTILINE)


def test_the_installed_program_tells_its_version():
    program = Path(sys.executable).with_name("ecgtransfer")
    command = [program] if program.exists() else [sys.executable, "-m", "ecgtransfer_cli.main"]
    told = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, check=True, timeout=120
    )
    assert told.stdout == f"ecgtransfer {ecgtransfer.__version__}\n"


# --- good calls --------------------------------------------------------------------------------


def test_each_command_says_what_it_came_to(finished):
    said = {name: " ".join(result.stdout.split()) for name, result in finished.printed.items()}
    assert f"Source model in {finished.folder / 'source'}" in said["train"]
    assert "validation loss" in said["train"]
    assert f"Transfer by tgdp in {finished.folder}" in said["transfer"]
    assert "E_p[r] (1 for the true ratio)" in said["transfer"]
    assert "guidance weight at sigma" in said["transfer"]
    assert "Synthetic records, not for diagnosis" in said["generate"]
    assert "NORM 2, AFIB 2" in said["generate"]
    assert "target only + tgdp x0.1" in said["evaluate"]
    assert "macro AUROC" in said["evaluate"]
    assert "warning: the domains hardly overlap" in finished.printed["transfer"].stderr


def test_progress_is_plain_lines_where_there_is_no_terminal(finished):
    assert re.search(r"^source model: 5 of 5 in \d+ s$", finished.printed["train"].stderr, re.M)
    assert re.search(
        r"^WFDB records: 18 of 18 in \d+ s$", finished.printed["generate"].stderr, re.M
    )


@pytest.mark.parametrize("name", ["train", "transfer", "generate", "evaluate"])
def test_json_is_one_object_and_nothing_else(call, finished, words, name):
    told = call(*placed(words[name], finished.folder), "--json")
    assert told.code == 0
    assert told.out.count("\n") == 1
    held = json.loads(told.out)
    expected = {
        "train": {"steps", "validation_loss", "gaussian_loss"},
        "transfer": {"held_out_loss", "source_loss", "details"},
        "generate": {"set", "records", "counts", "fingerprint", "wfdb"},
        "evaluate": {"utility"},
    }
    assert expected[name] <= held.keys()


@pytest.mark.parametrize("name", ["train", "generate", "evaluate"])
def test_quiet_prints_nothing(call, finished, words, name):
    told = call(*placed(words[name], finished.folder), "--quiet")
    assert (told.code, told.out, told.err) == (0, "", "")


def test_quiet_keeps_the_warnings_that_should_be_read(call, finished, words):
    told = call(*placed(words["transfer"], finished.folder), "--quiet")
    assert (told.code, told.out) == (0, "")
    lines = told.err.splitlines()
    assert lines
    assert {line.split(":")[0] for line in lines} == {"warning"}


def test_what_is_done_stays_as_it_is(call, finished, words):
    before = content(finished.folder)
    for command in words.values():
        assert call(*placed(command, finished.folder)).code == 0
    assert content(finished.folder) == before


def test_another_run_takes_the_source_over(call, tmp_path, finished, clinic):
    told = call(
        *("transfer", tmp_path / "run", "--source", finished.folder, "--target", clinic),
        *("--train-records", 16, "--method", "source", "--json"),
    )
    assert told.code == 0
    assert json.loads(told.out)["trained_parameters"] == 0
    told = call("generate", tmp_path / "run", "--count", "AFIB=1", "--no-wfdb", "--steps", 2)
    assert told.code == 0
    assert not (tmp_path / "run/synthetic-source/wfdb").exists()


def test_a_cross_validation_goes_part_by_part(call, tmp_path, finished, clinic):
    words = ("--source", finished.folder, "--target", clinic, "--method", "source")
    words = (*words, "--protocol", "cross-validation")
    told = call("transfer", tmp_path / "run", *words, "--part", "2/3", "--json")
    assert told.code == 0
    assert json.loads(told.out)["target_records"] == 24
    refused(call("transfer", tmp_path / "other", *words, "--part", "two"), "a part such as 2/5")
    refused(call("transfer", tmp_path / "other", *words), "the part of a cross-validation")
    assert not (tmp_path / "other").exists()


def test_a_model_is_given_away_and_serves_a_hospital_without_its_records(
    call, tmp_path, finished, clinic
):
    (tmp_path / "scores.json").write_text('{"macro AUROC": 0.8}')
    model, run = tmp_path / "theirs", tmp_path / "run"
    told = call(
        *("models", "export", finished.folder, "--to", model),
        *("--scores", tmp_path / "scores.json", "--limits", "Small."),
    )
    assert (told.code, told.err) == (0, "")
    assert f"Model in {model}" in " ".join(told.out.split())
    told = call("models", "get", model, "--to", run)
    assert told.code == 0
    assert f"ecgtransfer transfer {run} --target SET" in told.out
    words = ("--target", clinic, "--train-records", 16, "--method", "source")
    assert call("transfer", run, *words, "--json").err == ""
    told = call("transfer", tmp_path / "other", "--source", model, *words, "--json")
    assert told.code == 0
    assert call("generate", run, "--ratio", 1, "--steps", 2, "--no-wfdb").code == 0
    told = call(*("evaluate", "utility", run, "--arm", "source"))
    refused(told, "which are not here; prepare them and name the set with --source-set")
    study = ("--seeds", 1, "--ratio", 0.1, "--classifier-steps", 1, "--folds", 2, "--json")
    told = call("evaluate", "utility", run, *study)
    assert told.code == 0
    assert "no classifier is trained on them" in told.err
    arms = {arm["name"] for arm in json.loads(told.out)["utility"]["numbers"]["result"]["arms"]}
    assert "target only + source x0.1" in arms
    assert not any("pre-trained" in arm for arm in arms)


def test_guidance_without_the_source_records_is_told(call, tmp_path, finished, clinic, monkeypatch):
    monkeypatch.setattr(source_records, "RECORD_STEPS", 2)
    model = tmp_path / "theirs"
    assert call("models", "export", finished.folder, "--to", model).code == 0
    words = ("--source", model, "--target", clinic, "--train-records", 16, "--steps", STEPS)
    words = (*words, "--config", small_config(tmp_path), "--folds", 1, "--json")
    told = call("transfer", tmp_path / "run", *words)
    assert told.code == 0
    assert "the guidance is trained on records sampled from the source model" in told.err
    asked = json.loads((tmp_path / "run/transfer-tgdp/request.json").read_text())["settings"]
    assert asked["transfer"]["source_records"] == "model"
    told = call("transfer", tmp_path / "other", *words, "--source-records", "real")
    refused(told, "the training records of the source model, which are not here")


def test_shipped_models_are_listed_and_shown(call, monkeypatch, tmp_path, finished):
    assert call("models", "export", finished.folder, "--to", tmp_path / "ours").code == 0
    monkeypatch.setattr(pretrained, "_shipped", lambda: [tmp_path / "ours"])
    assert json.loads(call("models", "list", "--json").out)["models"][0]["name"] == "ours"
    assert "ours" in call("models", "list").out
    told = call("models", "show", "ours")
    assert len(told.out.splitlines()) <= 10
    assert "ecgtransfer models show ours --full" in told.out
    told = call("models", "show", "ours", "--full")
    assert told.out == (tmp_path / "ours/README.md").read_text() + "\n"
    assert json.loads(call("models", "show", "ours", "--json").out)["name"] == "ours"
    assert json.loads(call("models", "show", tmp_path / "ours", "--json").out)["name"] == "ours"
    refused(call("models", "show", "magic"), r"a source model at 'magic', found none; .*\(ours\)")
    refused(call("models", "show", finished.folder), "has no model card; write one with")


def test_a_version_without_models_says_so(call, monkeypatch):
    monkeypatch.setattr(pretrained, "_shipped", list)
    assert "This version ships no model; train one" in call("models", "list").out
    assert json.loads(call("models", "list", "--json").out) == {"models": []}


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_scores_that_are_no_object_are_refused(call, tmp_path, finished, text):
    (tmp_path / "scores.json").write_text(text)
    words = ("--to", tmp_path / "model", "--scores", tmp_path / "scores.json")
    refused(call("models", "export", finished.folder, *words), "scores")
    assert not (tmp_path / "model").exists()


def test_the_rank_of_lora_is_configured_and_its_model_generates(call, tmp_path, finished, clinic):
    rank = tmp_path / "rank.toml"
    rank.write_text("[lora]\nrank = 3\nalpha = 3.0\n")
    told = call(
        *("transfer", tmp_path / "run", "--source", finished.folder, "--target", clinic),
        *("--train-records", 16, "--method", "lora", "--config", rank, "--steps", 2, "--json"),
    )
    assert told.code == 0
    held = load_file(finished.folder / "source/weights.safetensors")
    weights = [w for name, w in held.items() if name.startswith("denoiser.") and w.ndim > 1]
    sides = sum(sum(weight.flatten(1).shape) for weight in weights)
    assert json.loads(told.out)["trained_parameters"] == 3 * sides
    told = call("generate", tmp_path / "run", "--count", "AFIB=1", "--no-wfdb", "--steps", 2)
    assert told.code == 0
    assert ECGSet.open(tmp_path / "run/synthetic-lora/set").card["method"] == "lora"


def test_the_demonstration_speaks_json_and_then_a_summary(call, tmp_path, finished, monkeypatch):
    with_ours = partial(SMALL_DEMO, source=str(finished.folder))
    monkeypatch.setattr(pipeline, "DemoSettings", with_ours)
    told = call("demo", "--to", tmp_path / "demo", "--json")
    assert told.code == 0
    held = json.loads(told.out)
    assert Path(held["results"]).exists()
    assert {
        "source",
        "transfer",
        "benefits",
        "answers",
        "figures",
        "synthetic",
        "wfdb",
        "report",
    } <= held.keys()
    told = call("demo", "--to", tmp_path / "demo")
    assert told.code == 0
    lines = [line.split(maxsplit=2) for line in told.out.splitlines()]
    assert ["all", "results", str(tmp_path / "demo/results.json")] in lines
    assert ["report", str(tmp_path / "demo/report/report.html")] in lines
    first = told.err.splitlines()[0]
    assert first.startswith("Demonstration in 6 steps")
    assert str(tmp_path / "demo") in first
    assert "simulated test patients" in told.out
    assert told.out.rstrip().endswith("ecgtransfer augment sets/clinic --to augmented")
    told = call("demo", "--to", tmp_path / "demo", "--quiet")
    assert (told.code, told.out) == (0, "")


def test_every_question_is_answered_and_reported(call, tmp_path, finished):
    run = tmp_path / "run"
    shutil.copytree(finished.folder, run, ignore=shutil.ignore_patterns("utility-*"))
    told = call("generate", run, "--ratio", 4, "--name", "mixed", "--no-wfdb", "--steps", 2)
    assert told.code == 0
    short = ("--name", "mixed", "--classifier-steps", 1)
    told = call("evaluate", "all", run, *short, "--seeds", 1, "--workers", 1, "--json")
    assert told.code == 0, told.err
    assert json.loads(told.out).keys() == {"utility", "fidelity", "physiology", "privacy"}
    for question in ("privacy", "fidelity"):
        told = call("evaluate", question, run, *short)
        assert told.code == 0
        assert re.search(r"^tgdp: (Passed|Failed|Fidelity)", told.out, re.M)
    told = call("evaluate", "physiology", run, "--name", "mixed", "--quiet")
    assert (told.code, told.out) == (0, "")
    told = call("report", run, "--name", "mixed", "--to", tmp_path / "page", "--without-real")
    assert told.code == 0
    assert str(tmp_path / "page/report.html") in told.out
    assert "not for diagnosis" in (tmp_path / "page/report.html").read_text()
    told = call("evaluate", "blind", run, "--name", "mixed", "--to", tmp_path / "t", "--records", 2)
    assert told.code == 0
    assert len(list((tmp_path / "t").glob("*.png"))) == 4


def test_a_study_of_mixtures_makes_tables_and_figures_and_goes_on(call, tmp_path):
    folder = tmp_path / "study"
    command = ("mixtures", folder, "--problem", "paper", "--size", 10, "--seeds", 2)
    told = call(*command)
    assert told.code == 0
    assert "cells of the study: 2 of 2 in" in told.err
    assert "figures: 1 of 1 in" in told.err
    lines = told.out.splitlines()
    assert "paper, 10 target records" in lines
    assert any(re.search(r"finetune +│ +\d\.\d+ \[\S+, \S+\] │", line) for line in lines)
    for name in ("mixtures.json", "densities-paper-n10.png"):
        assert any(line.endswith(str(folder / name)) for line in lines)
        assert (folder / name).exists()
    told = call(*command, "--size", 30, "--json")
    assert told.code == 0
    assert told.out.count("\n") == 1
    held = json.loads(told.out)
    assert held["results"] == str(folder / "mixtures.json")
    assert held["figures"] == [str(folder / f"densities-paper-n{n}.png") for n in (10, 30)]
    assert [(table["problem"], table["n"]) for table in held["tables"]] == [
        ("paper", 10),
        ("paper", 30),
    ]
    written = json.loads((folder / "mixtures.json").read_text())
    assert written["tables"] == held["tables"]
    told = call(*command, "--quiet")
    assert (told.code, told.out, told.err) == (0, "", "")
    before = content(folder)
    told = call("mixtures", folder, "--quick", "--quiet")
    refused(told, "expected the settings of the study in .*; choose another folder")
    assert content(folder) == before


def test_a_set_is_prepared_verified_and_shown(call, tmp_path, ptbxl):
    told = call("data", "prepare", "ptbxl", ptbxl, "--to", tmp_path / "set")
    assert told.code == 0
    assert "kept 2 of 3 records" in told.out
    assert "ptbxl records: 3 of 3" in told.err
    told = call("data", "verify", tmp_path / "set", "--json")
    assert json.loads(told.out)["records"] == 2
    told = call("data", "show", tmp_path / "set")
    assert f"  set               {tmp_path / 'set'}\n" in told.out
    assert re.search(r"AFIB\s+│\s+1 │", told.out)
    told = call("data", "show", tmp_path / "set", "--json")
    assert json.loads(told.out)["labels"]["NORM"] == 1
    told = call("data", "show", tmp_path / "set", "00001", "--out", tmp_path / "1.png", "--json")
    assert json.loads(told.out)["labels"] == ["NORM"]
    assert (tmp_path / "1.png").exists()
    told = call("data", "show", tmp_path / "set", "00001")
    assert re.search(r"labels +NORM\n", told.out)
    for command in (("verify",), ("show",)):
        told = call("data", *command, tmp_path / "set", "--quiet")
        assert (told.code, told.out, told.err) == (0, "", "")
    prepare = ("data", "prepare", "ptbxl", ptbxl, "--to", tmp_path / "set", "--overwrite")
    assert json.loads(call(*prepare, "--json").out)["kept"] == 2
    told = call(*prepare, "--quiet")
    assert (told.code, told.out, told.err) == (0, "", "")


# --- how it looks ------------------------------------------------------------------------------


def test_no_line_of_a_table_is_wider_than_the_terminal_and_none_is_broken(finished):
    printed = finished.printed["evaluate"].stdout
    tables = [line for line in printed.splitlines() if line and line[0] in "│┃┏┡├└"]
    assert len(tables) > 10
    assert max(len(line) for line in tables) <= 80
    assert printed.startswith("Classifiers of held-out target patients\n")
    assert all(re.search(r"\[\S+, \S+\]", line) for line in tables if "[" in line)


def test_paths_stay_whole(finished):
    said = finished.printed["generate"].stdout.splitlines()
    assert any(line.endswith(str(finished.folder / "synthetic-tgdp/set")) for line in said)
    assert any(line.endswith(str(finished.folder / "synthetic-tgdp/wfdb")) for line in said)


def test_a_wide_table_goes_on_below_itself(capsys):
    names = ("measure", *(f"difference, method {number}" for number in range(6)))
    rows = [
        ("score [x]", *(f"0.{number} [0.123, 0.456]" for number in range(6))),
        ("only in the first", "1", *[""] * 5),
    ]
    console.Output().result({}, console.Table("Scores", names, rows))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Scores"
    assert max(map(len, lines)) <= 80
    assert sum("score [x]" in line for line in lines) == sum(line[0] == "┏" for line in lines) > 1
    assert sum("only in the first" in line for line in lines) == 1
    for number in range(6):
        assert any(f"0.{number} [0.123, 0.456]" in line for line in lines)


def test_a_header_breaks_between_words_before_the_table_does(capsys):
    grid = console.Table(
        "Scores", ("measure", "a" * 30 + " " + "b" * 30, "c"), [("x", 1, "d" * 25)]
    )
    console.Output().result({}, grid)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line[0] == "┏" for line in lines) == 1
    assert max(map(len, lines)) <= 80


def test_on_a_terminal_long_values_go_on_below_themselves_but_paths_do_not(capsys):
    terminal = Console(force_terminal=True, width=40, color_system=None)
    long_path = Path("/" + "long name/" * 5 + "set")
    facts = [("counts", {f"L{k}": k for k in range(12)}), ("set", long_path), ("none", "")]
    console.KeyValues("Title", facts).print_on(terminal)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "Title"
    assert lines[1].startswith("  counts  L0 0, L1 1")
    assert lines[2].startswith("          L")
    assert f"  set     {long_path}" in lines
    assert lines[-1] == "  none"


def test_on_a_terminal_what_is_done_shows_no_bar(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with console.Output().progress("source model"):
        pass
    assert "source model" not in capsys.readouterr().err
    with console.Output().progress("guidance") as progress:
        progress(3, 3)
    assert "guidance" in capsys.readouterr().err


def test_plain_progress_comes_seldom_and_ends_once(monkeypatch, capsys):
    clock = iter([0.0, 1.0, 20.0, 21.0, 30.0, 31.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.Output().progress("records") as progress:
        for done in (1, 2, 3, 4, 4):
            progress(done, 4)
    assert capsys.readouterr().err == (
        "records: 2 of 4, about 38 s left\nrecords: 4 of 4 in 30 s\n"
    )


def test_plain_progress_is_never_silent_for_long(monkeypatch, capsys):
    monkeypatch.setattr(console, "LONGEST_SILENCE_S", 0.05)
    with console.Output().progress("beat shapes"):
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith("beat shapes: still running after ") for line in lines[:-1])
    assert lines[-1].startswith("beat shapes: done in ")
    with console.Output().progress("records") as progress:
        progress(1, 4)
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("records: 1 of 4, still running after ") for line in lines)
    with suppress(ZeroDivisionError), console.Output().progress("records"):
        time.sleep(0.5)
        raise ZeroDivisionError
    assert "done" not in capsys.readouterr().err


def test_on_a_terminal_a_stage_without_a_count_shows_its_bar_after_a_while(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(console, "BAR_AFTER_S", 0.01)
    with console.Output().progress("beat shapes"):
        time.sleep(0.5)
    assert "beat shapes" in capsys.readouterr().err


def test_a_training_that_stops_early_says_so(capsys):
    def told(*steps, quiet=False):
        with console.Output(quiet=quiet).training("guidance") as progress:
            for step in steps:
                progress(Progress(step, 600, 1.0, None))
        return capsys.readouterr().err

    assert told(129, 130) == (
        "guidance: stopped early at step 130 of 600: the held-out loss no longer falls\n"
    )
    assert told(129, 130, quiet=True) == ""
    assert "stopped" not in told(599, 600)
    assert told() == ""
    with suppress(ZeroDivisionError), console.Output().training("guidance") as progress:
        progress(Progress(130, 600, 1.0, None))
        raise ZeroDivisionError
    assert "stopped" not in capsys.readouterr().err


def test_the_time_left_is_told_at_the_pace_of_this_process(monkeypatch, capsys):
    clock = iter([0.0, 20.0, 40.0, 60.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.Output().progress("source model") as progress:
        for done in (20001, 20101, 20201):  # resumed after 20,000 steps
            progress(done, 30001)
    assert capsys.readouterr().err == (
        "source model: 20001 of 30001\n"
        "source model: 20101 of 30001, about 1980 s left\n"
        "source model: 20201 of 30001, about 1960 s left\n"
    )


def test_the_time_left_of_a_fetch_is_told_at_the_pace_since_its_first_report(monkeypatch, capsys):
    clock = iter([0.0, 20.0, 40.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.Output().fetching("ptbxl") as progress:
        for done in (900, 910, 1000):
            progress(FetchProgress("checking", done, 1000))
    assert capsys.readouterr().err == (
        "ptbxl, checking: 910 of 1,000 files, about 180 s left\n"
        "ptbxl, checking: 1,000 of 1,000 files in 40 s\n"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "True"),
        (1234567, "1,234,567"),
        (0.123456, "0.123"),
        (123456.7, "123,457"),
        (("a", "b"), "a, b"),
        ((), "-"),
        ({"NORM": 1200, "AFIB": 3}, "NORM 1,200, AFIB 3"),
        (Path("a/b"), "a/b"),
    ],
)
def test_values_are_shown_as_a_person_reads_them(value, text):
    assert console.format_value(value) == text


def test_numbers_that_are_none_are_null_in_json(capsys):
    console.Output(as_json=True).result({"a": float("nan"), "b": Path("x")})
    assert capsys.readouterr().out == '{"a": null, "b": "x"}\n'


# --- wrong use, errors, bugs, Ctrl-C -----------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "nothing",
        "data",
        "data nothing",
        "demo --seed -1",
        "demo --steps 3",
        "train",
        "train run --set set --steps none",
        "transfer run",
        "transfer run --target set --protocol cubic",
        "transfer run --target set --train-records 1",
        "generate",
        "generate run --steps 1",
        "evaluate",
        "evaluate utility run --folds 1",
        "evaluate fidelity run --seeds 2",
        "evaluate physiology run --workers 0",
        "evaluate blind run",
        "evaluate blind run --to test --layout 4x3",
        "report",
        "mixtures",
        "mixtures study --size 9",
        "mixtures study --seeds 1",
        "mixtures study --workers 0",
        "data prepare ptbxl",
        "data prepare ptbxl folder --to set --rate 20",
        "data verify",
        "data show",
    ],
)
def test_wrong_use_exits_2_and_shows_how(call, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    told = call(*line.split())
    assert told.code == 2
    assert "Usage: ecgtransfer" in told.err + told.out
    assert "Traceback" not in told.err
    assert list(tmp_path.iterdir()) == []


def refused(told, sentence):
    """One line on stderr and nothing on stdout: our own error."""
    assert told.code == 1
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert re.search(sentence, told.err), told.err


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("data prepare ptbxl none --to set", "no PTB-XL in none: expected ptbxl_database.csv"),
        ("data prepare icbeb2018 none --to set", "no folder none; give the folder"),
        (
            "data prepare mimic none --to set",
            "a corpus of ptbxl, icbeb2018, wfdb, arrays, got 'mimic'",
        ),
        ("data verify none", "no ECG set at none; give the folder of one"),
        ("data show none", "no ECG set at none"),
        ("train run --set none", "no ECG set at "),
        ("train run --set none --preset huge", "a preset of tiny, cpu, gpu, got 'huge'"),
        ("transfer run --target none", "expected a run folder at run, found none; begin one"),
        ("transfer run --target none --method magic", "a method of tgdp, stack, finetune"),
        ("generate run --count AFIB=1", "expected a run folder at run"),
        ("generate run", "expected either counts such as AFIB=200, a number"),
        ("evaluate utility run", "expected a run folder at run"),
        ("evaluate utility run --arm magic", "expected arms of oversampled, .*, got 'magic'"),
        ("evaluate fidelity run --method magic", "expected a run folder at run"),
        ("evaluate physiology run", "expected a run folder at run"),
        ("evaluate privacy run", "expected a run folder at run"),
        ("evaluate all run", "expected a run folder at run"),
        ("evaluate blind run --to test", "expected a run folder at run"),
        ("evaluate blind none --score", "no blind test in none"),
        ("report run", "expected a run folder at run"),
        ("mixtures study --problem moon", "unknown problem 'moon'; expected one of paper, "),
        ("mixtures file/below", "could not be written"),
        ("demo --to file", "expected a new or empty folder"),
        ("demo --to file/below", "could not be written"),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(call, tmp_path, monkeypatch, line, sentence):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    refused(call(*line.split(), "--quiet"), sentence)
    assert content(tmp_path) == {"file": b""}


def test_a_bug_keeps_its_traceback(call, tmp_path, ecgset, monkeypatch):
    def bug(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(pipeline, "train_source", bug)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        call("train", tmp_path / "run", "--set", ecgset.folder)


def test_after_ctrl_c_the_same_command_goes_on(call, tmp_path, monkeypatch, words, finished):
    command = placed(words["train"], tmp_path / "run")
    with monkeypatch.context() as patched:
        pressed = Interrupting("source model", 3)
        patched.setattr(console.Output, "training", lambda self, task: pressed.training(task))
        told = call(*command)
    assert told.code == 130
    assert told.out == ""
    assert told.err.splitlines() == [
        "interrupted: finished work is kept; run the same command again to resume"
    ]
    told = call(*command)
    assert told.code == 0
    weights = "run/source/weights.safetensors"
    assert (tmp_path / weights).read_bytes() == (finished.folder.parent / weights).read_bytes()


# --- the bad inputs ----------------------------------------------------------------------------


@pytest.fixture
def ptbxl(tmp_path):
    """Three records of PTB-XL: NORM, AFIB and one of no label that is asked for."""
    folder = tmp_path / "ptbxl"
    rows = []
    for ecg_id, codes in ((1, "{'NORM': 100.0}"), (2, "{'AFIB': 0.0}"), (3, "{'SR': 0.0}")):
        name = f"records100/00000/{ecg_id:05d}_lr"
        write_dat(folder / name, twelve_leads_uv(ecg_id, 1000), 100)
        rows.append(
            {
                **{"ecg_id": ecg_id, "patient_id": ecg_id, "age": 60, "sex": 0, "site": 1},
                **{"device": "X", "scp_codes": codes, "strat_fold": 1, "filename_lr": name},
            }
        )
    pd.DataFrame(rows).to_csv(folder / "ptbxl_database.csv", index=False)
    return folder


def headers(folder):
    return sorted(folder.rglob("*.hea"))


def lack_a_column(folder):
    table = pd.read_csv(folder / "ptbxl_database.csv").drop(columns="scp_codes")
    table.to_csv(folder / "ptbxl_database.csv", index=False)


def name_eleven_leads(folder):
    for header in headers(folder):
        lines = header.read_text().splitlines()
        header.write_text("\n".join([lines[0].replace(" 12 ", " 11 "), *lines[1:-1]]) + "\n")


def name_an_unknown_lead(folder):
    for header in headers(folder):
        header.write_text(header.read_text().replace(" AVF\n", " V13\n"))


def miss_samples(folder):
    for number, header in enumerate(headers(folder)):
        signal_uv = twelve_leads_uv(number, 1000)
        signal_uv[4, 100:120] = -32768
        write_dat(header.with_suffix(""), signal_uv, 100, PTBXL_LEADS)


def state_an_impossible_rate(folder):
    for header in headers(folder):
        header.write_text(header.read_text().replace(" 12 100 ", " 12 20 "))


def cut_short(folder):
    for samples in folder.rglob("*.dat"):
        samples.write_bytes(samples.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lack_a_column, r"lacks the column scp_codes; download it again"),
        (
            name_eleven_leads,
            r"no record of ptbxl can be kept, the first one because: .*00001_lr\.hea.*11",
        ),
        (name_an_unknown_lead, r"can be kept, the first one because: .*'?V13'?"),
        (miss_samples, r"can be kept, the first one because: .*finite"),
        (state_an_impossible_rate, r"sampling rate from 50 to 32000 Hz, got 20 Hz"),
        (cut_short, r"expected 24000 bytes .*, got 23900, the file is truncated"),
    ],
)
def test_a_spoilt_corpus_is_one_sentence_and_no_set(call, tmp_path, ptbxl, spoil, sentence):
    spoil(ptbxl)
    before = content(tmp_path)
    refused(call("data", "prepare", "ptbxl", ptbxl, "--to", tmp_path / "set", "--quiet"), sentence)
    assert content(tmp_path) == before


def test_a_spoilt_record_is_left_out_and_told(call, tmp_path, ptbxl):
    (ptbxl / "records100/00000/00001_lr.dat").write_bytes(b"short")
    told = call("data", "prepare", "ptbxl", ptbxl, "--to", tmp_path / "set")
    assert told.code == 0
    assert "left out, unreadable: 1" in told.out
    assert "the file is truncated" in told.out


@pytest.mark.parametrize("layout", ["challenge", "original"])
def test_a_mat_that_is_no_ecg_is_one_sentence_and_no_set(call, tmp_path, layout):
    from scipy.io import savemat

    folder = tmp_path / "icbeb"
    if layout == "challenge":
        write_challenge(folder / "A0001", twelve_leads_uv(1, 5000), ["# Dx: AF"])
        sentence = "expected an ECG as a MATLAB v4 matrix of int16.*got a MATLAB 5 file"
    else:
        write_reference(folder, [("A0001", 2, "", "")])
        sentence = "A0001.mat is not an original ICBEB recording: expected a MATLAB file"
    savemat(folder / "A0001.mat", {"photo": np.zeros((3, 3))})
    before = content(tmp_path)
    refused(
        call("data", "prepare", "icbeb2018", folder, "--to", tmp_path / "set", "--quiet"), sentence
    )
    assert content(tmp_path) == before


def test_a_set_of_another_rate_is_no_target(call, tmp_path, finished, ptbxl):
    prepare = ("data", "prepare", "ptbxl", ptbxl, "--to", tmp_path / "set", "--rate", 50)
    assert call(*prepare).code == 0
    run = tmp_path / "run"
    told = call(*("transfer", run, "--source", finished.folder, "--target", tmp_path / "set", "-q"))
    refused(told, "expected a target of 1000 samples at 100 Hz .* got 500 at 50 Hz")
    assert not (run / "target").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--count", "WPW=1"), r"the target states \(NORM, AFIB, "),
        (("--count", "AFIB"), "cannot read the count 'AFIB'; write labels and a number"),
        (("--count", "AFIB=-1"), "the count of AFIB must be a whole number of at least 1"),
        (
            ("--count", "AFIB=1", "--solver", "euler"),
            "a solver of adams, dpmpp2m, heun, got 'euler'",
        ),
    ],
)
def test_records_that_cannot_be_drawn_are_refused(call, finished, options, sentence):
    before = content(finished.folder)
    refused(call("generate", finished.folder, *options, "--name", "other", "--quiet"), sentence)
    assert content(finished.folder) == before


def test_a_refused_transfer_leaves_no_run(call, tmp_path, finished, clinic):
    run = tmp_path / "run"
    words = ("transfer", run, "--source", finished.folder, "--target", clinic)
    refused(call(*words, "--train-records", 5000, "--quiet"), "5000")
    assert not run.exists()
    refused(call("transfer", run, "--source", "magic", "--target", clinic), "none; name a shipped")
    assert not run.exists()


def test_an_unknown_label_space_is_refused(call, tmp_path, ptbxl):
    before = content(tmp_path)
    prepare = ("data", "prepare", "ptbxl", ptbxl, "--to", tmp_path / "set", "--labels", "mine")
    refused(call(*prepare, "--quiet"), "unknown label space 'mine'; expected icbeb9, scp71, ")
    assert content(tmp_path) == before


@pytest.mark.parametrize("command", ["train", "transfer", "generate", "evaluate"])
def test_a_run_of_another_version_is_refused_and_left_alone(call, tmp_path, words, command):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"format": 99}')
    before = content(tmp_path)
    refused(
        call(*placed(words[command], run), "--quiet"),
        "expected a run folder of format 1, got format 99 in .*; use the version of ecgtransfer",
    )
    assert content(tmp_path) == before


def test_a_full_disk_while_generating_is_one_sentence_and_can_be_mended(
    call, tmp_path, finished, monkeypatch
):
    def full_disk(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = tmp_path / "run"
    shutil.copytree(finished.folder, run, ignore=shutil.ignore_patterns("synthetic-*"))
    command = ("generate", run, "--count", "AFIB=3", "--steps", 2, "--quiet")
    with monkeypatch.context() as patched:
        patched.setattr(ecgset_writer, "fsync", full_disk)
        refused(call(*command), r"set could not be written \(No space left on device\); make room")
    assert not (run / "synthetic-tgdp/set").exists()
    assert not (run / "synthetic-tgdp/card.json").exists()
    assert call(*command).code == 0
    assert len(ECGSet.open(run / "synthetic-tgdp/set")) == 3
