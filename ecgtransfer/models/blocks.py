"""Building blocks of every network in the package; signals have shape (B, C, T)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.errors import ConfigError

#: Channels in one group of a group norm; widths are multiples of it.
CHANNELS_PER_GROUP = 16
#: Lowest rotary frequency of queries and keys, radians per time step: a period of 800 steps.
LOWEST_ROTARY_FREQUENCY = 1 / 128
#: Time steps whose spectrum a spectral gate resolves; longer records are pooled to as many
#: frequencies.
SPECTRUM_SAMPLES = 256
#: Added to the power of a frequency before its logarithm is taken; white noise has power 1.
SPECTRUM_FLOOR = 1e-2


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with 16 channels per group, or with one group if there are fewer channels."""
    return nn.GroupNorm(max(1, channels // CHANNELS_PER_GROUP), channels)


def fold(x: Tensor, factor: int) -> Tensor:
    """Fold time into channels: (B, C, T) -> (B, C * factor, T / factor); `factor` divides T."""
    batch, channels, samples = x.shape
    folded = x.reshape(batch, channels, samples // factor, factor)
    return folded.transpose(2, 3).reshape(batch, channels * factor, samples // factor)


def unfold(x: Tensor, factor: int) -> Tensor:
    """Inverse of `fold`: (B, C * factor, T) -> (B, C, T * factor)."""
    batch, channels, samples = x.shape
    split = x.reshape(batch, channels // factor, factor, samples)
    return split.transpose(2, 3).reshape(batch, channels // factor, samples * factor)


class FourierFeatures(nn.Module):
    """Cosines and sines of a scalar at geometrically spaced frequencies: (B,) -> (B, features)."""

    frequencies: Tensor

    def __init__(self, features: int, highest: float = 32.0) -> None:
        super().__init__()
        exponents = torch.linspace(-1.0, math.log2(highest), features // 2)
        self.register_buffer("frequencies", 2.0**exponents, persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        """(B,) -> (B, features)."""
        angle = value[:, None] * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], dim=1)


class Conditioning(nn.Module):
    """Embedding of noise level and label that scales and shifts every block (FiLM).

    The noise level is embedded as ln(sigma) / 4 (Karras et al. 2022, table 1). A missing label
    (`None`, or a row flagged in `dropped`) has a learned embedding of its own, so that "no label
    given" differs from "none of the diagnoses". Optional further inputs, `scalars` of them, are
    added through a linear layer whose weights are initialised to zero.
    """

    def __init__(self, width: int, labels: int, noise: bool = True, scalars: int = 0) -> None:
        super().__init__()
        self.labels = labels
        self.scalars = nn.Linear(scalars, width, bias=False) if scalars else None
        if self.scalars is not None:
            zero_init_(self.scalars)
        self.noise = (
            nn.Sequential(FourierFeatures(64), nn.Linear(64, width), nn.SiLU()) if noise else None
        )
        self.label = nn.Linear(labels, width) if labels else None
        self.no_label = nn.Parameter(torch.zeros(width)) if labels else None
        self.mix = nn.Sequential(nn.Linear(width, width), nn.SiLU())

    def forward(
        self,
        batch: int,
        sigma: Tensor | None,
        label: Tensor | None,
        dropped: Tensor | None = None,
        scalars: Tensor | None = None,
    ) -> Tensor:
        """Embed one batch: (B, width).

        Args:
            batch: number of records, B.
            sigma: (B,) noise levels.
            label: (B, K), or None for no label.
            dropped: (B,) bool, rows without a label.
            scalars: (B, S) further inputs.

        Raises:
            ConfigError: sigma is missing although the network needs it, or an input does not have
                one row for each record.
        """
        parameter = next(self.mix.parameters())
        embedding = parameter.new_zeros(batch, parameter.shape[1])
        if self.noise is not None:
            if sigma is None:
                raise ConfigError(
                    "expected sigma, (B,), for a network conditioned on noise, got None"
                )
            _check_rows("sigma", sigma, (batch,))
            embedding = embedding + self.noise(sigma.log() / 4)
        if self.label is not None and self.no_label is not None:
            if label is None:
                embedding = embedding + self.no_label
            else:
                _check_rows("label", label, (batch, self.labels))
                known = self.label(label.to(parameter.dtype))
                if dropped is not None:
                    _check_rows("dropped", dropped, (batch,))
                    known = torch.where(dropped[:, None], self.no_label, known)
                embedding = embedding + known
        if self.scalars is not None and scalars is not None:
            _check_rows("scalars", scalars, (batch, self.scalars.in_features))
            embedding = embedding + self.scalars(scalars.to(parameter.dtype))
        mixed: Tensor = self.mix(embedding)
        return mixed


class ResidualBlock(nn.Module):
    """Residual block: (norm, SiLU, convolution) twice, with scale and shift in between.

    The last convolution is initialised to zero, so that a new block is the identity.
    """

    def __init__(
        self, channels_in: int, channels_out: int, conditioning: int, kernel: int = 3
    ) -> None:
        super().__init__()
        self.norm_in = group_norm(channels_in)
        self.conv_in = nn.Conv1d(channels_in, channels_out, kernel, padding=kernel // 2)
        self.scale_shift = nn.Linear(conditioning, 2 * channels_out) if conditioning else None
        self.norm_out = group_norm(channels_out)
        self.conv_out = nn.Conv1d(channels_out, channels_out, kernel, padding=kernel // 2)
        self.skip = (
            nn.Conv1d(channels_in, channels_out, 1)
            if channels_in != channels_out
            else nn.Identity()
        )
        zero_init_(self.conv_out)

    def forward(self, x: Tensor, conditioning: Tensor | None) -> Tensor:
        """(B, channels_in, T), (B, conditioning) or None -> (B, channels_out, T)."""
        h = self.norm_out(self.conv_in(F.silu(self.norm_in(x))))
        if self.scale_shift is not None:
            scale, shift = self.scale_shift(conditioning)[:, :, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        result: Tensor = self.skip(x) + self.conv_out(F.silu(h))
        return result


class Rotation(nn.Module):
    """Rotary position embedding (Su et al. 2021): (B, H, T, C) -> (B, H, T, C), C even.

    Channel pair (c, c + C / 2) of head h is rotated at time step t by the angle t * speed[h, c], so
    that the product of two rotated vectors depends on the difference of their time steps. `speed`
    has shape (H or 1, C / 2), in radians per time step.
    """

    speed: Tensor

    def __init__(self, speed: Tensor) -> None:
        super().__init__()
        self.register_buffer("speed", speed, persistent=False)

    def forward(self, x: Tensor, *, back: bool = False) -> Tensor:
        """Rotate (B, H, T, C) by t * speed[h, c], or by the opposite angle if `back`."""
        steps = torch.arange(x.shape[-2], device=x.device)
        angle = steps[:, None] * self.speed[:, None]
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        sin = -sin if back else sin
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class SelfAttention(nn.Module):
    """Residual self-attention over the whole record: (B, C, T) -> (B, C, T).

    It gives the network access to the rhythm, which only the whole record shows. Queries and keys
    have rotary embeddings with geometrically spaced frequencies, so that each head can choose its
    range. Values are rotated as well, and the attended sum is rotated back at the query's time
    step. The output then encodes the distances at which features occurred, like the Fourier
    transform of a beat train: one frequency for each channel pair, evenly spaced from 0 to half a
    turn per time step.
    """

    def __init__(self, channels: int, channels_per_head: int = 32) -> None:
        super().__init__()
        most = max(1, channels // channels_per_head)
        self.heads = next(n for n in range(most, 0, -1) if channels % (2 * n) == 0)
        pairs = channels // self.heads // 2
        self.norm = group_norm(channels)
        self.query_key_value = nn.Conv1d(channels, 3 * channels, 1)
        self.rope_qk = Rotation(LOWEST_ROTARY_FREQUENCY ** torch.linspace(0.0, 1.0, pairs)[None])
        self.rope_v = Rotation(
            torch.linspace(0.0, math.pi, self.heads * pairs).reshape(pairs, self.heads).T
        )
        self.out = nn.Conv1d(channels, channels, 1)
        zero_init_(self.out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        batch, channels, samples = x.shape
        joint = self.query_key_value(self.norm(x))
        query, key, value = (
            joint.reshape(batch, 3, self.heads, channels // self.heads, samples)
            .transpose(3, 4)
            .unbind(1)
        )
        attended = attend(self.rope_qk(query), self.rope_qk(key), self.rope_v(value))
        attended = self.rope_v(attended, back=True)
        result: Tensor = x + self.out(attended.transpose(2, 3).reshape(batch, channels, samples))
        return result


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query key^T / sqrt(C)) value, each (B, H, T, C) (Vaswani et al. 2017, eq. 1).

    On a CPU the formula is evaluated directly: forward and backward, torch's fused function takes
    three to five times as long at the lengths used here (`benchmarks/attention_cost.json`).
    """
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value)
    weight = (query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1)
    attended: Tensor = weight.to(value.dtype) @ value
    return attended


class FeedForward(nn.Module):
    """Residual two-layer network on each time step, with scale and shift by the conditioning.

    (B, C, T), (B, conditioning) -> (B, C, T). The last layer is initialised to zero.
    """

    def __init__(self, channels: int, conditioning: int, wider: int = 3) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.scale_shift = nn.Linear(conditioning, 2 * channels)
        self.widen = nn.Conv1d(channels, wider * channels, 1)
        self.narrow = nn.Conv1d(wider * channels, channels, 1)
        zero_init_(self.narrow)

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """(B, C, T), (B, conditioning) -> (B, C, T)."""
        scale, shift = self.scale_shift(conditioning)[:, :, None].chunk(2, dim=1)
        h = self.norm(x) * (1 + scale) + shift
        result: Tensor = x + self.narrow(F.silu(self.widen(h)))
        return result


class SpectralGate(nn.Module):
    """Residual filter in the frequency domain, over the whole record: (B, C, T) -> (B, C, T).

    A regular rhythm is a comb of lines in the spectrum, visible even where a single beat is hidden
    by noise, and the best linear denoiser passes these lines and stops the rest (Wiener filter).
    A small network computes the gain of each channel and frequency, between 0 and 1, from the log
    power of all channels and frequencies. The last layer is initialised to zero.
    """

    def __init__(self, channels: int, conditioning: int, hidden: int = 256) -> None:
        super().__init__()
        frequencies = SPECTRUM_SAMPLES // 2 + 1
        self.norm = group_norm(channels)
        self.enter = nn.Conv1d(channels, channels, 1)
        self.power_norm = group_norm(channels)
        self.scale_shift = nn.Linear(conditioning, 2 * channels)
        self.across_frequencies = nn.Sequential(
            nn.Linear(frequencies, hidden), nn.SiLU(), nn.Linear(hidden, frequencies)
        )
        self.across_channels = nn.Sequential(
            nn.Conv1d(channels, 2 * channels, 1), nn.SiLU(), nn.Conv1d(2 * channels, channels, 1)
        )
        self.leave = nn.Conv1d(channels, channels, 1)
        zero_init_(self.leave)

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """(B, C, T), (B, conditioning) -> (B, C, T)."""
        samples, frequencies = x.shape[-1], SPECTRUM_SAMPLES // 2 + 1
        h = self.enter(self.norm(x))
        # Pad with zeros, so that the filter does not wrap around from the end to the start.
        padded = max(SPECTRUM_SAMPLES, 2 * samples)
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.fft.rfft(h.float(), n=padded, norm="ortho")
            seen = spectrum.real.square() + spectrum.imag.square()
            if seen.shape[-1] > frequencies:
                seen = F.adaptive_avg_pool1d(seen, frequencies)
            seen = torch.log(seen + SPECTRUM_FLOOR)
        scale, shift = self.scale_shift(conditioning)[:, :, None].chunk(2, dim=1)
        seen = self.power_norm(seen) * (1 + scale) + shift
        seen = seen + self.across_frequencies(seen)
        gate = self.across_channels(seen).float().sigmoid()
        with torch.autocast(x.device.type, enabled=False):
            if spectrum.shape[-1] > frequencies:
                gate = F.interpolate(gate, spectrum.shape[-1], mode="linear", align_corners=True)
            # Scale real and imaginary parts: complex times real is three times as slow.
            both = torch.view_as_real(spectrum) * torch.stack([gate, gate], dim=-1)
            spectrum = torch.view_as_complex(both)
            passed = torch.fft.irfft(spectrum, n=padded, norm="ortho")[..., :samples]
        result: Tensor = x + self.leave(passed.to(h.dtype))
        return result


def zero_init_(layer: nn.Module) -> None:
    """Set the weights and bias of a layer to zero, in place."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _check_rows(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    """Raise for a tensor that would be broadcast over the batch or has another label space."""
    if value.shape != shape:
        raise ConfigError(
            f"expected {name} of shape {shape}, one row for each record of the batch, got "
            f"{tuple(value.shape)}"
        )
