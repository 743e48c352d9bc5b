"""A conditional diffusion model of ECGs as one artefact: network, units, noise levels, labels."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ecgtransfer.diffusion.denoiser import ECGDenoiser, Precision
from ecgtransfer.diffusion.loss import denoising_loss, gaussian_denoiser, mean_denoising_loss
from ecgtransfer.diffusion.noise import NoiseConfig, draw_sigma
from ecgtransfer.diffusion.units import SignalUnits
from ecgtransfer.errors import ConfigError
from ecgtransfer.models import UNet1d, UNetConfig
from ecgtransfer.training import (
    FitResult,
    Progress,
    TrainConfig,
    fit,
    label_weights,
    shuffled_batches,
    step_generator,
)

#: Records that the signal's spectrum is measured on; its standard error is then about 2 %.
RECORDS_FOR_SPECTRUM = 3000
#: Held-out records behind every validation of the denoising loss.
RECORDS_FOR_VALIDATION = 512
#: Stands for a process that no training has, so that held-out noise is never a training step's.
HELD_OUT_RANK = 1 << 20


class Records(Protocol):
    """What training needs of an `ECGSet`."""

    @property
    def labels(self) -> np.ndarray:
        """(N, K) multi-hot."""
        ...

    def independent_mv(self, index: np.ndarray) -> np.ndarray:
        """(n, 8, T) float32 millivolts."""
        ...


@dataclass(frozen=True)
class DiffusionConfig:
    """Everything that fixes a model before it has seen a record.

    Attributes:
        label_names: the label space, in the order of the label's columns.
        samples, sampling_rate_hz: length and rate of the records.
        unet: shape of the network.
        noise: noise levels of training and sampling.
        label_dropout: share of training records whose label is hidden, for classifier-free
            guidance.
        label_balance: power of 1 / count with which rare diagnoses are drawn more often; 0 draws
            the records as they come.
        precision: arithmetic of the network.
    """

    label_names: tuple[str, ...]
    samples: int
    sampling_rate_hz: int
    unet: UNetConfig
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    label_dropout: float = 0.1
    label_balance: float = 0.5
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if self.unet.labels != len(self.label_names):
            raise ConfigError(
                f"expected a network for {len(self.label_names)} labels, got one for "
                f"{self.unet.labels}"
            )
        if min(self.samples, self.sampling_rate_hz) < 1:
            raise ConfigError(
                f"expected records of at least 1 sample and 1 Hz, got {self.samples} and "
                f"{self.sampling_rate_hz}"
            )
        if self.precision not in get_args(Precision):
            raise ConfigError(
                f"expected a precision of {', '.join(get_args(Precision))}, got {self.precision!r}"
            )
        if not 0 <= self.label_dropout < 1 or not 0 <= self.label_balance <= 1:
            raise ConfigError(
                f"expected 0 <= label_dropout < 1 and 0 <= label_balance <= 1, got "
                f"{self.label_dropout} and {self.label_balance}"
            )


class DiffusionModel(nn.Module):
    """A `Denoiser` in model units together with the units themselves."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.units = SignalUnits(config.unet.leads, config.samples)
        self.denoiser = ECGDenoiser(UNet1d(config.unet), config.precision)

    def forward(
        self, x: Tensor, sigma: Tensor, label: Tensor | None, dropped: Tensor | None = None
    ) -> Tensor:
        """D(x; sigma, label) in model units, as `ECGDenoiser`."""
        result: Tensor = self.denoiser(x, sigma, label, dropped)
        return result


