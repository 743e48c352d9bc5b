"""Figures of a report as light SVG: ECGs on paper, intervals, distributions, spectra, maps.

Colours are the names of `PALETTE`, so that one drawing serves light, dark and print; a group also
has its own shape, fill or dashes, for eyes and printers without colour. Each figure says in `alt`
the numbers that it draws.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import ConfigError
from ecgtransfer.evaluation.report import (
    PALETTE,
    SUPERSCRIPT,
    Figure,
    decimals_for,
    number_text,
)
from ecgtransfer.signals import LEADS, Recording
from ecgtransfer.signals.paper import (
    CALIBRATION_MM,
    COLUMN_S,
    FOOTER_MM,
    GRID_WIDTH_MM,
    LAYOUT,
    LETTER_MM,
    MARGIN_MM,
    NAME_GAP_MM,
    NAME_HALF_MM,
    NAME_OF_ROW_MM,
    NAME_PLACES_MM,
    PAPER_MM_PER_MV,
    PAPER_MM_PER_S,
    SHEETS,
    TITLE_MM,
    TRACE_START_MM,
    Sheet,
)
from ecgtransfer.statistics import (
    Estimate,
    FloatArray,
)

#: What stands on the paper of a generated ECG.
SYNTHETIC = "SYNTHETIC"

#: What two sets are called, the real one first, unless told otherwise.
NAMES = ("real", "generated")

# --- ECG paper -----------------------------------------------------------------------------------

#: An ECG is drawn in whole numbers of 1/20 mm: 5 microvolts, 2 ms, a sixth of a trace's width.
UNITS_PER_MM = 20
TRACE_MM = 0.3

#: How far a sample may lie above or below the line that is drawn: the first of these with which all
#: traces together stay below so many bytes, or else the last, two thirds of a trace's width.
TOLERANCES_MM = (0.05, 0.1, 0.2)
TRACE_BYTES = 20_000

#: Heights of letters on the paper: names of leads, words around the grid, the mark.
NAME_MM, WORDS_MM, MARK_MM = 3.4, 3.2, 4.2

# --- charts, in CSS pixels -----------------------------------------------------------------------

#: A chart is drawn twice: for a screen or a sheet of paper, and for a phone held upright.
WIDTH, NARROW = 680.0, 370.0
#: A map of points is one drawing for both: it has few words.
MAP_WIDTH, MAP_HEIGHT = 480.0, 400.0
FONT, LINE = 13.0, 17.0
#: Average width of a letter at `FONT` in a wide typeface, and where a label breaks.
LETTER, LABEL_LETTERS, NARROW_LETTERS = 7.2, 26, 46
#: Room below a plot: for numbers at the axis, for its name, for a line more.
TICKS_HEIGHT, AXIS_HEIGHT = 24.0, 20.0
#: Pixels from one number at an axis to the next, at least.
TICK_PX = 52.0
#: Half the height of a bar or a box.
HALF_BAR = 5.5

SERIES = tuple(name for name in PALETTE if name.startswith("series-"))
DASHES = ("", "7 4", "2 3", "10 3 2 3", "4 2", "1 4")
CURVE_PX = 1.9

#: Where each shape begins, seen from its middle, and its path: dot, square, triangle, cross, plus,
#: diamond.
DOT = "h0"
SHAPES = (
    ((0.0, 0.0), DOT),
    ((-2.8, -2.8), "h5.6v5.6h-5.6z"),
    ((0.0, -3.8), "l3.5 6.2h-7z"),
    ((-2.7, -2.7), "l5.4 5.4m0-5.4l-5.4 5.4"),
    ((0.0, -3.6), "v7.2m-3.6-3.6h7.2"),
    ((0.0, -3.9), "l3.4 3.9-3.4 3.9-3.4-3.9z"),
)

#: Points of a scatter plot that are drawn of one group; the figure says when there are more.
MOST_POINTS = 1500
#: Frequencies at which the words of a spectrum state its curves.
STATED_HZ = (1.0, 5.0, 10.0, 25.0, 40.0)

Mark = TypeVar("Mark")


@dataclass(frozen=True)
class Quantiles:
    """A distribution in five numbers: 5th, 25th, 50th, 75th, 95th percentile; and of how many."""

    p5: float
    p25: float
    p50: float
    p75: float
    p95: float
    count: int

    def __post_init__(self) -> None:
        five = [self.p5, self.p25, self.p50, self.p75, self.p95]
        if not np.isfinite(five).all() or five != sorted(five):
            raise ConfigError(
                f"expected five finite percentiles in rising order, got {five}; leave out what "
                "could not be measured"
            )

    @classmethod
    def of(cls, values: npt.ArrayLike) -> "Quantiles | None":
        """Of the finite ones among these values; None where there is none."""
        given = np.asarray(values, dtype=np.float64)
        finite = given[np.isfinite(given)]
        if not len(finite):
            return None
        p5, p25, p50, p75, p95 = np.quantile(finite, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
        return cls(p5, p25, p50, p75, p95, len(finite))


class Curve(NamedTuple):
    """A spectrum by name, (F,), with an interval (F,) around it where there is one."""

    name: str
    power: npt.ArrayLike
    low: npt.ArrayLike | None = None
    high: npt.ArrayLike | None = None


# --- ECGs ----------------------------------------------------------------------------------------


def ecg_svg(
    recording: Recording,
    *,
    title: str,
    mark: str = SYNTHETIC,
    description: str = "",
    caption: str = "",
    layout: str = "3x4",
) -> Figure:
    """One recording on ECG paper, 25 mm/s and 10 mm/mV, as `signals.draw_recording` lays it out.

    The sheet is 270 mm wide where there is room, which is its true scale; the squares of the grid
    keep it readable in any other. `mark` stands in red below the grid, on
    the left, where a phone shows it too: pass "" for a real one. A
    sample lies at most 0.05 mm (5 microvolts) off its line, or up to 0.2 mm in a recording so
    noisy that its lines would take more than 20 kB.

    description: what is known of the ECG, such as its labels, for those who do not see it.

    Raises ConfigError for an unknown layout.
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
    """Two recordings one above the other, in step, such as a real one and the synthetic closest.

    Arguments and errors as in `ecg_svg`; each sheet has its heading and its mark.
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
    """A figure for each recording, to be put into a section's body.

    Raises ConfigError where titles, or captions if there are any, differ in number.
    """
    said = captions or [""] * len(recordings)
    if not len(recordings) == len(titles) == len(said):
        raise ConfigError(
            f"expected one title and one caption, or none, for each recording, got "
            f"{len(recordings)} recordings, {len(titles)} titles and {len(said)} captions; pass "
            "them in pairs"
        )
    return tuple(
        ecg_svg(recording, title=title, mark=mark, caption=caption, layout=layout)
        for recording, title, caption in zip(recordings, titles, said, strict=True)
    )


class _Trace(NamedTuple):
    """A stretch of one lead; mm from the grid's left edge, and upwards from the baseline."""

    name: str
    left_mm: float
    baseline_mm: float
    x_mm: FloatArray
    y_mm: FloatArray

    def segments(self) -> FloatArray:
        """Each line between samples as (left, right, lowest, highest) on the sheet: (n - 1, 4)."""
        y_mm = self.baseline_mm + self.y_mm
        lows, highs = np.minimum(y_mm[:-1], y_mm[1:]), np.maximum(y_mm[:-1], y_mm[1:])
        return np.column_stack([self.x_mm[:-1], self.x_mm[1:], lows, highs])


