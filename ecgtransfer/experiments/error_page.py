"""A page of error curves: all scores of all problems against the number of target records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.drawing.page import (
    FOOT,
    HEAD,
    INK,
    LEFT,
    PALE,
    RIGHT,
    WIDTH,
    Page,
    page_style,
)
from ecgtransfer.errors import ConfigError
from ecgtransfer.experiments.problems import problem
from ecgtransfer.experiments.study import Study, TableRow
from ecgtransfer.experiments.transfer_methods import METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

#: Layout in inches: height of a panel, of the title above a row of panels, and of the legend; and
#: width of tick labels.
ROW, ROW_TITLE, LEGEND, TICK_LABELS = 1.65, 0.42, 0.7, 0.5

#: The axis of the log-density gap is linear below this size, and logarithmic above.
LINEAR_BELOW = 0.1

#: Tick labels per decade of a log axis, from sparse to dense.
TICK_STEPS: tuple[tuple[float, ...], ...] = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9),
    tuple(np.arange(1, 10, 0.1).round(1).tolist()),
)

#: Horizontal distance of the markers of two methods at the same n, in decades.
DODGE = 0.035

#: Titles of the scores.
SCORE_TITLES = {
    "sliced_wasserstein": "sliced Wasserstein distance",
    "mmd": "MMD",
    "log_density_gap": "log-density gap",
    "score_error": "error of the score",
    "mode_weight_error": "error of the mode weights",
}


@dataclass(frozen=True)
class Line:
    """Line style of a method.

    Attributes:
        colour: colour of line and markers.
        marker: marker of matplotlib, "" for none.
        dashes: line style of matplotlib.
        width: line width in points.
    """

    colour: str
    marker: str = ""
    dashes: str | tuple[float, tuple[float, ...]] = "-"
    width: float = 1.3

    def style(self) -> dict[str, Any]:
        """Return the keyword arguments of matplotlib."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": 4.5,
            "linestyle": self.dashes,
            "linewidth": self.width,
        }


#: Colours that colour-blind readers can distinguish (Okabe and Ito 2008), with one marker each. The
#: last one is for the main method of a page.
LINES = (
    Line("#e69f00", "s"),
    Line("#0072b2", "o"),
    Line("#56b4e9", "^"),
    Line("#cc79a7", "v"),
    Line("#1a1a1a", "X"),
    Line("#009e73", "D"),
    Line("#d55e00", "P", width=2.2),
)

#: Methods on every page, with their line styles.
REFERENCES = {"source": Line(PALE, dashes=(0, (4, 2))), "exact": Line(PALE)}

#: Default methods and heading of a page.
COMPARED = ("scratch", "finetune", "lora", "domain-guidance", "mle", "stack", "tgdp")
HEADING = "Error against the number n of target records"


def draw_errors(
    study: Study,
    path: Path,
    *,
    methods: Sequence[str] = COMPARED,
    heading: str = HEADING,
) -> None:
    """Draw errors against n as PNG, with one row per problem and one column per score.

    Args:
        study: study with finished cells.
        path: path of the PNG file.
        methods: methods to draw, at most `len(LINES)`; the last one has the widest line.
        heading: heading of the page.

    Raises:
        ConfigError: there are too many methods, or no problem in which all of them ran.
        RunError: the page cannot be written.
    """
    error_page(study, methods=methods, heading=heading).save(path)


