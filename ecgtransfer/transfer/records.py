"""Records of one domain as the transfer sees them: model units, labels and whose they are."""

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

#: Numbers behind a validation score, at least, whatever a record's size: a 12-lead ECG has four
#: times as many, a point in the plane is noised again and again.
LEAST_COORDINATES = 2048

#: Numbers that go through the networks at once where nothing is trained: 64 ECGs of 8 leads and
#: 10 seconds, or many points of a plane.
COORDINATES_AT_ONCE = 64 * 8 * 1000


@dataclass(frozen=True, eq=False)
class DomainRecords:
    """Records of one domain, recorded or drawn from a model.

    Attributes:
        x0: (N, 8, T) clean signals in model units, or (N, ...) records of another kind.
        label: (N, K) multi-hot in the shared label space, the condition of each record, or None.
        patient: whose each record is, N names; a record drawn from a model is its own patient.
    """

    x0: Tensor
    label: Condition | Tensor | None
    patient: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.x0)
        if n == 0:
            raise CorpusError("expected at least one record of a domain, got none")
        if len(self.patient) != n or (self.label is not None and len(self.label) != n):
            labels = "no" if self.label is None else len(self.label)
            raise CorpusError(
                f"expected a label and a patient for each of {n} records, got {labels} labels and "
                f"{len(self.patient)} patients"
            )

    def __len__(self) -> int:
        return len(self.x0)

    def take(
        self, index: np.ndarray | Tensor | Sequence[int], device: torch.device | None = None
    ) -> tuple[Tensor, Any]:
        """Signals of some records, and their labels or conditions, on `device`."""
        rows = torch.as_tensor(index, device=self.x0.device)
        x0 = self.x0.index_select(0, rows).to(device)
        if self.label is None:
            return x0, None
        place = self.x0.device if device is None else device
        return x0, self.label[rows].to(place)

    def joined(self, other: DomainRecords) -> DomainRecords:
        """These records and then those of another domain in the same label space."""
        label = joined([self.label, other.label])
        return DomainRecords(torch.cat([self.x0, other.x0]), label, self.patient + other.patient)

    def unlabelled(self) -> DomainRecords:
        """The same records with their labels hidden."""
        return DomainRecords(self.x0, without_label(self.label), self.patient)

    def subset(self, index: np.ndarray) -> DomainRecords:
        """Some of the records, with their labels and patients."""
        x0, label = self.take(index, self.x0.device)
        return DomainRecords(x0, label, tuple(self.patient[number] for number in index))


def records_at_once(x0: Tensor) -> int:
    """How many records of the size of x0's, (N, ...), go through the networks at once."""
    return max(COORDINATES_AT_ONCE // x0[0].numel(), 1)


def patient_folds(
    records: DomainRecords, folds: int, seed: int
) -> list[tuple[DomainRecords, DomainRecords]]:
    """For each fold the records of all other patients, and those of its own.

    Raises:
        CorpusError: fewer patients than folds, or fewer than two folds.
    """
    refuse_folds_without_patients(folds, set(records.patient))
    rng = streams.generator(seed, streams.TRANSFER_FOLDS)
    (fold,) = common_folds((records.patient,), folds, rng)
    return [
        (
            records.subset(np.flatnonzero(fold != number)),
            records.subset(np.flatnonzero(fold == number)),
        )
        for number in range(folds)
    ]


def refuse_folds_without_patients(folds: int, patients: Collection[str]) -> None:
    """Every fold needs a patient.

    Args:
        folds: how many.
        patients: their names, each once.

    Raises:
        CorpusError: fewer patients than folds, or fewer than two folds.
    """
    if not 2 <= folds <= len(patients):
        raise CorpusError(
            f"expected at least 2 folds and a patient for each, got {folds} folds of "
            f"{len(patients)} patients; ask for fewer folds"
        )


def refuse_shared_patients(training: DomainRecords, held_out: DomainRecords) -> None:
    """Held-out records must be of patients that training never sees.

    Raises:
        CorpusError: a patient is in both, with the names of the first few.
    """
    shared = sorted(set(training.patient) & set(held_out.patient))
    if shared:
        raise CorpusError(
            f"expected held-out records of other patients than the training records, got "
            f"{len(shared)} patients in both ({', '.join(shared[:3])}); split by patient"
        )


def refuse_other_labels(*domains: DomainRecords) -> None:
    """All records must be labelled in one label space, or none.

    Raises:
        CorpusError: the numbers of labels differ.
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
    """Held-out records with noise that stays the same from one validation to the next.

    Attributes:
        index: (M,) record numbers, each record several times.
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
        """`draws` noise levels and noises for each record, more where these are few and small."""
        generator = torch.Generator().manual_seed(seed)
        draws = max(draws, math.ceil(LEAST_COORDINATES / records.x0.numel()))
        index = np.tile(np.arange(len(records)), draws)
        return cls(
            index,
            draw_sigma(len(index), noise, generator),
            torch.randn(len(index), *records.x0.shape[1:], generator=generator),
        )


def draw_noise(
    x0: Tensor, config: NoiseConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Noise levels (B,) and standard normal noise (B, ...) of a training batch, on its device."""
    sigma = draw_sigma(len(x0), config, generator).to(x0)
    return sigma, torch.randn(x0.shape, generator=generator).to(x0)


def device_of(module: torch.nn.Module) -> torch.device:
    """Where a network's parameters are."""
    return next(module.parameters()).device
