"""A page of densities: what each method generated, drawn over the exact target."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ecgtransfer.drawing.page import (
    FOOT,
    HEAD,
    INK,
    LEFT,
    PALE,
    RIGHT,
    WIDTH,
    Page,
    page_style,
)
from ecgtransfer.errors import ConfigError
from ecgtransfer.experiments.gaussian_mixture import GaussianMixture
from ecgtransfer.experiments.problems import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

#: Shares of the target that its contours enclose, from the outermost to the innermost.
ENCLOSED = (0.95, 0.75, 0.5, 0.25)
FILLS = ("#e1ebf4", "#bcd3e8", "#8bb3d6", "#5a8fbf")
RECORDS = "#b3400a"

#: Panels side by side on a page.
COLUMNS = (5, 6)

#: Inches: the widest panel, the space between two, the height of a title's line.
WIDEST, GAP, TITLE_LINE = 3.4, 0.14, 0.165

#: Letters of a title that go into an inch.
LETTERS_PER_INCH = 15.0

#: Points of the grid along an axis, records drawn as points.
POINTS_OF_GRID, RECORDS_DRAWN = 128, 200

#: Standard deviations around each mode that a panel shows.
WINDOW_DEVIATIONS = 3.2


def draw_densities(
    problem: Problem,
    samples: Mapping[str, np.ndarray],
    titles: Mapping[str, str],
    path: Path,
    *,
    n: int | None = None,
    distances: Mapping[str, float | None] | None = None,
) -> None:
    """A page of panels as PNG: what each method generated against the target.

    The target is filled, the density of the records drawn as lines on the same levels. Both are
    blurred by one and the same kernel, the target in closed form, so that perfect records differ
    by chance alone. Of more than two coordinates the first two are shown.

    Args:
        problem: with the target.
        samples: records (N, d) by method, in the problem's own units.
        titles: above each panel, by method; the method's name where there is none.
        path: of the PNG.
        n: number of target records that the methods learned from, for the heading.
        distances: sliced Wasserstein distance of the records from the target, by method.

    Raises:
        ConfigError: there are no records, or of another number of coordinates.
        RunError: the disk does not take the page.
    """
    density_page(problem, samples, titles, n=n, distances=distances).save(path)


def density_page(
    problem: Problem,
    samples: Mapping[str, np.ndarray],
    titles: Mapping[str, str],
    *,
    n: int | None = None,
    distances: Mapping[str, float | None] | None = None,
) -> Page:
    """The page of `draw_densities`."""
    _check(problem, samples)
    source, target = (_in_plane(side, problem.scale) for side in (problem.source, problem.target))
    low, high = _window(source, target)
    x, y = (np.linspace(low[axis], high[axis], POINTS_OF_GRID) for axis in range(2))
    width = kernel_width(target, max(map(len, samples.values())))
    truth = blurred_density(target, x, y, width)
    levels = enclosing_levels(truth, ENCLOSED)
    columns, panel_width = _columns(len(samples))
    letters = int(LETTERS_PER_INCH * panel_width) - len("  0.123")
    wrapped = {
        name: textwrap.wrap(titles.get(name, name), letters, break_long_words=False)
        for name in samples
    }
    title_lines = max(map(len, wrapped.values()))
    panel_height = panel_width * float((high - low)[1] / (high - low)[0])
    with page_style():
        page, panels = _panels(len(samples), columns, panel_width, panel_height, title_lines)
        learned = "" if n is None else f", learned from {n} target records"
        page.write(LEFT, 0.12, f"{problem.name}{learned}", 12, weight="bold")
        page.write(LEFT, 0.36, problem.title, 9)
        for axes, (name, records) in zip(panels, samples.items(), strict=True):
            axes.set_title("\n".join(wrapped[name]), fontsize=8.5, loc="left", pad=4)
            if (distance := (distances or {}).get(name)) is not None:
                axes.set_title(f"{distance:.3f}", fontsize=8.5, loc="right", pad=4, weight="bold")
            axes.contourf(x, y, truth, [*levels, 1.01 * truth.max()], colors=FILLS)
            axes.plot(*source.means.numpy().T, "+", color=PALE, markersize=7)
            _draw_records(axes, np.asarray(records, dtype=np.float64)[:, :2], x, y, width, levels)
            axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        shares = ", ".join(f"{100 * share:.0f}" for share in ENCLOSED)
        page.write(
            LEFT,
            page.height - 0.45,
            f"Filled: the exact target, where {shares} % of it lie. Lines: generated records, on "
            f"the same levels of density, both blurred by a kernel of standard deviation "
            f"{width:.2g}. Dots: some of the records.\nGrey crosses: the source's modes. "
            "Above each panel on the right: sliced Wasserstein distance of these records from the "
            "target.",
            8.5,
        )
    return page


def kernel_width(target: GaussianMixture, n: int) -> float:
    """Scott's rule in the plane for the sharpest mode, if n records are shared out evenly."""
    each = max(n / len(target.weights), 1.0)
    return math.sqrt(float(target.variances.min())) * math.pow(each, -1 / 6)


