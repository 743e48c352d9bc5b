"""What a record of SSSD-ECG costs: a network of its published sizes, with random weights.

Alcaraz and Strodthoff, Diffusion-based conditional ECG generation with structured state space
models, 2023: 36 residual layers of 256 channels with two bidirectional S4 layers each, 200
ancestral steps, 8 leads of 1000 samples (the other four are derived). Written from the sizes, so
the arithmetic is right and the ECGs are not. Where it departs from the published program it is
cheaper: the kernels of the S4 layers are computed once before sampling, and weights are not
normalised anew in each call. Their states are diagonal, which the cost of a step does not see.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class SSSDSizes:
    """The published configuration; `state` is the dimension of an S4 layer's state."""

    leads: int = 8
    samples: int = 1000
    labels: int = 71
    layers: int = 36
    channels: int = 256
    state: int = 64
    label_width: int = 128
    step_width_in: int = 128
    step_width: int = 512
    steps: int = 200
    beta_first: float = 1e-4
    beta_last: float = 0.02


class S4Layer(nn.Module):
    """Long convolution in both directions, GELU, a mix of channels, residual, layer norm."""

    spectrum: Tensor

    def __init__(self, channels: int, state: int, samples: int) -> None:
        super().__init__()
        self.samples = samples
        pairs = state // 2  # the other half of the states are their conjugates
        step = torch.exp(torch.empty(channels, 1).uniform_(math.log(1e-3), math.log(0.1)))
        poles = torch.complex(torch.full((pairs,), -0.5), math.pi * torch.arange(pairs))
        gains = torch.randn(2, channels, pairs, dtype=torch.complex64)
        kernels = _impulse_responses(step * poles, gains * step, samples)
        both = F.pad(kernels[0], (0, samples)) + F.pad(kernels[1].flip(-1), (samples, 0))
        self.register_buffer("spectrum", torch.fft.rfft(both))
        self.through = nn.Parameter(torch.randn(channels, 1))
        self.mix = nn.Conv1d(channels, channels, 1)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T) -> (B, channels, T)."""
        spectrum = torch.fft.rfft(x.float(), n=2 * self.samples) * self.spectrum
        y = torch.fft.irfft(spectrum, n=2 * self.samples)[..., : self.samples]
        y = self.mix(F.gelu(y + self.through * x)) + x
        normed: Tensor = self.norm(y.transpose(1, 2))
        return normed.transpose(1, 2)


class ResidualLayer(nn.Module):
    """Step, convolution, S4, label, S4, gate."""

    def __init__(self, sizes: SSSDSizes) -> None:
        super().__init__()
        wide = 2 * sizes.channels
        self.step = nn.Linear(sizes.step_width, sizes.channels)
        self.widen = nn.Conv1d(sizes.channels, wide, 3, padding=1)
        self.first = S4Layer(wide, sizes.state, sizes.samples)
        self.label = nn.Linear(sizes.label_width, wide)
        self.second = S4Layer(wide, sizes.state, sizes.samples)
        self.residual = nn.Conv1d(sizes.channels, sizes.channels, 1)
        self.skip = nn.Conv1d(sizes.channels, sizes.channels, 1)

    def forward(self, x: Tensor, step: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Residual and skip of x (B, channels, T), given the embeddings of step and label."""
        h = self.first(self.widen(x + self.step(step)[..., None]))
        h = self.second(h + self.label(label)[..., None])
        content, gate = h.chunk(2, dim=1)
        gated = content.tanh() * gate.sigmoid()
        return (x + self.residual(gated)) * math.sqrt(0.5), self.skip(gated)


class SSSDCost(nn.Module):
    """The network: (x (B, leads, T), step (B,), label (B, labels)) -> noise (B, leads, T)."""

    def __init__(self, sizes: SSSDSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.labels = nn.Linear(sizes.labels, sizes.label_width, bias=False)
        self.embed = nn.Sequential(
            nn.Linear(sizes.step_width_in, sizes.step_width),
            nn.SiLU(),
            nn.Linear(sizes.step_width, sizes.step_width),
            nn.SiLU(),
        )
        self.stem = nn.Sequential(nn.Conv1d(sizes.leads, sizes.channels, 1), nn.ReLU())
        self.layers = nn.ModuleList(ResidualLayer(sizes) for _ in range(sizes.layers))
        self.out = nn.Sequential(
            nn.Conv1d(sizes.channels, sizes.channels, 1),
            nn.ReLU(),
            nn.Conv1d(sizes.channels, sizes.leads, 1),
        )

    def forward(self, x: Tensor, step: Tensor, label: Tensor) -> Tensor:
        """The noise in `x`."""
        half = self.sizes.step_width_in // 2
        rates = torch.exp(-math.log(1e4) * torch.arange(half, device=x.device) / (half - 1))
        angles = step[:, None] * rates
        embedded = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1))
        label = self.labels(label)
        h = self.stem(x)
        skips = torch.zeros_like(h)
        for layer in self.layers:
            h, skip = layer(h, embedded, label)
            skips = skips + skip
        noise: Tensor = self.out(skips * math.sqrt(1 / self.sizes.layers))
        return noise


@torch.no_grad()
def sampled(network: SSSDCost, label: Tensor, steps: int, precision: torch.dtype) -> Tensor:
    """The first `steps` of the published ancestral steps (Ho et al. 2020): (B, leads, T)."""
    sizes = network.sizes
    beta = torch.linspace(sizes.beta_first, sizes.beta_last, sizes.steps)
    kept = torch.cumprod(1 - beta, dim=0)
    x = torch.randn(len(label), sizes.leads, sizes.samples)
    for number in range(sizes.steps - 1, sizes.steps - 1 - steps, -1):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            noise = network(x, torch.full((len(label),), float(number)), label)
        x = (x - beta[number] / (1 - kept[number]).sqrt() * noise) / (1 - beta[number]).sqrt()
        if number:
            variance = beta[number] * (1 - kept[number - 1]) / (1 - kept[number])
            x = x + variance.sqrt() * torch.randn_like(x)
    return x


def _impulse_responses(rates: Tensor, gains: Tensor, samples: int) -> Tensor:
    """Re sum over n of gain_n exp(rate_n t), t = 0, 1, ...: (2, channels, samples).

    rates (channels, n), gains (2, channels, n). With t = 32 i + j the sum is a matrix product.
    """
    columns = 32
    rows = -(-samples // columns)
    coarse = torch.exp(rates[..., None] * columns * torch.arange(rows))
    fine = torch.exp(rates[..., None] * torch.arange(columns))
    response = torch.einsum("dcn,cni,cnj->dcij", gains, coarse, fine)
    return 2 * response.real.flatten(-2)[..., :samples]
