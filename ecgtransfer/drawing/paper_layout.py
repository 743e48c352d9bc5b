"""Geometry of ECG paper in millimetres: sheets, traces, lead names and calibration pulses.

Paper speed is 25 mm/s and gain 10 mm/mV. `paper_png` and `paper_svg` draw this layout. The origin
is the lower left corner of the grid, with x to the right and y upwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import ConfigError
from ecgtransfer.signals.leads import LEADS
from ecgtransfer.signals.recording import Recording

#: Speed and gain of standard ECG paper.
PAPER_MM_PER_S = 25.0
PAPER_MM_PER_MV = 10.0

#: Three rows of four leads, 2.5 s each, with simultaneous columns; below them lead II.
LAYOUT = (
    ("I", "aVR", "V1", "V4"),
    ("II", "aVL", "V2", "V5"),
    ("III", "aVF", "V3", "V6"),
)
RHYTHM_LEAD = "II"
COLUMN_S = 2.5

#: Size of the printed sheet. Baselines are on 5 mm lines, 3 mV apart.
GRID_WIDTH_MM, GRID_HEIGHT_MM = 270, 130
TITLE_MM, FOOTER_MM, MARGIN_MM = 8, 7, 3
BASELINES_MM = (105, 75, 45, 15)
TRACE_START_MM = 15

#: A lead name goes to the first of these positions, relative to the start of its trace and its
#: baseline, that no trace crosses, or else to the one with the most space. The name of a lead with
#: a row of its own goes below the calibration pulse.
NAME_HEIGHTS_MM = (9.0, 7.0, 11.5, 5.0, -7.0, -9.5)
NAME_PLACES_MM = [(right, up) for right in (1.0, 5.0, 9.0, 13.0) for up in NAME_HEIGHTS_MM]
NAME_OF_ROW_MM = (4.5, -2.6)
#: Half the height of a name with its margin; width of a letter; margin on the left and right.
NAME_HALF_MM, LETTER_MM, NAME_GAP_MM = 1.9, 2.3, 0.5

#: Corners (x from the edge, y from the baseline) of the calibration pulse: 1 mV for 0.2 s.
CALIBRATION_MM = np.array([(4, 0), (6, 0), (6, 10), (11, 10), (11, 0), (13, 0)], dtype=float)
#: Half the length of the line between two leads of a row.
BORDER_HALF_MM = 3.0


@dataclass(frozen=True)
class Sheet:
    """Leads of each row from left to right, and the baselines of the rows."""

    rows: tuple[tuple[str, ...], ...]
    baselines_mm: tuple[int, ...]
    grid_height_mm: int


#: Sheets by layout name. With twelve rows, 1.5 mV apart, a sheet is as high as A4 is wide.
SHEETS = {
    "3x4": Sheet((*LAYOUT, (RHYTHM_LEAD,)), BASELINES_MM, GRID_HEIGHT_MM),
    "12x1": Sheet(tuple((name,) for name in LEADS), tuple(range(180, 0, -15)), 195),
}


class Trace(NamedTuple):
    """A segment of one lead: x on the sheet and y from its baseline, both in mm, (n,)."""

    name: str
    left_mm: float
    baseline_mm: float
    x_mm: NDArray[np.float64]
    y_mm: NDArray[np.float64]

    def segments(self) -> NDArray[np.float64]:
        """Lines between samples as (left, right, lowest, highest) on the sheet: (n - 1, 4)."""
        y_mm = self.baseline_mm + self.y_mm
        lows, highs = np.minimum(y_mm[:-1], y_mm[1:]), np.maximum(y_mm[:-1], y_mm[1:])
        return np.column_stack([self.x_mm[:-1], self.x_mm[1:], lows, highs])


class NamePlace(NamedTuple):
    """The name of a lead and the centre of its left edge, in mm."""

    name: str
    x_mm: float
    y_mm: float


def sheet_of(layout: str) -> Sheet:
    """The sheet of a layout, `3x4` or `12x1`.

    Raises:
        ConfigError: another name.
    """
    if layout not in SHEETS:
        raise ConfigError(f"expected a layout of {', '.join(SHEETS)}, got {layout!r}; choose one")
    return SHEETS[layout]


def place_traces(recording: Recording, sheet: Sheet) -> list[Trace]:
    """Place the traces of all leads, row by row: the first 10 s, or a whole shorter recording.

    Each trace is shifted by its median, as AC coupling would do, and ends with the first sample of
    the next column.
    """
    rate = recording.sampling_rate_hz
    row_s = min(COLUMN_S * len(LAYOUT[0]), recording.duration_s)
    traces = []
    for baseline, names in zip(sheet.baselines_mm, sheet.rows, strict=True):
        column_s = row_s / len(names)
        for column, name in enumerate(names):
            first = min(round(column * column_s * rate), recording.n_samples - 1)
            last = round((column + 1) * column_s * rate)
            stretch = recording.lead_mv(name)[first : last + 1].astype(np.float64)
            left = TRACE_START_MM + column * column_s * PAPER_MM_PER_S
            x_mm = left + np.arange(len(stretch)) / rate * PAPER_MM_PER_S
            y_mm = (stretch - np.median(stretch)) * PAPER_MM_PER_MV
            traces.append(Trace(name, left, float(baseline), x_mm, y_mm))
    return traces


def place_marks(traces: Sequence[Trace], sheet: Sheet) -> list[NDArray[np.float64]]:
    """Lines of points (n, 2) in mm: the calibration pulse of each row, and borders of leads."""
    pulses = [np.array([0.0, baseline]) + CALIBRATION_MM for baseline in sheet.baselines_mm]
    borders = [
        np.array(
            [(trace.left_mm, trace.baseline_mm + y) for y in (-BORDER_HALF_MM, BORDER_HALF_MM)]
        )
        for trace in traces
        if trace.left_mm > TRACE_START_MM
    ]
    return [*pulses, *borders]


def place_names(traces: Sequence[Trace], sheet: Sheet) -> list[NamePlace]:
    """Place each lead name where no trace crosses it, or where traces are farthest away."""
    if all(len(names) == 1 for names in sheet.rows):
        right, up = NAME_OF_ROW_MM
        return [NamePlace(trace.name, right, trace.baseline_mm + up) for trace in traces]
    segments = np.concatenate([trace.segments() for trace in traces])
    places = []
    for trace in traces:
        room = [
            _room_mm(segments, trace.left_mm + right, trace.baseline_mm + up, trace.name)
            for right, up in NAME_PLACES_MM
        ]
        free = (index for index, found in enumerate(room) if found > NAME_HALF_MM)
        right, up = NAME_PLACES_MM[next(free, int(np.argmax(room)))]
        places.append(NamePlace(trace.name, trace.left_mm + right, trace.baseline_mm + up))
    return places


def _room_mm(segments: NDArray[np.float64], x_mm: float, y_mm: float, name: str) -> float:
    """Vertical distance from a name to the nearest segment; negative if one crosses it.

    Args:
        segments: (n, 4), each (left, right, lowest, highest).
        x_mm: left edge of the name.
        y_mm: centre of the name.
        name: its text.
    """
    end_mm = x_mm + LETTER_MM * len(name) + NAME_GAP_MM
    near = segments[(segments[:, 1] > x_mm - NAME_GAP_MM) & (segments[:, 0] < end_mm), 2:]
    return float(np.maximum(near[:, 0] - y_mm, y_mm - near[:, 1]).min(initial=np.inf))


def scales(recording: Recording) -> tuple[str, str, str]:
    """Paper speed, gain and sampling rate, as printed below the grid."""
    return (
        f"{PAPER_MM_PER_S:g} mm/s",
        f"{PAPER_MM_PER_MV:g} mm/mV",
        f"{recording.sampling_rate_hz:g} Hz",
    )
