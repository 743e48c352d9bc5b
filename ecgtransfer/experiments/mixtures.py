"""Running the study of transfer methods on Gaussian mixtures: problems x target sizes x seeds.

It extends the 2-D experiment of the TGDP paper (Ouyang, Xie, Zha, Cheng, NeurIPS 2024, section 4.1)
by exact scores with intervals, an ablation of the loss terms, and other transfer methods.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ecgtransfer.errors import ConfigError, DivergedError, RunError
from ecgtransfer.experiments.gaussian_mixture import GaussianMixture
from ecgtransfer.experiments.networks import VectorDenoiser
from ecgtransfer.experiments.problems import Problem, problem
from ecgtransfer.experiments.scores import ScoreBoard
from ecgtransfer.experiments.study import (
    ALL_SCORES,
    FULL,
    SHOWN_SEED,
    Cell,
    Row,
    Study,
    StudySettings,
    cell_path,
    finite_or_none,
    read_cells,
)
from ecgtransfer.experiments.transfer_methods import METHODS
from ecgtransfer.experiments.transfer_task import NOISE, TransferTask
from ecgtransfer.storage import make_folder, read_json, to_card, write_json
from ecgtransfer.training import TrainConfig, load_weights, save_weights, seeded_initialisation
from ecgtransfer.training.files import write_tensors
from ecgtransfer.transfer import DomainRecords, FinetuneConfig, finetune

#: Source records for the validation of the source model.
SOURCE_HELD_OUT = 1000

#: Settings that determine the content of a cell; the others determine which cells there are.
CELL_SETTINGS = ("methods", "ablated", "steps", "source_steps", "sampler_steps", "generated")


def run_study(
    settings: StudySettings,
    folder: Path,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """Compute the missing cells of a study, and write all results to `folder/mixtures.json`.

    Each cell is written atomically to its own file in `folder/cells`. An interrupted study resumes,
    and a finished one can be extended by problems, sizes or seeds. To continue on another machine,
    `mixtures.json` and `settings.json` suffice.

    Args:
        settings: settings of the study.
        folder: folder of the study.
        workers: number of processes, of one thread each. At most as many as seeds are used, so that
            no two processes train the same source model at once.
        progress: callback (finished cells, all cells) after every cell.

    Raises:
        ConfigError: workers is below 1.
        RunError: the folder contains cells that were computed with other settings.
    """
    if workers < 1:
        raise ConfigError(f"expected at least one worker, got {workers}; use 1 or more")
    for name in ("cells", "samples", "sources"):
        make_folder(folder / name)
    _require_same_settings(settings, folder)
    write_json(folder / "settings.json", asdict(settings), one_line=True)
    finished = read_cells(folder)
    missing = [
        cell
        for cell in product(settings.problems, settings.sizes, range(settings.seeds))
        if cell not in finished
    ]
    done = settings.cells - len(missing)
    if progress:
        progress(done, settings.cells)
    for _ in _compute(settings, folder, missing, workers):
        done += 1
        if progress:
            progress(done, settings.cells)
    study = Study.open(folder)
    write_json(folder / "mixtures.json", study.as_json(), one_line=True)
    return study


def _compute(
    settings: StudySettings, folder: Path, missing: list[tuple[str, int, int]], workers: int
) -> Iterator[None]:
    """Compute cells, and yield after each."""
    if workers == 1:
        for cell in missing:
            _compute_cell(settings, folder, *cell)
            yield
        return
    # Spawned processes: a fork of a process that has used torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, settings.seeds), context, initializer=_use_one_thread
    ) as pool:
        futures = [pool.submit(_compute_cell, settings, folder, *cell) for cell in missing]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _use_one_thread() -> None:
    """Restrict a worker to one thread, because the cells run in parallel."""
    torch.set_num_threads(1)


def transfer_task(
    settings: StudySettings, folder: Path, name: str, n: int, seed: int, scratch: Path
) -> TransferTask:
    """Create the inputs of all methods in a cell.

    The source model is trained once per problem and seed.

    Args:
        settings: settings of the study.
        folder: folder of the study; `folder/sources` stores source models.
        name: name of the problem.
        n: number of target records.
        seed: seed of all random numbers.
        scratch: folder for files of the trainings.
    """
    chosen = problem(name)
    generator = torch.Generator().manual_seed(seed)
    source_fit = _sample_records(chosen.source, chosen.n_source, "source", generator)
    source_held_out = _sample_records(chosen.source, SOURCE_HELD_OUT, "held-out source", generator)
    # The records of a small target are the first ones of a large target.
    target = _sample_records(chosen.target, max(n, *FULL.sizes), "target", generator)
    path = folder / "sources" / f"{name}-seed{seed}.safetensors"
    source = _source_model(settings, chosen, source_fit, source_held_out, seed, path)
    return TransferTask(
        chosen, source, source_fit, target.subset(np.arange(n)), settings.steps, seed, scratch
    )


def score_board(settings: StudySettings, chosen: Problem, seed: int) -> ScoreBoard:
    """Create the reference data that all methods of a cell are scored against."""
    return ScoreBoard.of(
        chosen,
        n_generated=settings.generated,
        steps=settings.sampler_steps,
        noise=NOISE,
        seed=seed,
    )


def _compute_cell(settings: StudySettings, folder: Path, name: str, n: int, seed: int) -> None:
    """Run and score all methods of one cell, and write its file."""
    chosen = problem(name)
    board = score_board(settings, chosen, seed)
    rows: list[Row] = []
    samples: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as scratch:
        task = transfer_task(settings, folder, name, n, seed, Path(scratch))
        for method in settings.methods_in(name):
            try:
                result = METHODS[method].transfer(task)
            except DivergedError:
                rows.append(Row(method, dict.fromkeys(ALL_SCORES), 0, 0.0, 0.0, {}))
                continue
            scores = asdict(board.judge(result.denoise))
            rows.append(
                Row(
                    method,
                    {key: finite_or_none(value) for key, value in scores.items()},
                    result.parameters,
                    result.seconds,
                    result.selection_seconds,
                    dict(result.chosen),
                )
            )
            if seed == SHOWN_SEED:
                samples[method] = (board.generated(result.denoise) * chosen.scale).contiguous()
    if samples:
        write_tensors(samples, folder / "samples" / f"{name}-n{n}.safetensors", {})
    cell = asdict(Cell(name, n, seed, tuple(rows)))
    write_json(cell_path(folder, name, n, seed), cell, one_line=True)


def _source_model(
    settings: StudySettings,
    chosen: Problem,
    fit: DomainRecords,
    held_out: DomainRecords,
    seed: int,
    path: Path,
) -> VectorDenoiser:
    """Load the source's denoiser from `path`, or train it and write it there."""
    with seeded_initialisation(seed):
        denoiser = VectorDenoiser(chosen.dimension, chosen.labels)
    if path.exists():
        load_weights(denoiser, path)
    else:
        train = TrainConfig(
            steps=settings.source_steps,
            batch_size=256,
            learning_rate=4e-3,
            weight_decay=0.0,
            ema_decay=0.998,
            validate_every=settings.source_steps,
            seed=seed,
        )
        config = FinetuneConfig(noise=NOISE, train=train)
        with tempfile.TemporaryDirectory() as scratch:
            denoiser, _ = finetune(denoiser, fit, held_out, config, Path(scratch))
        save_weights(denoiser, path)
    return denoiser.eval().requires_grad_(False)


def _sample_records(
    mixture: GaussianMixture, n: int, name: str, generator: torch.Generator
) -> DomainRecords:
    """Sample records of a mixture, each of its own patient."""
    x0, component = mixture.sample(n, generator)
    label = mixture.one_hot(component)
    return DomainRecords(
        x0.float(),
        None if label is None else label.float(),
        tuple(f"{name} {index}" for index in range(n)),
    )


def _require_same_settings(settings: StudySettings, folder: Path) -> None:
    """Check that the cells in a folder were computed with the same settings.

    Raises:
        RunError: a setting of `CELL_SETTINGS` differs.
    """
    path = folder / "settings.json"
    if not path.exists():
        return
    stored, requested = read_json(path), to_card(settings)
    for name in CELL_SETTINGS:
        if stored.get(name) != requested[name]:
            raise RunError(
                f"expected the settings of the study in {folder}, {name} = {stored.get(name)}, got "
                f"{requested[name]}; choose another folder"
            )
