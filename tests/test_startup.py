"""Modules that commands import: no heavy ones for help, no torch for `data`."""

import json
import os
import subprocess
import sys

import pytest

from ecgtransfer.defaults import TRANSFER_METHODS
from ecgtransfer.experiments.problems import PROBLEMS
from ecgtransfer.transfer.methods import METHODS

#: What takes long to import, and no help needs.
HEAVY = ("torch", "numpy", "pandas", "scipy", "sklearn", "pyarrow", "matplotlib", "accelerate")

#: `python -c PROGRAM < LINES`: runs each line of words as a command, in one process, and writes its
#: exit code and the modules that are imported after it.
PROGRAM = """
import json, sys
from ecgtransfer_cli.main import main

told, stdout = [], sys.stdout
for words in json.load(sys.stdin):
    sys.argv = ["ecgtransfer", *words]
    sys.stdout = sys.stderr
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    told.append([words, code, sorted({name.split(".")[0] for name in sys.modules})])
json.dump(told, stdout)
"""

#: `python -c WALK`: the words before each help, found by walking the program.
WALK = """
import json, sys
import typer
from ecgtransfer_cli.app import app

def walk(command, words):
    yield words
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, [*words, name])

json.dump(list(walk(typer.main.get_command(app), [])), sys.stdout)
"""


def answers(lines):
    """Words, exit code and imported modules of each command, all run in one process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(lines), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def every_command():
    done = subprocess.run([sys.executable, "-c", WALK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_of_every_command_imports_nothing_heavy(every_command):
    assert len(every_command) > 20
    assert [] in every_command
    assert ["data", "show"] in every_command
    helps = [[*words, "--help"] for words in every_command]
    for words, code, modules in answers(helps):
        assert (words, code) == (words, 0)
        assert not set(HEAVY) & set(modules), words


def test_version_wrong_options_and_shipped_models_import_nothing_heavy():
    lines = [["-h"], ["--version"], ["transfer", "-h"], ["--bogus"], ["transfer", "--bogus"]]
    codes = [code for _, code, modules in answers(lines) if not set(HEAVY) & set(modules)]
    assert codes == [0, 0, 0, 2, 2]
    for words in (["models", "list"], ["models", "show", "ptbxl-cascade"]):
        [(_, code, modules)] = answers([words])
        assert code == 0
        assert not {"torch", "pandas", "scipy", "sklearn"} & set(modules)


def test_a_command_that_imports_torch_is_seen(tmp_path):
    [(_, code, modules)] = answers([["generate", str(tmp_path), "--per-class", "1"]])
    assert code == 1
    assert "torch" in modules


def test_data_commands_do_without_torch(ecgset, tmp_path):
    folder, record = str(ecgset.folder), str(ecgset.records.name[0])
    wfdb, tars, sheet = (str(tmp_path / name) for name in ("wfdb", "tars", "sheet.png"))
    prepared, page = str(tmp_path / "set"), str(tmp_path / "page.png")
    exported = ("--wfdb", wfdb, "--webdataset", tars, "--croissant", str(tmp_path / "set.json"))
    lines = [
        ["data", "show", folder, "--out", page],
        ["data", "show", folder, record, "--out", sheet],
        ["data", "export", folder, *exported],
        ["data", "prepare", "wfdb", wfdb, "--to", prepared, "--table", f"{wfdb}/labels.csv"],
        ["data", "verify", prepared],
        ["data", "fetch", "ptbxl", "--to", str(tmp_path / "file.txt"), "--rate", "7"],
    ]
    (tmp_path / "file.txt").touch()
    told = answers(lines)
    assert [code for _, code, _ in told] == [0, 0, 0, 0, 0, 1]
    for words, _, modules in told:
        assert not {"torch", "sklearn", "accelerate"} & set(modules), words


def test_completion_imports_nothing_heavy():
    words = {"COMP_WORDS": "ecgtransfer tr", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="[[]]",
        capture_output=True,
        text=True,
        env=os.environ | words | {"_ECGTRANSFER_COMPLETE": "complete_bash"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["train", "transfer"]
    [(_, code, modules)] = json.loads(done.stdout)
    assert code == 0
    assert not set(HEAVY) & set(modules)


def test_help_names_every_method_and_problem_that_there_is():
    assert {name: method.title for name, method in METHODS.items()} == TRANSFER_METHODS
    program = [sys.executable, "-m", "ecgtransfer_cli.main", "mixtures", "--help"]
    told = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    assert all(name in told for name in PROBLEMS)
