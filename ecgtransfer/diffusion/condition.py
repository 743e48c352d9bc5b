"""Conditions of a record: diagnoses, beats, beat shapes, residual level, age and sex."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ecgtransfer.errors import ConfigError

#: Lower bound of the residual level of a lead, in model units.
SMALLEST_LEVEL = 0.05
#: Length of `patient_scalars`.
PATIENT_SCALARS = 4
#: Valid indices of the records of a condition.
Rows = int | slice | Sequence[int] | np.ndarray | Tensor


@dataclass(frozen=True, eq=False)
class Condition:
    """Everything that a batch of records is conditioned on, one row per record.

    Each part may be missing (None). `Denoiser` and `LogH` accept a condition or a bare label, which
    means `Condition(label=label)`.

    Attributes:
        label: (B, K), 1 for a statement that holds, 0 for one that does not, or in between.
        known: (B, K) bool, False for statements of which it is unknown whether they hold; None if
            all are known.
        beats: (B, C, T) beat channels, see `beat_channels`; zero for a record with unknown beats.
        layout: (B, leads, T) the beat shapes placed at the beats, in model units; zero for a record
            with unknown shapes.
        level: (B, leads) root mean square of the residual (record minus layout), in model units.
        age: (B,) years; NaN if unknown.
        sex: (B,) 0 male, 1 female; NaN if unknown.
        rhythm: (B, RHYTHM_SCALARS) features of the beats, see `rhythm_summary`.
        augmentation: (B, AUGMENTATION_PARAMETERS) change of a training record's beat shapes, see
            `ShapeAugmentation`; None, as outside training, means no change.
    """

    label: Tensor | None = None
    known: Tensor | None = None
    beats: Tensor | None = None
    layout: Tensor | None = None
    level: Tensor | None = None
    age: Tensor | None = None
    sex: Tensor | None = None
    rhythm: Tensor | None = None
    augmentation: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = {name: len(part) for name, part in self._parts().items()}
        if len(set(sizes.values())) > 1:
            raise ConfigError(
                "expected as many rows in every part of a condition, got "
                + ", ".join(f"{name} {size}" for name, size in sizes.items())
            )
        if self.known is not None and (self.label is None or self.known.shape != self.label.shape):
            shape = None if self.label is None else tuple(self.label.shape)
            raise ConfigError(
                f"expected `known` of the label's shape {shape}, got {tuple(self.known.shape)}"
            )

    def _parts(self) -> dict[str, Tensor]:
        parts = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: part for name, part in parts.items() if part is not None}

    def __len__(self) -> int:
        """Number of records; 0 if all parts are missing."""
        return next((len(part) for part in self._parts().values()), 0)

    def __getitem__(self, rows: Rows) -> Condition:
        """Select records."""
        if isinstance(rows, int):
            rows = slice(rows, rows + 1 or None)
        if isinstance(rows, np.ndarray):
            rows = torch.from_numpy(rows)
        return self.map(lambda part: part[rows])

    def map(self, change: Callable[[Tensor], Tensor]) -> Condition:
        """Apply a function to every part."""
        return Condition(**{name: change(part) for name, part in self._parts().items()})

    def to(self, device: torch.device | str) -> Condition:
        """Move every part to a device."""
        return self.map(lambda part: part.to(device))

    def split(self, size: int) -> list[Condition]:
        """Split into conditions of `size` records each; the last one holds the rest."""
        return [self[start : start + size] for start in range(0, len(self), size)]

    def without_label(self, hidden: Tensor | None = None) -> Condition:
        """Mark labels as unknown: all of them, or those of the rows flagged in `hidden` (B,)."""
        if self.label is None:
            return self
        if hidden is None:
            return replace(self, label=None, known=None)
        known = torch.ones_like(self.label, dtype=torch.bool) if self.known is None else self.known
        return replace(self, known=known & ~hidden.to(known.device)[:, None])

    @staticmethod
    def cat(conditions: Sequence[Condition]) -> Condition:
        """Concatenate conditions.

        Raises:
            ConfigError: a part is missing in some conditions but not in others.
        """
        stated = [set(each._parts()) for each in conditions]
        if any(names != stated[0] for names in stated[1:]):
            everywhere = set(stated[0]).intersection(*stated[1:])
            both = ", ".join(sorted(set().union(*stated) - everywhere))
            raise ConfigError(f"expected the same parts in every condition, {both} differ")
        return Condition(
            **{
                name: torch.cat([getattr(each, name) for each in conditions])
                for name in sorted(stated[0])
            }
        )


#: Condition argument of a function of (x, sigma, condition): a condition, a label (B, K) or None.
Given: TypeAlias = Condition | Tensor | None


def joined(given: Sequence[Given]) -> Given:
    """Concatenate the labels or conditions of several batches; None if one of them is None."""
    conditions = [each for each in given if isinstance(each, Condition)]
    if conditions and len(conditions) == len(given):
        return Condition.cat(conditions)
    labels = [each for each in given if isinstance(each, Tensor)]
    return torch.cat(labels) if len(labels) == len(given) else None


def as_condition(given: Condition | Tensor | None) -> Condition:
    """Wrap a bare label, or None, in a condition."""
    return given if isinstance(given, Condition) else Condition(label=given)


def label_of(given: Condition | Tensor | None) -> Tensor | None:
    """Label (B, K) of a condition, or the bare label itself."""
    return given.label if isinstance(given, Condition) else given


def without_label(given: Condition | Tensor | None) -> Condition | None:
    """Condition without its label; None for a bare label."""
    return given.without_label() if isinstance(given, Condition) else None


def channels_of(condition: Condition) -> Tensor | None:
    """Beats and layout as network channels, (B, C + leads, T); None if both are missing."""
    parts = [part for part in (condition.beats, condition.layout) if part is not None]
    return torch.cat(parts, dim=1) if parts else None


def scalars_of(condition: Condition) -> Tensor | None:
    """Level, age and sex as scalar inputs of a network, (B, leads + 4); None without a level.

    The natural logarithm of each lead's level, followed by `patient_scalars`.
    """
    if condition.level is None:
        return None
    level = condition.level.clamp_min(SMALLEST_LEVEL).log()
    return torch.cat([level, patient_scalars(condition, level)], dim=1)


def patient_scalars(condition: Condition, like: Tensor) -> Tensor:
    """Age and sex as scalar inputs of a network, (B, PATIENT_SCALARS), with the type of `like`.

    (age − 60) / 50 and whether the age is known; sex as −1 or 1 and whether it is known.
    """
    columns = []
    for value, centre, scale in ((condition.age, 60.0, 50.0), (condition.sex, 0.5, 0.5)):
        stated = like.new_full((len(like),), torch.nan) if value is None else value.to(like)
        known = ~stated.isnan()
        columns += [torch.where(known, (stated - centre) / scale, 0.0), known.to(like)]
    return torch.stack(columns, dim=1)


def masked_label(condition: Condition) -> tuple[Tensor | None, Tensor | None]:
    """Label for a network that distinguishes unknown from absent, (B, 2 K), and unlabelled rows.

    Each statement has two columns, present and absent; both are 0 if it is unknown. Rows without
    any known statement are flagged, (B,) bool; None if all rows have a label.
    """
    if condition.label is None:
        return None, None
    known = condition.known
    if known is None:
        return torch.cat([condition.label, 1 - condition.label], dim=1), None
    both = torch.cat([condition.label, 1 - condition.label], dim=1)
    return both * torch.cat([known, known], dim=1), ~known.any(dim=1)


def label_inputs(condition: Condition, masked: bool) -> tuple[Tensor | None, Tensor | None]:
    """Label as network input, (B, K or 2 K), and flags of the unlabelled rows, (B,) bool.

    Args:
        condition: with or without a label.
        masked: whether the network distinguishes unknown from absent, see `masked_label`.
    """
    if condition.label is None:
        return None, None
    if masked:
        return masked_label(condition)
    return condition.label, None if condition.known is None else ~condition.known.any(dim=1)
