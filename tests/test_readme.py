import re
import shlex
from pathlib import Path

import pytest
import typer
from ecgtransfer_cli.app import app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SHELL = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    shlex.split(command)[1:]
    for block in SHELL
    for line in block.splitlines()
    for command in line.split("&&")
    if command.strip().startswith("ecgtransfer ")
]


def test_the_readme_has_commands_and_code():
    assert len(COMMANDS) >= 7
    assert len(PYTHON) >= 4


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_of_the_readme_is_one_that_the_program_takes(words):
    command = typer.main.get_command(app)
    context = command.make_context("ecgtransfer", list(words))
    while True:
        name, command, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert command is not None, name
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "resolve_command"):
            break
    assert not context.args


def test_every_command_is_in_the_table_of_the_readme():
    command = typer.main.get_command(app)
    for name in command.commands:
        assert f"`ecgtransfer {name}" in README


@pytest.fixture
def small_transfer(monkeypatch):
    """A transfer and a sampler without training and waiting, whatever is asked for."""
    from ecgtransfer.pipeline import adapted, augmented
    from tests.pipeline.small_run import SAMPLER, transfer_settings

    settings = transfer_settings("source")
    monkeypatch.setattr(adapted, "TransferSettings", lambda **_: settings)
    monkeypatch.setattr(adapted, "SamplerSettings", lambda **_: SAMPLER)
    monkeypatch.setattr(augmented, "ROUNDS", 1)
    monkeypatch.setattr(augmented.GateClassifiers, "fit", lambda *_, **__: _AllPass())
    monkeypatch.setattr(
        augmented, "measure_intervals", lambda signals, *_, **__: [None] * len(signals)
    )
    monkeypatch.setattr("ecgtransfer.evaluation.gate.broken_rules", lambda *_: ())
    monkeypatch.setattr(augmented, "broken_rules", lambda *_: ())


class _AllPass:
    def judge(self, signals, labels, error):
        return [((), None)] * len(signals)


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_the_code_of_the_readme_runs(code, ecgset, tmp_path, small_transfer):
    names = {}
    given = {
        "sets/clinic": str(ecgset.folder),
        "runs/clinic": str(tmp_path / "run"),
        '"AFIB": 200, "CRBBB+PVC": 20': '"AFIB": 2, "CRBBB+PVC": 1',
        "at_least=200": "at_least=5",
    }
    for text, instead in given.items():
        code = code.replace(text, instead)
    exec(compile(code, "README.md", "exec"), names)
    if "adapted" in names:
        assert len(names["ecgs"]) == 3
        assert names["X"].shape[1:] == (12, 1000)
        assert len(names["X"]) == len(names["y"]) == len(names["groups"]) == len(names["weight"])
        assert not set(names["groups"]) & set(names["adapted"].test().groups)
    elif "signals" in names:
        assert names["signals"].shape == (2, 12, 1000)
    elif "table" in names:
        assert len(names["table"]) == len(ecgset)
        assert set(ecgset.label_space.names) <= set(names["table"].columns)
    elif "loader" in names:
        signals, labels = next(iter(names["loader"]))
        assert (signals.shape, labels.shape) == ((2, 12, 1000), (2, len(ecgset.label_space)))
    else:
        assert "guided" in names
