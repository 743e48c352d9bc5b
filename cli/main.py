"""Assembly of the commands and the one border where our own errors become a line."""

from typing import Annotated

import typer

import ecgtransfer
from ecgtransfer.errors import EcgTransferError

from . import data
from .demo import demo
from .evaluate import evaluate
from .generate import generate
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
for command in (demo, train, transfer, generate, evaluate):
    app.command()(command)


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


def main() -> None:
    """Run the command; our errors become one line and exit code 1, a bug keeps its traceback."""
    try:
        app()
    except EcgTransferError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
