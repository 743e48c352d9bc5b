"""Assembly of the commands and the one border where our own errors become a line."""

from typing import Annotated

import typer

import ecgtransfer
from ecgtransfer.errors import EcgTransferError

from . import data
from .console import add_command
from .demo import demo
from .evaluate import evaluate
from .generate import generate
from .mixtures import mixtures
from .train import train
from .transfer import transfer

#: Exit code after Ctrl-C, as shells have it.
INTERRUPTED = 130

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
for command in (demo, train, transfer, generate, evaluate, mixtures):
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


def main() -> None:
    """Run the command; our errors become one line and exit code 1, a bug keeps its traceback."""
    try:
        app(prog_name="ecgtransfer")
    except EcgTransferError as error:
        sentence = " ".join(str(error).split())
        typer.secho(f"error: {sentence}", fg="red", err=True)
        raise SystemExit(1) from None
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.secho(
                "interrupted: what is finished is kept, the same command goes on from there",
                err=True,
            )
        raise


if __name__ == "__main__":
    main()
