"""Recordings on ECG paper, as they come out of a hospital's recorder: 25 mm/s and 10 mm/mV."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.leads import LEADS
from ecgtransfer.signals.recording import Recording
from ecgtransfer.storage import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Speed and gain of standard ECG paper.
PAPER_MM_PER_S = 25.0
PAPER_MM_PER_MV = 10.0

#: Three rows of four leads, 2.5 s each, columns in step with each other; below them lead II.
LAYOUT = (
    ("I", "aVR", "V1", "V4"),
    ("II", "aVL", "V2", "V5"),
    ("III", "aVF", "V3", "V6"),
)
RHYTHM_LEAD = "II"
COLUMN_S = 2.5

#: The printed sheet in millimetres, origin at the lower left corner of the grid. Baselines lie on
#: 5 mm lines, as far apart as 3 mV.
GRID_WIDTH_MM, GRID_HEIGHT_MM = 270, 130
TITLE_MM, FOOTER_MM, MARGIN_MM = 8, 7, 3
BASELINES_MM = (105, 75, 45, 15)
TRACE_START_MM = 15


@dataclass(frozen=True)
class Sheet:
    """Which leads stand in each row, side by side, and where the rows' baselines lie."""

    rows: tuple[tuple[str, ...], ...]
    baselines_mm: tuple[int, ...]
    grid_height_mm: int


#: The layouts of a sheet by name. Twelve rows lie 1.5 mV apart: the sheet is as high as A4 is wide.
SHEETS = {
    "3x4": Sheet((*LAYOUT, (RHYTHM_LEAD,)), BASELINES_MM, GRID_HEIGHT_MM),
    "12x1": Sheet(tuple((name,) for name in LEADS), tuple(range(180, 0, -15)), 195),
}

#: A lead's name is put where no trace goes: at the first of these places, right of the start of its
#: trace and above its baseline, that is free, or else at the one with the most room; the name of a
#: lead that has a row of its own below the calibration pulse.
NAME_HEIGHTS_MM = (9.0, 7.0, 11.5, 5.0, -7.0, -9.5)
NAME_PLACES_MM = [(right, up) for right in (1.0, 5.0, 9.0, 13.0) for up in NAME_HEIGHTS_MM]
NAME_OF_ROW_MM = (4.5, -2.6)
#: Half the height of a name, with some room; the width of a letter; the room on both sides.
NAME_HALF_MM, LETTER_MM, NAME_GAP_MM = 1.9, 2.3, 0.5
#: Corners (x from the edge, y from the baseline) of the calibration pulse: 1 mV for 0.2 s.
CALIBRATION_MM = np.array([(4, 0), (6, 0), (6, 10), (11, 10), (11, 0), (13, 0)], dtype=float)

#: Letters of a title that fit above the grid; the rest is cut off.
LONGEST_TITLE = 120

MM_PER_INCH = 25.4
#: Five pixels a millimetre, so that all squares of the grid look alike.
DPI = 5 * MM_PER_INCH

_PAPER, _LINE_1_MM, _LINE_5_MM, _INK = "#fffafa", "#f9d5d5", "#ef9f9f", "#16161d"
_WARNING = "#b00020"

#: In SVG, a path of straight lines with absolute coordinates, and one point of it.
_SVG_PATH = re.compile(r'd="(?P<points>(?:[ML] -?[\d.]+ -?[\d.]+\s*)+)"')
_SVG_POINT = re.compile(r"([ML]) (-?[\d.]+) (-?[\d.]+)")

#: What a trace may be simplified by, in points: 0.07 mm, a quarter of its width.
SIMPLIFIED_PT = 0.2

#: Endings of a drawing's file.
ENDINGS = (".png", ".svg", ".pdf")


