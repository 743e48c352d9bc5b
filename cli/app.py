"""Assembly of the commands."""

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

#: Commands and groups of commands by name, in the order of the work, in which help lists them.
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


class InOrderOfWork(TyperGroup):
    """Commands in the order of `COMMANDS`; typer puts groups before commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, as help lists them."""
        return list(COMMANDS)


app = typer.Typer(
    name="ecgtransfer",
    cls=InOrderOfWork,
    help=(
        "Carry a diffusion model of 12-lead ECGs from a large source to a small labelled target, "
        "generate labelled synthetic ECGs, and measure what they are worth."
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


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ecgtransfer {ecgtransfer.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Common to all commands."""
