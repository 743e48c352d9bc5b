"""Pictures of a study: densities of generated records against the truth, and errors against n."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ecgtransfer.errors import ConfigError
from ecgtransfer.experiments.gaussian_mixture import GaussianMixture
from ecgtransfer.experiments.methods import METHODS
from ecgtransfer.experiments.mixtures import SHOWN_SEED, Study, TableRow
from ecgtransfer.experiments.pages import INK, PALE, WIDTH, Page, page_style
from ecgtransfer.experiments.problems import Problem, problem
from ecgtransfer.training.files import read_tensors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

#: Inches at the left and right edge of a page, and above and below its panels.
LEFT, RIGHT, HEAD, FOOT = 0.45, 0.15, 0.5, 0.8

#: Shares of the target that its contours enclose, from the outermost to the innermost.
ENCLOSED = (0.95, 0.75, 0.5, 0.25)
FILLS = ("#e1ebf4", "#bcd3e8", "#8bb3d6", "#5a8fbf")
RECORDS = "#b3400a"

#: Panels side by side on a page of densities.
COLUMNS = (5, 6)

#: Inches of such a page: the widest panel, the space between two, the height of a title's line.
WIDEST, GAP, TITLE_LINE = 3.4, 0.14, 0.165

#: Points of the grid along an axis, records drawn as points, letters in a line of a title.
POINTS_OF_GRID, RECORDS_DRAWN, TITLE_LETTERS = 128, 200, 28

#: Standard deviations around each mode that a panel shows.
WINDOW_DEVIATIONS = 3.2

#: Inches of a page of errors: height of a panel, of the sentence above a row of them, of the
#: legend, and width of the numbers at an axis.
ROW, SENTENCE, LEGEND, NUMBERS = 1.45, 0.42, 0.75, 0.5

#: A gap of log densities smaller than this is drawn on a linear axis.
LINEAR_BELOW = 0.1

#: Methods stand side by side at each n, this many decades apart.
DODGE = 0.035

#: Names of the scores for readers.
SCORE_TITLES = {
    "sliced_wasserstein": "sliced Wasserstein distance",
    "mmd": "MMD",
    "log_density_gap": "log-density gap",
    "score_error": "error of the score",
    "mode_weight_error": "error of the mode weights",
}


@dataclass(frozen=True)
class Line:
    """How a method is drawn."""

    colour: str
    marker: str = ""
    dashes: str | tuple[float, tuple[float, ...]] = "-"
    width: float = 1.3

    def style(self) -> dict[str, Any]:
        """As matplotlib takes it."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": 4.5,
            "linestyle": self.dashes,
            "linewidth": self.width,
        }


#: Colours that colour-blind readers tell apart (Okabe and Ito 2008), with a marker each. The last
#: is for what a page is about.
LINES = (
    Line("#e69f00", "s"),
    Line("#0072b2", "o"),
    Line("#56b4e9", "^"),
    Line("#cc79a7", "v"),
    Line("#1a1a1a", "X"),
    Line("#009e73", "D"),
    Line("#d55e00", "P", width=2.2),
)

#: What every page of errors shows besides its methods.
REFERENCES = {"source": Line(PALE, dashes=(0, (4, 2))), "exact": Line(PALE)}

#: Pages of errors, by name: a heading and as many methods as there are `LINES`.
PAGES = {
    "errors": (
        "Error against the number n of target records",
        ("vanilla", "finetune", "domain-guidance", "classifier", "all", "stack", "tgdp"),
    ),
    "terms": (
        "Error against the number n of target records, for every combination of the loss terms",
        (
            "guidance",
            "cycle",
            "guidance+cycle",
            "guidance+consistency",
            "all",
            "cycle+consistency",
            "consistency",
        ),
    ),
}


def draw_study(study: Study, folder: Path) -> list[Path]:
    """All pages of a study as PNG into its folder, where `samples/` lies; returns their paths.

    Raises:
        RunError: a page could not be written, or records could not be read.
    """
    paths = []
    for name, (heading, methods) in PAGES.items():
        if _tables(study, methods):
            paths.append(folder / f"{name}.png")
            draw_errors(study, paths[-1], methods=methods, heading=heading)
    for cell in study.cells:
        if cell.seed == SHOWN_SEED:
            place = f"{cell.problem}-n{cell.n}"
            tensors, _ = read_tensors(folder / "samples" / f"{place}.safetensors")
            samples = {row.method: tensors[row.method].numpy() for row in cell.rows}
            titles = {row.method: METHODS[row.method].title for row in cell.rows}
            distances = {row.method: row.scores["sliced_wasserstein"] for row in cell.rows}
            paths.append(folder / f"densities-{place}.png")
            draw_densities(
                problem(cell.problem), samples, titles, paths[-1], n=cell.n, distances=distances
            )
    return paths