def error_page(
    study: Study,
    *,
    methods: Sequence[str] = COMPARED,
    heading: str = HEADING,
) -> Page:
    """Return the page of `draw_errors`."""
    tables = tables_of(study, methods)
    if not 0 < len(methods) <= len(LINES) or not tables:
        raise ConfigError(
            f"expected 1 to {len(LINES)} methods that all ran in one of the study's problems, "
            f"got {', '.join(methods) or 'none'}; choose other methods"
        )
    lines = REFERENCES | dict(zip(methods, LINES[-len(methods) :], strict=True))
    sizes = sorted({n for of_problem in tables.values() for n in of_problem})
    width = (WIDTH - LEFT - RIGHT + 0.2) / len(SCORE_TITLES)
    start = HEAD + LEGEND
    with page_style():
        page = Page.of(start + 0.1 + len(tables) * (ROW_TITLE + ROW) + FOOT)
        page.write(LEFT, 0.12, heading, 12, weight="bold")
        _write_legend(page, lines)
        for row, (name, of_problem) in enumerate(tables.items()):
            top = start + 0.1 + row * (ROW_TITLE + ROW)
            page.write(LEFT, top + 0.16, f"{name}: {problem(name).title}", 9)
            for column, score in enumerate(SCORE_TITLES):
                left = LEFT + column * width
                axes = page.panel(left, top + ROW_TITLE, width - TICK_LABELS, ROW)
                _draw_score(axes, of_problem, score, lines, sizes)
                if row < len(tables) - 1:
                    axes.tick_params(labelbottom=False)
                else:
                    axes.set_xlabel("target records n", fontsize=8.5)
        for column, title in enumerate(SCORE_TITLES.values()):
            page.write(LEFT + column * width, start - 0.1, title, 9.5, weight="bold")
        page.write(
            LEFT,
            page.height - 0.45,
            f"Means over {_seeds(tables)} seeds with 95 % intervals (Student's t), side by side at "
            "each n. Lower is better; a log-density gap below 0 means records concentrated "
            "at the modes.\nHollow markers: diverged seeds are excluded. A grey line missing in a "
            "panel lies below it.",
            8.5,
        )
    return page


def tables_of(study: Study, methods: Sequence[str]) -> dict[str, dict[int, dict[str, TableRow]]]:
    """Return rows by problem, n and method, for problems in which all these methods ran."""
    tables: dict[str, dict[int, dict[str, TableRow]]] = {}
    for name, n in dict.fromkeys((cell.problem, cell.n) for cell in study.cells):
        rows = {row.method: row for row in study.table(name, n)}
        if rows.keys() >= set(methods):
            tables.setdefault(name, {})[n] = rows
    return tables


def _seeds(tables: Mapping[str, Mapping[int, Mapping[str, TableRow]]]) -> str:
    """Format the number of seeds, or its range."""
    counts = {
        row.seeds
        for of_problem in tables.values()
        for rows in of_problem.values()
        for row in rows.values()
    }
    return " to ".join(str(count) for count in sorted({min(counts), max(counts)}))


def _write_legend(page: Page, lines: Mapping[str, Line]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], **line.style(), label=METHODS[name].title) for name, line in lines.items()
    ]
    page.figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=((LEFT - 0.05) / WIDTH, 1 - HEAD / page.height),
        borderpad=0,
        borderaxespad=0,
        ncols=5,
        fontsize=9,
        frameon=False,
        handlelength=2.5,
    )


@dataclass(frozen=True)
class Curve:
    """Mean score of one method against n; sizes without a mean are omitted.

    Attributes:
        n: numbers of target records, (P,).
        value, low, high: mean and its interval, (P,).
        complete: whether no seed diverged, (P,).
    """

    n: Array
    value: Array
    low: Array
    high: Array
    complete: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Mapping[int, Mapping[str, TableRow]], name: str, score: str) -> Curve:
        """Create the curve of a method and a score from rows by n and method."""
        own = [(n, rows[n][name]) for n in sorted(rows) if name in rows[n]]
        points = [(n, row.scores[score], row.diverged) for n, row in own]
        found = [(n, each, diverged) for n, each, diverged in points if each is not None]
        return cls(
            np.array([n for n, _, _ in found], dtype=np.float64),
            np.array([each.value for _, each, _ in found]),
            np.array([each.low for _, each, _ in found]),
            np.array([each.high for _, each, _ in found]),
            np.array([diverged == 0 for _, _, diverged in found], dtype=bool),
        )


