"""Conditional diffusion model of ECGs: network, units, noise levels and label space together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from ecgtransfer.diffusion.beat_channels import BEAT_CHANNELS, beat_channels
from ecgtransfer.diffusion.condition import (
    PATIENT_SCALARS,
    SMALLEST_LEVEL,
    Condition,
    as_condition,
)
from ecgtransfer.diffusion.denoiser import ECGDenoiser, Precision
from ecgtransfer.diffusion.loss import denoising_loss, gaussian_denoiser, mean_denoising_loss
from ecgtransfer.diffusion.noise import NoiseConfig, draw_sigma
from ecgtransfer.diffusion.records import (
    ConditionedRecords,
    Records,
    hide_statements,
    hide_values,
)
from ecgtransfer.diffusion.units import SignalUnits
from ecgtransfer.errors import ConfigError
from ecgtransfer.models import UNet1d, UNetConfig
from ecgtransfer.signals.beat_shape import TAPS, layout
from ecgtransfer.signals.beats import Beats
from ecgtransfer.statistics import streams
from ecgtransfer.storage import OMIT_AT_DEFAULT
from ecgtransfer.training import (
    FitResult,
    Progress,
    TrainConfig,
    fit,
    label_weights,
    shuffled_batches,
    step_generator,
)

#: Records on which the spectrum is estimated; its standard error is then about 2 %.
RECORDS_FOR_SPECTRUM = 3000
#: Held-out records in each validation of the denoising loss.
RECORDS_FOR_VALIDATION = 512


#: Conditioning augmentation (Ho et al. 2021): in training, the difference of two other records'
#: shapes is added to the layout that the network sees, times a factor up to this. The network then
#: tolerates sampled shapes, which differ slightly from real ones.
SHAPE_AUGMENTATION = 0.3


@dataclass(frozen=True)
class DiffusionConfig:
    """Settings that fix a diffusion model before training.

    Attributes:
        label_names: the label space, in the order of the label's columns.
        samples, sampling_rate_hz: length and rate of the records.
        unet: shape of the network.
        noise: noise levels of training and sampling.
        label_dropout: fraction of training records whose label is hidden, for classifier-free
            guidance.
        label_balance: exponent of 1 / count in the sampling weights that favour rare diagnoses; 0
            samples records uniformly.
        precision: floating-point type of the network.
        masked_labels: whether single statements may be unknown, see `Condition.known`.
        residual: whether the model learns the residual of a record (record minus the layout of its
            beat shapes, see `signals.beat_shape`), given beats, layout and level; else the record
            itself.
    """

    label_names: tuple[str, ...]
    samples: int
    sampling_rate_hz: int
    unet: UNetConfig
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    label_dropout: float = 0.1
    label_balance: float = 0.5
    precision: Precision = "float32"
    masked_labels: bool = field(default=False, metadata=OMIT_AT_DEFAULT)
    residual: bool = field(default=False, metadata=OMIT_AT_DEFAULT)

    def __post_init__(self) -> None:
        if self.unet.labels != len(self.label_names) * (1 + self.masked_labels):
            raise ConfigError(
                f"expected a network for {len(self.label_names) * (1 + self.masked_labels)} "
                f"labels, got one for {self.unet.labels}"
            )
        needed = condition_inputs(self.unet.leads) if self.residual else (0, 0)
        if (self.unet.condition_channels, self.unet.scalars) != needed:
            raise ConfigError(
                f"expected a network of {needed[0]} condition channels and {needed[1]} scalars, "
                f"got {self.unet.condition_channels} and {self.unet.scalars}"
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


def condition_inputs(leads: int) -> tuple[int, int]:
    """Condition channels and scalars of the network of a residual model with this many leads."""
    return BEAT_CHANNELS + leads, leads + PATIENT_SCALARS


class DiffusionModel(nn.Module):
    """A `Denoiser` in model units, together with the units.

    A plain model has x0 = units(signal). A residual model has

        signal = layout(shapes, beats) + level * units^-1(x0),

    where the layout repeats the record's beat shapes at its beats, and `level`, one number per
    lead, scales the residual to unit variance.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.units = SignalUnits(config.unet.leads, config.samples)
        self.layout_units = (
            SignalUnits(config.unet.leads, config.samples) if config.residual else None
        )
        self.denoiser = ECGDenoiser(
            UNet1d(config.unet), config.precision, masked_labels=config.masked_labels
        )

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        label: Condition | Tensor | None,
        dropped: Tensor | None = None,
    ) -> Tensor:
        """Denoise in model units: D(x; sigma, condition), see `ECGDenoiser.forward`."""
        result: Tensor = self.denoiser(x, sigma, label, dropped)
        return result

    def condition(
        self,
        label: Tensor | None = None,
        *,
        known: Tensor | None = None,
        beats: Sequence[Beats] | None = None,
        shapes_mv: np.ndarray | None = None,
        level: Tensor | None = None,
        age: Tensor | None = None,
        sex: Tensor | None = None,
    ) -> Condition:
        """Make the condition of a batch of records, in the form that the network takes.

        A plain model uses the label only and ignores the other arguments.

        Args:
            label: (B, K), see `Condition.label`.
            known: (B, K) bool, see `Condition.known`.
            beats: beats of each record.
            shapes_mv: (B, SHAPE_ROWS, leads, W) beat shapes in millivolts; requires `beats`.
            level: (B, leads), in model units; None if `to_model` measures it later.
            age: (B,) years, NaN if unknown.
            sex: (B,) 0 male, 1 female, NaN if unknown.
        """
        if self.layout_units is None:
            return Condition(label=label, known=known)
        device = self.units.amplitude_mv.device
        layout = None
        if beats is not None and shapes_mv is not None:
            placed = LayoutBatch.of(beats, self.config.samples, self.config.sampling_rate_hz)
            laid_out = placed.to(device)(torch.as_tensor(shapes_mv, dtype=torch.float32).to(device))
            layout = self.layout_units.to_model(laid_out)
        channels = None
        if beats is not None:
            rows = [
                beat_channels(each, self.config.samples, self.config.sampling_rate_hz)
                for each in beats
            ]
            channels = torch.from_numpy(np.stack(rows))
        made = Condition(label, known, channels, layout, level, age, sex)
        return made.to(device)

    def to_model(
        self, signals_mv: Tensor, condition: Condition | None = None
    ) -> tuple[Tensor, Condition]:
        """Convert signals (B, leads, T) in mV to x0; also return the condition with the level."""
        given = as_condition(condition)
        if self.layout_units is None:
            return self.units.to_model(signals_mv), given
        if given.layout is not None:
            signals_mv = signals_mv - self.layout_units.to_mv(given.layout)
        left = self.units.to_model(signals_mv)
        if given.level is None:
            level = left.square().mean(dim=-1).sqrt().clamp_min(SMALLEST_LEVEL)
            given = replace(given, level=level)
        assert given.level is not None
        return left / given.level[:, :, None], given

    def to_mv(self, x0: Tensor, condition: Condition | Tensor | None = None) -> Tensor:
        """Convert x0 (B, leads, T) to millivolts, inverse of `to_model`.

        Raises:
            ConfigError: a residual model and a condition without level.
        """
        given = as_condition(condition)
        if self.layout_units is None:
            return self.units.to_mv(x0)
        if given.level is None:
            raise ConfigError(
                "expected a condition with the residual's level, got none; sample one from the "
                "model of beat shapes"
            )
        signals = self.units.to_mv(x0 * given.level[:, :, None])
        return signals if given.layout is None else signals + self.layout_units.to_mv(given.layout)