def _sheets(
    recordings: Sequence[Recording],
    headings: Sequence[str],
    marks: Sequence[str],
    title: str,
    description: str,
    caption: str,
    layout: str,
) -> Figure:
    """Sheets below each other in one drawing."""
    if layout not in SHEETS:
        raise ConfigError(f"expected a layout of {', '.join(SHEETS)}, got {layout!r}; take one")
    sheet = SHEETS[layout]
    parts = []
    said = [description.rstrip(".")] if description else []
    top_mm = 0.0
    for recording, heading, mark in zip(recordings, headings, marks, strict=True):
        above_mm = TITLE_MM if heading else MARGIN_MM
        parts.append(_sheet(recording, sheet, heading, mark, top_mm + above_mm))
        said.append(_ecg_in_words(recording, heading, mark))
        top_mm += above_mm + sheet.grid_height_mm + FOOTER_MM
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ecg" width="{GRID_WIDTH_MM}mm" '
        f'height="{top_mm:g}mm" viewBox="0 0 {_units(GRID_WIDTH_MM)} {_units(top_mm)}" '
        f'font-family="sans-serif" fill="none">{"".join(parts)}</svg>'
    )
    return Figure(title, drawing, ". ".join(said) + ".", caption)


def _sheet(recording: Recording, sheet: Sheet, heading: str, mark: str, top_mm: float) -> str:
    """Paper, traces and words of one recording, its grid beginning at `top_mm`."""
    height_mm = sheet.grid_height_mm
    traces = _traces(recording, sheet)
    for tolerance in TOLERANCES_MM:
        lines = "".join(_polyline(_shown(trace, height_mm, tolerance)) for trace in traces)
        if len(lines) <= TRACE_BYTES:
            break
    width, height = _units(GRID_WIDTH_MM), _units(height_mm)
    names = "".join(
        _words(x, height_mm - y, name, size=NAME_MM, bold=True, halo=True)
        for name, x, y in _name_places(traces, sheet)
    )
    scales = (
        f"{PAPER_MM_PER_S:g} mm/s · {PAPER_MM_PER_MV:g} mm/mV · {recording.sampling_rate_hz:g} Hz"
        f" · small square {1 / PAPER_MM_PER_S:g} s × {1 / PAPER_MM_PER_MV:g} mV"
    )
    foot_mm = top_mm + height_mm + 0.68 * FOOTER_MM
    # The inner <svg> clips what leaves the paper, and needs no name to do so; a trace goes over the
    # name of a lead where there is no way around it.
    return (
        f'<svg y="{_units(top_mm)}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{_grid(width, height)}{names}'
        f'<path d="{_fixed_marks(traces, sheet)}{lines}" stroke="{_colour("paper-ink")}" '
        f'stroke-width="{_units(TRACE_MM)}" stroke-linejoin="round"/></svg>'
        + _words(0, top_mm - 2.4, heading, size=WORDS_MM + 0.6, colour="ink", bold=True)
        + _words(0, foot_mm, mark, size=MARK_MM, colour="paper-mark", bold=True)
        + _words(GRID_WIDTH_MM, foot_mm, scales, size=WORDS_MM, colour="muted", anchor="end")
    )


