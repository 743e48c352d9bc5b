"""Charts of labelled rows as light SVG: estimates, proportions, and pairs of distributions.

Colours are names in the page's `PALETTE`, so that one drawing serves light, dark and print. The two
sets of a chart also differ by fill, for readers and printers without colour. Each figure states the
numbers that it draws in `alt`.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from ecgtransfer.drawing.canvas import (
    AXIS_HEIGHT,
    FONT,
    LETTER,
    LINE,
    SERIES,
    TICKS_HEIGHT,
    Canvas,
    Scale,
)
from ecgtransfer.drawing.figure import Figure
from ecgtransfer.drawing.numbers import (
    NO_VALUE,
    EstimateLike,
    decimals_for,
    estimate_text,
    number_text,
)
from ecgtransfer.errors import ConfigError
from ecgtransfer.statistics import Estimate, Quantiles

#: Default names of the two sets, the real one first.
NAMES = ("real", "generated")

#: Widths of a chart: for a screen or a sheet of paper, and for a phone held upright.
WIDTH, NARROW = 680.0, 370.0
#: Characters after which a label wraps, for either width.
LABEL_LETTERS, NARROW_LETTERS = 26, 46
#: Half the height of a bar or box, in pixels.
HALF_BAR = 5.5

Mark = TypeVar("Mark")


def forest_svg(
    rows: Sequence[tuple[str, EstimateLike | None]],
    *,
    title: str,
    zero: float = 0.0,
    unit: str = "",
    axis: str = "difference",
    favours: tuple[str, str] = ("", ""),
    caption: str = "",
) -> Figure:
    """Draw a forest plot: differences with intervals around the line of no difference.

    A marker is filled if its interval excludes `zero`. An infinite end extends to the edge.

    Args:
        rows: (label, estimate or None) of each row.
        title: title of the figure.
        zero: value of no difference.
        unit: unit of the axis.
        axis: name of the axis.
        favours: meaning of the left and the right side.
        caption: caption of the figure.

    Raises:
        ConfigError: there are no rows.
    """
    found = [estimate for _, estimate in rows if estimate is not None]
    ends = [end for each in found for end in (each.low, each.value, each.high)]
    decimals = decimals_for(ends)
    numbers = [estimate_text(estimate, decimals, signed=True) for _, estimate in rows]
    labels = [label for label, _ in rows]

    def draw(width: float) -> Canvas:
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
    key = f"Filled: the interval excludes {zero:g}; hollow: it does not."
    return in_two_widths(
        title,
        draw,
        f"{title}, with 95 % intervals: {apart} of {len(found)} exclude {zero:g}. {said}",
        f"{caption} {key}".strip(),
    )


def bars_svg(
    rows: Sequence[tuple[str, EstimateLike | None, EstimateLike | None]],
    *,
    title: str,
    names: tuple[str, str] = NAMES,
    percent: bool = True,
    axis: str = "share",
    caption: str = "",
) -> Figure:
    """Draw two bars with intervals for each row, such as pass rates of real and generated records.

    Args:
        rows: (label, first estimate or None, second estimate or None) of each row.
        title: title of the figure.
        names: names of the first and the second bar.
        percent: whether estimates are proportions, 0 to 1, shown as 0 to 100 %.
        axis: name of the axis.
        caption: caption of the figure.

    Raises:
        ConfigError: there are no rows.
    """
    factor = 100 if percent else 1
    pairs = [[_scaled(estimate, factor) for estimate in pair] for _, *pair in rows]
    ends = [end for pair in pairs for each in pair if each for end in (each.low, each.high)]
    decimals = 0 if percent else decimals_for(ends)
    texts = [[estimate_text(each, decimals) for each in pair] for pair in pairs]
    labels = [label for label, *_ in rows]

    def draw(width: float) -> Canvas:
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
    return in_two_widths(title, draw, f"{title}, {axis}{unit} with 95 % intervals: {said}", caption)


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
    """Draw two distributions for each row: median, quartiles, 5th and 95th percentile.

    Args:
        rows: (label, first distribution or None, second distribution or None) of each row.
        title: title of the figure.
        unit: unit of the axis.
        axis: name of the axis; the title by default.
        names: names of the first and the second distribution.
        limits: values by name, marked across all rows, such as {"120 ms": 120.0}.
        caption: caption of the figure.

    Raises:
        ConfigError: there are no rows.
    """
    pairs = [list(pair) for _, *pair in rows]
    values = [value for pair in pairs for q in pair if q for value in (q.p5, q.p95)]
    decimals = decimals_for(values)
    texts = [[_quantiles_text(q, decimals) for q in pair] for pair in pairs]
    labels = [label for label, *_ in rows]

    def draw(width: float) -> Canvas:
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
    return in_two_widths(
        title,
        draw,
        f"{title} in {unit}, median and 5th to 95th percentile: {said}",
        f"{caption} {explained}".strip(),
    )


def in_two_widths(title: str, draw: Callable[[float], Canvas], alt: str, caption: str) -> Figure:
    """Draw a chart in both widths, with its alternative text."""
    return Figure(title, draw(WIDTH).svg(), alt, caption, draw(NARROW).svg())


class _Rows(Canvas):
    """A chart of labelled rows on one horizontal axis, with numbers on the right.

    With two named sets, each row has a filled mark above and a hollow one below. Labels are above
    the rows of a narrow chart, and to the left of those of a wide one.
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
            raise ConfigError(f"expected rows in figure {title!r}, got none; omit the figure")
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
        """Iterate over values that are not None, with the height, fill and line of their marks."""
        for middle, pair in zip(self.middles, pairs, strict=True):
            for number, mark in enumerate(pair):
                if mark is not None:
                    yield mark, middle + LINE * (number - 0.5), *_mark_colours(number)

    def scale(self, values: Sequence[float], *, rounded: bool = False) -> Scale:
        """An axis for all finite values, with margins unless `rounded`."""
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(finite), max(finite)
        if low == high:
            low, high = low - 0.5, high + 0.5
        room = 0.0 if rounded else 0.04 * (high - low)
        return Scale(low - room, high + room, self.left, self.right)

    def axis(self, scale: Scale, name: str, favours: tuple[str, str] = ("", "")) -> None:
        """Draw ticks and name below the rows, and the meaning of the two directions."""
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
        self, scale: Scale, estimate: EstimateLike, y: float, colour: str, width: float
    ) -> None:
        """Draw an interval with end caps; an end outside the plot has none."""
        low, high = scale.px(estimate.low), scale.px(estimate.high)
        self.line(low, y, high, y, colour, width)
        for end, x in ((estimate.low, low), (estimate.high, high)):
            if scale.low <= end <= scale.high:
                self.line(x, y - 4, x, y + 4, colour, width)


