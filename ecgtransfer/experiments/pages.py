"""A printed page: panels and words placed in inches from its upper left corner, saved as PNG."""

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

#: Width of a page in inches, and pixels an inch: type of 8 points is 11 pixels high where a page
#: is shown 1400 wide.
WIDTH, DPI = 14.0, 120

#: Inches at the left and right edge of a page, and above and below its panels.
LEFT, RIGHT, HEAD, FOOT = 0.45, 0.15, 0.5, 0.95

#: Colours of a PNG: edges stay smooth, and it has a third of the bytes of a full one.
PALETTE = 128

INK, PALE, FAINT = "#1a1a1a", "#7d7d7d", "#e6e6e6"

#: Beside matplotlib's defaults, whatever the user's own are.
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
    """All that is drawn in this context looks the same, whatever the user's settings."""
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        yield


@dataclass(frozen=True, eq=False)
class Page:
    """A figure whose places are inches from the left edge and from the top."""

    figure: Figure
    height: float

    @classmethod
    def of(cls, height: float) -> Page:
        """An empty page, apart from pyplot and its list of figures."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        return cls(figure, height)

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes whose frame has this upper left corner."""
        below = self.height - top - height
        return self.figure.add_axes(
            (left / WIDTH, below / self.height, width / WIDTH, height / self.height)
        )

    def write(self, left: float, top: float, text: str, size: float, **style: Any) -> None:
        """Words whose upper left corner is here."""
        self.figure.text(
            left / WIDTH, 1 - top / self.height, text, fontsize=size, va="top", **style
        )

    def save(self, path: Path) -> None:
        """Whole or not at all, in few colours; RunError where the disk does not take it."""
        from PIL import Image

        drawn = io.BytesIO()
        with page_style():
            self.figure.savefig(drawn, format="png")
        with Image.open(drawn) as image:
            few = image.convert("RGB").quantize(PALETTE)
        with atomic_file(path) as partial:
            few.save(partial, format="png", optimize=True)
