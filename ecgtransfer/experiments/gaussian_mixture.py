"""Gaussian mixtures, whose noised density, score and denoiser are known in closed form."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ecgtransfer.errors import ConfigError


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """Mixture of isotropic Gaussians p(x0, y), with x0 (d,) and one label per component.

    With noise of level sigma, component m is N(mu_m, v_m + sigma^2), so all methods are exact.
    They accept any float type, compute in float64 and return the type of `x`. All except `sample`
    are differentiable in `x`.

    Attributes:
        weights: weights w of the components, (M,), with sum 1.
        means: means mu, (M, d).
        variances: variance v of each coordinate, (M,).
        label_of: (M,) int64, label index of each component; all 0 if there are no labels.
        labels: number of labels K; 0 for none.

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
                f"{', '.join(map(str, [*shapes, tuple(self.label_of.shape)]))}; "
                "correct the shapes"
            )
        types = {part.dtype for part in (self.weights, self.means, self.variances)}
        if types != {torch.float64}:
            raise ConfigError(
                "expected weights, means and variances in float64, got "
                f"{', '.join(sorted(map(str, types)))}; call .double()"
            )
        if self.weights.min() <= 0 or abs(float(self.weights.sum()) - 1) > 1e-9:
            raise ConfigError(
                f"expected weights above 0 with sum 1, got {self.weights.tolist()}; remove empty "
                "components and normalise"
            )
        if self.variances.min() <= 0:
            raise ConfigError(
                f"expected variances above 0, got {self.variances.tolist()}; correct them"
            )
        if set(self.label_of.tolist()) != set(range(max(self.labels, 1))):
            raise ConfigError(
                "expected a component for each label index from 0, or only index 0 without labels, "
                f"got labels={self.labels} and label_of {self.label_of.tolist()}; correct label_of"
            )

    @property
    def dimension(self) -> int:
        """Number of coordinates d."""
        return self.means.shape[1]

    @property
    def label_frequencies(self) -> Tensor:
        """Probability of each label: (K,)."""
        return self._membership @ self.weights

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sample records x0, (n, d) float64, and return them with their components, (n,)."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.dimension, generator=generator, dtype=torch.float64)
        deviation = self.variances.sqrt()[component]
        return self.means[component] + deviation[:, None] * noise, component

    def one_hot(self, component: Tensor) -> Tensor | None:
        """Return the one-hot labels (n, K) float64 of components (n,); None without labels."""
        return self._membership.T[component] if self.labels else None

    def log_density(
        self, x: Tensor, sigma: Tensor | None = None, label: Tensor | None = None
    ) -> Tensor:
        """Log density of x = x0 + sigma noise, log p_sigma(x) or log p_sigma(x, y): (B,).

        log sum_m w_m N(x; mu_m, v_m + sigma^2), over all components or those of the label.

        Args:
            x: (B, d).
            sigma: (B,); None for clean records.
            label: one-hot (B, K) for the joint density; None for the density of x.

        Raises:
            ConfigError: `x`, `sigma` or `label` has a wrong shape.
        """
        across = self._across(x)
        spread = self._spread(x, sigma)
        return torch.logsumexp(self._log_terms(across, spread, label), 0).to(x.dtype)

    def responsibilities(
        self, x: Tensor, sigma: Tensor | None = None, label: Tensor | None = None
    ) -> Tensor:
        """Posterior probability of each component given x and, optionally, the label: (B, M)."""
        terms = self._log_terms(self._across(x), self._spread(x, sigma), label)
        return _as_rows(torch.softmax(terms, 0), x)

    def denoise(self, x: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        """E[x0 given x, sigma, label], a `Denoiser`: (B, d).

        The mean of (v_m x + sigma^2 mu_m) / (v_m + sigma^2) over components, weighted by their
        posterior probability.
        """
        across, spread = self._across(x), self._spread(x, sigma)
        share = torch.softmax(self._log_terms(across, spread, label), 0) / spread
        from_means = sigma.double().square() * (self.means.T @ share)
        return _as_rows((self.variances @ share) * across + from_means, x)

    def score(self, x: Tensor, sigma: Tensor | None, label: Tensor | None) -> Tensor:
        """Score grad_x log p_sigma(x), or grad_x log p_sigma(x given label): (B, d).

        The mean of (mu_m - x) / (v_m + sigma^2) over components, weighted by their posterior
        probability.
        """
        across, spread = self._across(x), self._spread(x, sigma)
        share = torch.softmax(self._log_terms(across, spread, label), 0) / spread
        return _as_rows(self.means.T @ share - share.sum(0) * across, x)

    def scaled(self, factor: float) -> "GaussianMixture":
        """Return the distribution of factor * x0."""
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
        """1 if a component has a label, else 0: (K, M)."""
        return (torch.arange(self.labels)[:, None] == self.label_of).double()

    @cached_property
    def _log_constants(self) -> Tensor:
        """Part of each component's log density that depends on neither x nor sigma: (M, 1)."""
        constants = self.weights.log() - self.dimension / 2 * math.log(2 * math.pi)
        return constants[:, None]

    @cached_property
    def _squared_means(self) -> Tensor:
        """||mu_m||^2: (M, 1)."""
        return self.means.square().sum(1, keepdim=True)

    # Below, records are on the last axis: sums over few components or coordinates are several times
    # faster this way, and a sampler computes thousands of them.

    def _across(self, x: Tensor) -> Tensor:
        """Check records x (B, d) and return them as float64 columns: (d, B)."""
        if x.ndim != 2 or x.shape[1] != self.dimension:
            raise ConfigError(
                f"expected x of shape (B, {self.dimension}), got {tuple(x.shape)}; pass records of "
                "this mixture"
            )
        return x.T.to(torch.float64, memory_format=torch.contiguous_format)

    def _spread(self, x: Tensor, sigma: Tensor | None) -> Tensor:
        """Variance v_m + sigma^2: (M, B), or (M, 1) for clean records."""
        variances = self.variances[:, None]
        if sigma is None:
            return variances
        if sigma.shape != x.shape[:1]:
            raise ConfigError(
                f"expected one sigma for each of {len(x)} records, got shape {tuple(sigma.shape)}; "
                f"pass shape ({len(x)},)"
            )
        return variances + sigma.double().square()

    def _log_terms(self, across: Tensor, spread: Tensor, label: Tensor | None) -> Tensor:
        """Log w_m N(x; mu_m, spread), -inf for components of other labels: (M, B)."""
        distance = self._squared_means - 2 * (self.means @ across) + across.square().sum(0)
        log_terms = self._log_constants - (distance / spread + self.dimension * spread.log()) / 2
        if label is None:
            return log_terms
        expected = (across.shape[1], self.labels)
        if not self.labels or label.shape != expected:
            raise ConfigError(
                f"expected labels {expected if self.labels else None} in a mixture of "
                f"{self.labels} labels, got {tuple(label.shape)}; pass one-hot labels or None"
            )
        return log_terms + (self._membership.T @ label.T.double()).log()


def _as_rows(columns: Tensor, x: Tensor) -> Tensor:
    """Transpose to one record per row, in the type of x: (n, B) -> (B, n)."""
    return columns.T.to(x.dtype, memory_format=torch.contiguous_format)
