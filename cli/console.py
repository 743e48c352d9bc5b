"""Everything that is printed: progress on stderr, one summary or one JSON object on stdout."""

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
from rich.table import Table
from rich.text import Text

from ecgtransfer.storage import to_card as plain
from ecgtransfer.training import is_main_process

if TYPE_CHECKING:
    from ecgtransfer.corpus import FetchProgress
    from ecgtransfer.training import Progress as TrainingProgress

#: Plain progress lines, where there is no terminal, come at most this often, in seconds.
PLAIN_LINE_EVERY_S = 15.0

#: After so long without a line, one says that the work goes on, in seconds.
LONGEST_SILENCE_S = 30.0

#: On a terminal, a stage without a count shows its bar after so long, in seconds.
BAR_AFTER_S = 2.0

#: However narrow the terminal, a value has this many characters in a line.
SHORTEST_LINE = 20

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]

Counter = Callable[[int, int], None]


def add_command(app: typer.Typer, command: Callable[..., None], name: str | None = None) -> None:
    """Make a function a command; the example in its docstring is never broken into lines."""
    example = "\n\nExample:"
    text = inspect.getdoc(command) or ""
    app.command(name, help=text.replace(example, example.replace("Example", "\b\nExample")))(
        command
    )


@dataclass(frozen=True)
class Output:
    """How a command speaks: to a person, to a program, or not at all."""

    as_json: bool = False
    quiet: bool = False

    @contextmanager
    def progress(self, task: str) -> Iterator[Counter]:
        """A bar with the time left on a terminal, plain lines when piped: (done, total) -> None."""
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
                # What is done already reports nothing, and shows no bar.
                bar = bars.add_task(task, total=None, visible=False)
                late = threading.Timer(BAR_AFTER_S, lambda: bars.update(bar, visible=True))
                late.daemon = True
                late.start()
                try:
                    yield lambda done, total: bars.update(
                        bar, completed=done, total=total, visible=True
                    )
                finally:
                    late.cancel()
        else:
            with _PlainLines(task) as lines:
                yield lines.report

    @contextmanager
    def fetching(self, task: str) -> Iterator[Callable[[FetchProgress], None]]:
        """The same for files that are fetched, with bytes and speed."""
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
        """The same for a training; one that stops early says so."""
        last: list[TrainingProgress] = []

        def report(now: TrainingProgress) -> None:
            last[:] = [now]
            counter(now.step, now.steps)

        with self.progress(task) as counter:
            yield report
        if last and last[0].step < last[0].steps:
            self.note(f"{task}: stopped at {last[0].step} of {last[0].steps}: no more gain")

    def result(self, payload: object, *parts: Facts | Grid | str) -> None:
        """Print what a command came to: one JSON object, or the parts one below the other."""
        if not is_main_process():
            return
        if self.as_json:
            typer.echo(json.dumps(plain(payload), sort_keys=True, allow_nan=False))
        elif not self.quiet:
            console = Console(highlight=False)
            for number, part in enumerate(parts):
                if number and not (isinstance(part, str) and isinstance(parts[number - 1], str)):
                    console.line()
                if isinstance(part, str):
                    _print_text(console, part)
                else:
                    part.print_on(console)

    def note(self, sentence: str) -> None:
        """A sentence that is good to know before the work begins, on stderr, unless quiet."""
        if not self.quiet and is_main_process():
            typer.echo(sentence, err=True)

    def warn(self, sentence: str) -> None:
        """A sentence that the user should read, on stderr, even when quiet."""
        typer.secho(f"warning: {sentence}", fg="yellow", err=True)


@dataclass(frozen=True)
class Facts:
    """Names with their values, a line each; a path is never broken, however long it is."""

    title: str
    rows: Sequence[tuple[str, object]]

    def print_on(self, console: Console) -> None:
        """The title, then the lines."""
        console.print(Text(self.title, "bold"), soft_wrap=True)
        width = max(len(name) for name, _ in self.rows)
        for name, value in self.rows:
            lines = [shown(value)]
            if console.is_terminal and not isinstance(value, Path):
                room = max(console.width - width - 4, SHORTEST_LINE)
                lines = textwrap.wrap(lines[0], room, break_long_words=False) or lines
            for number, line in enumerate(lines):
                before = name if number == 0 else ""
                console.print(Text(f"  {before:<{width}}  {line}"), soft_wrap=True)


@dataclass(frozen=True)
class Grid:
    """A table with a header; one that is wider than the terminal goes on below itself."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]

    def print_on(self, console: Console) -> None:
        """The title, then the table in as many pieces as it takes."""
        console.print(Text(self.title, "bold"), soft_wrap=True)
        cells = [[shown(value) for value in row] for row in self.rows]
        held = [max((len(row[k]) for row in cells), default=0) for k in range(len(self.header))]
        least = [
            max(width, *(len(word) for word in name.split()))
            for name, width in zip(self.header, held, strict=True)
        ]
        for piece in _pieces(least, console.width):
            whole = {k: max(held[k], len(self.header[k])) for k in piece}
            fits = _table_width(whole.values()) <= console.width
            table = Table()
            for k in piece:
                table.add_column(
                    Text(self.header[k]),
                    justify="right" if k else "left",
                    width=whole[k] if fits else least[k],
                )
            for row in cells:
                if any(row[k] for k in piece[1:]):
                    table.add_row(*(Text(row[k]) for k in piece))
            console.print(table)


def _pieces(widths: Sequence[int], available: int) -> Iterator[list[int]]:
    """Column numbers of each piece: the first column, and as many others as fit beside it."""
    piece = [0]
    for column in range(1, len(widths)):
        if len(piece) > 1 and _table_width(widths[k] for k in (*piece, column)) > available:
            yield piece
            piece = [0]
        piece.append(column)
    yield piece


def _table_width(widths: Iterable[int]) -> int:
    """Width of a table with its rules: a blank on both sides of a cell and a rule after it."""
    return sum(width + 3 for width in widths) + 1


def shown(value: object) -> str:
    """A value as a person reads it."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(held)}" for name, held in value.items()) or "-"
    if isinstance(value, tuple | list):
        return ", ".join(shown(item) for item in value) or "-"
    return "-" if value is None else str(value)


