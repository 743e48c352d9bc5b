"""How far to follow the guidance at each noise level, measured on held-out target records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ecgtransfer.diffusion import Denoiser, per_record
from ecgtransfer.diffusion.condition import Given
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.transfer.guided import GuidanceWeight, LogH, noised, slope
from ecgtransfer.transfer.records import records_at_once

#: Upper clip of a calibrated weight: theory says 1, so more than half as much again is noise.
HIGHEST_WEIGHT = 1.5

#: Noise levels that get a calibrated weight of their own.
WEIGHT_BINS = 10


@dataclass(frozen=True)
class NoiseLevelWeight:
    """A guidance weight that depends on the noise level: linear in ln σ, constant outside.

    Attributes:
        sigmas: noise levels, increasing and above 0.
        values: weight at each of them.
    """

    sigmas: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.sigmas or len(self.sigmas) != len(self.values):
            raise ConfigError(
                f"expected as many weights as noise levels and at least one, got "
                f"{len(self.values)} weights for {len(self.sigmas)} noise levels"
            )
        if not _increasing(self.sigmas):
            raise ConfigError(
                f"expected noise levels that increase from above 0, got {self.sigmas}"
            )
        if not all(0 <= value < float("inf") for value in self.values):
            raise ConfigError(
                f"expected weights that are finite and not below 0, got {self.values}"
            )

    def __call__(self, sigma: Tensor) -> Tensor:
        """Weight at each noise level: (B,) -> (B,)."""
        values = sigma.new_tensor(self.values)
        if len(self.values) == 1:
            return values.expand_as(sigma)
        knots = sigma.new_tensor(self.sigmas).log()
        position = sigma.log().clamp(knots[0], knots[-1]).contiguous()
        right = torch.searchsorted(knots, position).clamp(1, len(knots) - 1)
        part = (position - knots[right - 1]) / (knots[right] - knots[right - 1])
        return torch.lerp(values[right - 1], values[right], part)


@dataclass(frozen=True)
class GuidanceFit:
    """How well σ² ∇ log h explains the source denoiser's error, per noise level; fits add up.

    Every sum runs over records and noise draws of one bin, with the loss weight λ(σ).

    Attributes:
        edges: borders of the noise levels, one more than bins.
        along: <u, x0 - D_p> with u = σ² ∇ₓ log h.
        square: <u, u>, of the guidance that is to be followed where that is a mean of several.
        error: <x0 - D_p, x0 - D_p>.
    """

    edges: tuple[float, ...]
    along: tuple[float, ...]
    square: tuple[float, ...]
    error: tuple[float, ...]

    def __add__(self, other: GuidanceFit) -> GuidanceFit:
        """Pool two fits, as cross-fitting does: each fold measured by guidance that never saw it.

        Raises:
            ConfigError: the noise levels differ.
        """
        if self.edges != other.edges:
            raise ConfigError(
                f"expected fits at the same noise levels, got {self.edges} and {other.edges}"
            )
        return GuidanceFit(
            self.edges,
            tuple(a + b for a, b in zip(self.along, other.along, strict=True)),
            tuple(a + b for a, b in zip(self.square, other.square, strict=True)),
            tuple(a + b for a, b in zip(self.error, other.error, strict=True)),
        )

    def weight(self, highest: float = HIGHEST_WEIGHT) -> NoiseLevelWeight:
        """Least squares at each noise level, w = <u, x0 - D_p> / <u, u>, within [0, highest].

        Guidance without a slope (<u, u> = 0) gets weight 0. Each weight sits at the geometric
        middle of its bin.
        """
        best = (
            along / square if square > 0 else 0.0
            for along, square in zip(self.along, self.square, strict=True)
        )
        return NoiseLevelWeight(
            tuple((low * high) ** 0.5 for low, high in pairwise(self.edges)),
            tuple(min(max(value, 0.0), highest) for value in best),
        )

    def explained(self, weight: GuidanceWeight = 1.0) -> tuple[float, ...]:
        """Fraction of the source's denoising error that guidance at `weight` removes, per bin.

        Negative where guidance does harm; the calibrated weight cannot do harm to the records
        that it was calibrated on.
        """
        values = (
            weight(
                torch.tensor([(a * b) ** 0.5 for a, b in pairwise(self.edges)], dtype=torch.double)
            )
            if callable(weight)
            else torch.full((len(self.along),), float(weight), dtype=torch.double)
        )
        return tuple(
            float((2 * w * along - w**2 * square) / error) if error > 0 else 0.0
            for w, along, square, error in zip(
                values.tolist(), self.along, self.square, self.error, strict=True
            )
        )


def noise_level_edges(
    sigma_min: float, sigma_max: float, bins: int = WEIGHT_BINS
) -> tuple[float, ...]:
    """Borders of `bins` noise levels of equal width in ln σ: (bins + 1,).

    Raises:
        ConfigError: not 0 < sigma_min < sigma_max, or no bin.
    """
    if not 0 < sigma_min < sigma_max or bins < 1:
        raise ConfigError(
            f"expected 0 < sigma_min < sigma_max and at least one bin, got {sigma_min}, "
            f"{sigma_max} and {bins}"
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
    followed: LogH | None = None,
) -> GuidanceFit:
    """Sums for the least-squares weight on target records that the guidance was not trained on.

    Within a bin σ is drawn evenly in ln σ. A record is noised `draws` times in each bin.

    Args:
        denoise: the source's denoiser D_p.
        log_h: the guidance.
        x0: (N, ...) held-out target records in model units.
        label: (N, K) or None.
        edges: increasing noise levels, the borders of the bins; see `noise_level_edges`.
        draws: noise draws a record and bin.
        generator: randomness of noise level and noise, of any device.
        batch_size: records that go through the networks at once, None as many as is wise; changes
            no draw.
        device: where the networks are; None takes that of `x0`.
        followed: the guidance that the weight is for, where `log_h` is but one of the networks
            that it averages, the one that never saw these records. The mean of <u, e> over
            networks is that of their mean, but the mean of <u, u> is larger by their spread.

    Raises:
        ConfigError: no record, no draw, or edges that do not increase from above 0.
        RunError: denoiser or guidance gave a number that is not finite.
    """
    edges = tuple(float(edge) for edge in edges)
    if len(edges) < 2 or not _increasing(edges):
        raise ConfigError(f"expected at least two increasing noise levels above 0, got {edges}")
    if len(x0) == 0 or draws < 1 or (batch_size is not None and batch_size < 1):
        raise ConfigError(
            f"expected at least one held-out record, one draw and one record a batch, got "
            f"{len(x0)}, {draws} and {batch_size}"
        )
    batch_size = records_at_once(x0) if batch_size is None else batch_size
    # Few records are noised several times over before they go through the networks.
    together = min(max(batch_size // len(x0), 1), draws)
    where = generator.device if generator is not None else x0.device
    device = x0.device if device is None else device
    sums = []
    for low, high in pairwise(edges):
        total = torch.zeros(3, dtype=torch.double)
        for first in range(0, draws, together):
            copies = min(together, draws - first)
            drawn = [_draw(x0, low, high, generator, where) for _ in range(copies)]
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
                    followed,
                )
        if not bool(total.isfinite().all()):
            raise RunError(
                f"expected finite numbers from denoiser and guidance at sigma {low:.3g} to "
                f"{high:.3g}, got {total.tolist()}; train the guidance again with a lower rate"
            )
        sums.append(total.tolist())
    along, square, error = zip(*sums, strict=True)
    return GuidanceFit(edges, along, square, error)


def _draw(
    x0: Tensor, low: float, high: float, generator: torch.Generator | None, where: torch.device
) -> tuple[Tensor, Tensor]:
    """Noise levels between two borders, even in ln σ, and noise, for every record once."""
    place = torch.rand(len(x0), generator=generator, device=where, dtype=x0.dtype)
    noise = torch.randn(x0.shape, generator=generator, device=where, dtype=x0.dtype)
    return low * (high / low) ** place, noise


def _sums(
    denoise: Denoiser,
    log_h: LogH,
    x0: Tensor,
    label: Given,
    sigma: Tensor,
    noise: Tensor,
    followed: LogH | None,
) -> Tensor:
    """λ-weighted <u, e>, <u, u>, <e, e> of one batch, e = x0 - D_p: (3,) in double precision."""
    with torch.no_grad():
        x = noised(x0, sigma, noise)
        error = (x0 - denoise(x, sigma, label)).flatten(1).double()

        def step(guidance: LogH) -> Tensor:
            u = per_record(sigma, x) ** 2 * slope(guidance, x, sigma, label)
            return u.flatten(1).double()

        u = step(log_h)
        square = u.square() if followed is None else step(followed).square()
        weight = (sigma**2 + 1) / sigma**2
        products = torch.stack([(u * error).sum(1), square.sum(1), error.square().sum(1)])
        return (products * weight.double()).sum(1).cpu()


def _increasing(sigmas: Sequence[float]) -> bool:
    return sigmas[0] > 0 and all(low < high < float("inf") for low, high in pairwise([*sigmas]))
