"""The study of transfer methods where the answer is known: problems x target sizes x seeds.

What the paper shows as scatter plots (Ouyang, Xie, Zha, Cheng, NeurIPS 2024, section 4.1) here has
densities, distances with intervals, every combination of the loss terms and the rivals beside it.
"""

from __future__ import annotations

import math
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecgtransfer.errors import ConfigError, DivergedError, RunError
from ecgtransfer.experiments.assignment import NOISE, Assignment
from ecgtransfer.experiments.gaussian_mixture import GaussianMixture
from ecgtransfer.experiments.networks import VectorDenoiser
from ecgtransfer.experiments.problems import PROBLEMS, Problem, problem
from ecgtransfer.experiments.scores import (
    ScoreBoard,
)
from ecgtransfer.experiments.transfer_methods import METHODS, method
from ecgtransfer.statistics import (
    Estimate,
    student_estimate,
)
from ecgtransfer.storage import from_card, make_folder, read_card, read_json, to_card, write_json
from ecgtransfer.training import (
    TrainConfig,
    load_weights,
    save_weights,
    seeded_initialisation,
)
from ecgtransfer.training.files import write_tensors
from ecgtransfer.transfer import DomainRecords, FinetuneConfig, finetune

#: Scores of a table, each 0 for a perfect method.
SCORES = ("sliced_wasserstein", "mmd", "log_density_gap", "score_error", "mode_weight_error")

#: The method that every other one is compared with, seed by seed.
COMPARED_WITH = "tgdp"

#: Methods that run in the ablated problems alone.
ABLATION = (
    "cycle",
    "guidance+cycle",
    "guidance+consistency",
    "cycle+consistency",
    "all",
    "guidance-mse",
    "guidance-kl",
)

#: With the shares of the target's modes, which are a tuple.
ALL_SCORES = (*SCORES, "mode_weights")

#: Source records that stop and calibrate the domain classifiers.
SOURCE_HELD_OUT = 1000

#: Seed whose generated records are kept for the figures.
SHOWN_SEED = 0

#: How every method's settings are chosen, for tables and files.
RULE = (
    "Each training has two or three candidates of one setting; kept is the one whose denoiser has "
    "the least denoising loss on the held-out fifth of the target's training records, with the "
    "same noise for all methods (for the domain classifier of clean records, which gives no "
    "denoiser, its logistic loss out of fold on the other four fifths). The same records stop each "
    "training early, the start included. 'seconds' are of the trainings kept, 'selection_seconds' "
    "of the candidates that were not."
)

#: Settings that decide what is in a cell; the others say which cells there are.
DECISIVE = ("methods", "ablated", "steps", "source_steps", "sampler_steps", "generated")


@dataclass(frozen=True)
class StudySettings:
    """Which cells a study has, and how each is made.

    Attributes:
        problems: names of `PROBLEMS`.
        sizes: target records for training.
        seeds: repeats, each with source, target, networks and noise of its own.
        methods: names of `METHODS`.
        ablated: problems in which every combination of the loss terms and every form of the
            guidance loss runs; in the others the guidance and the consistency term run alone.
        steps: of each transfer's training, at most.
        source_steps: of the source model's training.
        sampler_steps: of the solver. With 25, as in the paper, records come out a little too wide,
            which in 32 dimensions outweighs what the methods differ by.
        generated: records that a method is judged by; the sampling floor of each score is in the
            row of the exact target denoiser.
    """

    problems: tuple[str, ...] = tuple(PROBLEMS)
    sizes: tuple[int, ...] = (10, 30, 100, 300, 1000)
    seeds: int = 10
    methods: tuple[str, ...] = tuple(METHODS)
    ablated: tuple[str, ...] = ("paper", "unequal")
    steps: int = 600
    source_steps: int = 2500
    sampler_steps: int = 50
    generated: int = 1000

    def __post_init__(self) -> None:
        for name in (*self.problems, *self.ablated):
            problem(name)
        for name in self.methods:
            method(name)
        if not self.problems or not self.sizes:
            raise ConfigError("expected at least one problem and one target size, got none")
        if min(self.sizes) < 10:
            raise ConfigError(
                f"expected target sizes of at least 10, two held-out records for each of five "
                f"folds, got {min(self.sizes)}"
            )
        if self.seeds < 2:
            raise ConfigError(f"expected at least 2 seeds for an interval, got {self.seeds}")
        if min(self.steps, self.source_steps) < 1:
            raise ConfigError(
                f"expected at least 1 training step, got {self.steps} and {self.source_steps}"
            )
        if min(self.generated, self.sampler_steps) < 2:
            raise ConfigError(
                f"expected at least 2 generated records and sampler steps, got {self.generated} "
                f"and {self.sampler_steps}"
            )

    def methods_in(self, name: str) -> tuple[str, ...]:
        """Methods that run in a problem, in the order of tables."""
        return tuple(
            method
            for method in METHODS
            if method in self.methods and (name in self.ablated or method not in ABLATION)
        )

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.problems) * len(self.sizes) * self.seeds