def _mark_colours(number: int) -> tuple[str, str]:
    """Fill and line colour of a set: the first is filled, the second hollow."""
    return (SERIES[0], SERIES[0]) if number == 0 else ("page", SERIES[number])


def _stacked(middle: float, lines: Sequence[str]) -> list[tuple[float, str]]:
    """Lines of text centred at a height, each with its baseline."""
    first = middle + 4.5 - LINE * (len(lines) - 1) / 2
    return [(first + LINE * number, line) for number, line in enumerate(lines)]


def _scaled(estimate: EstimateLike | None, factor: float) -> EstimateLike | None:
    if estimate is None:
        return None
    return Estimate(factor * estimate.value, factor * estimate.low, factor * estimate.high)


def _quantiles_text(quantiles: Quantiles | None, decimals: int | None) -> str:
    if quantiles is None:
        return NO_VALUE
    low, middle, high = (
        number_text(each, decimals) for each in (quantiles.p5, quantiles.p50, quantiles.p95)
    )
    return f"{middle} ({low} to {high})"


def _by_name(names: Sequence[str], texts: Sequence[Sequence[str]]) -> list[str]:
    """Join names and texts of both sets, one string for each row."""
    return [
        ", ".join(f"{name} {text}" for name, text in zip(names, pair, strict=True))
        for pair in texts
    ]


def _listed(pairs: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{label}: {text}" for label, text in pairs) + "."


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name