def fit_diffusion(
    model: DiffusionModel,
    records: Records,
    train: np.ndarray,
    held_out: np.ndarray,
    config: TrainConfig,
    folder: Path,
    *,
    measure_units: bool = True,
    progress: Callable[[Progress], None] | None = None,
    keep_checkpoint: bool = False,
) -> FitResult:
    """Train `model` on the records numbered `train`; `held_out` ones are only scored.

    The spectrum of the units is measured on training records, except where `measure_units` is
    off (a model that goes on from weights it already has keeps the units it has).
    `keep_checkpoint` is that of `fit`.

    Raises:
        ConfigError: fewer than two training records.
        RunError: a loss that is not finite, or a folder with the checkpoint of another training.
    """
    if len(train) < 2:
        raise ConfigError(f"expected at least 2 training records, got {len(train)}")
    if measure_units:
        rng = np.random.default_rng([config.seed, 2])
        chosen = rng.permutation(train)[:RECORDS_FOR_SPECTRUM]
        parts = np.array_split(chosen, 1 + len(chosen) // 500)
        chunks = (records.independent_mv(part) for part in parts)
        model.units.load_state_dict(SignalUnits.fitted(chunks).state_dict())
    labels = np.asarray(records.labels, np.float32)
    weights = label_weights(labels[train], model.config.label_balance)
    order = shuffled_batches(len(train), config.batch_size, config.seed, weights)

    def batch_of(index: np.ndarray) -> tuple[Tensor, Tensor]:
        signals = torch.from_numpy(records.independent_mv(index))
        return signals, torch.from_numpy(labels[index])

    def loss(
        network: nn.Module, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> Tensor:
        device = model.units.amplitude_mv.device  # where `fit` has moved the model
        signals, label = (part.to(device) for part in batch)
        x0 = model.units.to_model(signals)
        sigma = draw_sigma(len(x0), model.config.noise, generator).to(device)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        dropped = torch.rand(len(x0), generator=generator) < model.config.label_dropout
        dropped = dropped.to(device)

        def denoise(x: Tensor, level: Tensor, diagnosis: Tensor | None) -> Tensor:
            result: Tensor = network(x, level, diagnosis, dropped)
            return result

        return denoising_loss(denoise, x0, label, sigma, noise)

    validate = held_out_loss(model, records, held_out, config.seed) if len(held_out) else None
    return fit(
        model,
        loss,
        lambda step: batch_of(train[order(step)]),
        config,
        folder,
        validate=validate,
        progress=progress,
        keep_checkpoint=keep_checkpoint,
    )


def held_out_loss(
    model: DiffusionModel, records: Records, held_out: np.ndarray, seed: int
) -> Callable[[nn.Module], float]:
    """Denoising loss of any network on the same held-out records with the same noise.

    The best linear denoiser of white data scores 1 on it, whatever the noise level.
    """
    chosen = np.random.default_rng([seed, 3]).permutation(held_out)[:RECORDS_FOR_VALIDATION]
    signals = torch.from_numpy(records.independent_mv(chosen))
    label = torch.from_numpy(np.asarray(records.labels[chosen], np.float32))
    generator = step_generator(seed, 0, rank=HELD_OUT_RANK)
    sigma = draw_sigma(len(chosen), model.config.noise, generator)
    noise = torch.randn(signals.shape, generator=generator)

    def validate(network: nn.Module) -> float:
        device = next(network.parameters()).device
        x0 = model.units.to_model(signals.to(device))
        return mean_denoising_loss(
            network, x0, label.to(device), sigma.to(device), noise.to(device)
        )

    return validate


def gaussian_identity(
    units: SignalUnits, signals_mv: Tensor, config: NoiseConfig, seed: int
) -> float:
    """Weighted loss of the linear denoiser x / (1 + sigma^2) on records (B, leads, T) in mV.

    Exactly 1 on white data of unit variance: how far a run is from it says how well the units fit
    these records.
    """
    generator = step_generator(seed, 1, rank=HELD_OUT_RANK)
    x0 = units.to_model(signals_mv.to(units.amplitude_mv.device)).cpu()
    sigma = draw_sigma(len(x0), config, generator)
    noise = torch.randn(x0.shape, generator=generator)
    return mean_denoising_loss(gaussian_denoiser, x0, None, sigma, noise)