FULL = StudySettings()
#: A few minutes on two cores: the paper's pair at two sizes.
QUICK = StudySettings(problems=("paper",), sizes=(30, 100), seeds=3)


@dataclass(frozen=True)
class Row:
    """One method in one cell.

    Attributes:
        method: of `METHODS`.
        scores: as in `Scores`, None for what is not finite: the method diverged.
        parameters: trained.
        seconds: of the trainings that it rests on.
        selection_seconds: of candidates that the rule did not keep.
        chosen: settings that it kept.
    """

    method: str
    scores: Mapping[str, Any]
    parameters: int
    seconds: float
    selection_seconds: float
    chosen: Mapping[str, float]


@dataclass(frozen=True)
class Cell:
    """All methods on the target records of one seed."""

    problem: str
    n: int
    seed: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class TableRow:
    """One method over the seeds of one problem and size.

    Attributes:
        scores: mean with the 95 % interval over seeds; None where fewer than two are finite.
        excess: the same of this method's score less that of `COMPARED_WITH` on the same seed, whose
            target records are the same. Above 0 the other is better. None where fewer than two
            seeds have both.
        diverged: seeds whose scores are not finite; they are not in the means.
        mode_weights: mean share of each target mode, None where every seed diverged.
    """

    method: str
    title: str
    scores: Mapping[str, Estimate | None]
    excess: Mapping[str, Estimate | None]
    mode_weights: tuple[float, ...] | None
    diverged: int
    seeds: int
    parameters: int
    seconds: float
    selection_seconds: float


