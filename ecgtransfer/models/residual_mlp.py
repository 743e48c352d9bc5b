"""A fully connected residual network for vectors without order, such as principal components."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.errors import ConfigError
from ecgtransfer.models.blocks import Conditioning, zero


@dataclass(frozen=True)
class ResidualMLPConfig:
    """Shape of a `ResidualMLP`.

    Attributes:
        features: numbers a record, D.
        labels: columns of the label.
        scalars: further numbers that the network is conditioned on.
        width: of every layer.
        blocks: residual blocks of two layers.
        conditioning: width of the embedding of noise level, label and scalars.
    """

    features: int
    labels: int
    scalars: int = 0
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


class ResidualMLP(nn.Module):
    """Noised features, noise level, label and scalars to features.

    Every block adds W2 silu(scale * W1 norm(h) + shift), where scale and shift come from the
    conditioning (FiLM, Perez et al. 2018). The last layers of blocks and network start at zero.
    """

    def __init__(self, config: ResidualMLPConfig) -> None:
        super().__init__()
        self.config = config
        self.conditioning = Conditioning(config.conditioning, config.labels, scalars=config.scalars)
        self.enter = nn.Linear(config.features, config.width)
        self.blocks = nn.ModuleList(
            _Block(config.width, config.conditioning) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(config.width, config.features)
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
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, conditioning)
        features: Tensor = self.leave(F.silu(self.norm(h)))
        return features


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
