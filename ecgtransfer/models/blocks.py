"""The few building blocks that every network here is made of: (B, C, T) in, (B, C, T) out."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.errors import ConfigError

#: Channels in one group of a group norm; widths are multiples of it.
CHANNELS_PER_GROUP = 16
#: Radians a moment of the slowest turn of queries and keys: a turn in 800 moments.
SLOWEST = 1 / 128
#: Moments whose spectrum a spectral gate resolves; longer records share their frequencies.
SPECTRUM_MOMENTS = 256
#: Power of a frequency below which its logarithm says nothing; white noise has power 1.
SPECTRUM_FLOOR = 1e-2


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with 16 channels a group, or one group where there are fewer."""
    return nn.GroupNorm(max(1, channels // CHANNELS_PER_GROUP), channels)


def fold(x: Tensor, factor: int) -> Tensor:
    """Fold time into channels: (B, C, T) -> (B, C * factor, T / factor); T must be a multiple."""
    batch, channels, samples = x.shape
    folded = x.reshape(batch, channels, samples // factor, factor)
    return folded.transpose(2, 3).reshape(batch, channels * factor, samples // factor)


def unfold(x: Tensor, factor: int) -> Tensor:
    """The inverse of `fold`: (B, C * factor, T) -> (B, C, T * factor)."""
    batch, channels, samples = x.shape
    split = x.reshape(batch, channels // factor, factor, samples)
    return split.transpose(2, 3).reshape(batch, channels // factor, samples * factor)


class FourierFeatures(nn.Module):
    """cos and sin of a number at fixed geometric frequencies: (B,) -> (B, features)."""

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
    """One embedding of noise level and label, for scale-and-shift (FiLM) in every block.

    The noise level enters as ln(sigma) / 4 (Karras et al. 2022, table 1). A missing label
    (`None`, or a row flagged in `dropped`) has an embedding of its own, so that "no diagnosis
    stated" and "none of the diagnoses" stay two different things. Further numbers, `scalars` of
    them, enter linearly; their weights start at zero.
    """

    def __init__(self, width: int, labels: int, noise: bool = True, scalars: int = 0) -> None:
        super().__init__()
        self.labels = labels
        self.scalars = nn.Linear(scalars, width, bias=False) if scalars else None
        if self.scalars is not None:
            zero(self.scalars)
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
        """(B,) sigma, (B, K) label, (B,) bool dropped, (B, S) scalars -> (B, width).

        Raises:
            ConfigError: sigma is missing where it is needed, or not one row for each record.
        """
        parameter = next(self.mix.parameters())
        embedding = parameter.new_zeros(batch, parameter.shape[1])
        if self.noise is not None:
            if sigma is None:
                raise ConfigError("expected sigma, (B,), for a network that sees noise, got none")
            _one_a_record("sigma", sigma, (batch,))
            embedding = embedding + self.noise(sigma.log() / 4)
        if self.label is not None and self.no_label is not None:
            if label is None:
                embedding = embedding + self.no_label
            else:
                _one_a_record("label", label, (batch, self.labels))
                known = self.label(label.to(parameter.dtype))
                if dropped is not None:
                    _one_a_record("dropped", dropped, (batch,))
                    known = torch.where(dropped[:, None], self.no_label, known)
                embedding = embedding + known
        if self.scalars is not None and scalars is not None:
            _one_a_record("scalars", scalars, (batch, self.scalars.in_features))
            embedding = embedding + self.scalars(scalars.to(parameter.dtype))
        mixed: Tensor = self.mix(embedding)
        return mixed


class ResidualBlock(nn.Module):
    """norm, SiLU, convolution, scale-and-shift by the conditioning, again; plus the input.

    The last convolution starts at zero, so that a fresh block is the identity.
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
        zero(self.conv_out)

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

    Channel pairs of head h are turned by angles that grow with time, `speed` (H or 1, C / 2)
    radians a moment, so that a product of two turned moments knows how far apart they are.
    """

    speed: Tensor

    def __init__(self, speed: Tensor) -> None:
        super().__init__()
        self.register_buffer("speed", speed, persistent=False)

    def forward(self, x: Tensor, *, back: bool = False) -> Tensor:
        """Turn the pair (c, c + C / 2) of moment t by t * speed[h, c] radians, or back by it."""
        moments = torch.arange(x.shape[-2], device=x.device)
        angle = moments[:, None] * self.speed[:, None]
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        sin = -sin if back else sin
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class SelfAttention(nn.Module):
    """Every moment of the record looks at every other: (B, C, T) -> (B, C, T), residual.

    This is what lets a network count beats: rhythm is a matter of the whole record. Queries and
    keys are turned by speeds in geometric series, so that a moment may choose how far it looks.
    Values are turned as well, and what was seen is turned back by the moment that looks: it then
    tells at which distances something was, as the Fourier transform of a train of beats does, at
    as many frequencies as there are channel pairs, evenly spaced up to half a turn a moment.
    """

    def __init__(self, channels: int, channels_per_head: int = 32) -> None:
        super().__init__()
        most = max(1, channels // channels_per_head)
        self.heads = next(n for n in range(most, 0, -1) if channels % (2 * n) == 0)
        pairs = channels // self.heads // 2
        self.norm = group_norm(channels)
        self.query_key_value = nn.Conv1d(channels, 3 * channels, 1)
        self.look = Rotation(SLOWEST ** torch.linspace(0.0, 1.0, pairs)[None])
        self.carry = Rotation(
            torch.linspace(0.0, math.pi, self.heads * pairs).reshape(pairs, self.heads).T
        )
        self.out = nn.Conv1d(channels, channels, 1)
        zero(self.out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        batch, channels, samples = x.shape
        joint = self.query_key_value(self.norm(x))
        query, key, value = (
            joint.reshape(batch, 3, self.heads, channels // self.heads, samples)
            .transpose(3, 4)
            .unbind(1)
        )
        attended = attend(self.look(query), self.look(key), self.carry(value))
        attended = self.carry(attended, back=True)
        result: Tensor = x + self.out(attended.transpose(2, 3).reshape(batch, channels, samples))
        return result


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query key^T / sqrt(C)) value, each (B, H, T, C) (Vaswani et al. 2017, eq. 1).

    Written out on a CPU, where torch's own takes three to five times as long, forward and backward,
    at the lengths that occur here (`benchmarks/attention_cost.json`).
    """
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value)
    weight = (query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1)
    attended: Tensor = weight.to(value.dtype) @ value
    return attended


class FeedForward(nn.Module):
    """Two layers on every moment by itself, scaled and shifted by the conditioning, residual.

    (B, C, T), (B, conditioning) -> (B, C, T). The last layer starts at zero.
    """

    def __init__(self, channels: int, conditioning: int, wider: int = 3) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.scale_shift = nn.Linear(conditioning, 2 * channels)
        self.widen = nn.Conv1d(channels, wider * channels, 1)
        self.narrow = nn.Conv1d(wider * channels, channels, 1)
        zero(self.narrow)

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """(B, C, T), (B, conditioning) -> (B, C, T)."""
        scale, shift = self.scale_shift(conditioning)[:, :, None].chunk(2, dim=1)
        h = self.norm(x) * (1 + scale) + shift
        result: Tensor = x + self.narrow(F.silu(self.widen(h)))
        return result


class SpectralGate(nn.Module):
    """Pass some frequencies of the whole record and stop others: (B, C, T) -> (B, C, T), residual.

    A regular rhythm is a comb of lines in the spectrum, plain where no single beat can be told from
    noise, and the best linear denoiser passes the lines and stops what lies between (Wiener). Here
    a network makes the gate of each channel and frequency out of the logarithmic power of them all.
    The last layer starts at zero.
    """

    def __init__(self, channels: int, conditioning: int, hidden: int = 256) -> None:
        super().__init__()
        frequencies = SPECTRUM_MOMENTS // 2 + 1
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
        zero(self.leave)

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """(B, C, T), (B, conditioning) -> (B, C, T)."""
        samples, frequencies = x.shape[-1], SPECTRUM_MOMENTS // 2 + 1
        h = self.enter(self.norm(x))
        # Zeros behind the record, so that its end does not meet its beginning.
        moments = max(SPECTRUM_MOMENTS, 2 * samples)
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.fft.rfft(h.float(), n=moments, norm="ortho")
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
            # For both parts of each number: its product with a real gate takes three times as long.
            both = torch.view_as_real(spectrum) * torch.stack([gate, gate], dim=-1)
            spectrum = torch.view_as_complex(both)
            passed = torch.fft.irfft(spectrum, n=moments, norm="ortho")[..., :samples]
        result: Tensor = x + self.leave(passed.to(h.dtype))
        return result


def zero(layer: nn.Module) -> None:
    """Let a layer start at zero, weights and bias."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _one_a_record(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse what would be broadcast over the records of a batch, or be another's label."""
    if value.shape != shape:
        raise ConfigError(
            f"expected {name} of shape {shape}, one row for each record of the batch, got "
            f"{tuple(value.shape)}"
        )
