"""Fully connected residual network for unordered features, such as principal components."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.errors import ConfigError
from ecgtransfer.models.blocks import Conditioning, zero_init_

#: Added to the mean square of a group before its logarithm; noised features have about 1.
POWER_FLOOR = 1e-3


@dataclass(frozen=True)
class ResidualMLPConfig:
    """Shape of a `ResidualMLP`.

    Attributes:
        features: features per record, D.
        labels: columns of the label, K.
        scalars: number S of further scalar inputs.
        groups: sizes of consecutive groups of features whose log power is an input; they sum to D,
            or there are none.
        width: channels of every layer.
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
                f"expected groups of {self.features} features in total, got sizes {self.groups}"
            )


class ResidualMLP(nn.Module):
    """Network for noised features, noise level, label and scalars: F(x) = a(x) + g(x) * x.

    The gain g handles records of different scale: the denoiser of a scale mixture of Gaussians
    multiplies every feature by a factor that depends on the power of all of them. The log power of
    each group of features is therefore an input. So is the conditioning, because the mean of the
    features given the label is an offset.

    Every block adds W2 silu(scale * W1 norm(h) + shift), where scale and shift come from the
    conditioning (FiLM, Perez et al. 2018). The last layers of each block and of the network are
    initialised to zero.
    """

    averages: Tensor

    def __init__(self, config: ResidualMLPConfig) -> None:
        super().__init__()
        self.config = config
        self.conditioning = Conditioning(config.conditioning, config.labels, scalars=config.scalars)
        self.register_buffer("averages", _averages(config.groups), persistent=False)
        inputs = config.features + len(config.groups) + config.conditioning
        self.enter = nn.Linear(inputs, config.width)
        self.blocks = nn.ModuleList(
            _Block(config.width, config.conditioning) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(config.width, 2 * config.features)
        zero_init_(self.leave)

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        label: Tensor | None,
        hidden: Tensor | None = None,
        scalars: Tensor | None = None,
    ) -> Tensor:
        """Apply the network: (B, D).

        Args:
            x: (B, D) noised features.
            sigma: (B,) noise levels.
            label: (B, K), or None for no label.
            hidden: (B,) bool, rows without a label.
            scalars: (B, S) further inputs.

        Raises:
            ConfigError: as in `Conditioning`, or another number of features.
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
        """Log mean square of each group, (B, groups)."""
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
        zero_init_(self.narrow)

    def forward(self, h: Tensor, conditioning: Tensor) -> Tensor:
        scale, shift = self.scale_shift(conditioning).chunk(2, dim=1)
        inner = self.widen(self.norm(h)) * (1 + scale) + shift
        result: Tensor = h + self.narrow(F.silu(inner))
        return result
