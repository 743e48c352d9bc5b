"""`ecgtransfer data`: commands for sets of recordings."""

import typer

from .console import add_command
from .export import export
from .fetch import fetch
from .prepare import prepare
from .sets import show
from .verify import verify

app = typer.Typer(
    name="data",
    help="Fetch, prepare, verify, show and export sets of recordings.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

for command in (fetch, prepare, verify, show, export):
    add_command(app, command)
