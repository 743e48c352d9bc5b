"""A pair of Gaussian domains with every quantity of the method in closed form (not a test)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GaussianPair:
    """Source p = N(0, I), target q = N(mean, diag(std^2)), std not 1.

    `mean` and `std` are numbers or nested tuples that broadcast against the shape of one record.
    Every method takes records of any shape (B, ...) and any float type; labels are ignored.
    """

    mean: float | tuple = 0.8
    std: float | tuple = 0.6

    def denoise_source(self, x: Tensor, sigma: Tensor, label: Tensor | None = None) -> Tensor:
        """E_p[x0 given x] = x / (1 + sigma^2)."""
        return x / (1 + lifted(sigma, x) ** 2)

    def denoise_target(self, x: Tensor, sigma: Tensor, label: Tensor | None = None) -> Tensor:
        """E_q[x0 given x] = (std^2 x + sigma^2 mean) / (std^2 + sigma^2)."""
        mean, variance = self._mean(x), self._std(x) ** 2
        noise = lifted(sigma, x) ** 2
        return (variance * x + noise * mean) / (variance + noise)

    def log_ratio(self, x0: Tensor, label: Tensor | None = None) -> Tensor:
        """log q(x0)/p(x0): (B,)."""
        return self.log_h(x0, torch.zeros_like(x0.flatten(1)[:, 0]), label)

    def log_h(self, x: Tensor, sigma: Tensor, label: Tensor | None = None) -> Tensor:
        """log q_sigma(x)/p_sigma(x): (B,)."""
        noise = lifted(sigma, x) ** 2
        target = log_normal(x - self._mean(x), self._std(x) ** 2 + noise)
        return (target - log_normal(x, 1 + noise)).flatten(1).sum(1)

    def draw_source(self, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
        """Source records, float64."""
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    def draw_target(self, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
        """Target records, float64."""
        x0 = self.draw_source(shape, rng)
        return self._mean(x0) + self._std(x0) * x0

    def _mean(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.mean, dtype=x.dtype)

    def _std(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.std, dtype=x.dtype)


def lifted(sigma: Tensor, x: Tensor) -> Tensor:
    """(B,) -> (B, 1, ..., 1); written anew here, so that no test leans on what it tests."""
    return sigma.reshape([len(x)] + [1] * (x.ndim - 1))


def log_normal(x: Tensor, variance: Tensor) -> Tensor:
    """log N(x; 0, variance), coordinate by coordinate."""
    return -(x**2) / (2 * variance) - variance.log() / 2 - math.log(2 * math.pi) / 2
