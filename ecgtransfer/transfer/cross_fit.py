"""Cross-fitted guidance: one network per fold of patients, calibrated on held-out patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from ecgtransfer.diffusion import Denoiser
from ecgtransfer.diffusion.condition import Given
from ecgtransfer.errors import ConfigError
from ecgtransfer.transfer.guided import guided
from ecgtransfer.transfer.records import DomainRecords, patient_folds
from ecgtransfer.transfer.weight import GuidanceFit, NoiseLevelWeight, measure_guidance


class MeanLogH(nn.Module):
    """Mean of several log h, which is a `LogH` too: the geometric mean of the ratios h.

    Args:
        networks: the networks to average, each a `LogH`.

    Raises:
        ConfigError: there is none.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise ConfigError(
                "expected at least one guidance network to average, got none; pass the networks"
            )
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor, sigma: Tensor, label: Given) -> Tensor:
        """(B, ...), (B,), (B, K) or None -> (B,)."""
        total: Tensor = sum(network(x, sigma, label) for network in self.networks)
        return total / len(self.networks)


@dataclass(frozen=True, eq=False)
class CrossFittedGuidance:
    """Result of `cross_fit`.

    Attributes:
        log_h: mean of the networks of all folds.
        measured: fit of each fold's guidance to the held-out patients of that fold, summed over
            folds; its `sq_norm` is that of the mean guidance.
        weight: guidance weight of the mean, calibrated on `measured`.
        weight_without_label: guidance weight for records without a label, calibrated on held-out
            records with hidden labels; None if it was not requested.
    """

    log_h: MeanLogH
    measured: GuidanceFit
    weight: NoiseLevelWeight
    weight_without_label: NoiseLevelWeight | None = None

    def guided(self, denoise: Denoiser) -> Denoiser:
        """Return the denoiser of the target, at label scale 1."""
        return guided(denoise, self.log_h, self.weight)


def cross_fit(
    denoise: Denoiser,
    target: DomainRecords,
    fit_fold: Callable[[int, DomainRecords, DomainRecords], nn.Module],
    edges: Sequence[float],
    *,
    folds: int,
    draws: int = 4,
    seed: int = 0,
    device: torch.device | None = None,
    without_label: bool = False,
) -> CrossFittedGuidance:
    """Fit one guidance network per fold of patients, and calibrate the weight of their mean.

    Each network is fitted on all folds but its own, so every record takes part in fitting and in
    calibration. A single split would fit on four fifths of the records only, and stop the training
    and calibrate the weight on the other fifth only.

    Args:
        denoise: the source's denoiser D_p.
        target: all training records of the target.
        fit_fold: (fold index, records to fit on, held-out records) -> the `LogH` of the fold. It
            may use the held-out records only to stop the training; domain classifiers too are
            fitted on the first set only.
        edges: edges of the noise-level bins of the weight, see `noise_level_edges`.
        folds: number of folds, at least 2.
        draws: noise draws per held-out record and bin.
        seed: seed of the folds and of the noise.
        device: device of the networks; None takes that of the records.
        without_label: also calibrate a weight for records without a label.

    Raises:
        CorpusError: there are fewer patients than folds, or fewer than two folds.
    """
    parts = patient_folds(target, folds, seed)
    networks = [fit_fold(index, *part) for index, part in enumerate(parts)]
    mean = MeanLogH(networks).requires_grad_(False)

    def measured(labelled: bool) -> GuidanceFit:
        fits = (
            measure_guidance(
                denoise,
                network,
                held_out.x0,
                held_out.label if labelled else held_out.unlabelled().label,
                edges,
                draws=draws,
                generator=torch.Generator().manual_seed(seed + index),
                device=device,
                applied=mean,
            )
            for index, (network, (_, held_out)) in enumerate(zip(networks, parts, strict=True))
        )
        return reduce(add, fits)

    total = measured(labelled=True)
    unlabelled = measured(labelled=False).weight() if without_label else None
    return CrossFittedGuidance(mean, total, total.weight(), unlabelled)
