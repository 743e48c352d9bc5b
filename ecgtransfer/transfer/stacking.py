"""Several transfers at once: the best sum of their steps away from the source, by noise level."""

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
    """Normal equations of D_p + Σᵢ wᵢ(σ) (Dᵢ - D_p) against held-out target records; fits add up.

    Attributes:
        edges: borders of the noise levels, one more than bins.
        gram: Σ λ <dᵢ, dⱼ> with dᵢ = Dᵢ - D_p, of the denoisers that are to be followed where
            those are means of several, (bins, M, M).
        along: Σ λ <dᵢ, x0 - D_p>, (bins, M).
    """

    edges: tuple[float, ...]
    gram: np.ndarray
    along: np.ndarray

    def __add__(self, other: StackFit) -> StackFit:
        """Pool the folds of cross-fitting.

        Raises:
            ConfigError: other noise levels, or another number of denoisers.
        """
        if self.edges != other.edges or self.along.shape != other.along.shape:
            raise ConfigError(
                f"expected fits at the same noise levels of as many denoisers, got "
                f"{self.along.shape} and {other.along.shape}"
            )
        return StackFit(self.edges, self.gram + other.gram, self.along + other.along)

    def weights(self, highest: float = HIGHEST_WEIGHT) -> tuple[NoiseLevelWeight, ...]:
        """Non-negative least squares at each noise level, one weight for each denoiser.

        A denoiser that equals the source's gets weight 0.
        """
        values = np.zeros_like(self.along)
        for level, (gram, along) in enumerate(zip(self.gram, self.along, strict=True)):
            moves = np.diag(gram) > 0
            if moves.any():
                # In units of each step's own length; the jitter decides between equal steps.
                length = np.sqrt(np.diag(gram)[moves])
                scaled = gram[np.ix_(moves, moves)] / np.outer(length, length)
                root = np.linalg.cholesky(scaled + 1e-9 * np.eye(len(length)))
                best, _ = nnls(root.T, np.linalg.solve(root, along[moves] / length))
                values[level, moves] = np.minimum(best / length, highest)
        middles = tuple((low * high) ** 0.5 for low, high in pairwise(self.edges))
        return tuple(NoiseLevelWeight(middles, tuple(column.tolist())) for column in values.T)


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
    followed: Sequence[Denoiser] | None = None,
) -> StackFit:
    """Normal equations on target records that none of the denoisers was trained on.

    Args:
        denoise: the source's denoiser D_p.
        others: denoisers of the target, each by a method of its own.
        records: held-out target records.
        edges: increasing noise levels, the borders of the bins; σ is drawn evenly in ln σ.
        draws: noise draws a record and bin.
        generator: randomness of noise level and noise, on the device of the records.
        device: where the networks are; None takes that of the records.
        followed: the denoisers that the weights are for, where `others` are but those of one fold,
            which never saw these records; see `measure_guidance`.

    Raises:
        ConfigError: no other denoiser, or edges that are no increasing noise levels.
    """
    edges = tuple(float(edge) for edge in edges)
    if not others or len(edges) < 2 or not all(0 < a < b for a, b in pairwise(edges)):
        raise ConfigError(
            f"expected at least one denoiser to stack and increasing noise levels above 0, got "
            f"{len(others)} denoisers and {edges}"
        )
    x0 = records.x0
    device = x0.device if device is None else device
    index = np.tile(np.arange(len(records)), draws)
    at_once = records_at_once(x0)
    gram = np.zeros((len(edges) - 1, len(others), len(others)))
    along = np.zeros((len(edges) - 1, len(others)))
    for level, (low, high) in enumerate(pairwise(edges)):
        place = torch.rand(len(index), generator=generator, dtype=x0.dtype)
        sigma = low * (high / low) ** place
        noise = torch.randn(len(index), *x0.shape[1:], generator=generator, dtype=x0.dtype)
        for start in range(0, len(index), at_once):
            part = slice(start, start + at_once)
            clean, label = records.take(index[part], device)
            at = clean, label, sigma[part].to(device), noise[part].to(device)
            steps, error = _steps_and_error(denoise, others, *at)
            along[level] += (steps @ error).cpu().numpy()
            if followed is not None:
                steps, _ = _steps_and_error(denoise, followed, *at)
            gram[level] += (steps @ steps.T).cpu().numpy()
    return StackFit(edges, gram, along)


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
    """Fit the denoisers once for each fold of patients, and pool what each says of its own fold.

    The weights are for the mean of each method's denoisers over folds.

    Args:
        denoise: the source's denoiser D_p.
        target: all training records of the target.
        fit_fold: (number, records to fit on, held-out records) -> denoisers of the target, by the
            same methods in the same order for every fold.
        edges: noise levels of the weights, see `noise_level_edges`.
        folds: how many, at least 2.
        draws: noise draws a held-out record and noise level.
        seed: of folds and noise.
        device: where the networks are; None takes that of the records.

    Raises:
        CorpusError: fewer patients than folds, or fewer than two folds.
        ConfigError: another number of denoisers from one fold to the next.
    """
    parts = patient_folds(target, folds, seed)
    fitted = [fit_fold(number, *part) for number, part in enumerate(parts)]
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
    """What the denoisers of each fold say of the records that they missed, for their means.

    Args:
        denoise: the source's denoiser D_p.
        fitted: for each fold, denoisers of the target by the same methods in the same order.
        held_out: for each fold, the records that it missed.
        edges: noise levels of the weights.
        draws: noise draws a record and noise level.
        seed: of the noise.
        device: where the networks are; None takes that of the records.

    Raises:
        ConfigError: another number of denoisers from one fold to the next.
    """
    numbers = {len(others) for others in fitted}
    if len(numbers) != 1:
        raise ConfigError(
            f"expected as many denoisers in every fold, got {', '.join(map(str, sorted(numbers)))}"
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
                generator=torch.Generator().manual_seed(seed + number),
                device=device,
                followed=means,
            )
            for number, (others, records) in enumerate(zip(fitted, held_out, strict=True))
        ),
    )


