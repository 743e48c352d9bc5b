"""Guidance weight per noise level, calibrated on held-out target records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ecgtransfer.diffusion import Denoiser, per_record
from ecgtransfer.diffusion.condition import Given
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.transfer.guided import GuidanceWeight, LogH, log_h_gradient, noised
from ecgtransfer.transfer.records import records_at_once

#: Upper limit of a calibrated weight; exact guidance has weight 1, so larger values are noise.
HIGHEST_WEIGHT = 1.5

#: Number of noise-level bins, each with its own calibrated weight.
WEIGHT_BINS = 10


@dataclass(frozen=True)
class NoiseLevelWeight:
    """A guidance weight as a function of the noise level.

    Interpolated linearly in ln σ, and constant beyond the first and the last noise level.

    Attributes:
        sigmas: noise levels, increasing and above 0.
        values: weight at each noise level.

    Raises:
        ConfigError: lengths differ or are 0, or a value is out of range.
    """

    sigmas: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.sigmas or len(self.sigmas) != len(self.values):
            raise ConfigError(
                f"expected as many weights as noise levels and at least one, got "
                f"{len(self.values)} weights for {len(self.sigmas)} noise levels; pass one each"
            )
        if not _increasing(self.sigmas):
            raise ConfigError(
                f"expected noise levels that increase from above 0, got {self.sigmas}; sort them"
            )
        if not all(0 <= value < float("inf") for value in self.values):
            raise ConfigError(
                f"expected weights that are finite and not below 0, got {self.values}; clip them"
            )

    def __call__(self, sigma: Tensor) -> Tensor:
        """Interpolate the weight at each noise level: (B,) -> (B,)."""
        values = sigma.new_tensor(self.values)
        if len(self.values) == 1:
            return values.expand_as(sigma)
        knots = sigma.new_tensor(self.sigmas).log()
        position = sigma.log().clamp(knots[0], knots[-1]).contiguous()
        right = torch.searchsorted(knots, position).clamp(1, len(knots) - 1)
        fraction = (position - knots[right - 1]) / (knots[right] - knots[right - 1])
        return torch.lerp(values[right - 1], values[right], fraction)


@dataclass(frozen=True)
class GuidanceFit:
    """Least-squares fit of u = σ² ∇ₓ log h to the source's error x0 - D_p, per noise-level bin.

    Sums run over held-out target records and noise draws, with the loss weight λ(σ); the sums of
    several folds can be added.

    Attributes:
        edges: edges of the noise-level bins, one more than bins.
        cross: Σ λ <u, x0 - D_p> per bin.
        sq_norm: Σ λ <u, u> per bin; if the weight is for a mean over folds, u is that of the mean.
        sq_error: Σ λ <x0 - D_p, x0 - D_p> per bin.
    """

    edges: tuple[float, ...]
    cross: tuple[float, ...]
    sq_norm: tuple[float, ...]
    sq_error: tuple[float, ...]

    def __add__(self, other: GuidanceFit) -> GuidanceFit:
        """Add the sums of two fits, such as those of two folds of cross-fitting.

        Raises:
            ConfigError: the noise levels differ.
        """
        if self.edges != other.edges:
            raise ConfigError(
                f"expected fits at the same noise levels, got {self.edges} and {other.edges}; "
                "measure both with the same edges"
            )
        return GuidanceFit(
            self.edges,
            tuple(a + b for a, b in zip(self.cross, other.cross, strict=True)),
            tuple(a + b for a, b in zip(self.sq_norm, other.sq_norm, strict=True)),
            tuple(a + b for a, b in zip(self.sq_error, other.sq_error, strict=True)),
        )

    def weight(self, highest: float = HIGHEST_WEIGHT) -> NoiseLevelWeight:
        """Solve least squares per bin: w = cross / sq_norm, clipped to [0, highest].

        Guidance with zero gradient gets weight 0. Each weight belongs to the geometric centre of
        its bin.
        """
        best = (
            cross / sq_norm if sq_norm > 0 else 0.0
            for cross, sq_norm in zip(self.cross, self.sq_norm, strict=True)
        )
        return NoiseLevelWeight(
            tuple((low * high) ** 0.5 for low, high in pairwise(self.edges)),
            tuple(min(max(value, 0.0), highest) for value in best),
        )

    def explained(self, weight: GuidanceWeight = 1.0) -> tuple[float, ...]:
        """Fraction of the source's squared denoising error that guidance removes, per bin.

        It is negative where guidance increases the error. At the calibrated weight it is never
        negative on the records of the calibration.
        """
        values = (
            weight(
                torch.tensor([(a * b) ** 0.5 for a, b in pairwise(self.edges)], dtype=torch.double)
            )
            if callable(weight)
            else torch.full((len(self.cross),), float(weight), dtype=torch.double)
        )
        return tuple(
            float((2 * w * cross - w**2 * sq_norm) / sq_error) if sq_error > 0 else 0.0
            for w, cross, sq_norm, sq_error in zip(
                values.tolist(), self.cross, self.sq_norm, self.sq_error, strict=True
            )
        )


def noise_level_edges(
    sigma_min: float, sigma_max: float, bins: int = WEIGHT_BINS
) -> tuple[float, ...]:
    """Edges of noise-level bins of equal width in ln σ: bins + 1 values.

    Raises:
        ConfigError: 0 < sigma_min < sigma_max does not hold, or there is no bin.
    """
    if not 0 < sigma_min < sigma_max or bins < 1:
        raise ConfigError(
            f"expected 0 < sigma_min < sigma_max and at least one bin, got {sigma_min}, "
            f"{sigma_max} and {bins}; correct the noise levels"
        )
    ratio = sigma_max / sigma_min
    return tuple(sigma_min * ratio ** (step / bins) for step in range(bins + 1))


def measure_guidance(
    denoise: Denoiser,
    log_h: LogH,
    x0: Tensor,
    label: Given,
    edges: Sequence[float],
    *,
    draws: int = 4,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
    device: torch.device | None = None,
    applied: LogH | None = None,
) -> GuidanceFit:
    """Compute the sums of the least-squares weight on held-out target records.

    Each record is noised `draws` times per bin; within a bin, ln σ is uniform.

    Args:
        denoise: the source's denoiser D_p.
        log_h: the guidance, which was not trained on these records.
        x0: (N, ...) held-out target records in model units.
        label: (N, K) or None.
        edges: edges of the noise-level bins, increasing; see `noise_level_edges`.
        draws: noise draws per record and bin.
        generator: randomness of noise level and noise, on any device.
        batch_size: noised records per batch, None for a default; does not change the noise.
        device: device of the networks; None takes that of `x0`.
        applied: the guidance that the weight is for, if that is the mean over folds and `log_h`
            the network of one fold; None means `log_h`. <u, u> is computed from it, because the
            mean over folds of <u, u> exceeds that of the mean guidance, unlike <u, x0 - D_p>.

    Raises:
        ConfigError: there is no record or no draw, or the edges do not increase from above 0.
        RunError: denoiser or guidance returned a value that is not finite.
    """
    edges = tuple(float(edge) for edge in edges)
    if len(edges) < 2 or not _increasing(edges):
        raise ConfigError(
            f"expected at least two increasing noise levels above 0, got {edges}; use "
            "noise_level_edges"
        )
    if len(x0) == 0 or draws < 1 or (batch_size is not None and batch_size < 1):
        raise ConfigError(
            f"expected at least one held-out record, one draw and one record per batch, got "
            f"{len(x0)}, {draws} and {batch_size}; correct the arguments"
        )
    batch_size = records_at_once(x0) if batch_size is None else batch_size
    # If all records fit into one batch several times, several draws share a batch.
    draws_per_batch = min(max(batch_size // len(x0), 1), draws)
    noise_device = generator.device if generator is not None else x0.device
    device = x0.device if device is None else device
    sums = []
    for low, high in pairwise(edges):
        total = torch.zeros(3, dtype=torch.double)
        for first in range(0, draws, draws_per_batch):
            copies = min(draws_per_batch, draws - first)
            drawn = [_draw(x0, low, high, generator, noise_device) for _ in range(copies)]
            sigma, noise = (torch.cat(part) for part in zip(*drawn, strict=True))
            index = torch.arange(len(x0), device=x0.device).repeat(copies)
            for start in range(0, len(index), batch_size):
                part = slice(start, start + batch_size)
                total += _sums(
                    denoise,
                    log_h,
                    x0[index[part]].to(device),
                    None if label is None else label[index[part]].to(device),
                    sigma[part].to(device),
                    noise[part].to(device),
                    applied,
                )
        if not bool(total.isfinite().all()):
            raise RunError(
                f"expected finite numbers from denoiser and guidance at sigma {low:.3g} to "
                f"{high:.3g}, got {total.tolist()}; train the guidance with a lower learning rate"
            )
        sums.append(total.tolist())
    cross, sq_norm, sq_error = zip(*sums, strict=True)
    return GuidanceFit(edges, cross, sq_norm, sq_error)


def _draw(
    x0: Tensor, low: float, high: float, generator: torch.Generator | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Sample a noise level in [low, high], uniform in ln σ, and noise for each record."""
    fraction = torch.rand(len(x0), generator=generator, device=device, dtype=x0.dtype)
    noise = torch.randn(x0.shape, generator=generator, device=device, dtype=x0.dtype)
    return low * (high / low) ** fraction, noise


def _sums(
    denoise: Denoiser,
    log_h: LogH,
    x0: Tensor,
    label: Given,
    sigma: Tensor,
    noise: Tensor,
    applied: LogH | None,
) -> Tensor:
    """λ-weighted <u, e>, <u, u> and <e, e> of one batch, with e = x0 - D_p: (3,) in float64."""
    with torch.no_grad():
        x = noised(x0, sigma, noise)
        error = (x0 - denoise(x, sigma, label)).flatten(1).double()

        def guidance(network: LogH) -> Tensor:
            u = per_record(sigma, x) ** 2 * log_h_gradient(network, x, sigma, label)
            return u.flatten(1).double()

        u = guidance(log_h)
        u_squared = u.square() if applied is None else guidance(applied).square()
        weight = (sigma**2 + 1) / sigma**2
        products = torch.stack([(u * error).sum(1), u_squared.sum(1), error.square().sum(1)])
        return (products * weight.double()).sum(1).cpu()


def _increasing(sigmas: Sequence[float]) -> bool:
    return sigmas[0] > 0 and all(low < high < float("inf") for low, high in pairwise([*sigmas]))
