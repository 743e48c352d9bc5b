"""Settings, results and tables of the study on Gaussian mixtures, and its files.

A cell of the study is one problem with one number of target records and one seed; all methods run
on the same records of a cell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.experiments.problems import PROBLEMS, problem
from ecgtransfer.experiments.transfer_methods import METHODS, method
from ecgtransfer.statistics import Estimate, student_estimate
from ecgtransfer.storage import from_card, read_card, read_json

#: Scores in tables; each is 0 for a perfect method.
SCORES = ("sliced_wasserstein", "mmd", "log_density_gap", "score_error", "mode_weight_error")

#: All scores of a cell: those in tables, and the tuple of shares of the target's modes.
ALL_SCORES = (*SCORES, "mode_weights")

#: Reference method: the others are compared with it, seed by seed.
COMPARED_WITH = "tgdp"

#: Methods that only run in the problems of the ablation, `StudySettings.ablated`.
ABLATION = (
    "cycle",
    "guidance+cycle",
    "guidance+consistency",
    "cycle+consistency",
    "all",
    "guidance-mse",
    "guidance-kl",
)

#: Seed whose generated records are stored for the figures.
SHOWN_SEED = 0

#: How the settings of all methods are selected; printed with tables and written to files.
RULE = (
    "Each training tries two or three candidates of one setting and keeps the one with the lowest "
    "denoising loss on the held-out fifth of the target's training records, with the same noise "
    "for all methods. The domain classifier of clean records gives no denoiser; it is selected by "
    "its out-of-fold logistic loss on the other four fifths. The held-out fifth also stops each "
    "training early. 'seconds' is the time of the trainings that were kept, 'selection_seconds' "
    "that of the other candidates."
)


@dataclass(frozen=True)
class StudySettings:
    """Which cells a study has, and how each is computed.

    Attributes:
        problems: names of `PROBLEMS`.
        sizes: numbers of target training records.
        seeds: number of repeats, each with its own records, networks and noise.
        methods: names of `METHODS`.
        ablated: problems in which all combinations of the loss terms and all forms of the guidance
            loss run; in the others, only the guidance and the consistency term alone.
        steps: maximum training steps of each transfer.
        source_steps: training steps of the source model.
        sampler_steps: steps of the sampler. With 25, as in the paper, generated records are
            slightly too wide; in 32 dimensions this error exceeds the differences of the methods.
        generated: number of generated records that a method is scored on. The row of the exact
            target denoiser shows the sampling error of each score.

    Raises:
        ConfigError: a setting is out of range, or a problem or method is unknown.
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
            raise ConfigError(
                "expected at least one problem and one target size, got none; add one"
            )
        if min(self.sizes) < 10:
            raise ConfigError(
                f"expected target sizes of at least 10, two held-out records for each of five "
                f"folds, got {min(self.sizes)}; use larger sizes"
            )
        if self.seeds < 2:
            raise ConfigError(
                f"expected at least 2 seeds for an interval, got {self.seeds}; use more seeds"
            )
        if min(self.steps, self.source_steps) < 1:
            raise ConfigError(
                f"expected at least 1 training step, got {self.steps} and {self.source_steps}; "
                "use more steps"
            )
        if min(self.generated, self.sampler_steps) < 2:
            raise ConfigError(
                f"expected at least 2 generated records and sampler steps, got {self.generated} "
                f"and {self.sampler_steps}; use more"
            )

    def methods_in(self, name: str) -> tuple[str, ...]:
        """Names of the methods that run in a problem, in the order of tables."""
        return tuple(
            method
            for method in METHODS
            if method in self.methods and (name in self.ablated or method not in ABLATION)
        )

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.problems) * len(self.sizes) * self.seeds


#: The whole study.
FULL = StudySettings()
#: A study of a few minutes on two cores: the paper's pair at two sizes.
QUICK = StudySettings(problems=("paper",), sizes=(30, 100), seeds=3)


@dataclass(frozen=True)
class Row:
    """Result of one method in one cell.

    Attributes:
        method: name of the method, one of `METHODS`.
        scores: fields of `Scores`, each None if not finite because the method diverged.
        parameters: number of trained parameters.
        seconds: duration of the trainings that the result depends on.
        selection_seconds: duration of the candidates that were not kept.
        chosen: settings that were selected.
    """

    method: str
    scores: Mapping[str, Any]
    parameters: int
    seconds: float
    selection_seconds: float
    chosen: Mapping[str, float]


