"""A page of densities: generated records of each method over the exact target."""

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

#: Probability of the target inside each contour, from the outermost to the innermost.
ENCLOSED = (0.95, 0.75, 0.5, 0.25)
FILLS = ("#e1ebf4", "#bcd3e8", "#8bb3d6", "#5a8fbf")
RECORDS = "#b3400a"

#: Allowed numbers of panels per row.
COLUMNS = (5, 6)

#: Maximum width of a panel, gap between panels, and height of a title line, in inches.
MAX_PANEL_WIDTH, GAP, TITLE_LINE = 3.4, 0.14, 0.165

#: Characters per inch in a title.
CHARACTERS_PER_INCH = 15.0

#: Grid points per axis, and maximum number of records drawn as points.
GRID_POINTS, RECORDS_DRAWN = 128, 200

#: Margin of a panel around each mode, in standard deviations.
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
    """Draw one panel per method, with its generated records over the target, as PNG.

    The density of the target is filled; the density of the generated records is drawn as lines at
    the same levels. Both are smoothed by the same kernel (the target in closed form), so perfect
    records differ only by sampling error. Only the first two coordinates are shown.

    Args:
        problem: the problem, with its target.
        samples: records (N, d) by method, in the units of the problem.
        titles: title of each panel by method; default: the name of the method.
        path: path of the PNG file.
        n: number of target records that the methods were trained on, for the heading.
        distances: sliced Wasserstein distance of the records from the target, by method.

    Raises:
        ConfigError: there are no records, or they have another number of coordinates.
        RunError: the page cannot be written.
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
    """Return the page of `draw_densities`."""
    _check(problem, samples)
    source, target = (_in_plane(each, problem.scale) for each in (problem.source, problem.target))
    low, high = _window(source, target)
    x, y = (np.linspace(low[axis], high[axis], GRID_POINTS) for axis in range(2))
    width = kernel_width(target, max(map(len, samples.values())))
    exact = smoothed_density(target, x, y, width)
    levels = enclosing_levels(exact, ENCLOSED)
    columns, panel_width = _columns(len(samples))
    characters = int(CHARACTERS_PER_INCH * panel_width) - len("  0.123")
    wrapped = {
        name: textwrap.wrap(titles.get(name, name), characters, break_long_words=False)
        for name in samples
    }
    title_lines = max(map(len, wrapped.values()))
    panel_height = panel_width * float((high - low)[1] / (high - low)[0])
    with page_style():
        page, panels = _panels(len(samples), columns, panel_width, panel_height, title_lines)
        training = "" if n is None else f", trained on {n} target records"
        page.write(LEFT, 0.12, f"{problem.name}{training}", 12, weight="bold")
        page.write(LEFT, 0.36, problem.title, 9)
        for axes, (name, records) in zip(panels, samples.items(), strict=True):
            axes.set_title("\n".join(wrapped[name]), fontsize=8.5, loc="left", pad=4)
            if (distance := (distances or {}).get(name)) is not None:
                axes.set_title(f"{distance:.3f}", fontsize=8.5, loc="right", pad=4, weight="bold")
            axes.contourf(x, y, exact, [*levels, 1.01 * exact.max()], colors=FILLS)
            axes.plot(*source.means.numpy().T, "+", color=PALE, markersize=7)
            _draw_records(axes, np.asarray(records, dtype=np.float64)[:, :2], x, y, width, levels)
            axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        shares = ", ".join(f"{100 * share:.0f}" for share in ENCLOSED)
        page.write(
            LEFT,
            page.height - 0.45,
            f"Filled: the exact target; its contours enclose {shares} %. Lines: generated records "
            f"at the same levels of density. Both are smoothed by a kernel of standard deviation "
            f"{width:.2g}. Dots: some of the records.\nGrey crosses: the source's modes. "
            "Above each panel on the right: sliced Wasserstein distance of these records from the "
            "target.",
            8.5,
        )
    return page


def kernel_width(target: GaussianMixture, n: int) -> float:
    """Kernel width by Scott's rule in the plane, for the narrowest mode with an equal part of n."""
    per_mode = max(n / len(target.weights), 1.0)
    return math.sqrt(float(target.variances.min())) * math.pow(per_mode, -1 / 6)


