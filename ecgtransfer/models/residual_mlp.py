"""A fully connected residual network for vectors without order, such as principal components."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.errors import ConfigError
from ecgtransfer.models.blocks import Conditioning, zero

#: Mean square of a group below which its logarithm says nothing; noised features have about 1.
POWER_FLOOR = 1e-3


@dataclass(frozen=True)
class ResidualMLPConfig:
    """Shape of a `ResidualMLP`.

    Attributes:
        features: numbers a record, D.
        labels: columns of the label.
        scalars: further numbers that the network is conditioned on.
        groups: sizes of consecutive groups of features whose power the network is told; they sum
            to D, or there are none.
        width: of every layer.
        blocks: residual blocks of two layers.
        conditioning: width of the embedding of noise level, label and scalars.
    """

    features: int
    labels: int
    scalars: int = 0
    groups: tuple[int, ...] = ()
    width: int = 384
    blocks: int = 3
    conditioning: int = 128

    def __post_init__(self) -> None:
        sizes = (self.features, self.labels, self.width, self.blocks, self.conditioning)
        if min(sizes) < 1 or self.scalars < 0:
            raise ConfigError(
                "expected at least 1 feature, label, channel, block and conditioning channel and "
                f"no negative number of scalars, got {self}"
            )
        if self.groups and (min(self.groups) < 1 or sum(self.groups) != self.features):
            raise ConfigError(
                f"expected groups of {self.features} features in all, got sizes {self.groups}"
            )


class ResidualMLP(nn.Module):
    """Noised features, noise level, label and scalars to features: F(x) = a(x) + g(x) * x.

    The gain g matters where records differ in scale: the denoiser of a mixture of Gaussians of
    several variances multiplies every feature by a number that depends on how strong all of them
    are. So the logarithmic power of each group of features enters beside the features themselves,
    and so does the conditioning: the mean of the features given the label is an offset.

    Every block adds W2 silu(scale * W1 norm(h) + shift), where scale and shift come from the
    conditioning (FiLM, Perez et al. 2018). The last layers of blocks and network start at zero.
    """

    averages: Tensor

    def __init__(self, config: ResidualMLPConfig) -> None:
        super().__init__()
        self.config = config
        self.conditioning = Conditioning(config.conditioning, config.labels, scalars=config.scalars)
        self.register_buffer("averages", _averages(config.groups), persistent=False)
        told = config.features + len(config.groups) + config.conditioning
        self.enter = nn.Linear(told, config.width)
        self.blocks = nn.ModuleList(
            _Block(config.width, config.conditioning) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(config.width, 2 * config.features)
        zero(self.leave)

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        label: Tensor | None,
        hidden: Tensor | None = None,
        scalars: Tensor | None = None,
    ) -> Tensor:
        """(B, D), (B,), (B, K) or None, (B,) bool or None, (B, S) or None -> (B, D).

        Raises:
            ConfigError: as `Conditioning`, or another number of features.
        """
        if x.ndim != 2 or x.shape[1] != self.config.features:
            raise ConfigError(
                f"expected x of shape (B, {self.config.features}), got {tuple(x.shape)}"
            )
        conditioning = self.conditioning(len(x), sigma, label, hidden, scalars)
        h = self.enter(torch.cat([x, self._power(x), conditioning], dim=1))
        for block in self.blocks:
            h = block(h, conditioning)
        added, gain = self.leave(F.silu(self.norm(h))).chunk(2, dim=1)
        features: Tensor = added + gain * x
        return features

    def _power(self, x: Tensor) -> Tensor:
        """Logarithmic mean square of each group, (B, groups)."""
        if not self.config.groups:
            return x[:, :0]
        return (x.square() @ self.averages + POWER_FLOOR).log()


def _averages(groups: Sequence[int]) -> Tensor:
    """Matrix (D, groups) whose columns average over the features of a group."""
    sizes = torch.tensor(groups, dtype=torch.long)
    member = torch.repeat_interleave(torch.eye(len(groups)), sizes, dim=0)
    return member / sizes


class _Block(nn.Module):
    """One residual block: (B, width), (B, conditioning) -> (B, width)."""

    def __init__(self, width: int, conditioning: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, width)
        self.scale_shift = nn.Linear(conditioning, 2 * width)
        self.narrow = nn.Linear(width, width)
        zero(self.narrow)

    def forward(self, h: Tensor, conditioning: Tensor) -> Tensor:
        scale, shift = self.scale_shift(conditioning).chunk(2, dim=1)
        inner = self.widen(self.norm(h)) * (1 + scale) + shift
        result: Tensor = h + self.narrow(F.silu(inner))
        return result
