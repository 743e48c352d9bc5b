"""Records of one domain for transfer: signals in model units, labels and patients."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecgtransfer.corpus.splits import common_folds
from ecgtransfer.diffusion import Condition, NoiseConfig, draw_sigma, label_of, without_label
from ecgtransfer.diffusion.condition import joined
from ecgtransfer.errors import CorpusError
from ecgtransfer.statistics import streams

#: Minimum number of noised coordinates of a validation loss. One ECG (8 leads, 1000 samples) has
#: more; records of few coordinates, such as points in the plane, are noised many times.
MIN_COORDINATES = 2048

#: Coordinates per batch when nothing is trained: 64 ECGs of 8 leads and 1000 samples, or as many
#: points in the plane as have this number of coordinates.
COORDINATES_AT_ONCE = 64 * 8 * 1000


@dataclass(frozen=True, eq=False)
class DomainRecords:
    """Records of one domain, recorded or sampled from a model.

    Attributes:
        x0: (N, 8, T) clean signals in model units, or (N, ...) records of another kind.
        label: (N, K) multi-hot in the shared label space, a condition of N records, or None.
        patient: N patient names, one per record; each sampled record counts as its own patient.

    Raises:
        CorpusError: there is no record, or the lengths differ.
    """

    x0: Tensor
    label: Condition | Tensor | None
    patient: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.x0)
        if n == 0:
            raise CorpusError(
                "expected at least one record of a domain, got none; check the selection"
            )
        if len(self.patient) != n or (self.label is not None and len(self.label) != n):
            labels = "no" if self.label is None else len(self.label)
            raise CorpusError(
                f"expected a label and a patient for each of {n} records, got {labels} labels and "
                f"{len(self.patient)} patients; pass one of each per record"
            )

    def __len__(self) -> int:
        return len(self.x0)

    def take(
        self, index: np.ndarray | Tensor | Sequence[int], device: torch.device | None = None
    ) -> tuple[Tensor, Any]:
        """Return the signals and the labels or condition at these record indices, on `device`."""
        rows = torch.as_tensor(index, device=self.x0.device)
        x0 = self.x0.index_select(0, rows).to(device)
        if self.label is None:
            return x0, None
        place = self.x0.device if device is None else device
        return x0, self.label[rows].to(place)

    def joined(self, other: DomainRecords) -> DomainRecords:
        """Concatenate with the records of another domain in the same label space."""
        label = joined([self.label, other.label])
        return DomainRecords(torch.cat([self.x0, other.x0]), label, self.patient + other.patient)

    def unlabelled(self) -> DomainRecords:
        """Return the same records without labels."""
        return DomainRecords(self.x0, without_label(self.label), self.patient)

    def subset(self, index: np.ndarray) -> DomainRecords:
        """Return the records at these indices, with labels and patients."""
        x0, label = self.take(index, self.x0.device)
        return DomainRecords(x0, label, tuple(self.patient[i] for i in index))


def records_at_once(x0: Tensor) -> int:
    """Batch size when nothing is trained, for records of the size of x0 (N, ...)."""
    return max(COORDINATES_AT_ONCE // x0[0].numel(), 1)


def patient_folds(
    records: DomainRecords, folds: int, seed: int
) -> list[tuple[DomainRecords, DomainRecords]]:
    """Split records into patient-disjoint folds.

    Returns:
        For each fold, the records of the other folds, and those of this fold.

    Raises:
        CorpusError: there are fewer patients than folds, or fewer than two folds.
    """
    refuse_folds_without_patients(folds, set(records.patient))
    rng = streams.generator(seed, streams.TRANSFER_FOLDS)
    (fold,) = common_folds((records.patient,), folds, rng)
    return [
        (
            records.subset(np.flatnonzero(fold != index)),
            records.subset(np.flatnonzero(fold == index)),
        )
        for index in range(folds)
    ]


def refuse_folds_without_patients(folds: int, patients: Collection[str]) -> None:
    """Check that each fold can have at least one patient.

    Args:
        folds: number of folds.
        patients: names of the patients, each once.

    Raises:
        CorpusError: there are fewer patients than folds, or fewer than two folds.
    """
    if not 2 <= folds <= len(patients):
        raise CorpusError(
            f"expected at least 2 folds and at least one patient per fold, got {folds} folds of "
            f"{len(patients)} patients; change the number of folds"
        )


def refuse_shared_patients(training: DomainRecords, held_out: DomainRecords) -> None:
    """Check that training and held-out records have no patient in common.

    Raises:
        CorpusError: a patient is in both.
    """
    shared = sorted(set(training.patient) & set(held_out.patient))
    if shared:
        raise CorpusError(
            f"expected held-out records of other patients than the training records, got "
            f"{len(shared)} patients in both ({', '.join(shared[:3])}); split by patient"
        )


def refuse_other_labels(*domains: DomainRecords) -> None:
    """Check that all domains have labels of the same width, or none has labels.

    Raises:
        CorpusError: the widths of the labels differ.
    """
    labels = [label_of(domain.label) for domain in domains]
    widths = [None if label is None else label.shape[1] for label in labels]
    if len(set(widths)) > 1:
        raise CorpusError(
            f"expected source and target records in one label space, got {widths} labels; "
            "prepare both with the same label space"
        )


@dataclass(frozen=True, eq=False)
class HeldOutDraws:
    """Fixed noise for held-out records, the same in every validation.

    Attributes:
        index: (M,) record indices; each record occurs several times.
        sigma: (M,) noise levels.
        noise: (M, ...) standard normal.
    """

    index: np.ndarray
    sigma: Tensor
    noise: Tensor

    @classmethod
    def of(
        cls, records: DomainRecords, noise: NoiseConfig, *, draws: int, seed: int
    ) -> HeldOutDraws:
        """Sample `draws` noise levels and noises per record, more for few or small records."""
        generator = torch.Generator().manual_seed(seed)
        draws = max(draws, math.ceil(MIN_COORDINATES / records.x0.numel()))
        index = np.tile(np.arange(len(records)), draws)
        return cls(
            index,
            draw_sigma(len(index), noise, generator),
            torch.randn(len(index), *records.x0.shape[1:], generator=generator),
        )


def draw_noise(
    x0: Tensor, config: NoiseConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Sample noise levels (B,) and standard normal noise (B, ...) for a batch, on its device."""
    sigma = draw_sigma(len(x0), config, generator).to(x0)
    return sigma, torch.randn(x0.shape, generator=generator).to(x0)


def device_of(module: torch.nn.Module) -> torch.device:
    """Return the device of a network's parameters."""
    return next(module.parameters()).device
