"""A canvas for charts as SVG: axes, text, lines, markers, legends, in CSS pixels."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ecgtransfer.drawing.figure import PALETTE, css_colour, escaped
from ecgtransfer.drawing.numbers import number_text

FONT, LINE = 13.0, 17.0
#: Average width of a letter at `FONT` in a wide typeface.
LETTER = 7.2
#: Space below a plot: for tick labels, and for the name of the axis.
TICKS_HEIGHT, AXIS_HEIGHT = 24.0, 20.0
#: Minimum distance between tick labels, in pixels.
TICK_PX = 52.0

SERIES = tuple(name for name in PALETTE if name.startswith("series-"))

#: Marker shapes: start of the path relative to its centre, and the path. Dot, square, triangle,
#: cross, plus, diamond.
DOT = "h0"
SHAPES = (
    ((0.0, 0.0), DOT),
    ((-2.8, -2.8), "h5.6v5.6h-5.6z"),
    ((0.0, -3.8), "l3.5 6.2h-7z"),
    ((-2.7, -2.7), "l5.4 5.4m0-5.4l-5.4 5.4"),
    ((0.0, -3.6), "v7.2m-3.6-3.6h7.2"),
    ((0.0, -3.9), "l3.4 3.9-3.4 3.9-3.4-3.9z"),
)


@dataclass(frozen=True)
class Scale:
    """A linear axis that maps `low` to `high` onto the pixels `start` to `stop`."""

    low: float
    high: float
    start: float
    stop: float

    def px(self, value: float) -> float:
        """Pixel of a value, clipped to the axis."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)

    def ticks(self, least: float = 0.0) -> list[float]:
        """Round tick values, 1, 2 or 5 times a power of ten, at least `TICK_PX` apart."""
        rough = (self.high - self.low) * TICK_PX / abs(self.stop - self.start)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(each for m in (1, 2, 5, 10) if (each := m * power) >= rough * (1 - 1e-9))
        step = max(step, least)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


class Canvas:
    """A drawing in CSS pixels; its height grows with its content."""

    def __init__(self, title: str, width: float) -> None:
        self.title = title
        self.width = width
        self.height = 0.0
        self._lines: list[str] = []
        self._words: list[str] = []

    def svg(self) -> str:
        """The drawing as SVG."""
        width, height = coord(self.width), coord(self.height)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="{FONT:g}">'
            f"{''.join(self._lines)}"
            f'<g stroke="{css_colour("page")}" stroke-width="3" stroke-linejoin="round" '
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
        """Write text with its baseline at `y`, above all lines, with an outline of the page."""
        if not words:
            return
        style = "" if anchor == "start" else f' text-anchor="{anchor}"'
        style += f' font-size="{coord(size)}"' if size != FONT else ""
        style += f' transform="rotate(-90 {coord(x)} {coord(y)})"' if turned else ""
        self._words.append(
            f'<text x="{coord(x)}" y="{coord(y)}" fill="{css_colour(colour)}"{style}>'
            f"{escaped(words)}</text>"
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
        """Draw a straight line."""
        self.path(
            f"M{coord(x1)} {coord(y1)}L{coord(x2)} {coord(y2)}",
            stroke=colour,
            width=width,
            dash=dash,
        )

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
        """Draw a path, or nothing for an empty one."""
        if not d:
            return
        style = f' stroke="{css_colour(stroke)}" stroke-width="{coord(width)}"' * (stroke != "none")
        style += f' stroke-dasharray="{dash}"' * bool(dash)
        style += f' stroke-linecap="{cap}"' * bool(cap)
        style += f' opacity="{opacity:g}"' * (opacity != 1)
        self._lines.append(f'<path d="{d}" fill="{css_colour(fill)}"{style}/>')

    def rect(self, x1: float, y1: float, x2: float, y2: float, fill: str, stroke: str) -> None:
        """Draw a rectangle between two opposite corners."""
        self._lines.append(
            f'<rect x="{coord(min(x1, x2))}" y="{coord(min(y1, y2))}" '
            f'width="{coord(abs(x2 - x1))}" height="{coord(abs(y2 - y1))}" '
            f'fill="{css_colour(fill)}" stroke="{css_colour(stroke)}" stroke-width="1.5"/>'
        )

    def circle(
        self, x: float, y: float, radius: float, fill: str, stroke: str, width: float
    ) -> None:
        """Draw a circle with an outline."""
        self._lines.append(
            f'<circle cx="{coord(x)}" cy="{coord(y)}" r="{coord(radius)}" '
            f'fill="{css_colour(fill)}" stroke="{css_colour(stroke)}" '
            f'stroke-width="{coord(width)}"/>'
        )

    def markers(self, group: int, places: Sequence[Sequence[float]]) -> None:
        """Draw the shape of a group at each place, as a single path."""
        (right, down), shape = SHAPES[group % len(SHAPES)]
        dots = shape == DOT
        self.path(
            "".join(f"M{coord(x + right)} {coord(y + down)}{shape}" for x, y in places),
            stroke=SERIES[group % len(SERIES)],
            width=6.0 if dots else 1.4,
            cap="round" if dots else "",
            opacity=0.6 if dots else 0.85,
        )

    def legend(self, names: Sequence[str], sign_px: float) -> Iterator[tuple[float, float]]:
        """Write a legend from left to right, then down; yield the centre of each symbol.

        Afterwards `height` is the lower edge of the legend.
        """
        x = 0.0
        for name in names:
            needed = sign_px + 8 + LETTER * len(name)
            if self.height == 0 or x + needed > self.width:
                x, self.height = 0.0, self.height + LINE + 3
            self.text(x + sign_px + 8, self.height - 5, name)
            yield x + sign_px / 2, self.height - 9.5
            x += needed + 20

    def ticks_below(self, scale: Scale, bottom: float, top: float) -> None:
        """Write tick labels below an axis and draw a thin line up from each."""
        ticks = scale.ticks()
        step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        for tick in ticks:
            x = scale.px(tick)
            self.line(x, top, x, bottom, "rule")
            self.text(x, bottom + 17, number_text(tick, decimals), colour="muted", anchor="middle")


def coord(number: float) -> str:
    """Format a coordinate in tenths of a pixel, as short as possible."""
    text = f"{number:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
