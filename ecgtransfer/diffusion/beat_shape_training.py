"""Training of a beat-shape model: records to vectors, loss, and calibration of its sampler."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecgtransfer.diffusion.beat_shape_model import BeatShapeModel
from ecgtransfer.diffusion.condition import Condition
from ecgtransfer.diffusion.denoiser import Denoiser, per_record
from ecgtransfer.diffusion.noise import draw_sigma
from ecgtransfer.diffusion.principal_components import FEWEST_VECTORS
from ecgtransfer.diffusion.records import ConditionedRecords, hide_statements, hide_values
from ecgtransfer.diffusion.shape_augmentation import ShapeAugmentation
from ecgtransfer.errors import ConfigError
from ecgtransfer.signals.beat_shape import ORDINARY_ROW
from ecgtransfer.statistics import streams
from ecgtransfer.training import (
    WEIGHTS,
    FitResult,
    Progress,
    TrainConfig,
    fit,
    is_main_process,
    label_weights,
    save_weights,
    shuffled_batches,
    step_generator,
)

#: Candidate factors of the noise level that the denoiser is given when sampling, see
#: `calibrate_sampling_noise`.
NOISE_SCALES = (1.0, 0.99, 0.98, 0.97, 0.96)
#: Sampled records for that calibration, and the number of leading components that it compares.
RECORDS_FOR_CALIBRATION, CALIBRATED_COMPONENTS = 1024, 64
#: Held-out records in each validation of the denoising loss.
RECORDS_FOR_VALIDATION = 2048


def fit_beat_shapes(
    model: BeatShapeModel,
    records: ConditionedRecords,
    level: NDArray[np.floating],
    train: np.ndarray,
    held_out: np.ndarray,
    config: TrainConfig,
    folder: Path,
    *,
    measure_units: bool = True,
    progress: Callable[[Progress], None] | None = None,
    keep_checkpoint: bool = False,
) -> FitResult:
    """Train `model` on the records with indices `train`; `held_out` ones are only scored.

    Args:
        model: changed in place.
        records: with labels, beats, shapes, ages and sexes; the signals are not read. Records
            without an ordinary beat are skipped.
        level: (N, 8) residual level of each record, as measured by `DiffusionModel.to_model`.
        train: indices of the training records.
        held_out: indices of the validation records, possibly none.
        config: as in `training.fit`.
        folder: as in `training.fit`.
        measure_units: fit components and scales on the training records first.
        progress: as in `training.fit`.
        keep_checkpoint: as in `training.fit`.

    Raises:
        ConfigError: fewer than two training records with an ordinary beat, or another number of
            levels than records.
        RunError: a loss is not finite, or the folder has the checkpoint of another training.
    """
    if len(level) != len(records):
        raise ConfigError(f"expected levels of {len(records)} records, got {len(level)} of them")
    ordinary = np.asarray(records.shapes_mv[:, ORDINARY_ROW].any(axis=(1, 2)))
    train, held_out = train[ordinary[train]], held_out[ordinary[held_out]]
    if len(train) < FEWEST_VECTORS:
        raise ConfigError(
            f"expected at least {FEWEST_VECTORS} training records with an ordinary beat, got "
            f"{len(train)}"
        )
    if measure_units:
        model.measure_units(records.shapes_mv[train], np.asarray(level[train], np.float64))
    shapes, levels, condition = _parts(model, records, level, train)
    label = condition.label
    assert label is not None
    # Weights depend on the core labels only. Given all core labels, such weights do not change
    # the distribution of shapes that the model learns.
    weighed = label.numpy()[:, list(records.core)] if records.core else label.numpy()
    weights = label_weights(weighed, model.config.label_balance)
    order = shuffled_batches(len(train), config.batch_size, config.seed, weights)

    augmentation = ShapeAugmentation(model.config.sampling_rate_hz)

    def loss(network: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        device = model.spread.device
        visible = hide_condition(condition[rows], records.core, generator)
        change = augmentation.draw(len(rows), generator)
        sigma = draw_sigma(len(rows), model.config.noise, generator).to(device)
        noise = torch.randn(len(rows), model.dimensions, generator=generator).to(device)
        changed = augmentation.apply(shapes[rows].to(device), change)
        x0 = model.encode(changed, levels[rows].to(device))
        given = replace(visible, augmentation=change).to(device)
        return shape_loss(model, network, x0, given, sigma, noise)

    validate = (
        held_out_shape_loss(model, records, level, held_out, config.seed) if len(held_out) else None
    )
    result = fit(
        model,
        loss,
        lambda step: torch.from_numpy(order(step)),
        config,
        folder,
        validate=validate,
        progress=progress,
        keep_checkpoint=keep_checkpoint,
    )
    if measure_units:
        judged = held_out if len(held_out) else train
        rng = streams.generator(config.seed, streams.CALIBRATING_SHAPES)
        subsample = rng.permutation(judged)[:RECORDS_FOR_CALIBRATION]
        calibrate_sampling_noise(
            model, *encode_records(model, records, level, subsample), config.seed
        )
        if is_main_process():
            save_weights(model, folder / WEIGHTS)
    return result


def calibrate_sampling_noise(
    model: BeatShapeModel, x0: Tensor, condition: Condition, seed: int, steps: int = 20
) -> None:
    """Choose the factor of the noise level that the denoiser is given when sampling.

    A trained network smooths its denoised signals too much, so that samples vary too little. If it
    is given a slightly lower noise level than the true one, it removes less and samples vary more.
    The factor is the one at which the leading components of sampled ordinary beats, after those of
    the P wave, have the same standard deviations as those of real beats (half the width of the
    middle 68 %, median over components). It is interpolated between `NOISE_SCALES`, and is at most
    1. A model of P waves alone is not calibrated.

    Args:
        model: a trained model; its `noise_told` is set.
        x0: (B, D), preferably of held-out records.
        condition: condition of these records.
        seed: seed of the samples.
        steps: sampler steps.
    """
    first = model.config.p_wave_components  # the directions of the P wave have a fixed size
    if first == model.config.components:
        return
    compared = slice(first, min(first + CALIBRATED_COMPONENTS, model.config.components))
    real = _half_widths(x0[:, compared])
    rng = streams.generator(seed, streams.CALIBRATING_DRAWS)
    seeds = rng.integers(2**62, size=len(x0)).tolist()
    excess: list[float] = []
    for share in NOISE_SCALES:
        model.noise_told.fill_(share)
        drawn = model.encode(*map(torch.from_numpy, model.draw(condition, seeds, steps=steps)))
        ratio = _half_widths(drawn.cpu()[:, compared]) / real.clamp_min(1e-9)
        excess.append(float(ratio.log().median()))
        if excess[-1] >= 0:
            break
    rising = np.maximum.accumulate(excess)
    model.noise_told.fill_(float(np.interp(0.0, rising, NOISE_SCALES[: len(excess)])))


def _half_widths(values: Tensor) -> Tensor:
    """Half the width of the middle 68 % of each column, (C,); 1 SD of a normal distribution."""
    low, high = values.quantile(values.new_tensor([0.16, 0.84]), dim=0).unbind()
    half: Tensor = (high - low) / 2
    return half


def encode_records(
    model: BeatShapeModel,
    records: ConditionedRecords,
    level: NDArray[np.floating],
    indices: np.ndarray,
) -> tuple[Tensor, Condition]:
    """x0 (n, D) and full condition of the records with these indices, on the CPU."""
    shapes, levels, condition = _parts(model, records, level, indices)
    device = model.spread.device
    x0 = torch.cat(
        [
            model.encode(shapes_part.to(device), levels_part.to(device)).cpu()
            for shapes_part, levels_part in zip(
                torch.split(shapes, 1000), torch.split(levels, 1000), strict=True
            )
        ]
    )
    return x0, condition


def _parts(
    model: BeatShapeModel,
    records: ConditionedRecords,
    level: NDArray[np.floating],
    indices: np.ndarray,
) -> tuple[Tensor, Tensor, Condition]:
    """Shapes (n, SHAPE_ROWS, 8, W) in mV, levels (n, 8) and full condition, on the CPU."""
    condition = model.condition(
        torch.from_numpy(np.asarray(records.labels[indices], np.float32)),
        [records.beats[index] for index in indices],
        age=torch.from_numpy(np.asarray(records.age[indices], np.float32)),
        sex=torch.from_numpy(np.asarray(records.sex[indices], np.float32)),
    )
    shapes = torch.from_numpy(np.asarray(records.shapes_mv[indices], np.float32))
    return shapes, torch.from_numpy(np.asarray(level[indices], np.float32)), condition


def hide_condition(
    condition: Condition, core: Sequence[int], generator: torch.Generator
) -> Condition:
    """Hide random statements, ages and sexes of training records from the network."""
    assert condition.label is not None
    assert condition.age is not None
    assert condition.sex is not None
    return replace(
        condition,
        known=hide_statements(condition.label.shape, core, generator),
        age=hide_values(condition.age, generator),
        sex=hide_values(condition.sex, generator),
    )


def shape_loss(
    model: BeatShapeModel,
    denoise: Denoiser,
    x0: Tensor,
    condition: Condition,
    sigma: Tensor,
    noise: Tensor,
) -> Tensor:
    """Denoising loss, averaged over the components that the record has: (B,).

    With d the standard deviation of a component, its loss is (D - x0)^2 (sigma^2 + d^2) /
    (sigma d)^2, so that the best linear denoiser scores 1 on every component at every noise level
    (Karras et al. 2022, table 1).
    """
    spread = model.spread.square()
    power = per_record(sigma, x0).square()
    error = (denoise(x0 + per_record(sigma, x0) * noise, sigma, condition) - x0).square()
    weighted = error * (power + spread) / (power * spread)
    present = model.present(condition, x0)
    return (weighted * present).sum(dim=1) / present.sum(dim=1)


def held_out_shape_loss(
    model: BeatShapeModel,
    records: ConditionedRecords,
    level: NDArray[np.floating],
    held_out: np.ndarray,
    seed: int,
) -> Callable[[nn.Module], float]:
    """Make a function that scores a network on fixed held-out records with fixed noise."""
    rng = streams.generator(seed, streams.VALIDATION_RECORDS)
    chosen = rng.permutation(held_out)[:RECORDS_FOR_VALIDATION]
    generator = step_generator(seed, 0, rank=streams.STEP_HELD_OUT)
    sigma = draw_sigma(len(chosen), model.config.noise, generator)
    noise = torch.randn(len(chosen), model.dimensions, generator=generator)

    @torch.no_grad()
    def validate(network: nn.Module) -> float:
        device = model.spread.device
        x0, condition = encode_records(model, records, level, chosen)
        loss = shape_loss(
            model,
            network,
            x0.to(device),
            condition.to(device),
            sigma.to(device),
            noise.to(device),
        )
        return float(loss.mean())

    return validate
