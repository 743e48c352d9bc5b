"""ECGs on paper as light SVG, at most about 25 kB each, for a page in light, dark or print."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ecgtransfer.drawing.figure import Figure, css_colour, escaped
from ecgtransfer.drawing.paper_layout import (
    FOOTER_MM,
    GRID_WIDTH_MM,
    MARGIN_MM,
    PAPER_MM_PER_MV,
    PAPER_MM_PER_S,
    TITLE_MM,
    Sheet,
    Trace,
    place_marks,
    place_names,
    place_traces,
    scales,
    sheet_of,
)
from ecgtransfer.errors import ConfigError
from ecgtransfer.signals import LEADS, Recording

#: Printed in red below a generated ECG.
SYNTHETIC = "SYNTHETIC"

#: Coordinates are whole multiples of 1/20 mm: 5 microvolts, 2 ms, a sixth of a trace's width.
UNITS_PER_MM = 20
TRACE_MM = 0.3

#: Tolerances between a sample and the drawn line. The first one is used for which all traces
#: together have at most `TRACE_BYTES`, or else the last, two thirds of a trace's width.
TOLERANCES_MM = (0.05, 0.1, 0.2)
TRACE_BYTES = 20_000

#: Letter heights on the paper: names of leads, text around the grid, the mark.
NAME_MM, WORDS_MM, MARK_MM = 3.4, 3.2, 4.2


def ecg_svg(
    recording: Recording,
    *,
    title: str,
    mark: str = SYNTHETIC,
    description: str = "",
    caption: str = "",
    layout: str = "3x4",
) -> Figure:
    """Draw a recording on ECG paper, 25 mm/s and 10 mm/mV, with the layout of `draw_recording`.

    The sheet is 270 mm wide if the page allows it, which is true scale. The distance of a sample
    from the drawn line is at most 0.05 mm (5 microvolts), or up to 0.2 mm in a noisy recording
    whose lines would otherwise exceed 20 kB.

    Args:
        recording: the recording.
        title: title of the figure.
        mark: printed in red below the grid, on the left, where it is visible on a phone too; ""
            for none.
        description: first words of the alternative text, such as the labels.
        caption: caption of the figure.
        layout: `3x4`, or `12x1` with a row of 10 s for each lead.

    Raises:
        ConfigError: unknown layout.
    """
    return _sheets((recording,), ("",), (mark,), title, description, caption, layout)


def ecg_pair_svg(
    upper: Recording,
    lower: Recording,
    *,
    title: str,
    headings: tuple[str, str],
    marks: tuple[str, str] = ("", SYNTHETIC),
    description: str = "",
    caption: str = "",
    layout: str = "3x4",
) -> Figure:
    """Draw two recordings one above the other, such as a real one and its closest synthetic one.

    Args:
        upper: first recording.
        lower: second recording.
        title: title of the figure.
        headings: heading of each sheet.
        marks: mark of each sheet, as in `ecg_svg`.
        description: as in `ecg_svg`.
        caption: as in `ecg_svg`.
        layout: as in `ecg_svg`.

    Raises:
        ConfigError: unknown layout.
    """
    return _sheets((upper, lower), headings, marks, title, description, caption, layout)


def gallery(
    recordings: Sequence[Recording],
    titles: Sequence[str],
    *,
    mark: str = SYNTHETIC,
    captions: Sequence[str] = (),
    layout: str = "3x4",
) -> tuple[Figure, ...]:
    """Draw one figure for each recording, for the body of a section.

    Raises:
        ConfigError: another number of titles, or of captions if there are any.
    """
    below = captions or [""] * len(recordings)
    if not len(recordings) == len(titles) == len(below):
        raise ConfigError(
            f"expected one title and one caption, or none, for each recording, got "
            f"{len(recordings)} recordings, {len(titles)} titles and {len(below)} captions; pass "
            "them in pairs"
        )
    return tuple(
        ecg_svg(recording, title=title, mark=mark, caption=caption, layout=layout)
        for recording, title, caption in zip(recordings, titles, below, strict=True)
    )


def _sheets(
    recordings: Sequence[Recording],
    headings: Sequence[str],
    marks: Sequence[str],
    title: str,
    description: str,
    caption: str,
    layout: str,
) -> Figure:
    """Draw sheets below each other in one figure."""
    sheet = sheet_of(layout)
    parts = []
    alt = [description.rstrip(".")] if description else []
    top_mm = 0.0
    for recording, heading, mark in zip(recordings, headings, marks, strict=True):
        above_mm = TITLE_MM if heading else MARGIN_MM
        parts.append(_sheet(recording, sheet, heading, mark, top_mm + above_mm))
        alt.append(_ecg_in_words(recording, heading, mark))
        top_mm += above_mm + sheet.grid_height_mm + FOOTER_MM
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ecg" width="{GRID_WIDTH_MM}mm" '
        f'height="{top_mm:g}mm" viewBox="0 0 {_units(GRID_WIDTH_MM)} {_units(top_mm)}" '
        f'font-family="sans-serif" fill="none">{"".join(parts)}</svg>'
    )
    return Figure(title, drawing, ". ".join(alt) + ".", caption)


def _sheet(recording: Recording, sheet: Sheet, heading: str, mark: str, top_mm: float) -> str:
    """Paper, traces and text of one recording; the grid starts at `top_mm`."""
    height_mm = sheet.grid_height_mm
    traces = place_traces(recording, sheet)
    for tolerance in TOLERANCES_MM:
        lines = "".join(_polyline(_shown(trace, height_mm, tolerance)) for trace in traces)
        if len(lines) <= TRACE_BYTES:
            break
    width, height = _units(GRID_WIDTH_MM), _units(height_mm)
    names = "".join(
        _words(x, height_mm - y, name, size=NAME_MM, bold=True, halo=True)
        for name, x, y in place_names(traces, sheet)
    )
    square = f"small square {1 / PAPER_MM_PER_S:g} s × {1 / PAPER_MM_PER_MV:g} mV"
    foot = " · ".join([*scales(recording), square])
    foot_mm = top_mm + height_mm + 0.68 * FOOTER_MM
    marks = "".join(
        _polyline((0, height_mm) + points * (1, -1)) for points in place_marks(traces, sheet)
    )
    # An inner <svg> clips without a clip path, which would need an id. Names are drawn first, so
    # that a trace may cross a name that cannot avoid it.
    return (
        f'<svg y="{_units(top_mm)}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{_grid(width, height)}{names}'
        f'<path d="{marks}{lines}" stroke="{css_colour("paper-ink")}" '
        f'stroke-width="{_units(TRACE_MM)}" stroke-linejoin="round"/></svg>'
        + _words(0, top_mm - 2.4, heading, size=WORDS_MM + 0.6, colour="ink", bold=True)
        + _words(0, foot_mm, mark, size=MARK_MM, colour="paper-mark", bold=True)
        + _words(GRID_WIDTH_MM, foot_mm, foot, size=WORDS_MM, colour="muted", anchor="end")
    )


def _grid(width: int, height: int) -> str:
    """Paper with lines every 1 and 5 mm: dashes of one stroke that is as wide as the paper."""

    def lines(every_mm: int, thick_mm: float, colour: str) -> str:
        thick, pitch = _units(thick_mm), _units(every_mm)
        dashes = f'stroke-dasharray="{thick} {pitch - thick}" stroke-dashoffset="{thick / 2:g}"'
        return (
            f'<g stroke="{css_colour(colour)}" {dashes}>'
            f'<path d="M0 {height // 2}H{width + thick}" stroke-width="{height}"/>'
            f'<path d="M{width // 2} 0V{height + thick}" stroke-width="{width}"/></g>'
        )

    paper = f'<rect width="{width}" height="{height}" fill="{css_colour("paper")}"/>'
    return paper + lines(1, 0.1, "paper-1-mm") + lines(5, 0.2, "paper-5-mm")


def _shown(trace: Trace, height_mm: float, tolerance_mm: float) -> npt.NDArray[np.float64]:
    """Points of a simplified trace, in mm from the upper left corner of the grid: (P, 2)."""
    kept = kept_samples(trace.y_mm, tolerance_mm)
    y_mm = height_mm - trace.baseline_mm - trace.y_mm
    return np.column_stack([trace.x_mm, y_mm])[kept]


def kept_samples(values: npt.ArrayLike, tolerance: float) -> npt.NDArray[np.intp]:
    """Indices of samples whose connecting lines pass all values (n,) within a tolerance.

    One pass of the "swinging door" algorithm of process recorders (Bristol 1990): the cone of
    slopes that pass all samples since the last kept one narrows until a sample is outside. Lines
    end at samples, so that the peak of a narrow wave is never lost.
    """
    y = np.asarray(values, dtype=np.float64).tolist()
    kept = [0]
    start, low, high = 0, -math.inf, math.inf
    for i in range(1, len(y)):
        rise, run = y[i] - y[start], i - start
        if not low <= rise / run <= high:
            start = i - 1
            kept.append(start)
            rise, run, low, high = y[i] - y[start], 1, -math.inf, math.inf
        low, high = max(low, (rise - tolerance) / run), min(high, (rise + tolerance) / run)
    return np.array([*kept, len(y) - 1] if len(y) > 1 else kept)


def _polyline(points_mm: npt.ArrayLike) -> str:
    """Path through points (P, 2) in relative integer units, without accumulated rounding."""
    units = np.rint(np.asarray(points_mm, dtype=np.float64) * UNITS_PER_MM).astype(int)
    steps = " ".join(f"{dx} {dy}".replace(" -", "-") for dx, dy in np.diff(units, axis=0).tolist())
    return f"M{units[0, 0]} {units[0, 1]}" + (f"l{steps}" if steps else "")


def _words(
    x_mm: float,
    y_mm: float,
    words: str,
    *,
    size: float,
    colour: str = "paper-ink",
    bold: bool = False,
    anchor: str = "start",
    halo: bool = False,
) -> str:
    """Text centred vertically at `y_mm`; nothing for an empty string."""
    if not words:
        return ""
    style = ' font-weight="700"' * bold + f' text-anchor="{anchor}"' * (anchor != "start")
    if halo:
        style += (
            f' stroke="{css_colour("paper")}" stroke-width="{_units(0.9)}" stroke-linejoin="round" '
            'paint-order="stroke"'
        )
    return (
        f'<text x="{_units(x_mm)}" y="{_units(y_mm + 0.36 * size)}" font-size="{_units(size)}" '
        f'fill="{css_colour(colour)}"{style}>{escaped(words)}</text>'
    )


def _ecg_in_words(recording: Recording, heading: str, mark: str) -> str:
    """Alternative text of an ECG: its duration and the range of each lead."""
    heights = np.ptp(recording.signal_mv, axis=1)
    by_lead = ", ".join(f"{lead} {height:.1f}" for lead, height in zip(LEADS, heights, strict=True))
    return (
        f"{heading + ': ' if heading else ''}12-lead ECG on paper, {recording.duration_s:g} s at "
        f"{recording.sampling_rate_hz:g} Hz{', marked ' + mark if mark else ''}; from the lowest "
        f"to the highest point in mV: {by_lead}"
    )


def _units(mm: float) -> int:
    return round(mm * UNITS_PER_MM)