def _grid(width: int, height: int) -> str:
    """Paper with lines every 1 and 5 mm: the dashes of one stroke as broad as the paper is high."""

    def lines(every_mm: int, thick_mm: float, colour: str) -> str:
        thick, pitch = _units(thick_mm), _units(every_mm)
        dashes = f'stroke-dasharray="{thick} {pitch - thick}" stroke-dashoffset="{thick / 2:g}"'
        return (
            f'<g stroke="{_colour(colour)}" {dashes}>'
            f'<path d="M0 {height // 2}H{width + thick}" stroke-width="{height}"/>'
            f'<path d="M{width // 2} 0V{height + thick}" stroke-width="{width}"/></g>'
        )

    paper = f'<rect width="{width}" height="{height}" fill="{_colour("paper")}"/>'
    return paper + lines(1, 0.1, "paper-1-mm") + lines(5, 0.2, "paper-5-mm")


def _traces(recording: Recording, sheet: Sheet) -> list[_Trace]:
    """What each row shows, in the order of the sheet: the first 10 s, or all there is."""
    rate = recording.sampling_rate_hz
    row_s = min(COLUMN_S * len(LAYOUT[0]), recording.duration_s)
    traces = []
    for baseline, names in zip(sheet.baselines_mm, sheet.rows, strict=True):
        shown_s = row_s / len(names)
        for column, name in enumerate(names):
            first = min(round(column * shown_s * rate), recording.n_samples - 1)
            last = round((column + 1) * shown_s * rate)  # where the next column begins: no gap
            stretch = recording.lead_mv(name)[first : last + 1].astype(np.float64)
            left = TRACE_START_MM + column * shown_s * PAPER_MM_PER_S
            x_mm = left + np.arange(len(stretch)) / rate * PAPER_MM_PER_S
            y_mm = (stretch - np.median(stretch)) * PAPER_MM_PER_MV
            traces.append(_Trace(name, left, float(baseline), x_mm, y_mm))
    return traces


def _shown(trace: _Trace, height_mm: float, tolerance_mm: float) -> FloatArray:
    """Points of a trace that are drawn, in mm from the grid's upper left corner: (P, 2)."""
    kept = kept_samples(trace.y_mm, tolerance_mm)
    y_mm = height_mm - trace.baseline_mm - trace.y_mm
    return np.column_stack([trace.x_mm, y_mm])[kept]


