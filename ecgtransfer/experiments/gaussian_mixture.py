"""Mixtures of Gaussians: laws whose noised density, score and denoiser are known exactly."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ecgtransfer.errors import ConfigError


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """Mixture of isotropic Gaussians, each component of one label: p(x0, y) with x0 (d,).

    With noise of size sigma component m becomes N(mu_m, v_m + sigma^2), so that everything below
    is exact. Methods take any float type, compute in float64 and return the type of `x`; all but
    `sample` keep the gradient to `x`.

    Attributes:
        weights: w, (M,), with sum 1.
        means: mu, (M, d).
        variances: v, (M,), of each coordinate.
        label_of: (M,) int64, label number of each component; all 0 where there are no labels.
        labels: number K of labels; 0 for none.

    Raises:
        ConfigError: the tensors do not describe a mixture in float64.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    label_of: Tensor
    labels: int

    def __post_init__(self) -> None:
        components = self.weights.shape
        shapes = [tuple(part.shape) for part in (self.weights, self.means, self.variances)]
        if (
            len(components) != 1
            or self.means.ndim != 2
            or not self.means.shape[:1] == self.variances.shape == self.label_of.shape == components
        ):
            raise ConfigError(
                "expected weights (M,), means (M, d), variances (M,) and label_of (M,), got "
                f"{', '.join(map(str, [*shapes, tuple(self.label_of.shape)]))}"
            )
        types = {part.dtype for part in (self.weights, self.means, self.variances)}
        if types != {torch.float64}:
            raise ConfigError(
                "expected weights, means and variances in float64, got "
                f"{', '.join(sorted(map(str, types)))}; call .double()"
            )
        if self.weights.min() <= 0 or abs(float(self.weights.sum()) - 1) > 1e-9:
            raise ConfigError(
                f"expected weights above 0 with sum 1, got {self.weights.tolist()}; leave out "
                "empty components"
            )
        if self.variances.min() <= 0:
            raise ConfigError(f"expected variances above 0, got {self.variances.tolist()}")
        if set(self.label_of.tolist()) != set(range(max(self.labels, 1))):
            raise ConfigError(
                "expected a component of every label from 0 on, and label 0 alone where there "
                f"are none, got labels={self.labels} and label_of {self.label_of.tolist()}"
            )

    @property
    def dimension(self) -> int:
        """Number d of coordinates."""
        return self.means.shape[1]

    @property
    def label_frequencies(self) -> Tensor:
        """Probability of each label: (K,)."""
        return self._membership @ self.weights

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """x0 (n, d) float64 and the component (n,) that each record is drawn from."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.dimension, generator=generator, dtype=torch.float64)
        deviation = self.variances.sqrt()[component]
        return self.means[component] + deviation[:, None] * noise, component

    def one_hot(self, component: Tensor) -> Tensor | None:
        """Labels (n, K) float64 of records of these components (n,); None without labels."""
        return self._membership.T[component] if self.labels else None

    def log_density(
        self, x: Tensor, sigma: Tensor | None = None, label: Tensor | None = None
    ) -> Tensor:
        """Log density of x = x0 + sigma noise; with a label, the joint log p_sigma(x, y): (B,).

        log sum_m w_m N(x; mu_m, v_m + sigma^2), over the components of the label where given.

        Args:
            x: (B, d).
            sigma: (B,); None for clean records.
            label: one-hot (B, K); None for the density of x alone.

        Raises:
            ConfigError: `x`, `sigma` or `label` of a shape that does not fit.
        """
        across = self._across(x)
        spread = self._spread(x, sigma)
        return torch.logsumexp(self._log_terms(across, spread, label), 0).to(x.dtype)

    def responsibilities(
        self, x: Tensor, sigma: Tensor | None = None, label: Tensor | None = None
    ) -> Tensor:
        """Probability of each component given x, and the label where given: (B, M)."""
        terms = self._log_terms(self._across(x), self._spread(x, sigma), label)
        return _as_rows(torch.softmax(terms, 0), x)

    def denoise(self, x: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        """E[x0 given x, sigma, label], a `Denoiser`: (B, d).

        Each component says (v_m x + sigma^2 mu_m) / (v_m + sigma^2); they are averaged by their
        probability given x.
        """
        across, spread = self._across(x), self._spread(x, sigma)
        share = torch.softmax(self._log_terms(across, spread, label), 0) / spread
        of_means = sigma.double().square() * (self.means.T @ share)
        return _as_rows((self.variances @ share) * across + of_means, x)

    def score(self, x: Tensor, sigma: Tensor | None, label: Tensor | None) -> Tensor:
        """grad_x log p_sigma(x), or log p_sigma(x given the label) where given: (B, d).

        Each component says (mu_m - x) / (v_m + sigma^2).
        """
        across, spread = self._across(x), self._spread(x, sigma)
        share = torch.softmax(self._log_terms(across, spread, label), 0) / spread
        return _as_rows(self.means.T @ share - share.sum(0) * across, x)

    def scaled(self, factor: float) -> "GaussianMixture":
        """The law of factor * x0."""
        return GaussianMixture(
            self.weights,
            factor * self.means,
            factor**2 * self.variances,
            self.label_of,
            self.labels,
        )

    def mean(self) -> Tensor:
        """E[x0]: (d,)."""
        return self.weights @ self.means

    def covariance(self) -> Tensor:
        """Covariance of x0: (d, d)."""
        apart = self.means - self.mean()
        within = (self.weights @ self.variances) * torch.eye(self.dimension, dtype=torch.float64)
        return within + apart.T @ (self.weights[:, None] * apart)

    @cached_property
    def _membership(self) -> Tensor:
        """1 where a component is of a label: (K, M)."""
        return (torch.arange(self.labels)[:, None] == self.label_of).double()

    @cached_property
    def _log_constants(self) -> Tensor:
        """What of each component's log density depends on neither x nor sigma: (M, 1)."""
        constants = self.weights.log() - self.dimension / 2 * math.log(2 * math.pi)
        return constants[:, None]

    @cached_property
    def _squared_means(self) -> Tensor:
        """||mu_m||^2: (M, 1)."""
        return self.means.square().sum(1, keepdim=True)

    # Below, records run along the last axis: sums over a handful of components or coordinates are
    # several times faster so, and a sampler makes thousands of them.

    def _across(self, x: Tensor) -> Tensor:
        """Records x (B, d) as columns, float64: (d, B)."""
        if x.ndim != 2 or x.shape[1] != self.dimension:
            raise ConfigError(f"expected x of shape (B, {self.dimension}), got {tuple(x.shape)}")
        return x.T.to(torch.float64, memory_format=torch.contiguous_format)

    def _spread(self, x: Tensor, sigma: Tensor | None) -> Tensor:
        """v_m + sigma^2: (M, B), or (M, 1) for clean records."""
        variances = self.variances[:, None]
        if sigma is None:
            return variances
        if sigma.shape != x.shape[:1]:
            raise ConfigError(
                f"expected one sigma for each of {len(x)} records, got shape {tuple(sigma.shape)}"
            )
        return variances + sigma.double().square()

    def _log_terms(self, across: Tensor, spread: Tensor, label: Tensor | None) -> Tensor:
        """Log w_m N(x; mu_m, spread), -inf for components of other labels: (M, B)."""
        distance = self._squared_means - 2 * (self.means @ across) + across.square().sum(0)
        log_terms = self._log_constants - (distance / spread + self.dimension * spread.log()) / 2
        if label is None:
            return log_terms
        wanted = (across.shape[1], self.labels)
        if not self.labels or label.shape != wanted:
            raise ConfigError(
                f"expected labels {wanted if self.labels else None} in a mixture of "
                f"{self.labels} labels, got {tuple(label.shape)}"
            )
        return log_terms + (self._membership.T @ label.T.double()).log()


def _as_rows(columns: Tensor, x: Tensor) -> Tensor:
    """Back to one record a row, in the type of x: (n, B) -> (B, n)."""
    return columns.T.to(x.dtype, memory_format=torch.contiguous_format)
