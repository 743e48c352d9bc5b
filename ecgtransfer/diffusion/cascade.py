"""A factorised model of records: rhythm, then beat shapes, then the record.

p(x, m, b | y) = p(b | y) p(m | b, y) p(x | m, b, y): the beats b are drawn from a `RhythmModel`,
the beat shapes m and the level of the residual from a `BeatShapeModel`, and the record x from a
`DiffusionModel` of the residual. A cascade in the sense of Ho et al. 2021 (arXiv 2106.15282).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecgtransfer.diffusion.beat_shape_model import BeatShapeModel
from ecgtransfer.diffusion.condition import Condition
from ecgtransfer.diffusion.denoiser import Denoiser
from ecgtransfer.diffusion.model import DiffusionModel
from ecgtransfer.errors import ConfigError
from ecgtransfer.rhythm import RhythmModel
from ecgtransfer.signals import Beats
from ecgtransfer.statistics import streams


class Cascade(nn.Module):
    """The three models that draw a record.

    Attributes:
        rhythm: p(b | y).
        beat_shapes: p(m, level | b, y).
        record: p(x | m, b, y), a residual model.
    """

    def __init__(
        self, rhythm: RhythmModel, beat_shapes: BeatShapeModel, record: DiffusionModel
    ) -> None:
        super().__init__()
        self.rhythm, self.beat_shapes, self.record = rhythm, beat_shapes, record

    @property
    def label_names(self) -> tuple[str, ...]:
        """Statements that the models know, the columns of their label."""
        return self.record.config.label_names


class RhythmSelector(Protocol):
    """Takes one of several trains a record, such as `transfer.RhythmSelection`."""

    @property
    def candidates(self) -> int:
        """How many trains a record it chooses among."""
        ...

    @property
    def is_constant(self) -> bool:
        """Whether it prefers no train to another."""
        ...

    def select(
        self,
        candidates: Sequence[Sequence[Beats]],
        generators: Sequence[np.random.Generator],
    ) -> list[Beats]:
        """One of the candidates of each record."""
        ...


@dataclass(frozen=True, eq=False)
class CascadeConditions:
    """Draws what records are conditioned on: a `synthesis.ConditionSource`.

    Attributes:
        cascade: the three models.
        names: statements of the labels that are asked for, each of which the models know; the
            others are unknown.
        label_scale: classifier-free guidance of the beat shapes, 1 for none.
        heart_rate_bpm: lowest and highest heart rate to draw; None for any.
        beats: rhythms to take in place of drawn ones, in turn; None to draw them.
        age: in years; None for unknown.
        sex: 0 male, 1 female; None for unknown.
        shape_denoiser: of the target's beat shapes; None for the source's.
        select_rhythm: takes one of several drawn rhythms; None takes the first.
    """

    cascade: Cascade
    names: tuple[str, ...]
    label_scale: float = 1.0
    heart_rate_bpm: tuple[float, float] | None = None
    beats: Sequence[Beats] | None = None
    age: float | None = None
    sex: float | None = None
    shape_denoiser: Denoiser | None = None
    select_rhythm: RhythmSelector | None = None

    def __call__(
        self, label: Tensor, seeds: Sequence[int], first: int = 0
    ) -> tuple[Condition, list[Beats]]:
        """Labels (B, len(names)) and seeds of B records -> their condition and beats.

        `first` is the number of the first record, by which given rhythms are taken in turn.
        """
        patient, beats = self.rhythm(label, seeds, first)
        shapes_mv, level = self._shapes(patient, beats, seeds)
        condition = self.cascade.record.condition(
            patient.label,
            known=patient.known,
            beats=beats,
            shapes_mv=shapes_mv,
            level=torch.from_numpy(level),
            age=patient.age,
            sex=patient.sex,
        )
        return condition, beats

    def rhythm(
        self, label: Tensor, seeds: Sequence[int], first: int = 0
    ) -> tuple[Condition, list[Beats]]:
        """Label, age and sex of B records as the models take them, and their beats."""
        told = spread_label(label.cpu(), self.names, self.cascade.label_names)
        rows = len(seeds)
        age = torch.full((rows,), np.nan if self.age is None else float(self.age))
        sex = torch.full((rows,), np.nan if self.sex is None else float(self.sex))
        patient = Condition(told.label, told.known, age=age, sex=sex)
        if self.beats is not None:
            return patient, [self.beats[(first + row) % len(self.beats)] for row in range(rows)]
        assert told.label is not None
        assert told.known is not None
        drawn = [
            self.cascade.rhythm.sample(
                told.label,
                told.known,
                age,
                sex,
                stream_seeds(seeds, stream),
                None if self.heart_rate_bpm is None else [self.heart_rate_bpm] * rows,
            )
            for stream in self._rhythm_streams()
        ]
        if self.select_rhythm is None or len(drawn) == 1:
            return patient, drawn[0]
        generators = map(np.random.default_rng, stream_seeds(seeds, streams.RECORD_SELECTION))
        return patient, self.select_rhythm.select(list(zip(*drawn, strict=True)), list(generators))

    def _rhythm_streams(self) -> list[int]:
        """Streams of the trains of each record that one is selected from."""
        selector = self.select_rhythm
        more = 0 if selector is None or selector.is_constant else selector.candidates - 1
        return [
            streams.RECORD_RHYTHM,
            *(streams.RECORD_CANDIDATES + number for number in range(more)),
        ]

    def shapes(
        self, label: Tensor, seeds: Sequence[int], first: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Beat shapes (B, SHAPE_ROWS, 8, W) in mV and levels (B, 8) of B records."""
        return self._shapes(*self.rhythm(label, seeds, first), seeds)

    def _shapes(
        self, patient: Condition, beats: Sequence[Beats], seeds: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.cascade.beat_shapes.draw(
            self.cascade.beat_shapes.condition(
                patient.label, beats, known=patient.known, age=patient.age, sex=patient.sex
            ),
            stream_seeds(seeds, streams.RECORD_SHAPES),
            label_scale=self.label_scale,
            denoise=self.shape_denoiser,
        )


def stream_seeds(seeds: Sequence[int], stream: int) -> list[int]:
    """Seeds of one stage of a cascade, unrelated to those of the others."""
    states = (np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64) for seed in seeds)
    return [int(state[0] >> np.uint64(1)) for state in states]


def spread_label(label: Tensor, names: Sequence[str], model_names: Sequence[str]) -> Condition:
    """A label in one label space as a model of more statements takes it: the others are unknown.

    Args:
        label: (B, len(names)).
        names: of its columns.
        model_names: statements that the model knows.

    Raises:
        ConfigError: a name that the model does not know.
    """
    strange = [name for name in names if name not in model_names]
    if strange:
        raise ConfigError(
            f"expected statements that the model knows ({', '.join(model_names)}), got "
            f"{', '.join(strange)}; leave them out"
        )
    columns = [list(model_names).index(name) for name in names]
    spread = label.new_zeros(len(label), len(model_names))
    spread[:, columns] = label
    known = torch.zeros(len(label), len(model_names), dtype=torch.bool, device=label.device)
    known[:, columns] = True
    return Condition(spread, known)
