"""The guidance network: log h as a potential whose gradient resembles a denoiser's output."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.diffusion import Condition, as_condition, per_record
from ecgtransfer.diffusion.condition import channels_of, label_inputs, scalars_of
from ecgtransfer.errors import ConfigError
from ecgtransfer.models.blocks import Conditioning, fold
from ecgtransfer.storage import OMIT_AT_DEFAULT


@dataclass(frozen=True)
class GuidanceConfig:
    """Architecture of a `GuidanceNetwork`; the default has about 0.25 million parameters.

    Attributes:
        labels: number of statements in the label space, K; 0 for guidance without labels.
        leads: number of leads of the signal.
        fold: samples folded into channels before the first convolution.
        width: number of channels of the residual blocks.
        dilations: dilation of each residual block.
        kernel: kernel size of the convolutions, odd.
        conditioning: width of the embedding of noise level and label.
        masked_labels: whether statements may be unknown, see `Condition.known`.
        condition_channels: number of channels of beats and layout, see `Condition`; 0 for none.
        scalars: number of scalars for level, age and sex; 0 for none.

    Raises:
        ConfigError: a setting is out of range.
    """

    labels: int
    leads: int = 8
    fold: int = 4
    width: int = 64
    dilations: tuple[int, ...] = (1, 4, 16)
    kernel: int = 5
    conditioning: int = 128
    masked_labels: bool = field(default=False, metadata=OMIT_AT_DEFAULT)
    condition_channels: int = field(default=0, metadata=OMIT_AT_DEFAULT)
    scalars: int = field(default=0, metadata=OMIT_AT_DEFAULT)

    def __post_init__(self) -> None:
        if self.labels < 0 or min(self.leads, self.fold, self.width, self.conditioning) < 1:
            raise ConfigError(
                "expected leads, fold, width and conditioning of at least 1 and labels of at "
                f"least 0, got {self.leads}, {self.fold}, {self.width}, {self.conditioning} "
                f"and {self.labels}; correct the setting"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError(f"expected an odd kernel size above 0, got {self.kernel}; use 3 or 5")
        if any(dilation < 1 for dilation in self.dilations):
            raise ConfigError(
                f"expected dilations of at least 1, got {self.dilations}; use 1 for none"
            )


class GuidanceNetwork(nn.Module):
    """log h(x, σ, y) = <z, V(z; σ, y)> / σ + Σₜ v(z; σ, y)ₜ + c(σ, y), z = x / √(σ² + 1): (B,).

    In σ² ∇ log h, the first term contributes V times the output scale of an EDM denoiser,
    σ / √(σ² + 1) (Karras et al. 2022, table 1, with sigma_data = 1): V has the role of a small
    denoiser's network. All terms are sums over the record, not means, because log q/p of a record
    is a sum over time; the gradient of a mean would be T times too small. The output layers V, v
    and c start at zero, so guidance starts as the source model; their gradient is not zero.

    The network is smooth (SiLU), because the consistency loss differentiates it twice. It has no
    normalisation over time, which would couple distant parts of a record.

    Args:
        config: the architecture.
    """

    def __init__(self, config: GuidanceConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.leads * config.fold
        self.conditioning = Conditioning(
            config.conditioning,
            config.labels * (1 + config.masked_labels),
            scalars=config.scalars,
        )
        self.stem = nn.Conv1d(channels, config.width, config.kernel, padding="same")
        self.condition_stem = (
            nn.Conv1d(
                config.condition_channels * config.fold,
                config.width,
                config.kernel,
                padding="same",
                bias=False,
            )
            if config.condition_channels
            else None
        )
        self.blocks = nn.ModuleList(
            PotentialBlock(config.width, config.kernel, dilation, config.conditioning)
            for dilation in config.dilations
        )
        self.scale_shift = nn.Linear(config.conditioning, 2 * config.width)
        self.field = nn.Conv1d(config.width, channels, config.kernel, padding="same")
        self.local = nn.Conv1d(config.width, 1, 1, bias=False)
        self.constant = nn.Linear(config.conditioning, 1)
        for layer in (self.field, self.local, self.constant):
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, sigma: Tensor, label: Condition | Tensor | None) -> Tensor:
        """(B, leads, T), (B,) above 0, (B, K), a condition or None -> (B,); any T.

        Raises:
            ConfigError: the shape of x or of the label does not match the architecture.
        """
        given = as_condition(label)
        self._check(x, given.label)
        missing = -x.shape[-1] % self.config.fold
        z = fold(F.pad(x / per_record(sigma**2 + 1, x).sqrt(), (0, missing)), self.config.fold)
        values, hidden = label_inputs(given, self.config.masked_labels)
        scalars = scalars_of(given) if self.config.scalars else None
        conditioning = self.conditioning(len(x), sigma, values, hidden, scalars)
        h = self.stem(z)
        channels = channels_of(given)
        if self.condition_stem is not None and channels is not None:
            h = h + self.condition_stem(fold(F.pad(channels, (0, missing)), self.config.fold))
        for block in self.blocks:
            h = block(h, conditioning)
        scale, shift = self.scale_shift(conditioning)[:, :, None].chunk(2, dim=1)
        h = h * (1 + scale) + shift
        energy = (z * self.field(h)).sum(dim=(1, 2)) / sigma
        local = self.local(F.silu(h)).sum(dim=(1, 2))
        value: Tensor = energy + local + self.constant(conditioning)[:, 0]
        return value

    def _check(self, x: Tensor, label: Tensor | None) -> None:
        config = self.config
        if x.ndim != 3 or x.shape[1] != config.leads:
            raise ConfigError(
                f"expected signals of shape (B, {config.leads}, T), got {tuple(x.shape)}; pass the "
                "independent leads"
            )
        if config.labels and label is not None and label.shape != (len(x), config.labels):
            raise ConfigError(
                f"expected labels of shape ({len(x)}, {config.labels}), got {tuple(label.shape)}; "
                "convert them to the label space of the run"
            )


class PotentialBlock(nn.Module):
    """Residual block, h + conv(SiLU(scale_shift(conv(SiLU(h))))): (B, C, T) -> (B, C, T)."""

    def __init__(self, width: int, kernel: int, dilation: int, conditioning: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv1d(width, width, kernel, padding="same", dilation=dilation)
        self.scale_shift = nn.Linear(conditioning, 2 * width)
        self.conv_out = nn.Conv1d(width, width, kernel, padding="same", dilation=dilation)

    def forward(self, h: Tensor, conditioning: Tensor) -> Tensor:
        """(B, C, T), (B, E) -> (B, C, T)."""
        scale, shift = self.scale_shift(conditioning)[:, :, None].chunk(2, dim=1)
        inner = self.conv_in(F.silu(h)) * (1 + scale) + shift
        result: Tensor = h + self.conv_out(F.silu(inner))
        return result
