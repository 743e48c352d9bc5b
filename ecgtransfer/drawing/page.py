"""A printed page with panels and text placed by their distance from its upper left corner."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecgtransfer.storage import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Width of a page in inches, and pixels per inch: type of 8 points is 11 pixels high if a page is
#: shown 1400 pixels wide.
WIDTH, DPI = 14.0, 120

#: Margins in inches at the left and right edge of a page, and above and below its panels.
LEFT, RIGHT, HEAD, FOOT = 0.45, 0.15, 0.5, 0.95

#: Number of colours of a PNG: with this many, edges stay smooth at a third of the file size.
PALETTE = 128

INK, PALE, FAINT = "#1a1a1a", "#7d7d7d", "#e6e6e6"

#: Changes to matplotlib's defaults.
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": PALE,
    "axes.linewidth": 0.7,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": PALE,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.color": PALE,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8,
}


@contextmanager
def page_style() -> Iterator[None]:
    """Draw inside this context independently of the user's matplotlib settings."""
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        yield


@dataclass(frozen=True, eq=False)
class Page:
    """A figure with a size and coordinates in its own unit, such as inches or millimetres.

    Attributes:
        figure: the matplotlib figure.
        width: width of the page in its unit.
        height: height of the page in its unit.
    """

    figure: Figure
    width: float
    height: float

    @classmethod
    def of(
        cls, height: float, width: float = WIDTH, *, units_per_inch: float = 1, dpi: float = DPI
    ) -> Page:
        """Make an empty page, not registered with pyplot."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        size = (width / units_per_inch, height / units_per_inch)
        figure = Figure(figsize=size, dpi=dpi, facecolor="white")
        FigureCanvasAgg(figure)
        return cls(figure, width, height)

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes whose frame has this upper left corner."""
        below = self.height - top - height
        return self.figure.add_axes(
            (left / self.width, below / self.height, width / self.width, height / self.height)
        )

    def write(self, left: float, top: float, text: str, size: float, **style: Any) -> None:
        """Write text at a position, by default its upper left corner."""
        self.figure.text(
            left / self.width, 1 - top / self.height, text, fontsize=size, **{"va": "top"} | style
        )

    def save(self, path: Path) -> None:
        """Write a PNG with few colours, atomically.

        Raises:
            StorageError: the disk is full or refuses to write.
        """
        from PIL import Image

        drawn = io.BytesIO()
        with page_style():
            self.figure.savefig(drawn, format="png")
        with Image.open(drawn) as image:
            few = image.convert("RGB").quantize(PALETTE)
        with atomic_file(path) as partial:
            few.save(partial, format="png", optimize=True)
