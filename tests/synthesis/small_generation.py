from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ecgtransfer.corpus import ECGSet, LabelSpace
from ecgtransfer.diffusion import SignalUnits, karras_sigmas, per_record
from ecgtransfer.synthesis import generate, parse_counts

SAMPLES = 64
MV_PER_UNIT = 0.2


@dataclass
class GaussianModel:
    """x0 ~ N(mean of its labels, std^2) at each sample; `calls` notes the records per call."""

    space: LabelSpace
    std: float = 0.5
    calls: list[int] = field(default_factory=list)

    def mean(self, label: Tensor) -> Tensor:
        """The k-th label lifts every lead by k + 1 model units: (B, 1, 1)."""
        return (label @ torch.arange(1.0, len(self.space) + 1)).reshape(-1, 1, 1)

    def denoise(self, x: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        self.calls.append(len(x))
        noise, signal = per_record(sigma, x) ** 2, self.std**2
        return (signal * x + noise * self.mean(label)) / (signal + noise)


class SmallNetwork(nn.Module):
    """A convolutional denoiser with random weights, whose rounding follows its batch size."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first = nn.Conv1d(8, 48, 5, padding=2)
            self.label = nn.Linear(labels, 48)
            self.norm = nn.GroupNorm(8, 48)
            self.last = nn.Conv1d(48, 8, 5, padding=2)

    def forward(self, x, sigma, label):
        scale = per_record(sigma, x)
        hidden = self.first(x / (1 + scale**2).sqrt()) + self.label(label)[..., None]
        shape = self.last(nn.functional.silu(self.norm(hidden)))
        return (x + scale * shape) / (1 + scale**2)


def flat_units(samples: int = SAMPLES) -> SignalUnits:
    """Units in which one stands for `MV_PER_UNIT` at every frequency."""
    units = SignalUnits(8, samples)
    units.amplitude_mv.fill_(MV_PER_UNIT)
    return units


@dataclass
class GenerateSmall:
    """`generate` with the small settings of these tests; keywords override them."""

    folder: Path
    space: LabelSpace

    def __call__(self, name: str, *counts: str, **settings: object) -> ECGSet:
        chosen = {
            "denoise": GaussianModel(self.space).denoise,
            "units": flat_units(),
            "label_space": self.space,
            "sigmas": karras_sigmas(8, 0.01, 20.0),
            "samples": SAMPLES,
            "seed": 7,
            "card_extra": {"model_fingerprint": "abc123", "method": "source"},
            **settings,
        }
        request = chosen.pop("request", None) or parse_counts(counts, self.space)
        denoise, units = chosen.pop("denoise"), chosen.pop("units")
        return generate(denoise, units, request, self.folder / name, **chosen)
