"""`ecgtransfer data`: sets of recordings."""

import typer

from .console import add_command
from .prepare import prepare
from .sets import show, verify

app = typer.Typer(
    name="data",
    help="Prepare, verify and show sets of recordings.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

for command in (prepare, verify, show):
    add_command(app, command)