def kept_samples(values: npt.ArrayLike, tolerance: float) -> npt.NDArray[np.intp]:
    """Samples of evenly spaced values (n,) between which straight lines miss none by more.

    From each sample that is kept the next is as far away as one pass can find it: the cone of
    slopes that meet all samples so far, to within the tolerance, narrows until a sample lies
    outside (the "swinging door" of process recorders, here with lines that end in samples). So
    the top of a narrow wave is never lost.
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
    """A path through points (P, 2), in relative whole units; rounding does not add up."""
    units = np.rint(np.asarray(points_mm, dtype=np.float64) * UNITS_PER_MM).astype(int)
    steps = " ".join(f"{dx} {dy}".replace(" -", "-") for dx, dy in np.diff(units, axis=0).tolist())
    return f"M{units[0, 0]} {units[0, 1]}" + (f"l{steps}" if steps else "")


def _fixed_marks(traces: Sequence[_Trace], sheet: Sheet) -> str:
    """The pulse of 1 mV and 0.2 s at the start of each row, and where another lead begins in it."""
    pulses = [np.array([0, baseline]) + CALIBRATION_MM for baseline in sheet.baselines_mm]
    borders = [
        np.array([[trace.left_mm, trace.baseline_mm - 3], [trace.left_mm, trace.baseline_mm + 3]])
        for trace in traces
        if trace.left_mm > TRACE_START_MM
    ]
    top = np.array([0, sheet.grid_height_mm])
    return "".join(_polyline(top + points * (1, -1)) for points in [*pulses, *borders])


def _name_places(traces: Sequence[_Trace], sheet: Sheet) -> list[tuple[str, float, float]]:
    """Each lead's name with the place of its middle left: where no trace goes, or least near.

    mm from the grid's left edge and upwards from its base, as in `signals.paper`.
    """
    if all(len(names) == 1 for names in sheet.rows):
        right, up = NAME_OF_ROW_MM
        return [(trace.name, right, trace.baseline_mm + up) for trace in traces]
    lines = np.concatenate([trace.segments() for trace in traces])
    places = []
    for trace in traces:
        room = []
        for right, up in NAME_PLACES_MM:
            x, y = trace.left_mm + right, trace.baseline_mm + up
            end = x + LETTER_MM * len(trace.name) + NAME_GAP_MM
            near = lines[(lines[:, 1] > x - NAME_GAP_MM) & (lines[:, 0] < end), 2:]
            room.append(float(np.maximum(near[:, 0] - y, y - near[:, 1]).min(initial=np.inf)))
        free = (number for number, found in enumerate(room) if found > NAME_HALF_MM)
        right, up = NAME_PLACES_MM[next(free, int(np.argmax(room)))]
        places.append((trace.name, trace.left_mm + right, trace.baseline_mm + up))
    return places


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
    """Text on a sheet whose middle is at this height; nothing where there are no words."""
    if not words:
        return ""
    style = ' font-weight="700"' * bold + f' text-anchor="{anchor}"' * (anchor != "start")
    if halo:
        style += (
            f' stroke="{_colour("paper")}" stroke-width="{_units(0.9)}" stroke-linejoin="round" '
            'paint-order="stroke"'
        )
    return (
        f'<text x="{_units(x_mm)}" y="{_units(y_mm + 0.36 * size)}" font-size="{_units(size)}" '
        f'fill="{_colour(colour)}"{style}>{_escaped(words)}</text>'
    )


def _ecg_in_words(recording: Recording, heading: str, mark: str) -> str:
    """What an ECG shows, for those who do not see it: how long, and how high each lead is."""
    heights = np.ptp(recording.signal_mv, axis=1)
    by_lead = ", ".join(f"{lead} {height:.1f}" for lead, height in zip(LEADS, heights, strict=True))
    return (
        f"{heading + ': ' if heading else ''}12-lead ECG on paper, {recording.duration_s:g} s at "
        f"{recording.sampling_rate_hz:g} Hz{', marked ' + mark if mark else ''}; from the lowest "
        f"to the highest point in mV: {by_lead}"
    )


def _units(mm: float) -> int:
    return round(mm * UNITS_PER_MM)


# --- charts --------------------------------------------------------------------------------------


def forest_svg(
    rows: Sequence[tuple[str, Estimate | None]],
    *,
    title: str,
    zero: float = 0.0,
    unit: str = "",
    axis: str = "difference",
    favours: tuple[str, str] = ("", ""),
    caption: str = "",
) -> Figure:
    """Differences with their intervals, a row each, about the line of no difference.

    A marker is filled where its interval leaves out `zero`. `favours` says what is left and right
    of the line. A row without an estimate says so. An infinite end runs to the edge of the plot.

    Raises ConfigError for no row.
    """
    found = [estimate for _, estimate in rows if estimate is not None]
    ends = [end for each in found for end in (each.low, each.value, each.high)]
    decimals = decimals_for(ends)
    numbers = [_estimate_text(estimate, decimals, signed=True) for _, estimate in rows]
    labels = [label for label, _ in rows]

    def draw(width: float) -> _Chart:
        chart = _Rows(title, width, labels, [[text] for text in numbers])
        scale = chart.scale([*ends, zero])
        chart.axis(scale, _with_unit(axis, unit), favours)
        x = scale.px(zero)
        chart.line(x, chart.top, x, chart.bottom, "ink", 1.2)
        for y, (_, estimate) in zip(chart.middles, rows, strict=True):
            if estimate is not None:
                apart = not estimate.low <= zero <= estimate.high
                chart.whisker(scale, estimate, y, "series-1", 1.8)
                fill = "series-1" if apart else "page"
                chart.circle(scale.px(estimate.value), y, 4.6, fill, "series-1", 1.8)
        return chart

    apart = sum(not each.low <= zero <= each.high for each in found)
    said = _listed(zip(labels, numbers, strict=True))
    key = f"Filled: the interval leaves out {zero:g}; hollow: it does not."
    return _figure(
        title,
        draw,
        f"{title}, with 95 % intervals: {apart} of {len(found)} leave out {zero:g}. {said}",
        f"{caption} {key}".strip(),
    )


def bars_svg(
    rows: Sequence[tuple[str, Estimate | None, Estimate | None]],
    *,
    title: str,
    names: tuple[str, str] = NAMES,
    percent: bool = True,
    axis: str = "share",
    caption: str = "",
) -> Figure:
    """Two bars with intervals for each row, such as pass rates of real and generated records.

    percent: the estimates are shares, 0 to 1, and are shown as 0 to 100 %.

    Raises ConfigError for no row.
    """
    factor = 100 if percent else 1
    pairs = [[_scaled(estimate, factor) for estimate in pair] for _, *pair in rows]
    ends = [end for pair in pairs for each in pair if each for end in (each.low, each.high)]
    decimals = 0 if percent else decimals_for(ends)
    texts = [[_estimate_text(each, decimals) for each in pair] for pair in pairs]
    labels = [label for label, *_ in rows]

    def draw(width: float) -> _Chart:
        chart = _Rows(title, width, labels, texts, names)
        scale = chart.scale([0.0, 100.0] if percent else [0.0, *ends], rounded=True)
        chart.axis(scale, f"{axis} (%)" if percent else axis)
        for estimate, y, fill, stroke in chart.marks(pairs):
            end = scale.px(estimate.value)
            chart.rect(scale.px(0.0), y - HALF_BAR, end, y + HALF_BAR, fill, stroke)
            chart.whisker(scale, estimate, y, "page", 4.2)
            chart.whisker(scale, estimate, y, "ink", 1.4)
        return chart

    said = _listed(zip(labels, _by_name(names, texts), strict=True))
    unit = " in per cent" if percent else ""
    return _figure(title, draw, f"{title}, {axis}{unit} with 95 % intervals: {said}", caption)


def interval_plot_svg(
    rows: Sequence[tuple[str, Quantiles | None, Quantiles | None]],
    *,
    title: str,
    unit: str,
    axis: str = "",
    names: tuple[str, str] = NAMES,
    limits: Mapping[str, float] | None = None,
    caption: str = "",
) -> Figure:
    """Two distributions for each row, by class: median, quartiles, 5th and 95th percentile.

    limits: values by name that are marked across all rows, such as {"120 ms": 120.0}.

    Raises ConfigError for no row.
    """
    pairs = [list(pair) for _, *pair in rows]
    values = [value for pair in pairs for q in pair if q for value in (q.p5, q.p95)]
    decimals = decimals_for(values)
    texts = [[_quantiles_text(q, decimals) for q in pair] for pair in pairs]
    labels = [label for label, *_ in rows]

    def draw(width: float) -> _Chart:
        chart = _Rows(title, width, labels, texts, names)
        scale = chart.scale([*values, *(limits or {}).values()])
        chart.axis(scale, _with_unit(axis or title, unit))
        for name, value in (limits or {}).items():
            x = scale.px(value)
            chart.line(x, chart.top - 4, x, chart.bottom, "strong-rule", 1.2, "4 3")
            chart.text(x, chart.top - 7, name, colour="muted", anchor="middle", size=FONT - 1)
        for q, y, fill, stroke in chart.marks(pairs):
            median = scale.px(q.p50)
            chart.line(scale.px(q.p5), y, scale.px(q.p95), y, stroke, 1.6)
            chart.rect(scale.px(q.p25), y - HALF_BAR, scale.px(q.p75), y + HALF_BAR, fill, stroke)
            ink = stroke if fill == "page" else "page"
            chart.line(median, y - HALF_BAR, median, y + HALF_BAR, ink, 2.6)
        return chart

    said = _listed(zip(labels, _by_name(names, texts), strict=True))
    explained = "Box: quartiles about the median; line: 5th to 95th percentile."
    return _figure(
        title,
        draw,
        f"{title} in {unit}, median and 5th to 95th percentile: {said}",
        f"{caption} {explained}".strip(),
    )


def spectrum_svg(
    frequency_hz: npt.ArrayLike,
    curves: Sequence[Curve],
    *,
    title: str,
    unit: str = "mV²/Hz",
    caption: str = "",
) -> Figure:
    """Power against frequency (F,), on a logarithmic axis; the first curve is the reference.

    Power that is not above 0 leaves a gap in its curve.

    Raises ConfigError for no curve, or one of another length than the frequencies.
    """
    frequency = np.asarray(frequency_hz, dtype=np.float64)
    levels = [_level(curve.power, frequency, title) for curve in curves]
    edges = [
        [_level(edge, frequency, title) for edge in (curve.low, curve.high) if edge is not None]
        for curve in curves
    ]
    drawn = [*levels, *(edge for band in edges for edge in band)]
    known = np.concatenate([np.zeros(0), *(level[np.isfinite(level)] for level in drawn)])
    if not len(known) or np.ptp(frequency) == 0:
        raise ConfigError(
            f"expected power above 0 at several frequencies in figure {title!r}, got none; pass a "
            "spectrum"
        )

    def draw(width: float) -> _Chart:
        chart = _Chart(title, width)
        for number, (x, y) in enumerate(chart.legend([curve.name for curve in curves], 30)):
            colour, dash = _curve_style(number)
            chart.line(x - 15, y, x + 15, y, colour, CURVE_PX, dash)
        left, right = 62.0, width - 10.0
        top, bottom = chart.height + 12, chart.height + (300 if width == WIDTH else 250)
        across = _Scale(float(frequency.min()), float(frequency.max()), left, right)
        up = _Scale(math.floor(known.min()), math.floor(known.max()) + 1, bottom, top)
        for tick in up.ticks(least=1.0):
            y = up.px(tick)
            chart.line(left, y, right, y, "rule")
            power = f"10{str(round(tick)).translate(SUPERSCRIPT)}"
            chart.text(left - 8, y + 4, power, colour="muted", anchor="end")
        chart.ticks_below(across, bottom, top)
        name_y = bottom + TICKS_HEIGHT + 16
        chart.text((left + right) / 2, name_y, "frequency (Hz)", anchor="middle")
        chart.text(14, (top + bottom) / 2, unit, anchor="middle", turned=True)
        for number, (level, band) in enumerate(zip(levels, edges, strict=True)):
            colour, dash = _curve_style(number)
            if len(band) == 2:
                chart.path(_band(across, up, frequency, *band), fill=colour, opacity=0.16)
            line = _broken_line(across, up, frequency, level)
            chart.path(line, stroke=colour, width=CURVE_PX, dash=dash)
        chart.height = bottom + TICKS_HEIGHT + AXIS_HEIGHT + 2
        return chart

    said = _spectrum_in_words(frequency, curves, levels, unit)
    return _figure(title, draw, f"{title}: {said}", caption)


def scatter_svg(groups: Mapping[str, npt.ArrayLike], *, title: str, caption: str = "") -> Figure:
    """Points in a plane, (n, 2) a group, each group with its own shape: t-SNE, UMAP, components.

    The axes have no unit and no numbers; both have the same scale. Of a group of more than 1,500
    points so many are drawn, evenly taken. The words state how often the nearest neighbour in the
    picture, among all points, is of the same group, beside what a mixture at random would give.

    Raises ConfigError for no point, or another shape.
    """
    clouds = {name: np.asarray(points, dtype=np.float64) for name, points in groups.items()}
    if not clouds or any(
        cloud.ndim != 2 or cloud.shape[1] != 2 or not len(cloud) or not np.isfinite(cloud).all()
        for cloud in clouds.values()
    ):
        shapes = {name: cloud.shape for name, cloud in clouds.items()}
        raise ConfigError(
            f"expected finite points (n, 2) for each group in figure {title!r}, got {shapes}; "
            "embed in two dimensions"
        )
    both = np.concatenate(list(clouds.values()))
    low, high = both.min(axis=0), both.max(axis=0)
    inside = np.array([MAP_WIDTH - 24, MAP_HEIGHT - 24])
    per_px = max(float(((high - low) / inside).max()), 1e-12)
    chart = _Chart(title, MAP_WIDTH)
    named = [f"{name} ({len(cloud):,})" for name, cloud in clouds.items()]
    for number, place in enumerate(chart.legend(named, 10)):
        chart.markers(number, [place])
    top = chart.height + 8
    chart.rect(0.75, top, MAP_WIDTH - 0.75, top + MAP_HEIGHT, "none", "rule")
    middle = np.array([MAP_WIDTH / 2, top + MAP_HEIGHT / 2])
    for number, cloud in enumerate(clouds.values()):
        every = np.linspace(0, len(cloud) - 1, min(len(cloud), MOST_POINTS)).round().astype(int)
        places = middle + (cloud[every] - (low + high) / 2) / per_px * (1, -1)
        chart.markers(number, places.tolist())
    chart.height = top + MAP_HEIGHT + 1
    many = [name for name, cloud in clouds.items() if len(cloud) > MOST_POINTS]
    drawn = f"Of {' and '.join(many)} {MOST_POINTS:,} points are drawn." if many else ""
    return Figure(
        title,
        chart.svg(),
        f"{title}: {_neighbours_in_words(clouds)}",
        f"{caption} {drawn}".strip(),
    )


def _figure(title: str, draw: "Callable[[float], _Chart]", alt: str, caption: str) -> Figure:
    """A chart in both widths, with its words."""
    return Figure(title, draw(WIDTH).svg(), alt, caption, draw(NARROW).svg())


def _neighbours_in_words(clouds: Mapping[str, FloatArray]) -> str:
    """How mixed groups of points are, in numbers."""
    from scipy.spatial import cKDTree

    total = sum(len(cloud) for cloud in clouds.values())
    if total < 2:
        return "one point."
    group = np.repeat(np.arange(len(clouds)), [len(cloud) for cloud in clouds.values()])
    both = np.concatenate(list(clouds.values()))
    neighbours = np.asarray(cKDTree(both).query(both, k=2)[1])
    own = neighbours[:, 0] == np.arange(total)  # a twin may be named before the point itself
    nearest = np.where(own, neighbours[:, 1], neighbours[:, 0])
    said = []
    for number, (name, cloud) in enumerate(clouds.items()):
        same = 100 * float(np.mean(group[nearest[group == number]] == number))
        by_chance = 100 * (len(cloud) - 1) / (total - 1)
        said.append(
            f"of {len(cloud):,} {name} points {same:.0f} % have one of their own as nearest "
            f"neighbour, where a mixture at random would give {by_chance:.0f} %"
        )
    return "; ".join(said) + "."


def _level(power: npt.ArrayLike, frequency: FloatArray, title: str) -> FloatArray:
    """log10 of power, nan where it is not above 0."""
    values = np.asarray(power, dtype=np.float64)
    if values.shape != frequency.shape or values.ndim != 1:
        raise ConfigError(
            f"expected a value for each of {len(frequency)} frequencies in figure {title!r}, got "
            f"shape {values.shape}; pass curves (F,)"
        )
    level = np.full(len(values), np.nan)
    above = np.isfinite(values) & (values > 0)
    level[above] = np.log10(values[above])
    return level


def _curve_style(number: int) -> tuple[str, str]:
    """Colour and dashes of a curve."""
    return SERIES[number % len(SERIES)], DASHES[number % len(DASHES)]


def _broken_line(across: "_Scale", up: "_Scale", frequency: FloatArray, level: FloatArray) -> str:
    """A path with a gap where there is no level."""
    words = []
    inside = False
    for f, y in zip(frequency, level, strict=True):
        if np.isfinite(y):
            words.append(f"{'L' if inside else 'M'}{_n(across.px(f))} {_n(up.px(y))}")
        inside = bool(np.isfinite(y))
    return "".join(words)


def _band(
    across: "_Scale", up: "_Scale", frequency: FloatArray, low: FloatArray, high: FloatArray
) -> str:
    """A closed path between two levels, where both are known, cut off at the plot's edges."""
    known = np.isfinite(low) & np.isfinite(high)
    x = [_n(across.px(f)) for f in frequency[known]]
    sides = [[_n(up.px(y)) for y in edge[known]] for edge in (high, low)]
    upper, lower = ([f"{a} {b}" for a, b in zip(x, side, strict=True)] for side in sides)
    return f"M{'L'.join([*upper, *lower[::-1]])}z" if x else ""


