"""Guidance from every target record: a network for each fold, weighed on the patients it missed."""

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
    """The mean of several log h, a `LogH` itself: their geometric mean as densities."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise ConfigError("expected at least one guidance network to average, got none")
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor, sigma: Tensor, label: Given) -> Tensor:
        """(B, ...), (B,), (B, K) or None -> (B,)."""
        total: Tensor = sum(network(x, sigma, label) for network in self.networks)
        return total / len(self.networks)


@dataclass(frozen=True, eq=False)
class CrossFittedGuidance:
    """What cross-fitting came to.

    Attributes:
        log_h: the mean over folds.
        measured: how far each fold's guidance explains the patients that it missed, summed, with
            the <u, u> of the mean.
        weight: of the mean, calibrated on that sum.
        weight_without_label: the same measured on records whose label is hidden, for a label
            scale; None where that was not asked for.
    """

    log_h: MeanLogH
    measured: GuidanceFit
    weight: NoiseLevelWeight
    weight_without_label: NoiseLevelWeight | None = None

    def guided(self, denoise: Denoiser) -> Denoiser:
        """The target's denoiser, at label scale 1."""
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
    """Fit guidance once for each fold of patients; nothing is held back from all of them.

    A single split holds a fifth of few records out of the fit, and has but that fifth to stop the
    training and calibrate the weight on.

    Args:
        denoise: the source's denoiser D_p.
        target: all training records of the target.
        fit_fold: (number, records to fit on, held-out records) -> the fold's `LogH`, with all that
            it rests on, domain classifiers too, fitted on those records.
        edges: noise levels of the weight, see `noise_level_edges`.
        folds: how many, at least 2.
        draws: noise draws a held-out record and noise level.
        seed: of folds and noise.
        device: where the networks are; None takes that of the records.
        without_label: also weigh the guidance of records without a label.

    Raises:
        CorpusError: fewer patients than folds, or fewer than two folds.
    """
    parts = patient_folds(target, folds, seed)
    networks = [fit_fold(number, *part) for number, part in enumerate(parts)]
    mean = MeanLogH(networks).requires_grad_(False)

    def measured(labelled: bool) -> GuidanceFit:
        each = (
            measure_guidance(
                denoise,
                network,
                held_out.x0,
                held_out.label if labelled else held_out.unlabelled().label,
                edges,
                draws=draws,
                generator=torch.Generator().manual_seed(seed + number),
                device=device,
                followed=mean,
            )
            for number, (network, (_, held_out)) in enumerate(zip(networks, parts, strict=True))
        )
        return reduce(add, each)

    total = measured(labelled=True)
    unlabelled = measured(labelled=False).weight() if without_label else None
    return CrossFittedGuidance(mean, total, total.weight(), unlabelled)
