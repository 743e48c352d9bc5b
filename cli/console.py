"""Output of all commands: progress on stderr, and a summary or a JSON object on stdout."""

from __future__ import annotations

import inspect
import json
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from rich.table import Table as RichTable
from rich.text import Text

from ecgtransfer.storage import to_card
from ecgtransfer.training import is_main_process

if TYPE_CHECKING:
    from ecgtransfer.corpus import FetchProgress
    from ecgtransfer.training import Progress as TrainingProgress

#: Without a terminal, progress is printed in lines, at most one in this many seconds.
PLAIN_LINE_EVERY_S = 15.0

#: After this many seconds without a line, one reports that the command is still running.
LONGEST_SILENCE_S = 30.0

#: On a terminal, a task that has not reported progress yet shows its bar after this many seconds.
BAR_AFTER_S = 2.0

#: Minimum width of a wrapped value in characters, however narrow the terminal.
MIN_VALUE_WIDTH = 20

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress and no summary.")]

#: Progress callback: (done, total) -> None.
Counter = Callable[[int, int], None]


def add_command(app: typer.Typer, command: Callable[..., None], name: str | None = None) -> None:
    """Add a function to `app` as a command; help never wraps the example in its docstring."""
    example = "\n\nExample:"
    text = inspect.getdoc(command) or ""
    app.command(name, help=text.replace(example, example.replace("Example", "\b\nExample")))(
        command
    )


@dataclass(frozen=True)
class Output:
    """Prints progress, results and warnings of a command.

    Attributes:
        as_json: print the result as one JSON object.
        quiet: print warnings only (and the result if `as_json`).
    """

    as_json: bool = False
    quiet: bool = False

    @contextmanager
    def progress(self, task: str) -> Iterator[Counter]:
        """Show progress as a bar with the time left, or as lines if stderr is not a terminal.

        Yields:
            Callback (done, total) -> None.
        """
        stderr = Console(stderr=True)
        if self.quiet or not is_main_process():
            yield lambda done, total: None
        elif stderr.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=stderr) as bars:
                # The bar stays hidden at first: a finished task reports nothing and shows no bar.
                bar = bars.add_task(task, total=None, visible=False)
                timer = threading.Timer(BAR_AFTER_S, lambda: bars.update(bar, visible=True))
                timer.daemon = True
                timer.start()
                try:
                    yield lambda done, total: bars.update(
                        bar, completed=done, total=total, visible=True
                    )
                finally:
                    timer.cancel()
        else:
            with _PlainLines(task) as lines:
                yield lines.report

    @contextmanager
    def fetching(self, task: str) -> Iterator[Callable[[FetchProgress], None]]:
        """Show progress of a download, with bytes and speed.

        Yields:
            Callback (progress) -> None.
        """
        stderr = Console(stderr=True)
        if self.quiet:
            yield lambda now: None
        elif stderr.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(20),
                TextColumn("{task.fields[state]}"),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=stderr) as bars:
                yield _fetch_bar(bars, task)
        else:
            yield _fetch_lines(task)

    @contextmanager
    def training(self, task: str) -> Iterator[Callable[[TrainingProgress], None]]:
        """Show progress of a training, and report if it stopped early.

        Yields:
            Callback (progress) -> None.
        """
        last: list[TrainingProgress] = []

        def report(now: TrainingProgress) -> None:
            last[:] = [now]
            counter(now.step, now.steps)

        with self.progress(task) as counter:
            yield report
        if last and last[0].step < last[0].steps:
            self.note(
                f"{task}: stopped early at step {last[0].step} of {last[0].steps}: "
                "the held-out loss no longer falls"
            )

    def result(self, payload: object, *parts: KeyValues | Table | str) -> None:
        """Print the result of a command: `payload` as one JSON object, or the parts in order."""
        if not is_main_process():
            return
        if self.as_json:
            typer.echo(json.dumps(to_card(payload), sort_keys=True, allow_nan=False))
        elif not self.quiet:
            console = Console(highlight=False)
            for index, part in enumerate(parts):
                if index and not (isinstance(part, str) and isinstance(parts[index - 1], str)):
                    console.line()
                if isinstance(part, str):
                    _print_text(console, part)
                else:
                    part.print_on(console)

    def note(self, sentence: str) -> None:
        """Print a sentence of information on stderr, unless quiet."""
        if not self.quiet and is_main_process():
            typer.echo(sentence, err=True)

    def warn(self, sentence: str) -> None:
        """Print a warning on stderr, even if quiet."""
        typer.secho(f"warning: {sentence}", fg="yellow", err=True)