@dataclass(frozen=True, eq=False)
class LayoutBatch:
    """`signals.beat_shape.Layout` for a batch: interpolation taps into tables of beat shapes.

    Attributes:
        index: (B, T, TAPS) int64, rows of the table.
        weight: (B, T, TAPS), interpolation weights.
    """

    index: Tensor
    weight: Tensor

    @classmethod
    def of(cls, beats: Sequence[Beats], samples: int, sampling_rate_hz: float) -> "LayoutBatch":
        """Make the layouts of these records; that of a record without beats is zero."""
        index = np.zeros((len(beats), samples, TAPS), np.int32)
        weight = np.zeros((len(beats), samples, TAPS), np.float32)
        for row, each in enumerate(beats):
            if len(each):
                placed = layout(each, samples, sampling_rate_hz)
                index[row], weight[row] = placed.index, placed.weight
        return cls(torch.from_numpy(index).long(), torch.from_numpy(weight))

    def to(self, device: torch.device | str) -> "LayoutBatch":
        """Move both tensors to a device."""
        return LayoutBatch(self.index.to(device), self.weight.to(device))

    def __call__(self, shapes: Tensor) -> Tensor:
        """Place shapes (B, SHAPE_ROWS, leads, W) at the beats: (B, leads, T)."""
        rows, _, leads, _ = shapes.shape
        samples, taps = self.index.shape[1:]
        table = shapes.transpose(1, 2).reshape(rows, leads, -1)
        taken = table.gather(2, self.index.reshape(rows, 1, -1).expand(-1, leads, -1))
        weighted = taken.reshape(rows, leads, samples, taps) * self.weight[:, None]
        return weighted.sum(dim=-1)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Records of a training step on the CPU, before noise and conditions are drawn."""

    signals_mv: Tensor
    label: Tensor
    layout: LayoutBatch | None = None
    shapes_mv: Tensor | None = None
    beats: Tensor | None = None
    age: Tensor | None = None
    sex: Tensor | None = None


def fit_diffusion(
    model: DiffusionModel,
    records: Records | ConditionedRecords,
    train: np.ndarray,
    held_out: np.ndarray,
    config: TrainConfig,
    folder: Path,
    *,
    fit_units: bool = True,
    progress: Callable[[Progress], None] | None = None,
    keep_checkpoint: bool = False,
) -> FitResult:
    """Train `model` on the records with indices `train`; `held_out` ones are only scored.

    Args:
        model: changed in place.
        records: training and held-out records; `ConditionedRecords` for a residual model.
        train: indices of the training records.
        held_out: indices of the validation records, possibly none.
        config: as in `training.fit`.
        folder: as in `training.fit`.
        fit_units: estimate the spectra of the units on training records first. Turn it off to
            continue from trained weights, which need their original units.
        progress: as in `training.fit`.
        keep_checkpoint: as in `training.fit`.

    Raises:
        ConfigError: fewer than two training records, or a residual model and records without
            beats.
        RunError: a loss is not finite, or the folder has the checkpoint of another training.
    """
    if len(train) < 2:
        raise ConfigError(f"expected at least 2 training records, got {len(train)}")
    if fit_units:
        measure_units(model, records, train, config.seed)
    labels = np.asarray(records.labels, np.float32)
    weights = label_weights(labels[train], model.config.label_balance)
    order = shuffled_batches(len(train), config.batch_size, config.seed, weights)

    def loss(network: nn.Module, batch: _Batch, generator: torch.Generator) -> Tensor:
        device = model.units.amplitude_mv.device  # `fit` may have moved the model
        x0, condition = _drawn_condition(model, records, batch, generator)
        sigma = draw_sigma(len(x0), model.config.noise, generator).to(device)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        return denoising_loss(network, x0, condition, sigma, noise)

    validate = held_out_loss(model, records, held_out, config.seed) if len(held_out) else None
    return fit(
        model,
        loss,
        lambda step: _batch_of(model, records, labels, train[order(step)]),
        config,
        folder,
        validate=validate,
        progress=progress,
        keep_checkpoint=keep_checkpoint,
    )


def measure_units(
    model: DiffusionModel, records: Records | ConditionedRecords, train: np.ndarray, seed: int
) -> None:
    """Estimate the spectra of a model's units on training records, at most 3,000 of them.

    Raises:
        ConfigError: a residual model and records without beats.
    """
    rng = streams.generator(seed, streams.UNIT_RECORDS)
    chosen = rng.permutation(train)[:RECORDS_FOR_SPECTRUM]
    parts = np.array_split(chosen, 1 + len(chosen) // 500)
    if model.layout_units is None:
        chunks = (records.independent_mv(part) for part in parts)
        model.units.load_state_dict(SignalUnits.fitted(chunks).state_dict())
        return
    layouts = [_layouts_mv(model, _conditioned(records), part).numpy() for part in parts]
    residuals = [
        records.independent_mv(part) - each for part, each in zip(parts, layouts, strict=True)
    ]
    model.layout_units.load_state_dict(SignalUnits.fitted(layouts).state_dict())
    model.units.load_state_dict(SignalUnits.fitted(residuals).state_dict())


def _conditioned(records: Records | ConditionedRecords) -> ConditionedRecords:
    if not isinstance(records, ConditionedRecords):
        raise ConfigError(
            "expected records with beats and beat shapes for a residual model, got "
            f"{type(records).__name__}; wrap them in ConditionedRecords"
        )
    return records


def _layouts_mv(model: DiffusionModel, records: ConditionedRecords, indices: np.ndarray) -> Tensor:
    """Layouts of the records with these indices, (n, leads, T) in millivolts."""
    beats = [records.beats[index] for index in indices]
    placed = LayoutBatch.of(beats, model.config.samples, model.config.sampling_rate_hz)
    return placed(torch.from_numpy(records.shapes_mv[indices]))


def _batch_of(
    model: DiffusionModel,
    records: Records | ConditionedRecords,
    labels: np.ndarray,
    indices: np.ndarray,
) -> _Batch:
    signals = torch.from_numpy(records.independent_mv(indices))
    label = torch.from_numpy(labels[indices])
    if model.layout_units is None:
        return _Batch(signals, label)
    held = _conditioned(records)
    beats = [held.beats[index] for index in indices]
    samples, rate = model.config.samples, model.config.sampling_rate_hz
    return _Batch(
        signals,
        label,
        LayoutBatch.of(beats, samples, rate),
        torch.from_numpy(held.shapes_mv[indices]),
        torch.from_numpy(np.stack([beat_channels(each, samples, rate) for each in beats])),
        torch.from_numpy(held.age[indices]),
        torch.from_numpy(held.sex[indices]),
    )


def _drawn_condition(
    model: DiffusionModel,
    records: Records | ConditionedRecords,
    batch: _Batch,
    generator: torch.Generator,
) -> tuple[Tensor, Condition]:
    """x0 of a batch, and the condition with hidden and augmented parts for training."""
    device = model.units.amplitude_mv.device
    signals, label = batch.signals_mv.to(device), batch.label.to(device)
    known: Tensor | None = None
    if model.config.masked_labels:
        core = records.core if isinstance(records, ConditionedRecords) else ()
        known = hide_statements(label.shape, core, generator).to(device)
    elif model.config.label_dropout:
        dropped = torch.rand(len(label), generator=generator) < model.config.label_dropout
        known = (~dropped)[:, None].expand_as(label).to(device)
    if batch.layout is None or model.layout_units is None:
        x0, _ = model.to_model(signals)
        return x0, Condition(label=label, known=known)
    assert batch.shapes_mv is not None
    assert batch.beats is not None
    assert batch.age is not None
    assert batch.sex is not None
    placed, shapes = batch.layout.to(device), batch.shapes_mv.to(device)
    true = model.layout_units.to_model(placed(shapes))
    share = SHAPE_AUGMENTATION * torch.rand(len(shapes), generator=generator).to(device)
    other = shapes.roll(1, 0) - shapes.roll(2, 0)
    other[:, 1:] = 0  # few records have a ventricular shape
    augmented = true + model.layout_units.to_model(placed(share[:, None, None, None] * other))
    x0, measured = model.to_model(signals, Condition(layout=true))
    return x0, Condition(
        label,
        known,
        batch.beats.to(device),
        augmented,
        measured.level,
        hide_values(batch.age, generator).to(device),
        hide_values(batch.sex, generator).to(device),
    )


def held_out_loss(
    model: DiffusionModel,
    records: Records | ConditionedRecords,
    held_out: np.ndarray,
    seed: int,
) -> Callable[[nn.Module], float]:
    """Make a function that scores a network on fixed held-out records with fixed noise.

    The best linear denoiser of white data scores 1 at every noise level.
    """
    rng = streams.generator(seed, streams.VALIDATION_RECORDS)
    chosen = rng.permutation(held_out)[:RECORDS_FOR_VALIDATION]
    generator = step_generator(seed, 0, rank=streams.STEP_HELD_OUT)
    sigma = draw_sigma(len(chosen), model.config.noise, generator)
    shape = (len(chosen), model.config.unet.leads, model.config.samples)
    noise = torch.randn(shape, generator=generator)

    def validate(network: nn.Module) -> float:
        device = next(network.parameters()).device
        x0, condition = true_condition(model, records, chosen)
        return mean_denoising_loss(network, x0, condition, sigma.to(device), noise.to(device))

    return validate


def true_condition(
    model: DiffusionModel, records: Records | ConditionedRecords, indices: np.ndarray
) -> tuple[Tensor, Condition]:
    """x0 and full condition of the records with these indices, on the model's device."""
    device = model.units.amplitude_mv.device
    signals = torch.from_numpy(records.independent_mv(indices)).to(device)
    label = torch.from_numpy(np.asarray(records.labels[indices], np.float32)).to(device)
    if model.layout_units is None:
        return model.to_model(signals, Condition(label=label))
    held = _conditioned(records)
    condition = model.condition(
        label,
        beats=[held.beats[index] for index in indices],
        shapes_mv=held.shapes_mv[indices],
        age=torch.from_numpy(held.age[indices]),
        sex=torch.from_numpy(held.sex[indices]),
    )
    return model.to_model(signals, condition)


def gaussian_identity(x0: Tensor, config: NoiseConfig, seed: int) -> float:
    """Weighted loss of the linear denoiser x / (1 + sigma^2) on records (B, leads, T).

    It is exactly 1 on white data with unit variance; the difference from 1 shows how well the units
    fit these records.
    """
    generator = step_generator(seed, 1, rank=streams.STEP_HELD_OUT)
    x0 = x0.cpu()
    sigma = draw_sigma(len(x0), config, generator)
    noise = torch.randn(x0.shape, generator=generator)
    return mean_denoising_loss(gaussian_denoiser, x0, None, sigma, noise)
