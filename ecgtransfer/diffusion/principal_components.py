"""Principal components of beat shapes, and their size in the P window."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecgtransfer.errors import ConfigError

#: When principal components are fitted, records farther from the mean shape than this quantile are
#: moved to it: otherwise a single artefact of 20 mV would take a component of its own.
OUTLYING_QUANTILE = 0.99
#: Lower bound of a component's standard deviation, as a fraction of the largest.
SMALLEST_DEVIATION = 1e-3
#: Minimum number of vectors to fit principal components.
FEWEST_VECTORS = 2
#: Lower bound of the size of a wave, as a fraction of its root mean square over all records.
SMALLEST_SIZE = 0.02


class PrincipalComponents(nn.Module):
    """Principal components of vectors (N, F), each divided by its standard deviation."""

    mean: Tensor
    basis: Tensor
    deviation: Tensor

    def __init__(self, features: int, components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("basis", torch.eye(features, components))
        self.register_buffer("deviation", torch.ones(components))

    def fit(
        self,
        vectors: NDArray[np.floating],
        wave: NDArray[np.floating] | None = None,
        inside: int = 0,
    ) -> None:
        """Fit mean, basis and deviations; outliers are moved to `OUTLYING_QUANTILE` first.

        The basis spans the leading principal components. If a wave is given, it is rotated within
        their span: the first `inside` components have as much power in the wave as possible, and
        either part is diagonalised again. The wave then has coordinates of its own, and the span,
        and so the vectors that the components can express, is unchanged.

        Args:
            vectors: (N, F).
            wave: (F, F) symmetric; v^T wave v is the power that v has in the wave, at most |v|^2.
            inside: number of components of the wave.

        Raises:
            ConfigError: fewer than 2 vectors.
        """
        if len(vectors) < FEWEST_VECTORS:
            raise ConfigError(
                f"expected at least {FEWEST_VECTORS} beat shapes to find components of, got "
                f"{len(vectors)}"
            )
        mean = np.mean(vectors, axis=0, dtype=np.float64)
        away = vectors - mean
        distance = np.linalg.norm(away, axis=1)
        usual = np.quantile(distance, OUTLYING_QUANTILE)
        away *= np.minimum(1.0, usual / np.maximum(distance, 1e-12))[:, None]
        power, basis = _leading(away.T @ away / len(away), self.deviation.shape[0])
        if wave is not None and inside > 0:
            _, rotation = _leading(basis.T @ wave @ basis, len(power))
            parts = [
                _rotated(power, part)
                for part in (rotation[:, :inside], rotation[:, inside:])
                if part.shape[1]
            ]
            basis = basis @ np.concatenate([rotated for _, rotated in parts], axis=1)
            power = np.concatenate([variance for variance, _ in parts])
        self.mean.copy_(torch.from_numpy(mean))
        self.basis.copy_(torch.from_numpy(basis))
        deviation = np.sqrt(np.maximum(power, 0.0))
        # With fewer vectors than components, the remaining components have no variance.
        smallest = max(SMALLEST_DEVIATION * float(deviation.max()), 1e-6)
        self.deviation.copy_(torch.from_numpy(np.maximum(deviation, smallest)))

    def encode(self, vectors: Tensor) -> Tensor:
        """Project (B, F) on the components, with unit variance: (B, C)."""
        return (vectors - self.mean) @ self.basis / self.deviation

    def decode(self, components: Tensor) -> Tensor:
        """Reconstruct (B, F) from components (B, C)."""
        return (components * self.deviation) @ self.basis.T + self.mean


class SizeAndDirection(nn.Module):
    """Splits the components of a wave into its size and its direction.

    The size is proportional to the root mean square of what the components add to the mean vector,
    and is returned as a standardised logarithm. The direction is the components divided by the
    size, each in units of its standard deviation. Records are a scale mixture: a denoiser that errs
    by a small factor at every noise level misses the scale of a record, unless it is a coordinate.
    """

    weight: Tensor
    deviation: Tensor
    log_mean: Tensor
    log_deviation: Tensor
    smallest: Tensor

    def __init__(self, components: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(components))
        self.register_buffer("deviation", torch.ones(components))
        self.register_buffer("log_mean", torch.zeros(()))
        self.register_buffer("log_deviation", torch.ones(()))
        self.register_buffer("smallest", torch.tensor(SMALLEST_SIZE))

    def fit(self, components: Tensor, deviation: Tensor) -> None:
        """Fit the scales.

        Args:
            components: (N, P), as `PrincipalComponents.encode` returns them.
            deviation: (P,) their standard deviations in the unit of the signal.
        """
        self.weight.copy_(deviation / deviation.square().mean().sqrt())
        usual = (components * self.weight).square().mean().sqrt()
        self.smallest.copy_(SMALLEST_SIZE * usual)
        size = self._size(components)
        self.log_mean.copy_(size.log().mean())
        self.log_deviation.copy_(size.log().std(correction=0) + 1e-6)
        self.deviation.copy_((components / size).std(dim=0, correction=0) + 1e-6)

    def encode(self, components: Tensor) -> tuple[Tensor, Tensor]:
        """Direction (B, P) and standardised log size (B, 1) of components (B, P)."""
        size = self._size(components)
        return components / size / self.deviation, (size.log() - self.log_mean) / self.log_deviation

    def decode(self, direction: Tensor, log_size: Tensor) -> Tensor:
        """Components (B, P) that have this size exactly."""
        components = direction * self.deviation
        size = (log_size * self.log_deviation + self.log_mean).exp()
        return components * (size / self._size(components, self.smallest / 1e3))

    def _size(self, components: Tensor, smallest: Tensor | None = None) -> Tensor:
        """Root mean square of the amplitudes of components (B, P): (B, 1)."""
        size = (components * self.weight).square().mean(dim=1, keepdim=True).sqrt()
        return torch.maximum(size, self.smallest if smallest is None else smallest)


def _leading(
    symmetric: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The largest eigenvalues (C,) and their eigenvectors (F, C), in decreasing order."""
    values, vectors = np.linalg.eigh(symmetric)
    return values[::-1][:count].copy(), vectors[:, ::-1][:, :count].copy()


def _rotated(
    power: NDArray[np.float64], part: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Diagonalise a part (C, P) of an orthonormal basis in which the variances are `power`."""
    variance, rotation = _leading(part.T @ (power[:, None] * part), part.shape[1])
    return variance, part @ rotation


def group_sizes(parts: Sequence[int], largest: int) -> tuple[int, ...]:
    """Sizes of consecutive groups of features, at most `largest`, none across two parts."""
    return tuple(min(largest, part - start) for part in parts for start in range(0, part, largest))