def kernel_density(records: Array, x: Array, y: Array, width: float) -> Array:
    """Kernel density estimate of records (N, 2) on the grid of x (X,) and y (Y,): (Y, X).

    The kernel is an isotropic Gaussian, so the sum over records is a product of two matrices.
    """
    along_x = np.exp(-(((x[:, None] - records[:, 0]) / width) ** 2) / 2)
    along_y = np.exp(-(((y[:, None] - records[:, 1]) / width) ** 2) / 2)
    density: Array = along_y @ along_x.T / (len(records) * 2 * math.pi * width**2)
    return density


def smoothed_density(target: GaussianMixture, x: Array, y: Array, width: float) -> Array:
    """Limit of `kernel_density` for infinitely many target records, in closed form: (Y, X)."""
    points = torch.from_numpy(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    log_density = target.log_density(points, torch.full((len(points),), width).double())
    density: Array = log_density.exp().reshape(len(y), len(x)).numpy()
    return density


def enclosing_levels(density: Array, shares: Sequence[float]) -> list[float]:
    """Density levels on a regular grid whose contours enclose these probabilities."""
    falling = np.sort(density, axis=None)[::-1]
    enclosed = np.cumsum(falling) / falling.sum()
    return [float(falling[np.searchsorted(enclosed, share)]) for share in shares]


def _check(problem: Problem, samples: Mapping[str, np.ndarray]) -> None:
    for name, records in samples.items():
        if records.ndim != 2 or not len(records) or records.shape[1] != problem.dimension:
            raise ConfigError(
                f"expected records (N, {problem.dimension}) of {name} in {problem.name}, got "
                f"{records.shape}; pass records of this problem"
            )
    if not samples:
        raise ConfigError("expected records of at least one method to draw, got none; pass some")


def _in_plane(mixture: GaussianMixture, scale: float) -> GaussianMixture:
    """Distribution of the first two coordinates in the units of the problem, without labels."""
    scaled = mixture.scaled(scale)
    no_label = torch.zeros_like(scaled.label_of)
    return GaussianMixture(scaled.weights, scaled.means[:, :2], scaled.variances, no_label, 0)


def _window(*mixtures: GaussianMixture) -> tuple[Array, Array]:
    """Lower and upper limits of the axes: (2,), (2,)."""
    means = torch.cat([each.means for each in mixtures])
    margin = WINDOW_DEVIATIONS * torch.cat([each.variances for each in mixtures]).sqrt()[:, None]
    return (means - margin).amin(0).numpy(), (means + margin).amax(0).numpy()


def _columns(count: int) -> tuple[int, float]:
    """Number of panels per row that leaves few gaps, and the width of each panel in inches."""
    columns = min(count, max(COLUMNS, key=lambda each: (-(-count % each), each)))
    width = (WIDTH - LEFT - RIGHT - (columns - 1) * GAP) / columns
    return columns, min(width, MAX_PANEL_WIDTH)


def _panels(
    count: int, columns: int, width: float, height: float, title_lines: int
) -> tuple[Page, list[Axes]]:
    """Create a page of panels; only the outermost have tick labels."""
    rows = -(-count // columns)
    title = title_lines * TITLE_LINE + 0.12
    page = Page.of(HEAD + rows * (title + height) + FOOT)
    panels = []
    for index in range(count):
        row, column = divmod(index, columns)
        top = HEAD + row * (title + height) + title
        axes = page.panel(LEFT + column * (width + GAP), top, width, height)
        axes.locator_params(nbins=5)
        axes.tick_params(labelleft=column == 0, labelbottom=index + columns >= count)
        panels.append(axes)
    return page, panels


def _draw_records(
    axes: Axes, records: Array, x: Array, y: Array, width: float, levels: Sequence[float]
) -> None:
    """Draw contours and some points of records (N, 2), and note the fraction outside the panel."""
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
        note = f"{100 * outside:.0f} % outside" if len(finite) else "no finite record"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85}
        axes.text(0.03, 0.04, note, transform=axes.transAxes, fontsize=8.5, bbox=box, zorder=5)