@dataclass(frozen=True)
class KeyValues:
    """Names with values, one per line; long values are wrapped, but paths never are."""

    title: str
    rows: Sequence[tuple[str, object]]

    def print_on(self, console: Console) -> None:
        """Print the title, then the lines."""
        console.print(Text(self.title, "bold"), soft_wrap=True)
        width = max(len(name) for name, _ in self.rows)
        for name, value in self.rows:
            lines = [format_value(value)]
            if console.is_terminal and not isinstance(value, Path):
                value_width = max(console.width - width - 4, MIN_VALUE_WIDTH)
                lines = textwrap.wrap(lines[0], value_width, break_long_words=False) or lines
            for index, line in enumerate(lines):
                label = name if index == 0 else ""
                console.print(Text(f"  {label:<{width}}  {line}"), soft_wrap=True)


@dataclass(frozen=True)
class Table:
    """A table with a header; columns that do not fit the terminal follow in further tables."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]

    def print_on(self, console: Console) -> None:
        """Print the title, then the table, split by columns if it is wider than the terminal."""
        console.print(Text(self.title, "bold"), soft_wrap=True)
        cells = [[format_value(value) for value in row] for row in self.rows]
        value_widths = [
            max((len(row[k]) for row in cells), default=0) for k in range(len(self.header))
        ]
        min_widths = [
            max(width, *(len(word) for word in name.split()))
            for name, width in zip(self.header, value_widths, strict=True)
        ]
        for columns in _column_groups(min_widths, console.width):
            full_widths = {k: max(value_widths[k], len(self.header[k])) for k in columns}
            fits = _table_width(full_widths.values()) <= console.width
            table = RichTable()
            for k in columns:
                table.add_column(
                    Text(self.header[k]),
                    justify="right" if k else "left",
                    width=full_widths[k] if fits else min_widths[k],
                )
            for row in cells:
                if any(row[k] for k in columns[1:]):
                    table.add_row(*(Text(row[k]) for k in columns))
            console.print(table)


def _column_groups(widths: Sequence[int], available: int) -> Iterator[list[int]]:
    """Split columns into tables that fit; each has column 0 and as many others as possible."""
    columns = [0]
    for column in range(1, len(widths)):
        if len(columns) > 1 and _table_width(widths[k] for k in (*columns, column)) > available:
            yield columns
            columns = [0]
        columns.append(column)
    yield columns


def _table_width(widths: Iterable[int]) -> int:
    """Width of a table in characters: cells with a space on either side, and lines between."""
    return sum(width + 3 for width in widths) + 1


def format_value(value: object) -> str:
    """Format a value for a reader: rounded, with thousands separators; None as "-"."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {format_value(each)}" for name, each in value.items()) or "-"
    if isinstance(value, tuple | list):
        return ", ".join(format_value(item) for item in value) or "-"
    return "-" if value is None else str(value)


def _print_text(console: Console, text: str) -> None:
    """Print text, wrapped between words on a terminal and unwrapped elsewhere."""
    console.print(Text(text), soft_wrap=not console.is_terminal)


@dataclass(frozen=True)
class _TimeLeft:
    """Estimate of the time left, at the speed since the first report of this process.

    Work that an earlier process did has no influence.

    Attributes:
        start_s: time of the first report.
        done: work that was done by then.
    """

    start_s: float
    done: int

    def text(self, now_s: float, done: int, total: int) -> str:
        """Return ", about 20 s left", or "" before the second report."""
        since = done - self.done
        if not since:
            return ""
        return f", about {(now_s - self.start_s) / since * (total - done):.0f} s left"


def _fetch_bar(bars: Progress, task: str) -> Callable[[FetchProgress], None]:
    """Return a callback that shows a download as one bar per phase."""
    bar, doing = None, ""
    start_s = 0.0

    def show(now: FetchProgress) -> None:
        nonlocal bar, doing, start_s
        if bar is None or now.doing != doing:
            doing, start_s = now.doing, time.monotonic()
            if bar is not None:
                bars.remove_task(bar)
            bar = bars.add_task(f"{task}, {doing}", total=None, state="")
        done, total = _fetch_share(now)
        bars.update(bar, completed=done, total=total or None, state=_fetch_state(now, start_s))

    return show