def _draw_score(
    axes: Axes,
    rows: Mapping[int, Mapping[str, TableRow]],
    score: str,
    lines: Mapping[str, Line],
    sizes: Sequence[int],
) -> None:
    """Draw one score of one problem: one line per method, with the interval at each n."""
    curves = {name: Curve.of(rows, name, score) for name in lines}
    curves = {name: curve for name, curve in curves.items() if len(curve.n)}
    left, right = sizes[0] / 1.5, sizes[-1] * 1.5
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_xticks(sizes, [f"{n:g}" for n in sizes])
    axes.grid()
    if not curves:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no finite score", transform=axes.transAxes, fontsize=9, ha="center")
        return
    if signed := score == "log_density_gap":
        axes.set_yscale("symlog", linthresh=LINEAR_BELOW)
        axes.axhline(0, color=INK, linewidth=0.7)
    else:
        axes.set_yscale("log")
    bottom, top = axis_ends(curves, signed=signed)
    axes.set_ylim(bottom, top)
    ticks = axis_ticks(bottom, top, signed=signed)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    for name in REFERENCES.keys() & curves.keys():
        curve = curves[name]
        value = [curve.value[0], *curve.value, curve.value[-1]]
        axes.plot([left, *curve.n, right], value, **lines[name].style(), label=name, zorder=1.5)
    methods = [name for name in lines if name not in REFERENCES]
    for index, name in enumerate(methods):
        if name not in curves:
            continue
        curve, line = curves[name], lines[name]
        n = curve.n * 10 ** (DODGE * (index - (len(methods) - 1) / 2))
        axes.plot(n, curve.value, **line.style() | {"marker": ""}, label=name)
        axes.vlines(n, curve.low.clip(bottom, top), curve.high.clip(bottom, top), line.colour, lw=1)
        for complete in (True, False):
            chosen = curve.complete == complete
            face = line.colour if complete else "white"
            style = line.style() | {"linestyle": "none", "markerfacecolor": face}
            axes.plot(n[chosen], curve.value[chosen], **style)


def axis_ends(curves: Mapping[str, Curve], *, signed: bool) -> tuple[float, float]:
    """Limits of an axis that shows all means; wide intervals may exceed it.

    The curve of exact guidance may lie outside too, if its errors are far below all others.
    """
    others = [curve for name, curve in curves.items() if name != "exact"]
    if others and "exact" in curves and not signed:
        lowest = min(curve.value.min() for curve in others)
        shown = others if curves["exact"].value.min() < lowest / 4 else list(curves.values())
    else:
        shown = list(curves.values())
    value, low, high = (
        np.concatenate([getattr(curve, part) for curve in shown])
        for part in ("value", "low", "high")
    )
    if signed:
        reach = np.maximum(np.abs(value), LINEAR_BELOW)
        bottom = float(np.maximum(low, value - reach).min())
        top = float(np.minimum(high, value + reach).max())
        return (
            bottom - 0.25 * max(abs(bottom), LINEAR_BELOW),
            top + 0.25 * max(abs(top), LINEAR_BELOW),
        )
    bottom = float(min(value[value > 0], default=0.01)) / 1.3
    return bottom, max(1.2 * float(np.minimum(high, 3 * value).max()), 2 * bottom)


def axis_ticks(bottom: float, top: float, *, signed: bool) -> list[float]:
    """At least three round tick values between two limits, on a log or symmetric log axis."""
    from matplotlib.ticker import MaxNLocator

    if signed and max(-bottom, top) < 3 * LINEAR_BELOW:
        even = MaxNLocator(5).tick_values(bottom, top)
        return [round(float(tick), 9) for tick in even if bottom <= tick <= top]
    decades = [10.0**power for power in range(-6, 8)]
    ticks: list[float] = []
    for steps in TICK_STEPS:
        ticks = [decade * step for decade in decades for step in steps]
        if signed:
            ticks = [0.0, *(sign * t for t in ticks for sign in (1, -1) if t >= LINEAR_BELOW)]
        ticks = sorted(round(tick, 9) for tick in ticks if bottom <= tick <= top)
        if len(ticks) >= 3:
            break
    return ticks
