"""Everything that is printed: progress on stderr, one summary or one JSON object on stdout."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ecgtransfer.training import Progress as TrainingProgress

#: Plain progress lines, where there is no terminal, come at most this often, in seconds.
PLAIN_LINE_EVERY_S = 15.0

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]

Counter = Callable[[int, int], None]


@dataclass(frozen=True)
class Output:
    """How a command speaks: to a person, to a program, or not at all."""

    as_json: bool = False
    quiet: bool = False

    @contextmanager
    def progress(self, task: str) -> Iterator[Counter]:
        """A bar with the time left on a terminal, plain lines when piped: (done, total) -> None."""
        stderr = Console(stderr=True)
        if self.quiet:
            yield lambda done, total: None
        elif stderr.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            with Progress(*columns, console=stderr) as bars:
                bar = bars.add_task(task, total=None, note="")
                yield lambda done, total: bars.update(bar, completed=done, total=total)
        else:
            yield _plain_lines(task)

    @contextmanager
    def training(self, task: str) -> Iterator[Callable[[TrainingProgress], None]]:
        """The same for a training."""
        with self.progress(task) as counter:
            yield lambda now: counter(now.step, now.steps)

    def result(self, payload: dict[str, Any], *tables: Table | str) -> None:
        """Print what a command came to."""
        if self.as_json:
            typer.echo(json.dumps(payload, sort_keys=True))
        elif not self.quiet:
            console = Console()
            for table in tables:
                console.print(table, highlight=False)

    def warn(self, sentence: str) -> None:
        """A sentence that the user should read, on stderr, even when quiet."""
        typer.secho(f"warning: {sentence}", fg="yellow", err=True)


def facts(title: str, rows: Sequence[tuple[str, object]]) -> Table:
    """A table of two columns without rules: name and value."""
    table = Table(title=title, show_header=False, box=None, title_justify="left", pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows:
        table.add_row(name, shown(value))
    return table


def grid(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table with a header line."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(shown(value) for value in row))
    return table


def shown(value: object) -> str:
    """A value as a person reads it."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)


def _plain_lines(task: str) -> Counter:
    began = time.monotonic()
    last = [began]

    def line(done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - last[0] < PLAIN_LINE_EVERY_S:
            return
        last[0] = now
        left = (now - began) / max(done, 1) * (total - done)
        ending = f", about {left:.0f} s left" if done < total else f" in {now - began:.0f} s"
        typer.echo(f"{task}: {done} of {total}{ending}", err=True)

    return line