def averaged(denoisers: Sequence[Denoiser]) -> Denoiser:
    """The mean of several denoisers of one law.

    Raises:
        ConfigError: there is none.
    """
    if not denoisers:
        raise ConfigError("expected at least one denoiser to average, got none")

    def denoise_mean(x: Tensor, sigma: Tensor, label: Given) -> Tensor:
        return torch.stack([denoise(x, sigma, label) for denoise in denoisers]).mean(0)

    return denoise_mean


def stacked(
    denoise: Denoiser, others: Sequence[Denoiser], weights: Sequence[NoiseLevelWeight]
) -> Denoiser:
    """D_p + Σᵢ wᵢ(σ) (Dᵢ - D_p).

    Raises:
        ConfigError: not one weight for each denoiser.
    """
    if len(others) != len(weights):
        raise ConfigError(
            f"expected a weight for each denoiser, got {len(weights)} for {len(others)}"
        )

    def denoise_target(x: Tensor, sigma: Tensor, label: Given) -> Tensor:
        source = denoise(x, sigma, label)
        total = source
        for other, weight in zip(others, weights, strict=True):
            strength = weight(sigma)
            expect_one_per_record(strength, x, "the weight of a stacked denoiser")
            total = total + per_record(strength.to(x), x) * (other(x, sigma, label) - source)
        return total

    return denoise_target


def _steps_and_error(
    denoise: Denoiser,
    others: Sequence[Denoiser],
    x0: Tensor,
    label: Given,
    sigma: Tensor,
    noise: Tensor,
) -> tuple[Tensor, Tensor]:
    """√λ (Dᵢ - D_p) and √λ (x0 - D_p) of a batch of n coordinates in all: (M, n) and (n,)."""
    x = noised(x0, sigma, noise)
    source = denoise(x, sigma, label)
    root = per_record(((sigma**2 + 1) / sigma**2).sqrt(), x)
    steps = [(root * (other(x, sigma, label) - source)).flatten().double() for other in others]
    return torch.stack(steps), (root * (x0 - source)).flatten().double()