def _print_text(console: Console, text: str) -> None:
    """Lines break between words on a terminal; piped, each stays whole."""
    console.print(Text(text), soft_wrap=not console.is_terminal)


@dataclass(frozen=True)
class _Pace:
    """Time left at the pace since the first report: what was done before may be of another day."""

    began: float
    done: int

    def left(self, now: float, done: int, total: int) -> str:
        """`, about 20 s left`; empty before a second report."""
        since = done - self.done
        return f", about {(now - self.began) / since * (total - done):.0f} s left" if since else ""


def _fetch_bar(bars: Progress, task: str) -> Callable[[FetchProgress], None]:
    bar, doing = None, ""
    began = 0.0

    def show(now: FetchProgress) -> None:
        nonlocal bar, doing, began
        if bar is None or now.doing != doing:
            doing, began = now.doing, time.monotonic()
            if bar is not None:
                bars.remove_task(bar)
            bar = bars.add_task(f"{task}, {doing}", total=None, state="")
        done, total = _fetch_share(now)
        bars.update(bar, completed=done, total=total or None, state=_fetch_state(now, began))

    return show


def _fetch_lines(task: str) -> Callable[[FetchProgress], None]:
    began: dict[str, float] = {}
    last: dict[str, float] = {}
    pace: dict[str, _Pace] = {}

    def line(now: FetchProgress) -> None:
        clock = time.monotonic()
        if not now.files:
            if now.doing not in began:
                typer.echo(f"{task}, {now.doing}: {_fetch_state(now, clock)}", err=True)
            began[now.doing] = clock
            return
        start = began.setdefault(now.doing, clock)
        over = now.files_done == now.files
        done, total = _fetch_share(now)
        so_far = pace.setdefault(now.doing, _Pace(clock, done))
        if not over and clock - last.setdefault(now.doing, clock) < PLAIN_LINE_EVERY_S:
            return
        last[now.doing] = clock
        ending = f" in {clock - start:.0f} s" if over else so_far.left(clock, done, total)
        typer.echo(f"{task}, {now.doing}: {_fetch_state(now, start)}{ending}", err=True)

    return line


def _fetch_share(now: FetchProgress) -> tuple[int, int]:
    """Done and in all: bytes where they are known, files where they are not."""
    if now.bytes_in_all:
        return now.bytes_done, now.bytes_in_all
    return now.files_done, now.files


def _fetch_state(now: FetchProgress, began: float) -> str:
    """`1,200 of 43,602 files, 29.1 of 549.7 MB, 3.2 MB/s`."""
    if now.doing == "asking":
        return "the mirrors for the list of checksums"
    state = f"{now.files_done:,} of {now.files:,} files"
    if now.doing == "checking":
        return state
    speed = now.bytes_done / max(time.monotonic() - began, 1e-3)
    return (
        f"{state}, {now.bytes_done / 1e6:,.1f} of {now.bytes_in_all / 1e6:,.1f} MB, "
        f"{speed / 1e6:.1f} MB/s"
    )


class _PlainLines:
    """Progress where there is no terminal: lines, with no long silence between them."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.began = self.last = time.monotonic()
        self.pace: _Pace | None = None
        self.count: tuple[int, int] | None = None
        self.ended = self.waited = False
        self.over = False
        self.spoke = threading.Event()
        self.watch = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _PlainLines:
        self.watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.over = True
        self.spoke.set()
        self.watch.join()
        if kind is None and self.waited and self.count is None:
            typer.echo(f"{self.task}: done in {time.monotonic() - self.began:.0f} s", err=True)

    def report(self, done: int, total: int) -> None:
        """A line at the end, and seldom before it."""
        now = time.monotonic()
        self.count = (done, total)
        if self.pace is None:
            self.pace = _Pace(now, done)
        if self.ended or (done < total and now - self.last < PLAIN_LINE_EVERY_S):
            return
        self.ended = done >= total
        self.last = now
        ending = f" in {now - self.began:.0f} s" if self.ended else self.pace.left(now, done, total)
        self._say(f"{done} of {total}{ending}")

    def _say(self, text: str) -> None:
        self.spoke.set()
        typer.echo(f"{self.task}: {text}", err=True)

    def _watch(self) -> None:
        """Say after a long silence that the work goes on."""
        while True:
            if self.spoke.wait(LONGEST_SILENCE_S):
                if self.over:
                    return
                self.spoke.clear()
                continue
            self.waited = True
            seconds = time.monotonic() - self.began
            stage = "no count of this stage"
            if self.count is not None:
                done, total = self.count
                stage = f"{done} of {total}"
            typer.echo(f"{self.task}: {stage}, at work for {seconds:.0f} s", err=True)
