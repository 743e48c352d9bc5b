"""The encoder behind all classifiers: diagnoses, domain, and embeddings for fidelity."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.errors import ConfigError
from ecgtransfer.models.blocks import CHANNELS_PER_GROUP, Conditioning, ResidualBlock, group_norm


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of an `Encoder1d`.

    Attributes:
        outputs: logits per record.
        leads: signal channels.
        labels: number of diagnoses K that the encoder takes as input (for a label-aware domain
            classifier); 0 for none.
        noise: whether the encoder takes the noise level of its input.
        widths: channels of each stage; every stage starts by halving the time axis.
        blocks: residual blocks per stage.
        conditioning: width of the embedding of noise level and label.
    """

    outputs: int
    leads: int = 8
    labels: int = 0
    noise: bool = False
    widths: tuple[int, ...] = (32, 64, 96, 128)
    blocks: int = 1
    conditioning: int = 64

    def __post_init__(self) -> None:
        counts = self.outputs, self.leads, self.blocks, self.conditioning
        if min(counts) < 1 or self.labels < 0:
            raise ConfigError(
                f"expected outputs, leads, blocks and conditioning of at least 1 and labels of at "
                f"least 0, got {self.outputs}, {self.leads}, {self.blocks}, {self.conditioning} "
                f"and {self.labels}"
            )
        if not self.widths or any(w < 1 or w % CHANNELS_PER_GROUP for w in self.widths):
            raise ConfigError(
                f"expected widths that are multiples of {CHANNELS_PER_GROUP}, got {self.widths}"
            )


class Encoder1d(nn.Module):
    """Residual network modelled on xresnet1d (He et al. 2019).

    Convolutional stem, stages that halve the time axis, mean and maximum over time, linear head.
    Group norm replaces the batch norm of xresnet1d: the score of a record must not depend on the
    other records of its batch, and batch statistics of few target records are poor.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        conditioned = bool(config.labels) or config.noise
        width = config.conditioning if conditioned else 0
        self.conditioning = (
            Conditioning(width, config.labels, noise=config.noise) if conditioned else None
        )
        first = config.widths[0]
        self.stem = nn.Sequential(
            nn.Conv1d(config.leads, first, 7, stride=2, padding=3),
            group_norm(first),
            nn.SiLU(),
            nn.Conv1d(first, first, 5, padding=2),
        )
        self.shrink, self.stages = nn.ModuleList(), nn.ModuleList()
        channels = first
        for stage_width in config.widths:
            self.shrink.append(nn.AvgPool1d(2, ceil_mode=True))
            for _ in range(config.blocks):
                self.stages.append(ResidualBlock(channels, stage_width, width, kernel=5))
                channels = stage_width
        self.norm = group_norm(channels)
        self.head = nn.Linear(2 * channels, config.outputs)

    def features(
        self, x: Tensor, sigma: Tensor | None = None, label: Tensor | None = None
    ) -> Tensor:
        """Mean and maximum over time of the last stage: (B, leads, T) -> (B, 2 * widths[-1])."""
        conditioning = (
            self.conditioning(x.shape[0], sigma, label) if self.conditioning is not None else None
        )
        h = self.stem(x)
        for number, shrink in enumerate(self.shrink):
            h = shrink(h)
            for block in range(self.config.blocks):
                h = self.stages[number * self.config.blocks + block](h, conditioning)
        h = F.silu(self.norm(h))
        return torch.cat([h.mean(-1), h.amax(-1)], dim=1)

    def forward(
        self, x: Tensor, sigma: Tensor | None = None, label: Tensor | None = None
    ) -> Tensor:
        """Compute the logits.

        Args:
            x: (B, leads, T).
            sigma: (B,) noise levels, if `noise`.
            label: (B, K), if `labels`.

        Returns:
            (B, outputs).
        """
        logits: Tensor = self.head(self.features(x, sigma, label))
        return logits