def draw_recording(
    recording: Recording,
    title: str = "",
    figure: "Figure | None" = None,
    *,
    mark: str = "",
    layout: str = "3x4",
) -> "Figure":
    """One recording on ECG paper: 3 rows x 4 columns of 2.5 s, and a rhythm strip of lead II.

    The first 10 s are drawn; of a shorter recording four equal columns. With the layout `12x1` each
    lead has a row and 10 s of its own. Each stretch is shifted by its median, as a recorder's AC
    coupling would. A new figure is 276 x 145 mm (12x1: 276 x 210 mm), so that its print has the
    true scale; `figure` draws into an existing one instead, which is cleared. `mark` stands in red
    below the grid, such as SYNTHETIC.

    Raises SignalError for an unknown layout.
    """
    if layout not in SHEETS:
        raise SignalError(f"expected a layout of {', '.join(SHEETS)}, got {layout!r}; take one")
    return _draw([recording], [title], 1, figure, SHEETS[layout], mark)


def draw_recordings(
    recordings: Sequence[Recording], titles: Sequence[str], columns: int = 1
) -> "Figure":
    """Several recordings, each on its own sheet with its title, in `columns` side by side.

    Sheets run from left to right, then down.

    Raises SignalError where recordings and titles differ in number, or there are none.
    """
    if not recordings or len(recordings) != len(titles) or columns < 1:
        raise SignalError(
            f"expected one title for each of one or more recordings and at least one column, got "
            f"{len(recordings)} recordings, {len(titles)} titles and {columns} columns; pass them "
            "in pairs"
        )
    return _draw(recordings, titles, columns, None, SHEETS["3x4"], "")


