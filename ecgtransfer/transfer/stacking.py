"""Stacking: a weighted sum of several target denoisers, with weights per noise level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from ecgtransfer.diffusion import Denoiser, per_record
from ecgtransfer.diffusion.condition import Given
from ecgtransfer.errors import ConfigError
from ecgtransfer.transfer.guided import expect_one_per_record, noised
from ecgtransfer.transfer.records import DomainRecords, patient_folds, records_at_once
from ecgtransfer.transfer.weight import HIGHEST_WEIGHT, NoiseLevelWeight


@dataclass(frozen=True, eq=False)
class StackFit:
    """Normal equations of the weights in D_p + Σᵢ wᵢ(σ) (Dᵢ - D_p), per noise-level bin.

    Sums run over held-out target records and noise draws; the sums of several folds can be added.

    Attributes:
        edges: edges of the noise-level bins, one more than bins.
        gram: Σ λ <dᵢ, dⱼ> with dᵢ = Dᵢ - D_p, (bins, M, M). If the weights are for means over
            folds, dᵢ is that of the mean.
        cross: Σ λ <dᵢ, x0 - D_p>, (bins, M).
    """

    edges: tuple[float, ...]
    gram: np.ndarray
    cross: np.ndarray

    def __add__(self, other: StackFit) -> StackFit:
        """Add the sums of two folds.

        Raises:
            ConfigError: the noise levels or the numbers of denoisers differ.
        """
        if self.edges != other.edges or self.cross.shape != other.cross.shape:
            raise ConfigError(
                f"expected fits with equal noise levels and as many denoisers, got shapes "
                f"{self.cross.shape} and {other.cross.shape} (bins, denoisers); measure both with "
                "the same edges and methods"
            )
        return StackFit(self.edges, self.gram + other.gram, self.cross + other.cross)

    def weights(self, highest: float = HIGHEST_WEIGHT) -> tuple[NoiseLevelWeight, ...]:
        """Solve non-negative least squares per bin for one weight per denoiser.

        Weights are clipped at `highest`. A denoiser that equals the source's gets weight 0. Each
        weight belongs to the geometric centre of its bin.
        """
        values = np.zeros_like(self.cross)
        for level, (gram, cross) in enumerate(zip(self.gram, self.cross, strict=True)):
            nonzero = np.diag(gram) > 0
            if nonzero.any():
                # Each d is scaled to norm 1; the jitter makes equal denoisers solvable.
                norm = np.sqrt(np.diag(gram)[nonzero])
                scaled = gram[np.ix_(nonzero, nonzero)] / np.outer(norm, norm)
                root = np.linalg.cholesky(scaled + 1e-9 * np.eye(len(norm)))
                best, _ = nnls(root.T, np.linalg.solve(root, cross[nonzero] / norm))
                values[level, nonzero] = np.minimum(best / norm, highest)
        centres = tuple((low * high) ** 0.5 for low, high in pairwise(self.edges))
        return tuple(NoiseLevelWeight(centres, tuple(column.tolist())) for column in values.T)


@torch.no_grad()
def measure_stack(
    denoise: Denoiser,
    others: Sequence[Denoiser],
    records: DomainRecords,
    edges: Sequence[float],
    *,
    draws: int = 4,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
    applied: Sequence[Denoiser] | None = None,
) -> StackFit:
    """Compute the normal equations on held-out target records.

    Args:
        denoise: the source's denoiser D_p.
        others: denoisers of the target, one per method, that were not trained on `records`.
        records: held-out target records.
        edges: edges of the noise-level bins, increasing; in a bin, ln σ is uniform.
        draws: noise draws per record and bin.
        generator: randomness of noise level and noise, on the device of the records.
        device: device of the networks; None takes that of the records.
        applied: denoisers that the weights are for, if these are means of `others` and of other
            folds' denoisers; None means `others`. See `measure_guidance`.

    Raises:
        ConfigError: there is no other denoiser, or the edges do not increase from above 0.
    """
    edges = tuple(float(edge) for edge in edges)
    if not others or len(edges) < 2 or not all(0 < a < b for a, b in pairwise(edges)):
        raise ConfigError(
            f"expected at least one denoiser to stack and increasing noise levels above 0, got "
            f"{len(others)} denoisers and {edges}; take edges from noise_level_edges"
        )
    x0 = records.x0
    device = x0.device if device is None else device
    index = np.tile(np.arange(len(records)), draws)
    batch_size = records_at_once(x0)
    gram = np.zeros((len(edges) - 1, len(others), len(others)))
    cross = np.zeros((len(edges) - 1, len(others)))
    for level, (low, high) in enumerate(pairwise(edges)):
        fraction = torch.rand(len(index), generator=generator, dtype=x0.dtype)
        sigma = low * (high / low) ** fraction
        noise = torch.randn(len(index), *x0.shape[1:], generator=generator, dtype=x0.dtype)
        for start in range(0, len(index), batch_size):
            part = slice(start, start + batch_size)
            clean, label = records.take(index[part], device)
            batch = clean, label, sigma[part].to(device), noise[part].to(device)
            differences, error = _differences_and_error(denoise, others, *batch)
            cross[level] += (differences @ error).cpu().numpy()
            if applied is not None:
                differences, _ = _differences_and_error(denoise, applied, *batch)
            gram[level] += (differences @ differences.T).cpu().numpy()
    return StackFit(edges, gram, cross)


def cross_fit_stack(
    denoise: Denoiser,
    target: DomainRecords,
    fit_fold: Callable[[int, DomainRecords, DomainRecords], Sequence[Denoiser]],
    edges: Sequence[float],
    *,
    folds: int,
    draws: int = 4,
    seed: int = 0,
    device: torch.device | None = None,
) -> StackFit:
    """Fit the denoisers of all methods once per fold of patients, and pool the normal equations.

    The weights are for the mean over folds of each method's denoisers.

    Args:
        denoise: the source's denoiser D_p.
        target: all training records of the target.
        fit_fold: (fold index, records to fit on, held-out records) -> one denoiser per method, in
            the same order for every fold.
        edges: edges of the noise-level bins of the weights, see `noise_level_edges`.
        folds: number of folds, at least 2.
        draws: noise draws per held-out record and bin.
        seed: seed of the folds and of the noise.
        device: device of the networks; None takes that of the records.

    Raises:
        CorpusError: there are fewer patients than folds, or fewer than two folds.
        ConfigError: the folds have different numbers of denoisers.
    """
    parts = patient_folds(target, folds, seed)
    fitted = [fit_fold(index, *part) for index, part in enumerate(parts)]
    return measure_folds(
        denoise,
        fitted,
        [held_out for _, held_out in parts],
        edges,
        draws=draws,
        seed=seed,
        device=device,
    )


def measure_folds(
    denoise: Denoiser,
    fitted: Sequence[Sequence[Denoiser]],
    held_out: Sequence[DomainRecords],
    edges: Sequence[float],
    *,
    draws: int = 4,
    seed: int = 0,
    device: torch.device | None = None,
) -> StackFit:
    """Pool the normal equations of all folds, each measured on its held-out records.

    The weights are for the mean over folds of each method's denoisers.

    Args:
        denoise: the source's denoiser D_p.
        fitted: for each fold, one denoiser per method, in the same order.
        held_out: for each fold, the records that its denoisers were not trained on.
        edges: edges of the noise-level bins of the weights.
        draws: noise draws per record and bin.
        seed: seed of the noise.
        device: device of the networks; None takes that of the records.

    Raises:
        ConfigError: the folds have different numbers of denoisers.
    """
    counts = {len(others) for others in fitted}
    if len(counts) != 1:
        raise ConfigError(
            f"expected as many denoisers in every fold, got {', '.join(map(str, sorted(counts)))}; "
            "fit the same methods on every fold"
        )
    means = [averaged(each) for each in zip(*fitted, strict=True)]
    return reduce(
        add,
        (
            measure_stack(
                denoise,
                others,
                records,
                edges,
                draws=draws,
                generator=torch.Generator().manual_seed(seed + index),
                device=device,
                applied=means,
            )
            for index, (others, records) in enumerate(zip(fitted, held_out, strict=True))
        ),
    )


def averaged(denoisers: Sequence[Denoiser]) -> Denoiser:
    """Return the mean of several denoisers of the same distribution.

    Raises:
        ConfigError: there is none.
    """
    if not denoisers:
        raise ConfigError(
            "expected at least one denoiser to average, got none; pass a list of denoisers"
        )

    def denoise_mean(x: Tensor, sigma: Tensor, label: Given) -> Tensor:
        return torch.stack([denoise(x, sigma, label) for denoise in denoisers]).mean(0)

    return denoise_mean


def stacked(
    denoise: Denoiser, others: Sequence[Denoiser], weights: Sequence[NoiseLevelWeight]
) -> Denoiser:
    """Return the denoiser D_p + Σᵢ wᵢ(σ) (Dᵢ - D_p).

    Args:
        denoise: the source's denoiser D_p.
        others: the denoisers Dᵢ.
        weights: the weights wᵢ, one per denoiser.

    Raises:
        ConfigError: the numbers of denoisers and weights differ.
    """
    if len(others) != len(weights):
        raise ConfigError(
            f"expected a weight for each denoiser, got {len(weights)} for {len(others)}; pass the "
            "weights of StackFit.weights"
        )

    def denoise_target(x: Tensor, sigma: Tensor, label: Given) -> Tensor:
        source = denoise(x, sigma, label)
        total = source
        for other, weight in zip(others, weights, strict=True):
            values = weight(sigma)
            expect_one_per_record(values, x, "the weight of a stacked denoiser")
            total = total + per_record(values.to(x), x) * (other(x, sigma, label) - source)
        return total

    return denoise_target


def _differences_and_error(
    denoise: Denoiser,
    others: Sequence[Denoiser],
    x0: Tensor,
    label: Given,
    sigma: Tensor,
    noise: Tensor,
) -> tuple[Tensor, Tensor]:
    """√λ (Dᵢ - D_p), (M, n), and √λ (x0 - D_p), (n,), of a batch with n coordinates in total."""
    x = noised(x0, sigma, noise)
    source = denoise(x, sigma, label)
    root = per_record(((sigma**2 + 1) / sigma**2).sqrt(), x)
    differences = [
        (root * (other(x, sigma, label) - source)).flatten().double() for other in others
    ]
    return torch.stack(differences), (root * (x0 - source)).flatten().double()
