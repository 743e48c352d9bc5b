"""Patient folds of two domains, and the outputs of classifiers for records out of fold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ecgtransfer.corpus.splits import common_folds
from ecgtransfer.diffusion import NoiseConfig
from ecgtransfer.errors import CorpusError
from ecgtransfer.statistics import FloatArray, streams
from ecgtransfer.transfer.calibration import cross_fitted_platt, stacked_platt
from ecgtransfer.transfer.diagnostics import (
    RatioDiagnostics,
    balanced_log_loss,
    domain_auc,
    ratio_diagnostics,
)
from ecgtransfer.transfer.guided import noised
from ecgtransfer.transfer.records import DomainRecords, HeldOutDraws, device_of

#: Noise draws per record out of fold, if the classifier sees noise: target records are few.
SOURCE_DRAWS, TARGET_DRAWS = 1, 4


def common_patient_folds(
    source: DomainRecords, target: DomainRecords, folds: int, seed: int
) -> np.ndarray:
    """Fold of each source record, then of each target record: (N + M,) int64.

    A patient is in the same fold in both domains. The patients of each domain are spread evenly. If
    a domain has fewer than `folds` patients, there are as many folds as the smaller domain has
    patients.

    Args:
        source: records of the source.
        target: records of the target.
        folds: number of folds.
        seed: seed of the assignment.

    Raises:
        CorpusError: a domain has fewer than two patients.
    """
    patients = [sorted(set(domain.patient)) for domain in (target, source)]
    least = min(map(len, patients))
    if least < 2:
        raise CorpusError(
            "expected at least two patients of each domain, to judge the domain classifier on "
            f"patients that it did not learn from, got {len(patients[1])} source and "
            f"{len(patients[0])} target patients"
        )
    of_target, of_source = common_folds(
        (target.patient, source.patient),
        min(folds, least),
        streams.generator(seed, streams.DOMAIN_FOLDS),
    )
    return np.concatenate([of_source, of_target])


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """All records, each for the member that was not fitted to its fold.

    Attributes:
        records: records of both domains.
        is_target: (N + M,) bool, source records first.
        fold: (N + M,) fold of each record, and the member that was not fitted to it.
        index: (L,) record of each logit; with noise a record has several logits.
        noise: (L,) noise levels and (L, ...) standard normal noise, the same in every evaluation;
            None for clean records.
        linear: (L,) logits of a linear classifier of clean records, to be stacked with those of a
            network; None for the network alone.
    """

    records: DomainRecords
    is_target: np.ndarray
    fold: np.ndarray
    index: np.ndarray
    noise: tuple[Tensor, Tensor] | None
    linear: Tensor | None = None

    @classmethod
    def of(
        cls,
        source: DomainRecords,
        target: DomainRecords,
        fold: np.ndarray,
        noise: NoiseConfig | None,
        seed: int,
    ) -> OutOfFold:
        """Draw the noise.

        Args:
            source: records of the source.
            target: records of the target.
            fold: (N + M,) of `common_patient_folds`.
            noise: distribution of noise levels; None for clean records.
            seed: seed of the noise.
        """
        records = source.joined(target)
        is_target = np.arange(len(records)) >= len(source)
        if noise is None:
            return cls(records, is_target, fold, np.arange(len(records)), None)
        drawn = [
            HeldOutDraws.of(domain, noise, draws=draws, seed=seed + place)
            for place, (domain, draws) in enumerate(
                ((source, SOURCE_DRAWS), (target, TARGET_DRAWS))
            )
        ]
        return cls(
            records,
            is_target,
            fold,
            np.concatenate([drawn[0].index, drawn[1].index + len(source)]),
            (torch.cat([part.sigma for part in drawn]), torch.cat([part.noise for part in drawn])),
        )

    @torch.no_grad()
    def outputs(self, network: nn.Module, batch_size: int = 256) -> Tensor:
        """Output of a network, (x, sigma, label, member) -> (B,), out of fold: (L,), on the CPU."""
        device, parts = device_of(network), []
        for start in range(0, len(self.index), batch_size):
            part = slice(start, start + batch_size)
            index = self.index[part]
            x, label = self.records.take(index, device)
            sigma = None
            if self.noise is not None:
                sigma = self.noise[0][part].to(x)
                x = noised(x, sigma, self.noise[1][part].to(x))
            member = torch.from_numpy(self.fold[index]).to(device)
            parts.append(network(x, sigma, label, member))
        return torch.cat(parts).cpu()

    def logits(self, network: nn.Module) -> Tensor:
        """Logits of an uncalibrated network, then those of the linear classifier: (L, C)."""
        logits = self.outputs(network)
        return torch.stack([logits] if self.linear is None else [logits, self.linear], 1)

    def calibration(self, logits: Tensor) -> tuple[FloatArray, float]:
        """Slopes (C,) and offset of logits (L, C), fitted to all of them."""
        return stacked_platt(*self._domains(logits), self._fewest)

    def calibrated_loss(self, network: nn.Module) -> float:
        """Balanced logistic loss after calibration on the same logits; lower is better."""
        logits = self.logits(network)
        slopes, offset = self.calibration(logits)
        calibrated = logits @ torch.from_numpy(slopes).to(logits) + offset
        return balanced_log_loss(*self._domains(calibrated))[0]

    def diagnostics(self, logits: Tensor) -> RatioDiagnostics:
        """Diagnostics of logits (L, C), each fold calibrated on the others.

        Only the first draw of a record counts, so that standard errors count records. The AUC is
        that within each fold.
        """
        ours, theirs = (self.fold[self.index[part]] for part in self._parts)
        source, target = cross_fitted_platt(*self._domains(logits), ours, theirs, self._fewest)
        once = [np.unique(self.index[part], return_index=True)[1] for part in self._parts]
        source, target = source[once[0]], target[once[1]]
        auc = domain_auc(source, target, ours[once[0]], theirs[once[1]])
        return ratio_diagnostics(source, target, auc=auc)

    @property
    def _parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the logits of source and of target records."""
        is_target = self.is_target[self.index]
        return np.flatnonzero(~is_target), np.flatnonzero(is_target)

    def _domains(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of source and of target records."""
        source, target = self._parts
        return logits[source], logits[target]

    @property
    def _fewest(self) -> int:
        """Number of records of the smaller domain."""
        return int(np.bincount(self.is_target, minlength=2).min())