# --- densities ---------------------------------------------------------------------------------


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
    wrapped = {
        name: textwrap.wrap(titles.get(name, name), TITLE_LETTERS, break_long_words=False)
        for name in samples
    }
    with page_style():
        page, panels = _panels(len(samples), max(map(len, wrapped.values())), high - low)
        learned = "" if n is None else f", learned from {n} target records"
        page.write(LEFT, 0.12, f"{problem.name}{learned}", 12, weight="bold")
        page.write(LEFT, 0.36, problem.title, 9)
        for axes, (name, records) in zip(panels, samples.items(), strict=True):
            axes.set_title("\n".join(wrapped[name]), fontsize=8.5, loc="left", pad=4)
            if (distance := (distances or {}).get(name)) is not None:
                axes.set_title(
                    f"{distance:.3f}", fontsize=8.5, loc="right", pad=4, weight="bold"
                )
            axes.contourf(x, y, truth, [*levels, 1.01 * truth.max()], colors=FILLS)
            axes.plot(*source.means.numpy().T, "+", color=PALE, markersize=7)
            _draw_records(axes, np.asarray(records, dtype=np.float64)[:, :2], x, y, width, levels)
            axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        shares = ", ".join(f"{100 * share:.0f}" for share in ENCLOSED)
        page.write(
            LEFT,
            page.height - FOOT + 0.35,
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
    return float(target.variances.min()) ** 0.5 * float(each) ** (-1 / 6)


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


def _panels(count: int, title_lines: int, span: Array) -> tuple[Page, list[Axes]]:
    """A page with panels of this span (2,), numbers at the outermost of them only."""
    # As few places as possible stay empty.
    columns = min(count, max(COLUMNS, key=lambda each: (-(-count % each), each)))
    rows = -(-count // columns)
    width = min((WIDTH - LEFT - RIGHT - (columns - 1) * GAP) / columns, WIDEST)
    height = width * float(span[1] / span[0])
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


# --- errors ------------------------------------------------------------------------------------


def draw_errors(
    study: Study,
    path: Path,
    *,
    methods: Sequence[str] = PAGES["errors"][1],
    heading: str = PAGES["errors"][0],
) -> None:
    """A page as PNG: problems below each other, scores side by side, errors against n.

    Args:
        study: with the tables.
        path: of the PNG.
        methods: at most as many as there are `LINES`; the last one is drawn boldest.
        heading: of the page.

    Raises:
        ConfigError: too many methods, or none that the study has.
        RunError: the disk does not take the page.
    """
    error_page(study, methods=methods, heading=heading).save(path)


def error_page(
    study: Study,
    *,
    methods: Sequence[str] = PAGES["errors"][1],
    heading: str = PAGES["errors"][0],
) -> Page:
    """The page of `draw_errors`."""
    tables = _tables(study, methods)
    if len(methods) > len(LINES) or not tables:
        raise ConfigError(
            f"expected at most {len(LINES)} methods, at least one of which the study has, got "
            f"{', '.join(methods) or 'none'}"
        )
    lines = REFERENCES | dict(zip(methods, LINES[-len(methods) :], strict=True))
    sizes = sorted({n for of_problem in tables.values() for n in of_problem})
    width = (WIDTH - LEFT - RIGHT + 0.2) / len(SCORE_TITLES)
    start = HEAD + LEGEND
    with page_style():
        page = Page.of(start + 0.1 + len(tables) * (SENTENCE + ROW) + FOOT)
        page.write(LEFT, 0.12, heading, 12, weight="bold")
        _write_legend(page, lines)
        for row, (name, of_problem) in enumerate(tables.items()):
            top = start + 0.1 + row * (SENTENCE + ROW)
            page.write(LEFT, top + 0.16, f"{name}: {problem(name).title}", 9)
            for column, score in enumerate(SCORE_TITLES):
                left = LEFT + column * width
                axes = page.panel(left, top + SENTENCE, width - NUMBERS, ROW)
                _draw_score(axes, of_problem, score, lines, sizes)
                axes.tick_params(labelbottom=row == len(tables) - 1)
        for column, title in enumerate(SCORE_TITLES.values()):
            page.write(LEFT + column * width, start - 0.1, title, 9.5, weight="bold")
        page.write(
            LEFT,
            page.height - FOOT + 0.35,
            f"Means over {study.settings.seeds} seeds with 95 % intervals of Student's t, side by "
            "side at each n. Less is better; a log-density gap below 0 means records that crowd "
            "at the peaks.\nHollow markers: seeds that diverged are left out.",
            8.5,
        )
    return page


def _tables(study: Study, methods: Sequence[str]) -> dict[str, dict[int, dict[str, TableRow]]]:
    """Rows by problem, n and method, of the problems that have all these methods."""
    tables: dict[str, dict[int, dict[str, TableRow]]] = {}
    for name, n in dict.fromkeys((cell.problem, cell.n) for cell in study.cells):
        rows = {row.method: row for row in study.table(name, n)}
        if rows.keys() >= set(methods):
            tables.setdefault(name, {})[n] = rows
    return tables


def _write_legend(page: Page, lines: Mapping[str, Line]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], **line.style(), label=METHODS[name].title) for name, line in lines.items()
    ]
    page.figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=((LEFT - 0.05) / WIDTH, 1 - HEAD / page.height),
        borderpad=0,
        borderaxespad=0,
        ncols=5,
        fontsize=9,
        frameon=False,
        handlelength=2.5,
    )


