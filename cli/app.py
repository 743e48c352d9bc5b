"""The application: all commands, in the order in which they are used."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import ecgtransfer

from . import data, evaluate, models
from .augment import augment
from .console import add_command
from .demo import demo
from .generate import generate
from .mixtures import mixtures
from .report import report
from .train import train
from .transfer import transfer

#: Commands and groups of commands by name, in the order of the workflow; help lists them so.
COMMANDS: dict[str, typer.Typer | Callable[..., None]] = {
    "demo": demo,
    "augment": augment,
    "data": data.app,
    "models": models.app,
    "train": train,
    "transfer": transfer,
    "generate": generate,
    "evaluate": evaluate.app,
    "report": report,
    "mixtures": mixtures,
}


class WorkflowOrder(TyperGroup):
    """A group that lists its commands in the order of `COMMANDS`; typer lists groups first."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of help."""
        return list(COMMANDS)


app = typer.Typer(
    name="ecgtransfer",
    cls=WorkflowOrder,
    help=(
        "Transfer a diffusion model of 12-lead ECGs from a large source to a small labelled "
        "target, generate labelled synthetic ECGs, and evaluate them."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command in COMMANDS.items():
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        add_command(app, command, name)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"ecgtransfer {ecgtransfer.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Define the options that come before any command."""
