"""Chart of the power spectra of several groups of records, on a logarithmic axis."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecgtransfer.drawing.canvas import AXIS_HEIGHT, SERIES, TICKS_HEIGHT, Canvas, Scale, coord
from ecgtransfer.drawing.charts import WIDTH, in_two_widths
from ecgtransfer.drawing.figure import Figure
from ecgtransfer.drawing.numbers import SUPERSCRIPT, number_text
from ecgtransfer.errors import ConfigError
from ecgtransfer.statistics import FloatArray

#: Dash patterns and width of the curves.
DASHES = ("", "7 4", "2 3", "10 3 2 3", "4 2", "1 4")
CURVE_PX = 1.9

#: Frequencies at which the alternative text states the power of each curve.
STATED_HZ = (1.0, 5.0, 10.0, 25.0, 40.0)


class Curve(NamedTuple):
    """A spectrum (F,) by name, with an optional interval (F,) around it."""

    name: str
    power: npt.ArrayLike
    low: npt.ArrayLike | None = None
    high: npt.ArrayLike | None = None


def spectrum_svg(
    frequency_hz: npt.ArrayLike,
    curves: Sequence[Curve],
    *,
    title: str,
    unit: str = "mV²/Hz",
    caption: str = "",
) -> Figure:
    """Draw power against frequency (F,) on a logarithmic axis.

    Power that is not above 0 leaves a gap in its curve.

    Args:
        frequency_hz: (F,).
        curves: the first is the reference.
        title: title of the figure.
        unit: unit of power.
        caption: caption of the figure.

    Raises:
        ConfigError: there is no curve, or one has another length than the frequencies.
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

    def draw(width: float) -> Canvas:
        chart = Canvas(title, width)
        for number, (x, y) in enumerate(chart.legend([curve.name for curve in curves], 30)):
            colour, dash = _curve_style(number)
            chart.line(x - 15, y, x + 15, y, colour, CURVE_PX, dash)
        left, right = 62.0, width - 10.0
        top, bottom = chart.height + 12, chart.height + (300 if width == WIDTH else 250)
        across = Scale(float(frequency.min()), float(frequency.max()), left, right)
        up = Scale(math.floor(known.min()), math.floor(known.max()) + 1, bottom, top)
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
    return in_two_widths(title, draw, f"{title}: {said}", caption)


def _level(power: npt.ArrayLike, frequency: FloatArray, title: str) -> FloatArray:
    """log10 of power; NaN if it is not above 0."""
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
    """Colour and dash pattern of a curve."""
    return SERIES[number % len(SERIES)], DASHES[number % len(DASHES)]


def _broken_line(across: Scale, up: Scale, frequency: FloatArray, level: FloatArray) -> str:
    """Path with gaps at missing levels."""
    words = []
    inside = False
    for f, y in zip(frequency, level, strict=True):
        if np.isfinite(y):
            words.append(f"{'L' if inside else 'M'}{coord(across.px(f))} {coord(up.px(y))}")
        inside = bool(np.isfinite(y))
    return "".join(words)


def _band(
    across: Scale, up: Scale, frequency: FloatArray, low: FloatArray, high: FloatArray
) -> str:
    """Closed path between two levels where both are known, clipped to the plot."""
    known = np.isfinite(low) & np.isfinite(high)
    x = [coord(across.px(f)) for f in frequency[known]]
    sides = [[coord(up.px(y)) for y in edge[known]] for edge in (high, low)]
    upper, lower = ([f"{a} {b}" for a, b in zip(x, side, strict=True)] for side in sides)
    return f"M{'L'.join([*upper, *lower[::-1]])}z" if x else ""


def _spectrum_in_words(
    frequency: FloatArray, curves: Sequence[Curve], levels: Sequence[FloatArray], unit: str
) -> str:
    """Levels at a few frequencies, and where each curve deviates most from the first, as text."""
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
