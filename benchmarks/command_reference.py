"""Command reference in Markdown, from the program's own commands and help.

    python benchmarks/command_reference.py    # writes docs/commands.md

`tests/test_readme.py` checks that the file is up to date.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from ecgtransfer_cli.app import app

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"

INTRODUCTION = """\
# Commands

All commands, in the order of the work. `ecgtransfer COMMAND --help` prints the same text.
[The guide](guide.md) shows how to use them. This page is generated from the program:
`python benchmarks/command_reference.py`.

Every command also has `--help`, `--json` (print one JSON
object on stdout) and `--quiet` (print no progress and no summary). Exit codes: 0 for success, 1
for an error, which is explained in one sentence, 2 for a wrong option, 130 after Ctrl-C."""

#: Options of all commands, which the introduction names.
COMMON = frozenset({"json", "quiet", "help"})


def reference() -> str:
    """Return the command reference in Markdown."""
    root = typer.main.get_command(app)
    pages = list(_pages(root, "ecgtransfer"))
    contents = "\n".join(
        f"| [`{name}`](#{name.replace(' ', '-')}) | {summary(command)} |" for name, command in pages
    )
    parts = [INTRODUCTION, f"| command | what it does |\n|---|---|\n{contents}"]
    parts += [_section(name, command) for name, command in pages]
    return "\n\n".join(parts) + "\n"


def summary(command: Any) -> str:
    """Return the first sentence of a command's help."""
    return inspect.cleandoc(command.help or "").split("\n\n")[0].replace("\n", " ")


def _pages(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the name and command of every command that does something, in the order of help."""
    context = typer.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command.hidden:
            continue
        if hasattr(command, "list_commands"):
            yield from _pages(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _section(name: str, command: Any) -> str:
    text, _, example = inspect.cleandoc(command.help).partition("\b\nExample:")
    shown = [p for p in command.params if p.name not in COMMON and not getattr(p, "hidden", False)]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    usage = " ".join(
        [
            name,
            *(_name(p) if p.required else f"[{_name(p)}]" for p in arguments),
            *(f"{p.opts[0]} ..." for p in shown if p.param_type_name == "option" and p.required),
            "[OPTIONS]",
        ]
    )
    parts = [f"## `{name}`", "\n".join(line.rstrip() for line in text.strip().splitlines())]
    parts.append(f"```text\n{usage}\n```")
    if shown:
        rows = (f"| {_spelling(p)} | {_meaning(p)} | {_default(p)} |" for p in shown)
        parts.append(
            "| argument or option | meaning | default |\n|---|---|---|\n" + "\n".join(rows)
        )
    if example:
        parts.append(f"```sh\n{example.strip()}\n```")
    return "\n\n".join(parts)


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_name(parameter)}`"
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _meaning(parameter: Any) -> str:
    text = " ".join((parameter.help or "").split()).replace("|", "\\|")
    return f"{text} Repeatable." if parameter.multiple and "repeat" not in text else text


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default in (None, (), []) or (
        parameter.default is False and not parameter.secondary_opts
    ):
        return ""
    if isinstance(parameter.default, bool):
        spellings = parameter.opts if parameter.default else parameter.secondary_opts
        return f"`{spellings[0]}`"
    return f"`{parameter.default}`"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