@dataclass(frozen=True)
class Study:
    """Cells that are done, and the tables they make."""

    settings: StudySettings
    cells: tuple[Cell, ...] = field(repr=False)

    def table(self, name: str, n: int) -> list[TableRow]:
        """Methods of a problem at one target size, in the order of `METHODS`."""
        by_method: dict[str, dict[int, Row]] = {}
        for cell in self.cells:
            if (cell.problem, cell.n) == (name, n):
                for row in cell.rows:
                    by_method.setdefault(row.method, {})[cell.seed] = row
        beside = by_method.get(COMPARED_WITH, {})
        return [
            _table_row(METHODS[each].title, by_method[each], beside)
            for each in METHODS
            if each in by_method
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything, in plain numbers."""
        sizes = sorted({(cell.problem, cell.n) for cell in self.cells}, key=self._place)
        return {
            "rule": RULE,
            "settings": asdict(self.settings),
            "methods": {method.name: method.title for method in METHODS.values()},
            "tables": [
                {"problem": name, "n": n, "rows": [asdict(row) for row in self.table(name, n)]}
                for name, n in sizes
            ],
            "cells": [asdict(cell) for cell in self.cells],
        }

    def _place(self, place: tuple[str, int]) -> tuple[int, int]:
        return list(PROBLEMS).index(place[0]), place[1]

    @classmethod
    def open(cls, folder: Path) -> Study:
        """The cells that are done in a study's folder.

        Raises:
            RunError: there is no study.
        """
        if not (folder / "settings.json").exists():
            raise RunError(
                f"expected a study in {folder}, found no settings.json; begin one with "
                "'ecgtransfer mixtures'"
            )
        cells = _done(folder).values()
        place = {name: number for number, name in enumerate(PROBLEMS)}
        return cls(
            read_card(StudySettings, folder / "settings.json"),
            tuple(sorted(cells, key=lambda cell: (place[cell.problem], cell.n, cell.seed))),
        )


def run_study(
    settings: StudySettings,
    folder: Path,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """Make the cells that are missing, and put everything into `folder/mixtures.json`.

    Every cell is a file of its own in `folder/cells`, written whole, so a study that was stopped
    goes on, and one that is done can be given more problems, sizes or seeds. `mixtures.json` with
    `settings.json` is enough to go on elsewhere.

    Args:
        settings: which cells.
        folder: of the study.
        workers: processes, of one thread each; never more than seeds, so that no two train the
            source model of one seed.
        progress: (cells done, cells in all), after every cell.

    Raises:
        ConfigError: no worker.
        RunError: the folder holds cells that were made with other settings.
    """
    if workers < 1:
        raise ConfigError(f"expected at least one worker, got {workers}")
    for name in ("cells", "samples", "sources"):
        make_folder(folder / name)
    _same_making(settings, folder)
    write_json(folder / "settings.json", asdict(settings), one_line=True)
    held = _done(folder)
    missing = [
        cell
        for cell in product(settings.problems, settings.sizes, range(settings.seeds))
        if cell not in held
    ]
    done = settings.cells - len(missing)
    if progress:
        progress(done, settings.cells)
    for _ in _made(settings, folder, missing, workers):
        done += 1
        if progress:
            progress(done, settings.cells)
    study = Study.open(folder)
    write_json(folder / "mixtures.json", study.as_json(), one_line=True)
    return study


def _made(
    settings: StudySettings, folder: Path, missing: list[tuple[str, int, int]], workers: int
) -> Iterator[None]:
    """Make cells, in the order in which they get done."""
    if workers == 1:
        for cell in missing:
            _make(settings, folder, *cell)
            yield
        return
    # Fresh processes: a fork of one that has used torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, settings.seeds), context, initializer=_one_thread
    ) as pool:
        futures = [pool.submit(_make, settings, folder, *cell) for cell in missing]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one_thread() -> None:
    """Begin a worker: the cells run side by side, not the arithmetic of one."""
    torch.set_num_threads(1)


def assignment(
    settings: StudySettings, folder: Path, name: str, n: int, seed: int, scratch: Path
) -> Assignment:
    """What every method of a cell is given; the source model is trained once a problem and seed.

    Args:
        settings: of the study.
        folder: of the study, whose `sources/` keeps source models.
        name: of the problem.
        n: target records.
        seed: of all that is drawn.
        scratch: where trainings may leave files.
    """
    chosen = problem(name)
    generator = torch.Generator().manual_seed(seed)
    source_fit = _drawn(chosen.source, chosen.n_source, "source", generator)
    source_held_out = _drawn(chosen.source, SOURCE_HELD_OUT, "held-out source", generator)
    # The records of a small target are the first ones of a large one.
    target = _drawn(chosen.target, max(n, *FULL.sizes), "target", generator).subset(np.arange(n))
    path = folder / "sources" / f"{name}-seed{seed}.safetensors"
    source = _source_model(settings, chosen, source_fit, source_held_out, seed, path)
    return Assignment(chosen, source, source_fit, target, settings.steps, seed, scratch)


def score_board(settings: StudySettings, chosen: Problem, seed: int) -> ScoreBoard:
    """What every method of a cell is judged by."""
    return ScoreBoard.of(
        chosen,
        n_generated=settings.generated,
        steps=settings.sampler_steps,
        noise=NOISE,
        seed=seed,
    )


def _make(settings: StudySettings, folder: Path, name: str, n: int, seed: int) -> None:
    """One cell."""
    chosen = problem(name)
    board = score_board(settings, chosen, seed)
    rows: list[Row] = []
    shown: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as scratch:
        given = assignment(settings, folder, name, n, seed, Path(scratch))
        for method in settings.methods_in(name):
            try:
                result = METHODS[method].transfer(given)
            except DivergedError:
                rows.append(Row(method, dict.fromkeys(ALL_SCORES), 0, 0.0, 0.0, {}))
                continue
            scores = asdict(board.judge(result.denoise))
            rows.append(
                Row(
                    method,
                    {key: _finite(value) for key, value in scores.items()},
                    result.parameters,
                    result.seconds,
                    result.selection_seconds,
                    dict(result.chosen),
                )
            )
            if seed == SHOWN_SEED:
                shown[method] = (board.generated(result.denoise) * chosen.scale).contiguous()
    if shown:
        write_tensors(shown, folder / "samples" / f"{name}-n{n}.safetensors", {})
    cell = asdict(Cell(name, n, seed, tuple(rows)))
    write_json(_cell_path(folder, name, n, seed), cell, one_line=True)


def _source_model(
    settings: StudySettings,
    chosen: Problem,
    fit: DomainRecords,
    held_out: DomainRecords,
    seed: int,
    path: Path,
) -> VectorDenoiser:
    """The source's denoiser, trained once for all target sizes of a seed."""
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


def _drawn(law: GaussianMixture, n: int, name: str, generator: torch.Generator) -> DomainRecords:
    """Records of a law, each a patient of its own."""
    x0, component = law.sample(n, generator)
    label = law.one_hot(component)
    return DomainRecords(
        x0.float(),
        None if label is None else label.float(),
        tuple(f"{name} {number}" for number in range(n)),
    )


def _finite(value: Any) -> Any:
    """To six digits; None for what is not finite, which JSON has no number for."""
    if isinstance(value, tuple):
        rounded = [_finite(each) for each in value]
        return None if None in rounded else rounded
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _table_row(title: str, rows: dict[int, Row], beside: dict[int, Row]) -> TableRow:
    """One method's rows by seed, and its excess over those beside."""
    finite = {seed: row for seed, row in rows.items() if _is_finite(row)}
    pairs = [
        (finite[seed], beside[seed])
        for seed in finite.keys() & beside.keys()
        if _is_finite(beside[seed])
    ]
    weights = [row.scores["mode_weights"] for row in finite.values()]
    some = next(iter((finite or rows).values()))
    return TableRow(
        method=some.method,
        title=title,
        scores={
            score: _interval([row.scores[score] for row in finite.values()]) for score in SCORES
        },
        excess={
            score: _interval([ours.scores[score] - theirs.scores[score] for ours, theirs in pairs])
            for score in SCORES
        },
        mode_weights=tuple(np.mean(weights, axis=0).tolist()) if weights else None,
        diverged=len(rows) - len(finite),
        seeds=len(rows),
        parameters=some.parameters,
        seconds=float(np.mean([row.seconds for row in rows.values()])),
        selection_seconds=float(np.mean([row.selection_seconds for row in rows.values()])),
    )


def _is_finite(row: Row) -> bool:
    return all(row.scores[score] is not None for score in SCORES)


def _interval(values: list[float]) -> Estimate | None:
    return student_estimate(values) if len(values) > 1 else None


def _cell_path(folder: Path, name: str, n: int, seed: int) -> Path:
    return folder / "cells" / f"{name}-n{n}-seed{seed}.json"


def _done(folder: Path) -> dict[tuple[str, int, int], Cell]:
    """Cells that are made, from `mixtures.json` and from their own files."""
    whole = folder / "mixtures.json"
    cells: list[Cell] = []
    if whole.exists():
        cells += from_card(tuple[Cell, ...], read_json(whole), whole, "cells")
    cells += [read_card(Cell, path) for path in sorted((folder / "cells").glob("*.json"))]
    return {(cell.problem, cell.n, cell.seed): cell for cell in cells}


def _same_making(settings: StudySettings, folder: Path) -> None:
    """Cells of one folder are all made alike."""
    path = folder / "settings.json"
    if not path.exists():
        return
    kept, asked = read_json(path), to_card(settings)
    for name in DECISIVE:
        if kept.get(name) != asked[name]:
            raise RunError(
                f"expected the settings that the study in {folder} was begun with, {name} = "
                f"{kept.get(name)}, got {asked[name]}; choose another folder"
            )
