"""Assembly of the commands."""

from typing import Annotated

import typer

import ecgtransfer

from . import data, evaluate, models
from .console import add_command
from .demo import demo
from .generate import generate
from .mixtures import mixtures
from .report import report
from .train import train
from .transfer import transfer

app = typer.Typer(
    name="ecgtransfer",
    help=(
        "Carry a diffusion model of 12-lead ECGs from a large source to a small labelled target, "
        "generate labelled synthetic ECGs, and measure what they are worth."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(data.app)
app.add_typer(evaluate.app)
app.add_typer(models.app)
for command in (demo, train, transfer, generate, report, mixtures):
    add_command(app, command)


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