@dataclass(frozen=True)
class Course:
    """A score of one method against n, where it has a mean.

    Attributes:
        n: target records, (P,).
        value, low, high: mean and interval, (P,).
        whole: whether no seed diverged, (P,).
    """

    n: Array
    value: Array
    low: Array
    high: Array
    whole: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Mapping[int, Mapping[str, TableRow]], name: str, score: str) -> Course:
        """From tables by n and method."""
        held = [(n, rows[n][name]) for n in sorted(rows) if name in rows[n]]
        points = [(n, row.scores[score], row.diverged) for n, row in held]
        found = [(n, each, diverged) for n, each, diverged in points if each is not None]
        return cls(
            np.array([n for n, _, _ in found], dtype=np.float64),
            np.array([each.value for _, each, _ in found]),
            np.array([each.low for _, each, _ in found]),
            np.array([each.high for _, each, _ in found]),
            np.array([diverged == 0 for _, _, diverged in found], dtype=bool),
        )


def _draw_score(
    axes: Axes,
    rows: Mapping[int, Mapping[str, TableRow]],
    score: str,
    lines: Mapping[str, Line],
    sizes: Sequence[int],
) -> None:
    """One score of one problem: a line a method, with the interval at each n."""
    courses = {name: Course.of(rows, name, score) for name in lines}
    courses = {name: course for name, course in courses.items() if len(course.n)}
    left, right = sizes[0] / 1.5, sizes[-1] * 1.5
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_xticks(sizes, [f"{n:g}" for n in sizes])
    axes.minorticks_off()
    axes.grid()
    if score == "log_density_gap":
        axes.axhline(0, color=INK, linewidth=0.7)
    bottom, top = _set_scale(axes, courses, signed=score == "log_density_gap")
    for name in REFERENCES.keys() & courses.keys():
        course = courses[name]
        value = [course.value[0], *course.value, course.value[-1]]
        axes.plot([left, *course.n, right], value, **lines[name].style(), zorder=1.5)
    methods = [name for name in courses if name not in REFERENCES]
    for number, name in enumerate(methods):
        course, line = courses[name], lines[name]
        n = course.n * 10 ** (DODGE * (number - (len(methods) - 1) / 2))
        axes.plot(n, course.value, **line.style() | {"marker": ""})
        axes.vlines(
            n, course.low.clip(bottom, top), course.high.clip(bottom, top), line.colour, lw=1
        )
        for whole in (True, False):
            chosen = course.whole == whole
            face = line.colour if whole else "white"
            style = line.style() | {"linestyle": "none", "markerfacecolor": face}
            axes.plot(n[chosen], course.value[chosen], **style)


def _set_scale(axes: Axes, courses: Mapping[str, Course], *, signed: bool) -> tuple[float, float]:
    """Fit an axis to all means but those of `exact`; the widest intervals may leave it."""
    fitted = [course for name, course in courses.items() if name != "exact"]
    value, low, high = (
        np.concatenate([getattr(course, part) for course in fitted or courses.values()])
        for part in ("value", "low", "high")
    )
    if signed:
        axes.set_yscale("symlog", linthresh=LINEAR_BELOW)
        reach = 2 * np.maximum(np.abs(value), LINEAR_BELOW)
        bottom, top = min(np.maximum(low, value - reach)), max(np.minimum(high, value + reach))
        bottom -= 0.25 * max(abs(bottom), LINEAR_BELOW)
        top += 0.25 * max(abs(top), LINEAR_BELOW)
    else:
        axes.set_yscale("log")
        bottom = min(value[value > 0], default=0.01)
        # Exact guidance is shown where that does not press all others together.
        exact = courses["exact"].value if "exact" in courses else value
        bottom = min(exact[exact > bottom / 4], default=bottom)
        bottom = min(bottom, *value[value > 0]) / 1.3
        top = max(1.2 * max(np.minimum(high, 3 * value)), 2 * bottom)
    ticks = axis_ticks(bottom, top, signed=signed)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom, top)
    return float(bottom), float(top)


def axis_ticks(bottom: float, top: float, *, signed: bool) -> list[float]:
    """Round numbers between two ends, on a log axis or on both sides of zero: three or more."""
    decades = [10.0**power for power in range(-6, 8)]
    ticks: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5), range(1, 10), np.arange(1, 10, 0.25)):
        ticks = [decade * step for decade in decades for step in steps]
        if signed:
            ticks = [0.0, *(sign * t for t in ticks for sign in (1, -1) if t >= LINEAR_BELOW)]
        ticks = sorted(round(tick, 9) for tick in ticks if bottom <= tick <= top)
        if len(ticks) >= 3:
            break
    return ticks
