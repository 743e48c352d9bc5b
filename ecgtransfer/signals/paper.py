"""Recordings on ECG paper, as they come out of a hospital's recorder: 25 mm/s and 10 mm/mV."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.leads import LEADS
from ecgtransfer.signals.recording import Recording

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
#: Corners (x from the edge, y from the baseline) of the calibration pulse: 1 mV for 0.2 s.
CALIBRATION_MM = np.array([(4, 0), (6, 0), (6, 10), (11, 10), (11, 0), (13, 0)], dtype=float)

#: Letters of a title that fit above the grid; the rest is cut off.
LONGEST_TITLE = 120

MM_PER_INCH = 25.4
#: Five pixels a millimetre, so that all squares of the grid look alike.
DPI = 5 * MM_PER_INCH

_PAPER, _LINE_1_MM, _LINE_5_MM, _INK = "#fffafa", "#f9d5d5", "#ef9f9f", "#16161d"


def draw_recording(
    recording: Recording, title: str = "", figure: "Figure | None" = None
) -> "Figure":
    """One recording on ECG paper: 3 rows x 4 columns of 2.5 s, and a rhythm strip of lead II.

    The first 10 s are drawn; of a shorter recording four equal columns. Each stretch is shifted by
    its median, as a recorder's AC coupling would. A new figure is 276 x 145 mm, so that its print
    has the true scale; `figure` draws into an existing one instead, which is cleared.
    """
    return _draw([recording], [title], 1, figure)


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
    return _draw(recordings, titles, columns, None)


def _draw(
    recordings: Sequence[Recording], titles: Sequence[str], columns: int, figure: "Figure | None"
) -> "Figure":
    """Sheets in a grid of `columns`, on a figure of their true size unless one is given."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(recordings) // columns)
    width_mm, height_mm = GRID_WIDTH_MM + 2 * MARGIN_MM, GRID_HEIGHT_MM + TITLE_MM + FOOTER_MM
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
            ylim=(-FOOTER_MM, GRID_HEIGHT_MM + TITLE_MM),
            aspect="equal",
        )
        axes.set_axis_off()
        _draw_grid(axes)
        _draw_traces(axes, recording)
        _draw_words(axes, recording, title)
    return figure


def _draw_grid(axes: "Axes") -> None:
    """Lines every 1 mm and, stronger, every 5 mm."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((0, 0), GRID_WIDTH_MM, GRID_HEIGHT_MM, facecolor=_PAPER, linewidth=0))
    upright = [((x, 0), (x, GRID_HEIGHT_MM)) for x in range(GRID_WIDTH_MM + 1)]
    level = [((0, y), (GRID_WIDTH_MM, y)) for y in range(GRID_HEIGHT_MM + 1)]
    every_5_mm = upright[::5] + level[::5]
    for lines, colour, width in (
        (upright + level, _LINE_1_MM, 0.4),
        (every_5_mm, _LINE_5_MM, 0.7),
    ):
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=width))


def _draw_traces(axes: "Axes", recording: Recording) -> None:
    """Calibration pulse, four leads and their names on each row, and the rhythm strip."""
    from matplotlib.patheffects import withStroke

    column_s = min(COLUMN_S, recording.duration_s / len(LAYOUT[0]))
    column_mm = column_s * PAPER_MM_PER_S
    for baseline, names in zip(BASELINES_MM, (*LAYOUT, (RHYTHM_LEAD,)), strict=True):
        _draw_line(axes, CALIBRATION_MM[:, 0], baseline + CALIBRATION_MM[:, 1])
        shown_s = column_s * len(LAYOUT[0]) / len(names)
        for column, name in enumerate(names):
            left = TRACE_START_MM + column * column_mm
            stretch = _stretch(recording, name, column * shown_s, shown_s)
            seconds = np.arange(len(stretch)) / recording.sampling_rate_hz
            _draw_line(
                axes,
                left + seconds * PAPER_MM_PER_S,
                baseline + (stretch - np.median(stretch)) * PAPER_MM_PER_MV,
            )
            axes.text(
                left + 1,
                baseline + 9,
                name,
                fontsize=8,
                weight="bold",
                color=_INK,
                va="center",
                path_effects=[withStroke(linewidth=2, foreground=_PAPER)],
            )
            if column:
                _draw_line(axes, np.array([left, left]), baseline + np.array([-3.0, 3.0]))


def _draw_line(axes: "Axes", x_mm: NDArray[np.float64], y_mm: NDArray[np.float64]) -> None:
    """A line in ink that ends where the grid ends."""
    from matplotlib.transforms import Bbox, TransformedBbox

    (line,) = axes.plot(x_mm, y_mm, color=_INK, linewidth=0.85, solid_joinstyle="round")
    grid = Bbox.from_extents(0, 0, GRID_WIDTH_MM, GRID_HEIGHT_MM)
    line.set_clip_box(TransformedBbox(grid, axes.transData))


def _stretch(
    recording: Recording, name: str, start_s: float, seconds: float
) -> NDArray[np.float64]:
    """One lead from `start_s` on, with the sample that the next column begins with: no gap."""
    rate = recording.sampling_rate_hz
    start = min(round(start_s * rate), recording.n_samples - 1)
    stop = round((start_s + seconds) * rate) + 1
    return recording.signal_mv[LEADS.index(name), start:stop].astype(np.float64)


def _draw_words(axes: "Axes", recording: Recording, title: str) -> None:
    """Title above the grid, scales below it."""
    scales = (
        f"{PAPER_MM_PER_S:g} mm/s    {PAPER_MM_PER_MV:g} mm/mV    {recording.sampling_rate_hz:g} Hz"
    )
    axes.text(
        0,
        GRID_HEIGHT_MM + TITLE_MM / 2,
        title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 3] + "...",
        fontsize=10,
        weight="bold",
        color=_INK,
        va="center",
    )
    axes.text(0, -FOOTER_MM / 2, scales, fontsize=8, color=_INK, va="center")