@dataclass(frozen=True)
class Cell:
    """Results of all methods on the target records of one seed.

    Attributes:
        problem: name of the problem.
        n: number of target records.
        seed: seed of all random numbers.
        rows: one result per method.
    """

    problem: str
    n: int
    seed: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class TableRow:
    """Results of one method over all seeds of one problem and size.

    Attributes:
        method: name of the method.
        title: title of the method.
        scores: mean of each score with its 95 % interval over seeds; None if fewer than two seeds
            are finite.
        excess: difference of each score from that of `COMPARED_WITH`, paired by seed (both methods
            have the same target records), with its 95 % interval; above 0 if this method is worse.
            None if fewer than two seeds have both scores.
        mode_weights: mean share of each target mode; None if all seeds diverged.
        diverged: number of seeds with scores that are not finite; the means exclude them.
        seeds: number of seeds.
        parameters: number of trained parameters.
        seconds: mean duration of the trainings that the result depends on.
        selection_seconds: mean duration of the candidates that were not kept.
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
    """A study with its finished cells.

    Attributes:
        settings: settings of the study.
        cells: finished cells, ordered by problem, size and seed.
    """

    settings: StudySettings
    cells: tuple[Cell, ...] = field(repr=False)

    def table(self, name: str, n: int) -> list[TableRow]:
        """Table of a problem at one target size, with the methods in the order of `METHODS`."""
        by_method: dict[str, dict[int, Row]] = {}
        for cell in self.cells:
            if (cell.problem, cell.n) == (name, n):
                for row in cell.rows:
                    by_method.setdefault(row.method, {})[cell.seed] = row
        reference = by_method.get(COMPARED_WITH, {})
        return [
            _table_row(METHODS[each].title, by_method[each], reference)
            for each in METHODS
            if each in by_method
        ]

    def as_json(self) -> dict[str, Any]:
        """Settings, tables and cells as JSON values."""
        sizes = sorted({(cell.problem, cell.n) for cell in self.cells}, key=_problem_order)
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

    @classmethod
    def open(cls, folder: Path) -> Study:
        """Read a study with its finished cells.

        Raises:
            RunError: the folder contains no study.
        """
        if not (folder / "settings.json").exists():
            raise RunError(
                f"expected a study in {folder}, found no settings.json; start one with "
                "'ecgtransfer mixtures'"
            )
        cells = read_cells(folder).values()
        return cls(
            read_card(StudySettings, folder / "settings.json"),
            tuple(
                sorted(cells, key=lambda cell: (*_problem_order((cell.problem, cell.n)), cell.seed))
            ),
        )


def cell_path(folder: Path, name: str, n: int, seed: int) -> Path:
    """Path of the file of one cell."""
    return folder / "cells" / f"{name}-n{n}-seed{seed}.json"


def read_cells(folder: Path) -> dict[tuple[str, int, int], Cell]:
    """Read the finished cells, from `mixtures.json` and from the files of single cells."""
    collected = folder / "mixtures.json"
    cells: list[Cell] = []
    if collected.exists():
        cells += from_card(tuple[Cell, ...], read_json(collected), collected, "cells")
    cells += [read_card(Cell, path) for path in sorted((folder / "cells").glob("*.json"))]
    return {(cell.problem, cell.n, cell.seed): cell for cell in cells}


def finite_or_none(value: Any) -> Any:
    """Round a number, or each number of a tuple, to six digits; None if one is not finite."""
    if isinstance(value, tuple):
        rounded = [finite_or_none(each) for each in value]
        return None if None in rounded else rounded
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _problem_order(key: tuple[str, int]) -> tuple[int, int]:
    """Sort key of a problem and a size, in the order of `PROBLEMS`."""
    return list(PROBLEMS).index(key[0]), key[1]


def _table_row(title: str, rows: dict[int, Row], reference: dict[int, Row]) -> TableRow:
    """Summarise the rows of one method by seed, and their differences from the reference."""
    finite = {seed: row for seed, row in rows.items() if _is_finite(row)}
    pairs = [
        (finite[seed], reference[seed])
        for seed in finite.keys() & reference.keys()
        if _is_finite(reference[seed])
    ]
    weights = [row.scores["mode_weights"] for row in finite.values()]
    example = next(iter((finite or rows).values()))
    return TableRow(
        method=example.method,
        title=title,
        scores={
            score: _interval([row.scores[score] for row in finite.values()]) for score in SCORES
        },
        excess={
            score: _interval([row.scores[score] - other.scores[score] for row, other in pairs])
            for score in SCORES
        },
        mode_weights=tuple(np.mean(weights, axis=0).tolist()) if weights else None,
        diverged=len(rows) - len(finite),
        seeds=len(rows),
        parameters=example.parameters,
        seconds=float(np.mean([row.seconds for row in rows.values()])),
        selection_seconds=float(np.mean([row.selection_seconds for row in rows.values()])),
    )


def _is_finite(row: Row) -> bool:
    return all(row.scores[score] is not None for score in SCORES)


def _interval(values: list[float]) -> Estimate | None:
    return student_estimate(values) if len(values) > 1 else None
