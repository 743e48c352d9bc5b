"""Figures of a study: densities of generated records, and errors against target size."""

from collections.abc import Callable
from pathlib import Path

from ecgtransfer.experiments.density_page import draw_densities
from ecgtransfer.experiments.error_page import COMPARED, HEADING, draw_errors, tables_of
from ecgtransfer.experiments.problems import problem
from ecgtransfer.experiments.study import SHOWN_SEED, Study
from ecgtransfer.experiments.transfer_methods import METHODS
from ecgtransfer.training.files import read_tensors

__all__ = ["draw_densities", "draw_errors", "draw_study"]

#: Pages of errors by file name: heading and methods.
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
    """Draw all pages of a study as PNG files into its folder.

    Cells whose records are not in `folder/samples` (the study continued on another machine) keep
    their existing pages.

    Args:
        study: study with finished cells.
        folder: folder of the study.
        progress: callback (finished pages, all pages) after every page.

    Returns:
        Paths of the pages.

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

    def finished(path: Path) -> None:
        paths.append(path)
        if progress:
            progress(len(paths), len(pages) + len(cells))

    for name in pages:
        heading, methods = PAGES[name]
        path = folder / f"{name}.png"
        draw_errors(study, path, methods=methods, heading=heading)
        finished(path)
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
        finished(path)
    return paths


def _samples_path(folder: Path, name: str, n: int) -> Path:
    """Path of the generated records of `SHOWN_SEED`."""
    return folder / "samples" / f"{name}-n{n}.safetensors"