def _spectrum_in_words(
    frequency: FloatArray, curves: Sequence[Curve], levels: Sequence[FloatArray], unit: str
) -> str:
    """Curves at a few frequencies, and where each is farthest from the first."""
    stated = [hz for hz in STATED_HZ if frequency.min() <= hz <= frequency.max()]
    at = [int(np.abs(frequency - hz).argmin()) for hz in stated]
    said = []
    for curve, level in zip(curves, levels, strict=True):
        numbers = ", ".join(
            f"{number_text(level[i], 1)} at {frequency[i]:g} Hz"
            for i in at
            if np.isfinite(level[i])
        )
        said.append(f"{curve.name} {numbers}")
        gap = level - levels[0]
        if level is not levels[0] and np.isfinite(gap).any():
            i = int(np.nanargmax(np.abs(gap)))
            said[-1] += (
                f", farthest from {curves[0].name} at {frequency[i]:g} Hz by "
                f"{number_text(gap[i], 2, signed=True)} decades"
            )
    return f"log10 of power in {unit}: " + "; ".join(said) + "."


# --- drawing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scale:
    """A linear axis: values from `low` to `high` lie between the pixels `start` and `stop`."""

    low: float
    high: float
    start: float
    stop: float

    def px(self, value: float) -> float:
        """Where a value lies, or the edge beyond which it would."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)

    def ticks(self, least: float = 0.0) -> list[float]:
        """Round numbers in the axis, 1, 2 or 5 times a power of ten and `TICK_PX` apart."""
        rough = (self.high - self.low) * TICK_PX / abs(self.stop - self.start)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(each for m in (1, 2, 5, 10) if (each := m * power) >= rough * (1 - 1e-9))
        step = max(step, least)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


class _Chart:
    """A drawing in CSS pixels of a given width, as high as it turns out."""

    def __init__(self, title: str, width: float) -> None:
        self.title = title
        self.width = width
        self.height = 0.0
        self._lines: list[str] = []
        self._words: list[str] = []

    def svg(self) -> str:
        """The drawing."""
        width, height = _n(self.width), _n(self.height)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="{FONT:g}">'
            f"{''.join(self._lines)}"
            f'<g stroke="{_colour("page")}" stroke-width="3" stroke-linejoin="round" '
            f'paint-order="stroke">{"".join(self._words)}</g></svg>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        colour: str = "ink",
        anchor: str = "start",
        size: float = FONT,
        turned: bool = False,
    ) -> None:
        """Words from a place on the line they stand on, or up to it, or around it.

        They go over all lines, with a rim of the page around them.
        """
        if not words:
            return
        style = "" if anchor == "start" else f' text-anchor="{anchor}"'
        style += f' font-size="{_n(size)}"' if size != FONT else ""
        style += f' transform="rotate(-90 {_n(x)} {_n(y)})"' if turned else ""
        self._words.append(
            f'<text x="{_n(x)}" y="{_n(y)}" fill="{_colour(colour)}"{style}>'
            f"{_escaped(words)}</text>"
        )

    def line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        colour: str,
        width: float = 1.0,
        dash: str = "",
    ) -> None:
        """A straight line."""
        self.path(f"M{_n(x1)} {_n(y1)}L{_n(x2)} {_n(y2)}", stroke=colour, width=width, dash=dash)

    def path(
        self,
        d: str,
        *,
        stroke: str = "none",
        fill: str = "none",
        width: float = 1.0,
        dash: str = "",
        opacity: float = 1.0,
        cap: str = "",
    ) -> None:
        """A path; nothing where it has no point."""
        if not d:
            return
        style = f' stroke="{_colour(stroke)}" stroke-width="{_n(width)}"' * (stroke != "none")
        style += f' stroke-dasharray="{dash}"' * bool(dash)
        style += f' stroke-linecap="{cap}"' * bool(cap)
        style += f' opacity="{opacity:g}"' * (opacity != 1)
        self._lines.append(f'<path d="{d}" fill="{_colour(fill)}"{style}/>')

    def rect(self, x1: float, y1: float, x2: float, y2: float, fill: str, stroke: str) -> None:
        """A rectangle between two corners, in any order."""
        self._lines.append(
            f'<rect x="{_n(min(x1, x2))}" y="{_n(min(y1, y2))}" width="{_n(abs(x2 - x1))}" '
            f'height="{_n(abs(y2 - y1))}" fill="{_colour(fill)}" stroke="{_colour(stroke)}" '
            'stroke-width="1.5"/>'
        )

    def circle(
        self, x: float, y: float, radius: float, fill: str, stroke: str, width: float
    ) -> None:
        """A circle with a rim."""
        self._lines.append(
            f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" fill="{_colour(fill)}" '
            f'stroke="{_colour(stroke)}" stroke-width="{_n(width)}"/>'
        )

    def markers(self, group: int, places: Sequence[Sequence[float]]) -> None:
        """The shape of a group at each place, as a single path."""
        (right, down), shape = SHAPES[group % len(SHAPES)]
        dots = shape == DOT
        self.path(
            "".join(f"M{_n(x + right)} {_n(y + down)}{shape}" for x, y in places),
            stroke=SERIES[group % len(SERIES)],
            width=6.0 if dots else 1.4,
            cap="round" if dots else "",
            opacity=0.6 if dots else 0.85,
        )

    def legend(self, names: Sequence[str], sign_px: float) -> Iterator[tuple[float, float]]:
        """Names from left to right, then down; for each the middle of the sign to draw before it.

        `height` is then where the last line of them ends.
        """
        x = 0.0
        for name in names:
            needed = sign_px + 8 + LETTER * len(name)
            if self.height == 0 or x + needed > self.width:
                x, self.height = 0.0, self.height + LINE + 3
            self.text(x + sign_px + 8, self.height - 5, name)
            yield x + sign_px / 2, self.height - 9.5
            x += needed + 20

    def ticks_below(self, scale: _Scale, bottom: float, top: float) -> None:
        """Numbers below an axis, and a thin line up from each."""
        ticks = scale.ticks()
        step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        for tick in ticks:
            x = scale.px(tick)
            self.line(x, top, x, bottom, "rule")
            self.text(x, bottom + 17, number_text(tick, decimals), colour="muted", anchor="middle")


class _Rows(_Chart):
    """A chart of labelled rows about one horizontal axis, with their numbers on the right.

    With the names of two sets, each row has a filled mark above and a hollow one below. A narrow
    chart has its labels above the rows, a wide one on the left.
    """

    def __init__(
        self,
        title: str,
        width: float,
        labels: Sequence[str],
        numbers: Sequence[Sequence[str]],
        names: Sequence[str] = (),
    ) -> None:
        super().__init__(title, width)
        if not labels:
            raise ConfigError(f"expected rows in figure {title!r}, got none; leave it out")
        narrow = width < WIDTH
        letters = NARROW_LETTERS if narrow else LABEL_LETTERS
        wrapped = [textwrap.wrap(label, letters, max_lines=3, placeholder=" …") for label in labels]
        widest = max(len(line) for lines in wrapped for line in [*lines, ""])
        size = FONT - (2 if narrow else 1)
        self.left = 6.0 if narrow else LETTER * widest + 14
        self.right = (
            width - max(len(line) for texts in numbers for line in texts) * 0.56 * size - 16
        )
        for number, (x, y) in enumerate(self.legend(names, 18)):
            self.rect(x - 9, y - HALF_BAR, x + 9, y + HALF_BAR, *_mark_colours(number))
        self.top = self.height + 20 if names else 6.0
        self.middles: list[float] = []
        y = self.top
        for lines, texts in zip(wrapped, numbers, strict=True):
            above = LINE * len(lines) + 4 if narrow else 0
            height = LINE * max(len(texts), 0 if narrow else len(lines)) + 9
            middle = y + above + height / 2
            self.middles.append(middle)
            for place, line in _stacked(y + above / 2 + 2 if narrow else middle, lines):
                self.text(0, place, line)
            for place, line in _stacked(middle, texts):
                self.text(width, place, line, anchor="end", size=size, colour="muted")
            y += above + height
            self.line(0, y, width, y, "rule", 0.7)
        self.bottom = y

    def marks(
        self, pairs: Sequence[Sequence[Mark | None]]
    ) -> Iterator[tuple[Mark, float, str, str]]:
        """What there is of each pair, with the middle of its place, its fill and its line."""
        for middle, pair in zip(self.middles, pairs, strict=True):
            for number, mark in enumerate(pair):
                if mark is not None:
                    yield mark, middle + LINE * (number - 0.5), *_mark_colours(number)

    def scale(self, values: Sequence[float], *, rounded: bool = False) -> _Scale:
        """An axis that holds all finite values, with some room unless its ends are round."""
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(finite), max(finite)
        if low == high:
            low, high = low - 0.5, high + 0.5
        room = 0.0 if rounded else 0.04 * (high - low)
        return _Scale(low - room, high + room, self.left, self.right)

    def axis(self, scale: _Scale, name: str, favours: tuple[str, str] = ("", "")) -> None:
        """Ticks and name below the rows, and what the two directions mean."""
        self.ticks_below(scale, self.bottom, self.top)
        middle = (self.left + self.right) / 2
        self.text(middle, self.bottom + TICKS_HEIGHT + 14, name, anchor="middle")
        self.height = self.bottom + TICKS_HEIGHT + AXIS_HEIGHT + 2
        left, right = (f"← {favours[0]}" * bool(favours[0]), f"{favours[1]} →" * bool(favours[1]))
        side_by_side = LETTER * (len(left) + len(right) + 2) <= self.right - self.left
        for words, x, anchor in ((left, self.left, "start"), (right, self.right, "end")):
            if words and not (side_by_side and anchor == "end" and left):
                self.height += AXIS_HEIGHT
            self.text(x, self.height - 6, words, colour="muted", anchor=anchor)

    def whisker(
        self, scale: _Scale, estimate: Estimate, y: float, colour: str, width: float
    ) -> None:
        """An interval with its ends; one that leaves the plot has none there."""
        low, high = scale.px(estimate.low), scale.px(estimate.high)
        self.line(low, y, high, y, colour, width)
        for end, x in ((estimate.low, low), (estimate.high, high)):
            if scale.low <= end <= scale.high:
                self.line(x, y - 4, x, y + 4, colour, width)


def _mark_colours(number: int) -> tuple[str, str]:
    """Fill and line of the first set, filled, and of the second, hollow."""
    return (SERIES[0], SERIES[0]) if number == 0 else ("page", SERIES[number])


def _stacked(middle: float, lines: Sequence[str]) -> list[tuple[float, str]]:
    """Lines of text about a middle, each with the height it stands on."""
    first = middle + 4.5 - LINE * (len(lines) - 1) / 2
    return [(first + LINE * number, line) for number, line in enumerate(lines)]


def _scaled(estimate: Estimate | None, factor: float) -> Estimate | None:
    if estimate is None:
        return None
    return Estimate(factor * estimate.value, factor * estimate.low, factor * estimate.high)


def _estimate_text(estimate: Estimate | None, decimals: int | None, *, signed: bool = False) -> str:
    if estimate is None:
        return "no value"
    value, low, high = (
        number_text(each, decimals, signed=signed)
        for each in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]"


def _quantiles_text(quantiles: Quantiles | None, decimals: int | None) -> str:
    if quantiles is None:
        return "no value"
    low, middle, high = (
        number_text(each, decimals) for each in (quantiles.p5, quantiles.p50, quantiles.p95)
    )
    return f"{middle} ({low} to {high})"


def _by_name(names: Sequence[str], texts: Sequence[Sequence[str]]) -> list[str]:
    """What is said of both sets, a string a row."""
    return [
        ", ".join(f"{name} {text}" for name, text in zip(names, pair, strict=True))
        for pair in texts
    ]


def _listed(pairs: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{label}: {text}" for label, text in pairs) + "."


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


def _colour(name: str) -> str:
    """A colour of the page, with its light value where the drawing stands alone."""
    return name if name == "none" else f"var(--{name},{PALETTE[name][0]})"


def _escaped(words: str) -> str:
    """Text for XML, without the control characters that it cannot hold."""
    return escape("".join(letter for letter in words if letter.isprintable()))


def _n(number: float) -> str:
    """A coordinate in tenths of a pixel, as short as it can be written."""
    text = f"{number:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
