"""Factorised model of records: first the rhythm, then the beat shapes, then the record.

p(x, m, b | y) = p(b | y) p(m | b, y) p(x | m, b, y): the beats b are sampled from a `RhythmModel`,
the beat shapes m and the level of the residual from a `BeatShapeModel`, and the record x from a
`DiffusionModel` of the residual. This is a cascade as in Ho et al. 2021 (arXiv 2106.15282).
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
    """The three models of a record.

    Attributes:
        rhythm: model of p(b | y).
        beat_shapes: model of p(m, level | b, y).
        record: model of p(x | m, level, b, y), a residual model.
    """

    def __init__(
        self, rhythm: RhythmModel, beat_shapes: BeatShapeModel, record: DiffusionModel
    ) -> None:
        super().__init__()
        self.rhythm, self.beat_shapes, self.record = rhythm, beat_shapes, record

    @property
    def label_names(self) -> tuple[str, ...]:
        """Label space of the models: the names of the label's columns."""
        return self.record.config.label_names


class RhythmSelector(Protocol):
    """Chooses one of several beat trains for each record, such as `transfer.RhythmSelection`."""

    @property
    def candidates(self) -> int:
        """Number of candidate trains for each record."""
        ...

    @property
    def is_constant(self) -> bool:
        """Whether all trains have the same weight, so that one candidate is enough."""
        ...

    def select(
        self,
        candidates: Sequence[Sequence[Beats]],
        generators: Sequence[np.random.Generator],
    ) -> list[Beats]:
        """Choose one of the candidates of each record."""
        ...


@dataclass(frozen=True, eq=False)
class CascadeConditions:
    """Samples the conditions of records; implements `synthesis.ConditionSource`.

    Attributes:
        cascade: the three models.
        names: names of the columns of requested labels, a subset of the models' label space; the
            models' other statements are unknown.
        label_scale: classifier-free guidance scale of the beat shapes; 1 for none.
        heart_rate_bpm: lowest and highest heart rate to sample; None for any.
        beats: beat trains to use in turn instead of sampled ones; None to sample them.
        age: age in years; None for unknown.
        sex: 0 male, 1 female; None for unknown.
        shape_denoiser: denoiser of the target's beat shapes; None for the source's.
        select_rhythm: chooses one of several sampled trains; None takes the first.
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
        """Sample the condition and the beats of B records.

        Args:
            label: (B, len(names)).
            seeds: one seed per record.
            first: index of the first record, for `beats` that are used in turn.
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
        """Sample the beats of B records; also return label, age and sex as the models take them."""
        spread = spread_label(label.cpu(), self.names, self.cascade.label_names)
        rows = len(seeds)
        age = torch.full((rows,), np.nan if self.age is None else float(self.age))
        sex = torch.full((rows,), np.nan if self.sex is None else float(self.sex))
        patient = Condition(spread.label, spread.known, age=age, sex=sex)
        if self.beats is not None:
            return patient, [self.beats[(first + row) % len(self.beats)] for row in range(rows)]
        assert spread.label is not None
        assert spread.known is not None
        drawn = [
            self.cascade.rhythm.sample(
                spread.label,
                spread.known,
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
        """Random streams of the candidate trains of each record."""
        selector = self.select_rhythm
        more = 0 if selector is None or selector.is_constant else selector.candidates - 1
        return [
            streams.RECORD_RHYTHM,
            *(streams.RECORD_CANDIDATES + number for number in range(more)),
        ]

    def shapes(
        self, label: Tensor, seeds: Sequence[int], first: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Sample beat shapes (B, SHAPE_ROWS, 8, W) in mV and levels (B, 8) of B records."""
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
    """Derive independent seeds for one stage of a cascade from the seeds of the records."""
    states = (np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64) for seed in seeds)
    return [int(state[0] >> np.uint64(1)) for state in states]


def spread_label(label: Tensor, names: Sequence[str], model_names: Sequence[str]) -> Condition:
    """Map a label to the larger label space of a model; the model's other statements are unknown.

    Args:
        label: (B, len(names)).
        names: names of its columns.
        model_names: label space of the model.

    Raises:
        ConfigError: a name is not in the model's label space.
    """
    unknown = [name for name in names if name not in model_names]
    if unknown:
        raise ConfigError(
            f"expected statements that the model knows ({', '.join(model_names)}), got "
            f"{', '.join(unknown)}; omit the others"
        )
    columns = [list(model_names).index(name) for name in names]
    spread = label.new_zeros(len(label), len(model_names))
    spread[:, columns] = label
    known = torch.zeros(len(label), len(model_names), dtype=torch.bool, device=label.device)
    known[:, columns] = True
    return Condition(spread, known)