def save_drawing(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a figure as .png, .svg or .pdf, whole or not at all; the same figure, the same bytes.

    Raises SignalError for another ending, StorageError where the file cannot be written.
    """
    from matplotlib import rc_context

    path = Path(path)
    kind = path.suffix.casefold()
    if kind not in ENDINGS:
        raise SignalError(
            f"{path} could not be written (unknown ending {path.suffix!r}); give a path that ends "
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
    """The same path of straight lines with relative coordinates, in hundredths of a point."""
    here = (0, 0)
    words: list[str] = []
    for letter, x, y in _SVG_POINT.findall(found["points"]):
        there = (round(100 * float(x)), round(100 * float(y)))
        if letter == "M":
            words += ["M", _hundredths(there[0]), " ", _hundredths(there[1]), "l"]
        else:
            for now, before in zip(there, here, strict=True):
                number = _hundredths(now - before)
                words += [number if words[-1] == "l" or number[0] == "-" else f" {number}"]
        here = there
    return f'd="{"".join(words).replace("lM", "M").removesuffix("l")}"'


def _hundredths(count: int) -> str:
    """A number of hundredths as SVG writes it shortest: .05, -1.2, 3."""
    return f"{count / 100:.2f}".rstrip("0").rstrip(".").replace("0.", ".", abs(count) < 100) or "0"


def _draw(
    recordings: Sequence[Recording],
    titles: Sequence[str],
    columns: int,
    figure: "Figure | None",
    sheet: Sheet,
    mark: str,
) -> "Figure":
    """Sheets in a grid of `columns`, on a figure of their true size unless one is given."""
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
    for number, (recording, title) in enumerate(zip(recordings, titles, strict=True)):
        row, column = divmod(number, columns)
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
    """Lines every 1 mm and, stronger, every 5 mm; each kind is one path, as light as can be."""
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
    """On each row the calibration pulse and its leads; then their names, where no trace goes."""
    columns = max(len(names) for names in sheet.rows)
    row_s = min(COLUMN_S * len(LAYOUT[0]), recording.duration_s)
    traces = []
    places = []
    for baseline, names in zip(sheet.baselines_mm, sheet.rows, strict=True):
        _draw_line(axes, sheet, CALIBRATION_MM[:, 0], baseline + CALIBRATION_MM[:, 1])
        shown_s = row_s / len(names)
        for column, name in enumerate(names):
            left = TRACE_START_MM + column * shown_s * PAPER_MM_PER_S
            stretch = _stretch(recording, name, column * shown_s, shown_s)
            x_mm = left + np.arange(len(stretch)) / recording.sampling_rate_hz * PAPER_MM_PER_S
            y_mm = baseline + (stretch - np.median(stretch)) * PAPER_MM_PER_MV
            _draw_line(axes, sheet, x_mm, y_mm)
            traces.append(np.column_stack([x_mm, y_mm]))
            places.append((left, baseline, name))
            if column:
                _draw_line(axes, sheet, np.array([left, left]), baseline + np.array([-3.0, 3.0]))
    for left, baseline, name in places:
        if columns == 1:
            _draw_name(axes, NAME_OF_ROW_MM[0], baseline + NAME_OF_ROW_MM[1], name)
        else:
            room = [_room_mm(traces, left + x, baseline + y, name) for x, y in NAME_PLACES_MM]
            free = (number for number, found in enumerate(room) if found > NAME_HALF_MM)
            right, up = NAME_PLACES_MM[next(free, int(np.argmax(room)))]
            _draw_name(axes, left + right, baseline + up, name)


def _room_mm(traces: Sequence[NDArray[np.float64]], x_mm: float, y_mm: float, name: str) -> float:
    """How far above or below a name at that place the nearest trace goes; below 0 through it.

    traces: points in mm, (n, 2) each.
    """
    room = np.inf
    for trace in traces:
        first = np.searchsorted(trace[:, 0], x_mm - NAME_GAP_MM) - 1
        last = np.searchsorted(trace[:, 0], x_mm + LETTER_MM * len(name) + NAME_GAP_MM)
        near = trace[max(int(first), 0) : last + 1, 1]
        low, high = np.minimum(near[:-1], near[1:]), np.maximum(near[:-1], near[1:])
        room = min(room, float(np.maximum(low - y_mm, y_mm - high).min(initial=np.inf)))
    return room


def _draw_name(axes: "Axes", x_mm: float, y_mm: float, name: str) -> None:
    """A lead's name, on a rim of paper so that the grid does not run through it."""
    from matplotlib.patheffects import withStroke

    axes.text(
        x_mm,
        y_mm,
        name,
        fontsize=8,
        weight="bold",
        color=_INK,
        va="center",
        path_effects=[withStroke(linewidth=2, foreground=_PAPER)],
    )


def _draw_line(
    axes: "Axes", sheet: Sheet, x_mm: NDArray[np.float64], y_mm: NDArray[np.float64]
) -> None:
    """A line in ink that ends where the grid ends."""
    from matplotlib.transforms import Bbox, TransformedBbox

    (line,) = axes.plot(x_mm, y_mm, color=_INK, linewidth=0.85, solid_joinstyle="round")
    grid = Bbox.from_extents(0, 0, GRID_WIDTH_MM, sheet.grid_height_mm)
    line.set_clip_box(TransformedBbox(grid, axes.transData))


def _stretch(
    recording: Recording, name: str, start_s: float, seconds: float
) -> NDArray[np.float64]:
    """One lead from `start_s` on, with the sample that the next column begins with: no gap."""
    rate = recording.sampling_rate_hz
    start = min(round(start_s * rate), recording.n_samples - 1)
    stop = round((start_s + seconds) * rate) + 1
    return recording.signal_mv[LEADS.index(name), start:stop].astype(np.float64)


def _draw_words(
    axes: "Axes", recording: Recording, title: str, mark: str, grid_height_mm: int
) -> None:
    """Title above the grid, scales and the mark below it."""
    scales = (
        f"{PAPER_MM_PER_S:g} mm/s    {PAPER_MM_PER_MV:g} mm/mV    {recording.sampling_rate_hz:g} Hz"
    )
    axes.text(
        0,
        grid_height_mm + TITLE_MM / 2,
        title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 3] + "...",
        fontsize=10,
        weight="bold",
        color=_INK,
        va="center",
    )
    axes.text(0, -FOOTER_MM / 2, scales, fontsize=8, color=_INK, va="center")
    if mark:
        axes.text(
            GRID_WIDTH_MM,
            -FOOTER_MM / 2,
            mark,
            fontsize=10,
            weight="bold",
            color=_WARNING,
            ha="right",
            va="center",
        )