def _fetch_lines(task: str) -> Callable[[FetchProgress], None]:
    """Return a callback that prints a download as lines, each phase timed on its own."""
    start_s: dict[str, float] = {}
    last_line_s: dict[str, float] = {}
    time_left: dict[str, _TimeLeft] = {}

    def show(now: FetchProgress) -> None:
        now_s = time.monotonic()
        if not now.files:
            if now.doing not in start_s:
                typer.echo(f"{task}, {now.doing}: {_fetch_state(now, now_s)}", err=True)
            start_s[now.doing] = now_s
            return
        phase_start_s = start_s.setdefault(now.doing, now_s)
        finished = now.files_done == now.files
        done, total = _fetch_share(now)
        left = time_left.setdefault(now.doing, _TimeLeft(now_s, done))
        silence_s = now_s - last_line_s.setdefault(now.doing, now_s)
        if not finished and silence_s < PLAIN_LINE_EVERY_S:
            return
        last_line_s[now.doing] = now_s
        ending = f" in {now_s - phase_start_s:.0f} s" if finished else left.text(now_s, done, total)
        typer.echo(f"{task}, {now.doing}: {_fetch_state(now, phase_start_s)}{ending}", err=True)

    return show


def _fetch_share(now: FetchProgress) -> tuple[int, int]:
    """Return (done, total), in bytes if known, else in files."""
    if now.bytes_in_all:
        return now.bytes_done, now.bytes_in_all
    return now.files_done, now.files


def _fetch_state(now: FetchProgress, start_s: float) -> str:
    """Format progress: "1,200 of 43,602 files, 29.1 of 549.7 MB, 3.2 MB/s"."""
    if now.doing == "asking":
        return "list of checksums from the mirrors"
    state = f"{now.files_done:,} of {now.files:,} files"
    if now.doing == "checking":
        return state
    speed = now.bytes_done / max(time.monotonic() - start_s, 1e-3)
    return (
        f"{state}, {now.bytes_done / 1e6:,.1f} of {now.bytes_in_all / 1e6:,.1f} MB, "
        f"{speed / 1e6:.1f} MB/s"
    )


class _PlainLines:
    """Progress of one task as lines, for output without a terminal.

    A background thread prints a line after each long silence.
    """

    def __init__(self, task: str) -> None:
        self.task = task
        self.start_s = self.last_line_s = time.monotonic()
        self.time_left: _TimeLeft | None = None
        self.count: tuple[int, int] | None = None
        self.finished = self.was_silent = False
        self.closed = False
        self.printed = threading.Event()
        self.watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _PlainLines:
        self.watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.closed = True
        self.printed.set()
        self.watcher.join()
        if kind is None and self.was_silent and self.count is None:
            typer.echo(f"{self.task}: done in {time.monotonic() - self.start_s:.0f} s", err=True)

    def report(self, done: int, total: int) -> None:
        """Print a line when all work is done, or if the last line is long ago."""
        now_s = time.monotonic()
        self.count = (done, total)
        if self.time_left is None:
            self.time_left = _TimeLeft(now_s, done)
        silence_s = now_s - self.last_line_s
        if self.finished or (done < total and silence_s < PLAIN_LINE_EVERY_S):
            return
        self.finished = done >= total
        self.last_line_s = now_s
        ending = (
            f" in {now_s - self.start_s:.0f} s"
            if self.finished
            else self.time_left.text(now_s, done, total)
        )
        self.printed.set()
        typer.echo(f"{self.task}: {done} of {total}{ending}", err=True)

    def _watch(self) -> None:
        """Print after each long silence that the task is still running."""
        while True:
            if self.printed.wait(LONGEST_SILENCE_S):
                if self.closed:
                    return
                self.printed.clear()
                continue
            self.was_silent = True
            seconds = time.monotonic() - self.start_s
            count = "" if self.count is None else f"{self.count[0]} of {self.count[1]}, "
            typer.echo(f"{self.task}: {count}still running after {seconds:.0f} s", err=True)