def kernel_density(records: Array, x: Array, y: Array, width: float) -> Array:
    """Density of records (N, 2) under a Gaussian kernel, on the grid of x (X,) and y (Y,): (Y, X).

    Of an isotropic kernel the sum over records is a product of two matrices.
    """
    along_x = np.exp(-(((x[:, None] - records[:, 0]) / width) ** 2) / 2)
    along_y = np.exp(-(((y[:, None] - records[:, 1]) / width) ** 2) / 2)
    density: Array = along_y @ along_x.T / (len(records) * 2 * math.pi * width**2)
    return density


def blurred_density(target: GaussianMixture, x: Array, y: Array, width: float) -> Array:
    """What `kernel_density` of endless target records would be, in closed form: (Y, X)."""
    points = torch.from_numpy(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    log_density = target.log_density(points, torch.full((len(points),), width).double())
    density: Array = log_density.exp().reshape(len(y), len(x)).numpy()
    return density


def enclosing_levels(density: Array, shares: Sequence[float]) -> list[float]:
    """Levels of a density on a regular grid above which these shares of it lie."""
    falling = np.sort(density, axis=None)[::-1]
    enclosed = np.cumsum(falling) / falling.sum()
    return [float(falling[np.searchsorted(enclosed, share)]) for share in shares]


def _check(problem: Problem, samples: Mapping[str, np.ndarray]) -> None:
    for name, records in samples.items():
        if records.ndim != 2 or not len(records) or records.shape[1] != problem.dimension:
            raise ConfigError(
                f"expected records (N, {problem.dimension}) of {name} in {problem.name}, got "
                f"{records.shape}; give those of the same problem"
            )
    if not samples:
        raise ConfigError("expected records of at least one method to draw, got none")


def _in_plane(side: GaussianMixture, scale: float) -> GaussianMixture:
    """The law of the first two coordinates in the problem's own units, labels aside."""
    own = side.scaled(scale)
    no_label = torch.zeros_like(own.label_of)
    return GaussianMixture(own.weights, own.means[:, :2], own.variances, no_label, 0)


def _window(*sides: GaussianMixture) -> tuple[Array, Array]:
    """Lower and upper ends of the axes: (2,), (2,)."""
    means = torch.cat([side.means for side in sides])
    reach = WINDOW_DEVIATIONS * torch.cat([side.variances for side in sides]).sqrt()[:, None]
    return (means - reach).amin(0).numpy(), (means + reach).amax(0).numpy()


def _columns(count: int) -> tuple[int, float]:
    """Panels side by side, so that few places stay empty, and the width of each in inches."""
    columns = min(count, max(COLUMNS, key=lambda each: (-(-count % each), each)))
    width = (WIDTH - LEFT - RIGHT - (columns - 1) * GAP) / columns
    return columns, min(width, WIDEST)


def _panels(
    count: int, columns: int, width: float, height: float, title_lines: int
) -> tuple[Page, list[Axes]]:
    """A page of panels, with numbers at the outermost of them only."""
    rows = -(-count // columns)
    title = title_lines * TITLE_LINE + 0.12
    page = Page.of(HEAD + rows * (title + height) + FOOT)
    panels = []
    for number in range(count):
        row, column = divmod(number, columns)
        top = HEAD + row * (title + height) + title
        axes = page.panel(LEFT + column * (width + GAP), top, width, height)
        axes.locator_params(nbins=5)
        axes.tick_params(labelleft=column == 0, labelbottom=number + columns >= count)
        panels.append(axes)
    return page, panels


def _draw_records(
    axes: Axes, records: Array, x: Array, y: Array, width: float, levels: Sequence[float]
) -> None:
    """Contours and some points of records (N, 2), and a word on those that the panel lacks."""
    finite = records[np.isfinite(records).all(axis=1)]
    inside = ((finite > (x[0], y[0])) & (finite < (x[-1], y[-1]))).all(axis=1)
    axes.plot(*finite[:RECORDS_DRAWN].T, ".", color=INK, markersize=3, alpha=0.4, mew=0)
    if len(finite):
        density = kernel_density(finite, x, y, width) * len(finite) / len(records)
        shown = [level for level in levels if density.min() < level < density.max()]
        if shown:
            axes.contour(x, y, density, shown, colors=RECORDS, linewidths=1.0)
    outside = 1 - inside.sum() / len(records)
    if outside >= 0.005:
        said = f"{100 * outside:.0f} % outside" if len(finite) else "no finite record"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85}
        axes.text(0.03, 0.04, said, transform=axes.transAxes, fontsize=8.5, bbox=box, zorder=5)
