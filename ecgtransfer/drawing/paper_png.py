"""ECGs on paper by matplotlib, as PNG, SVG or PDF at true scale: 25 mm/s and 10 mm/mV."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.drawing.paper_layout import (
    FOOTER_MM,
    GRID_WIDTH_MM,
    MARGIN_MM,
    TITLE_MM,
    NamePlace,
    Sheet,
    place_marks,
    place_names,
    place_traces,
    scales,
    sheet_of,
)
from ecgtransfer.errors import SignalError
from ecgtransfer.signals.recording import Recording
from ecgtransfer.storage import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Number of letters of a title that fit above the grid; longer titles are truncated.
LONGEST_TITLE = 120

MM_PER_INCH = 25.4
#: Five pixels per millimetre, so that all squares of the grid look alike.
DPI = 5 * MM_PER_INCH

INK, WARNING = "#16161d", "#b00020"
_PAPER, _LINE_1_MM, _LINE_5_MM = "#fffafa", "#f9d5d5", "#ef9f9f"

#: In SVG: a path of straight lines with absolute coordinates, and one point of it.
_SVG_PATH = re.compile(r'd="(?P<points>(?:[ML] -?[\d.]+ -?[\d.]+\s*)+)"')
_SVG_POINT = re.compile(r"([ML]) (-?[\d.]+) (-?[\d.]+)")

#: Tolerance of simplified traces, in points: 0.07 mm, a quarter of their width.
SIMPLIFIED_PT = 0.2

#: File extensions of a drawing.
ENDINGS = (".png", ".svg", ".pdf")


def draw_recording(
    recording: Recording,
    title: str = "",
    figure: "Figure | None" = None,
    *,
    mark: str = "",
    layout: str = "3x4",
) -> "Figure":
    """Draw a recording on ECG paper: 3 rows x 4 columns of 2.5 s, and a rhythm strip of lead II.

    The first 10 s are drawn; a shorter recording has four equal columns. Each trace is shifted by
    its median, as AC coupling would do. A new figure measures 276 x 145 mm (12x1: 276 x 210 mm), so
    that it prints at true scale.

    Args:
        recording: the recording.
        title: printed above the grid.
        figure: figure to clear and use; None for a new one.
        mark: printed in red below the grid, such as SYNTHETIC.
        layout: `3x4`, or `12x1` with a row of 10 s for each lead.

    Raises:
        ConfigError: unknown layout.
    """
    return _draw([recording], [title], 1, figure, sheet_of(layout), mark)


def draw_recordings(
    recordings: Sequence[Recording], titles: Sequence[str], columns: int = 1
) -> "Figure":
    """Draw several recordings, each on a sheet with its title, from left to right, then down.

    Args:
        recordings: the recordings.
        titles: one title for each recording.
        columns: number of sheets in a row.

    Raises:
        SignalError: there are no recordings, or another number of titles.
    """
    if not recordings or len(recordings) != len(titles) or columns < 1:
        raise SignalError(
            f"expected one title for each of one or more recordings and at least one column, got "
            f"{len(recordings)} recordings, {len(titles)} titles and {columns} columns; pass them "
            "in pairs"
        )
    return _draw(recordings, titles, columns, None, sheet_of("3x4"), "")


def save_drawing(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a figure atomically as .png, .svg or .pdf; equal figures give equal bytes.

    Raises:
        SignalError: another extension.
        StorageError: the file cannot be written.
    """
    from matplotlib import rc_context

    path = Path(path)
    kind = path.suffix.casefold()
    if kind not in ENDINGS:
        raise SignalError(
            f"{path} could not be written (unknown extension {path.suffix!r}); give a path ending "
            f"in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        )
    undated = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[kind]
    with atomic_file(path) as partial:
        with rc_context({"svg.hashsalt": "ecgtransfer", "path.simplify_threshold": SIMPLIFIED_PT}):
            figure.savefig(partial, metadata=undated, format=kind[1:])
        if kind == ".svg":
            drawing = partial.read_text(encoding="utf-8")
            partial.write_text(_SVG_PATH.sub(_shorter_path, drawing), encoding="utf-8")


def _shorter_path(found: "re.Match[str]") -> str:
    """Rewrite a path of straight lines with relative coordinates, in hundredths of a point."""
    last = (0, 0)
    words: list[str] = []
    for letter, x, y in _SVG_POINT.findall(found["points"]):
        point = (round(100 * float(x)), round(100 * float(y)))
        if letter == "M":
            words += ["M", _hundredths(point[0]), " ", _hundredths(point[1]), "l"]
        else:
            for end, start in zip(point, last, strict=True):
                step = _hundredths(end - start)
                words += [step if words[-1] == "l" or step[0] == "-" else f" {step}"]
        last = point
    return f'd="{"".join(words).replace("lM", "M").removesuffix("l")}"'


def _hundredths(count: int) -> str:
    """Format hundredths as the shortest number in SVG: .05, -1.2, 3."""
    return f"{count / 100:.2f}".rstrip("0").rstrip(".").replace("0.", ".", abs(count) < 100) or "0"


def _draw(
    recordings: Sequence[Recording],
    titles: Sequence[str],
    columns: int,
    figure: "Figure | None",
    sheet: Sheet,
    mark: str,
) -> "Figure":
    """Draw sheets in a grid of `columns`, on a new figure at true scale unless one is given."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(recordings) // columns)
    width_mm = GRID_WIDTH_MM + 2 * MARGIN_MM
    height_mm = sheet.grid_height_mm + TITLE_MM + FOOTER_MM
    if figure is None:
        size_mm = np.array([columns * width_mm, rows * height_mm])
        figure = Figure(figsize=tuple(size_mm / MM_PER_INCH), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
    else:
        figure.clear()
    for index, (recording, title) in enumerate(zip(recordings, titles, strict=True)):
        row, column = divmod(index, columns)
        axes = figure.add_axes((column / columns, 1 - (row + 1) / rows, 1 / columns, 1 / rows))
        axes.set(
            xlim=(-MARGIN_MM, GRID_WIDTH_MM + MARGIN_MM),
            ylim=(-FOOTER_MM, sheet.grid_height_mm + TITLE_MM),
            aspect="equal",
        )
        axes.set_axis_off()
        _draw_grid(axes, sheet.grid_height_mm)
        _draw_traces(axes, recording, sheet)
        _draw_words(axes, recording, title, mark, sheet.grid_height_mm)
    return figure


def _draw_grid(axes: "Axes", height_mm: int) -> None:
    """Draw lines every 1 mm and stronger ones every 5 mm, each kind as one path."""
    from matplotlib.patches import PathPatch, Rectangle
    from matplotlib.path import Path as Outline

    axes.add_patch(Rectangle((0, 0), GRID_WIDTH_MM, height_mm, facecolor=_PAPER, linewidth=0))
    upright = [((x, 0), (x, height_mm)) for x in range(GRID_WIDTH_MM + 1)]
    level = [((0, y), (GRID_WIDTH_MM, y)) for y in range(height_mm + 1)]
    every_5_mm = upright[::5] + level[::5]
    for lines, colour, width in (
        (upright + level, _LINE_1_MM, 0.4),
        (every_5_mm, _LINE_5_MM, 0.7),
    ):
        strokes = [Outline.MOVETO, Outline.LINETO] * len(lines)
        outline = Outline(np.concatenate([np.array(line, dtype=float) for line in lines]), strokes)
        axes.add_patch(PathPatch(outline, facecolor="none", edgecolor=colour, linewidth=width))


def _draw_traces(axes: "Axes", recording: Recording, sheet: Sheet) -> None:
    """Draw calibration pulses, borders of leads, traces, and lead names clear of them."""
    traces = place_traces(recording, sheet)
    for points_mm in place_marks(traces, sheet):
        _draw_line(axes, sheet, points_mm[:, 0], points_mm[:, 1])
    for trace in traces:
        _draw_line(axes, sheet, trace.x_mm, trace.baseline_mm + trace.y_mm)
    for place in place_names(traces, sheet):
        _draw_name(axes, place)


def _draw_name(axes: "Axes", place: NamePlace) -> None:
    """Draw a lead name with an outline of paper colour that hides the grid."""
    from matplotlib.patheffects import withStroke

    axes.text(
        place.x_mm,
        place.y_mm,
        place.name,
        fontsize=8,
        weight="bold",
        color=INK,
        va="center",
        path_effects=[withStroke(linewidth=2, foreground=_PAPER)],
    )


def _draw_line(
    axes: "Axes", sheet: Sheet, x_mm: NDArray[np.float64], y_mm: NDArray[np.float64]
) -> None:
    """Draw a line in ink, clipped to the grid."""
    from matplotlib.transforms import Bbox, TransformedBbox

    (line,) = axes.plot(x_mm, y_mm, color=INK, linewidth=0.85, solid_joinstyle="round")
    grid = Bbox.from_extents(0, 0, GRID_WIDTH_MM, sheet.grid_height_mm)
    line.set_clip_box(TransformedBbox(grid, axes.transData))


def _draw_words(
    axes: "Axes", recording: Recording, title: str, mark: str, grid_height_mm: int
) -> None:
    """Write the title above the grid, scales and the mark below it."""
    axes.text(
        0,
        grid_height_mm + TITLE_MM / 2,
        title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 3] + "...",
        fontsize=10,
        weight="bold",
        color=INK,
        va="center",
    )
    axes.text(0, -FOOTER_MM / 2, "    ".join(scales(recording)), fontsize=8, color=INK, va="center")
    if mark:
        axes.text(
            GRID_WIDTH_MM,
            -FOOTER_MM / 2,
            mark,
            fontsize=10,
            weight="bold",
            color=WARNING,
            ha="right",
            va="center",
        )
