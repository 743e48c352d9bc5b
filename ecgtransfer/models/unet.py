"""One-dimensional U-Net, the network of the ECG denoiser."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.errors import ConfigError
from ecgtransfer.models.blocks import (
    CHANNELS_PER_GROUP,
    Conditioning,
    FeedForward,
    ResidualBlock,
    SelfAttention,
    SpectralGate,
    fold,
    group_norm,
    unfold,
    zero_init_,
)
from ecgtransfer.storage import OMIT_AT_DEFAULT


@dataclass(frozen=True)
class UNetConfig:
    """Shape of a `UNet1d`.

    Attributes:
        labels: columns of the label, K; 0 for an unconditional network.
        leads: signal channels.
        fold: samples folded into channels before the first convolution.
        widths: channels at each level; each level has half the time steps of the one before.
        blocks: residual blocks per level in the encoder; the decoder has one more.
        attention: number of deepest levels with self-attention.
        spectral: number of shallowest levels with spectral gates.
        middle: pairs of self-attention and feed-forward layers at the bottleneck.
        conditioning: width of the embedding of noise level and label.
        condition_channels: input channels next to the signal, such as beats.
        scalars: scalar inputs next to noise level and label.
    """

    labels: int
    leads: int = 8
    fold: int = 4
    widths: tuple[int, ...] = (64, 96, 128, 192)
    blocks: int = 2
    attention: int = 2
    spectral: int = field(default=0, metadata=OMIT_AT_DEFAULT)
    middle: int = 0
    conditioning: int = 256
    condition_channels: int = field(default=0, metadata=OMIT_AT_DEFAULT)
    scalars: int = field(default=0, metadata=OMIT_AT_DEFAULT)

    def __post_init__(self) -> None:
        if min(self.leads, self.fold, self.blocks, self.conditioning) < 1 or self.labels < 0:
            raise ConfigError(
                f"expected leads, fold, blocks and conditioning of at least 1 and labels of at "
                f"least 0, got {self.leads}, {self.fold}, {self.blocks}, {self.conditioning} and "
                f"{self.labels}"
            )
        if not self.widths or any(w < 1 or w % CHANNELS_PER_GROUP for w in self.widths):
            raise ConfigError(
                f"expected widths that are multiples of {CHANNELS_PER_GROUP}, got {self.widths}"
            )
        for name, levels in (("attention", self.attention), ("spectral gates", self.spectral)):
            if not 0 <= levels <= len(self.widths):
                raise ConfigError(
                    f"expected {name} on 0 to {len(self.widths)} levels, got {levels}"
                )
        if self.middle < 0:
            raise ConfigError(f"expected a middle of at least 0 layers, got {self.middle}")
        if min(self.condition_channels, self.scalars) < 0:
            raise ConfigError(
                f"expected condition_channels and scalars of at least 0, got "
                f"{self.condition_channels} and {self.scalars}"
            )


class UNet1d(nn.Module):
    """U-Net of the denoiser: (B, leads, T) -> (B, leads, T) for any T.

    The output layer is initialised to zero, so that the denoiser around a new network is the best
    linear one.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, blocks = config.widths, config.blocks
        attentive = len(widths) - config.attention
        self.conditioning = Conditioning(config.conditioning, config.labels, scalars=config.scalars)
        self.stem = nn.Conv1d(config.leads * config.fold, widths[0], 3, padding=1)
        # Without a bias, zero channels mean that the condition is unknown.
        self.condition_stem = (
            nn.Conv1d(config.condition_channels * config.fold, widths[0], 3, padding=1, bias=False)
            if config.condition_channels
            else None
        )

        def stage(channels_in: int, level: int) -> nn.ModuleList:
            layers: list[nn.Module] = [
                ResidualBlock(channels_in, widths[level], config.conditioning)
            ]
            if level < config.spectral:
                layers.append(SpectralGate(widths[level], config.conditioning))
            if level >= attentive:
                layers.append(SelfAttention(widths[level]))
            return nn.ModuleList(layers)

        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        skips = [widths[0]]
        channels = widths[0]
        for level, width in enumerate(widths):
            for _ in range(blocks):
                self.down.append(stage(channels, level))
                channels = width
                skips.append(channels)
            if level < len(widths) - 1:
                self.downsample.append(nn.Conv1d(channels, channels, 3, stride=2, padding=1))
                skips.append(channels)
        self.middle = nn.ModuleList([ResidualBlock(channels, channels, config.conditioning)])
        for _ in range(config.middle):
            self.middle.append(SelfAttention(channels))
            self.middle.append(FeedForward(channels, config.conditioning))
        for level in reversed(range(len(widths))):
            for _ in range(blocks + 1):
                self.up.append(stage(channels + skips.pop(), level))
                channels = widths[level]
            if level > 0:
                self.upsample.append(nn.Conv1d(channels, channels, 3, padding=1))
        self.norm = group_norm(channels)
        self.out = nn.Conv1d(channels, config.leads * config.fold, 3, padding=1)
        zero_init_(self.out)

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        label: Tensor | None,
        dropped: Tensor | None = None,
        channels: Tensor | None = None,
        scalars: Tensor | None = None,
    ) -> Tensor:
        """Apply the network F of the denoiser.

        Records whose length is not a multiple of the coarsest time step are padded with zeros at
        the end and cropped afterwards.

        Args:
            x: (B, leads, T).
            sigma: (B,).
            label: (B, K); None for no label.
            dropped: (B,) bool, rows without a label.
            channels: (B, condition_channels, T); None if unknown.
            scalars: (B, scalars); None if unknown.

        Returns:
            (B, leads, T).
        """
        config = self.config
        levels = len(config.widths)
        samples = x.shape[-1]
        missing = -samples % (config.fold * 2 ** (levels - 1))
        h = self.stem(fold(F.pad(x, (0, missing)), config.fold))
        if self.condition_stem is not None and channels is not None:
            h = h + self.condition_stem(fold(F.pad(channels, (0, missing)), config.fold))
        conditioning = self.conditioning(x.shape[0], sigma, label, dropped, scalars)
        skips = [h]
        for level in range(levels):
            for block in range(config.blocks):
                h = _run(self.down[level * config.blocks + block], h, conditioning)
                skips.append(h)
            if level < levels - 1:
                h = self.downsample[level](h)
                skips.append(h)
        h = _run(self.middle, h, conditioning)
        for step in range(levels):
            for block in range(config.blocks + 1):
                h = torch.cat([h, skips.pop()], dim=1)
                h = _run(self.up[step * (config.blocks + 1) + block], h, conditioning)
            if step < levels - 1:
                h = self.upsample[step](h.repeat_interleave(2, dim=-1))
        h = self.out(F.silu(self.norm(h)))
        return unfold(h, config.fold)[..., :samples]


def _run(stage: nn.Module, h: Tensor, conditioning: Tensor) -> Tensor:
    for layer in stage.children():
        h = layer(h) if isinstance(layer, SelfAttention) else layer(h, conditioning)
    return h
