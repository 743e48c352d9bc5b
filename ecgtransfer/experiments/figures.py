"""Pictures of a study: densities of generated records against the truth, and errors against n."""

from collections.abc import Callable
from pathlib import Path

from ecgtransfer.experiments.density_page import draw_densities
from ecgtransfer.experiments.error_page import COMPARED, HEADING, draw_errors, tables_of
from ecgtransfer.experiments.mixtures import SHOWN_SEED, Study
from ecgtransfer.experiments.problems import problem
from ecgtransfer.experiments.transfer_methods import METHODS
from ecgtransfer.training.files import read_tensors

__all__ = ["draw_densities", "draw_errors", "draw_study"]

#: Pages of errors, by name: a heading and the methods compared.
PAGES = {
    "errors": (HEADING, COMPARED),
    "terms": (
        f"{HEADING}, for every combination of the loss terms",
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


def draw_study(
    study: Study, folder: Path, progress: Callable[[int, int], None] | None = None
) -> list[Path]:
    """All pages of a study as PNG into its folder, where `samples/` lies; returns their paths.

    Cells without records there, of a study that went on elsewhere, keep the page that they have.

    Args:
        study: with cells.
        folder: of the study.
        progress: (pages done, pages in all), after every page.

    Raises:
        RunError: a page could not be written, or records could not be read.
    """
    pages = [name for name, (_, methods) in PAGES.items() if tables_of(study, methods)]
    cells = [
        cell
        for cell in study.cells
        if cell.seed == SHOWN_SEED and _samples_path(folder, cell.problem, cell.n).exists()
    ]
    paths: list[Path] = []

    def drawn(path: Path) -> None:
        paths.append(path)
        if progress:
            progress(len(paths), len(pages) + len(cells))

    for name in pages:
        heading, methods = PAGES[name]
        path = folder / f"{name}.png"
        draw_errors(study, path, methods=methods, heading=heading)
        drawn(path)
    for cell in cells:
        path = folder / f"densities-{cell.problem}-n{cell.n}.png"
        tensors, _ = read_tensors(_samples_path(folder, cell.problem, cell.n))
        draw_densities(
            problem(cell.problem),
            {name: tensors[name].numpy() for name in METHODS if name in tensors},
            {name: METHODS[name].title for name in tensors},
            path,
            n=cell.n,
            distances={row.method: row.scores["sliced_wasserstein"] for row in cell.rows},
        )
        drawn(path)
    return paths


def _samples_path(folder: Path, name: str, n: int) -> Path:
    """Where a study keeps the records of its first seed."""
    return folder / "samples" / f"{name}-n{n}.safetensors"
