"""Conditional diffusion model of beat shapes and residual levels: p(m, level | b, y).

This is the second stage of the factorised record p(b | y) p(m, level | b, y) p(x | m, level, b, y).
A record's median beats (`signals.beat_shapes`) and the level of its residual (`Condition.level`)
become one vector of standardised principal components, which a small network denoises in EDM form.
Methods that transfer a model of signals, such as `transfer.guided`, therefore apply to beat shapes
too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecgtransfer.defaults import RECORD_SOLVER
from ecgtransfer.diffusion.condition import (
    PATIENT_SCALARS,
    SMALLEST_LEVEL,
    Condition,
    as_condition,
    masked_label,
    patient_scalars,
)
from ecgtransfer.diffusion.denoiser import Denoiser, classifier_free, per_record
from ecgtransfer.diffusion.noise import NoiseConfig, draw_sigma, karras_sigmas
from ecgtransfer.diffusion.records import ConditionedRecords, hide_statements, hide_values
from ecgtransfer.diffusion.sampler import sample
from ecgtransfer.errors import ConfigError
from ecgtransfer.models import ResidualMLP, ResidualMLPConfig
from ecgtransfer.signals.beat_shape import (
    ORDINARY_ROW,
    SHAPE_ROWS,
    VENTRICULAR_ROW,
    shape_samples,
)
from ecgtransfer.signals.beats import BeatKind, Beats
from ecgtransfer.signals.leads import INDEPENDENT_LEADS
from ecgtransfer.statistics import streams
from ecgtransfer.training import (
    WEIGHTS,
    FitResult,
    Progress,
    TrainConfig,
    fit,
    is_main_process,
    label_weights,
    record_noise,
    save_weights,
    shuffled_batches,
    step_generator,
)

#: Length of `rhythm_summary`.
RHYTHM_SCALARS = 3
#: RR interval assumed for a record with fewer than two beats, seconds.
UNSTATED_INTERVAL_S = 1.0
#: When principal components are fitted, records farther from the mean shape than this quantile are
#: moved to it: otherwise a single artefact of 20 mV would take a component of its own.
OUTLYING_QUANTILE = 0.99
#: Lower bound of a component's standard deviation, as a fraction of the largest.
SMALLEST_DEVIATION = 1e-3
#: Size of the groups of components, by decreasing variance, whose log power is a network input.
COMPONENTS_PER_GROUP = 8
#: Minimum number of beat shapes to fit principal components.
FEWEST_SHAPES = 2
#: Standard deviation of the initial embeddings of present and of absent statements. A bundle branch
#: block changes the whole shape, and embeddings of the usual size learn that slowly.
PRESENT_DEVIATION, ABSENT_DEVIATION = 0.5, 0.02
#: Candidate factors of the noise level that the denoiser is given when sampling, see
#: `calibrate_sampling_noise`.
NOISE_SCALES = (1.0, 0.99, 0.98, 0.97, 0.96)
#: Sampled records for that calibration, and the number of leading components that it compares.
RECORDS_FOR_CALIBRATION, CALIBRATED_COMPONENTS = 1024, 64
#: Records that are denoised together. Smaller batches are padded to this size: a matrix product of
#: another size rounds differently, and a record must not depend on the others in its batch.
SAMPLED_AT_ONCE = 16
#: Held-out records in each validation of the denoising loss.
RECORDS_FOR_VALIDATION = 2048


@dataclass(frozen=True)
class BeatShapeConfig:
    """Settings that fix a beat-shape model before training.

    Attributes:
        label_names: the label space, in the order of the label's columns.
        sampling_rate_hz: sampling rate of the shapes.
        components, ventricular_components: number of principal components of the ordinary and of
            the ventricular beat.
        whitening: exponent of the standard deviation by which each component is divided. 1 gives
            all components unit variance. Below 1, noise hides weak components before strong ones,
            so that sampling proceeds from coarse to fine.
        width, blocks, conditioning: shape of the network, see `ResidualMLPConfig`.
        noise: noise levels of training and sampling, in units where x0 has mean variance 1.
        label_balance: exponent of 1 / count in the sampling weights that favour rare diagnoses.
    """

    label_names: tuple[str, ...]
    sampling_rate_hz: int
    components: int = 128
    ventricular_components: int = 64
    whitening: float = 0.5
    width: int = 336
    blocks: int = 3
    conditioning: int = 64
    noise: NoiseConfig = field(
        default_factory=lambda: NoiseConfig(-0.5, 1.4, sigma_min=0.01, sigma_max=40.0)
    )
    label_balance: float = 0.75

    def __post_init__(self) -> None:
        most = len(INDEPENDENT_LEADS) * shape_samples(self.sampling_rate_hz)
        if not 1 <= self.ventricular_components <= most or not 1 <= self.components <= most:
            raise ConfigError(
                f"expected 1 to {most} components of either beat, got {self.components} and "
                f"{self.ventricular_components}"
            )
        if not 0 <= self.whitening <= 1 or not 0 <= self.label_balance <= 1:
            raise ConfigError(
                "expected 0 <= whitening <= 1 and 0 <= label_balance <= 1, got "
                f"{self.whitening} and {self.label_balance}"
            )


def rhythm_summary(beats: Beats) -> NDArray[np.float32]:
    """Features of a beat train on which the beat shape depends, (RHYTHM_SCALARS,).

    The natural logarithm of the median RR interval over 1 s; the root mean square of successive
    differences of RR over the mean RR; the fraction of ventricular beats. A record with fewer than
    two beats counts as regular at 60 beats per minute.
    """
    intervals = np.diff(np.asarray(beats.times_s, np.float64))
    if not len(intervals):
        intervals = np.array([UNSTATED_INTERVAL_S])
    changes = np.diff(intervals) if len(intervals) > 1 else np.zeros(1)
    ventricular = beats.kinds == BeatKind.VENTRICULAR
    return np.array(
        [
            np.log(np.median(intervals) / UNSTATED_INTERVAL_S),
            np.sqrt(np.mean(np.square(changes))) / intervals.mean(),
            ventricular.mean() if len(ventricular) else 0.0,
        ],
        np.float32,
    )


class PrincipalComponents(nn.Module):
    """Principal components of vectors (N, F), each divided by its standard deviation."""

    mean: Tensor
    basis: Tensor
    deviation: Tensor

    def __init__(self, features: int, components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("basis", torch.eye(features, components))
        self.register_buffer("deviation", torch.ones(components))

    def fit(self, vectors: NDArray[np.floating]) -> None:
        """Fit mean, basis and deviations; outliers are moved to `OUTLYING_QUANTILE` first.

        Raises:
            ConfigError: fewer than 2 vectors.
        """
        if len(vectors) < FEWEST_SHAPES:
            raise ConfigError(
                f"expected at least {FEWEST_SHAPES} beat shapes to find components of, got "
                f"{len(vectors)}"
            )
        mean = np.mean(vectors, axis=0, dtype=np.float64)
        away = vectors - mean
        distance = np.linalg.norm(away, axis=1)
        usual = np.quantile(distance, OUTLYING_QUANTILE)
        away *= np.minimum(1.0, usual / np.maximum(distance, 1e-12))[:, None]
        power, basis = np.linalg.eigh(away.T @ away / len(away))
        kept = self.deviation.shape[0]
        self.mean.copy_(torch.from_numpy(mean))
        self.basis.copy_(torch.from_numpy(basis[:, ::-1][:, :kept].copy()))
        deviation = np.sqrt(np.maximum(power[::-1][:kept], 0.0))
        # With fewer vectors than components, the remaining components have no variance.
        smallest = max(SMALLEST_DEVIATION * float(deviation[0]), 1e-6)
        self.deviation.copy_(torch.from_numpy(np.maximum(deviation, smallest)))

    def encode(self, vectors: Tensor) -> Tensor:
        """Project (B, F) on the components, with unit variance: (B, C)."""
        return (vectors - self.mean) @ self.basis / self.deviation

    def decode(self, components: Tensor) -> Tensor:
        """Reconstruct (B, F) from components (B, C)."""
        return (components * self.deviation) @ self.basis.T + self.mean


class BeatShapeModel(nn.Module):
    """A `Denoiser` of beat shapes and residual levels, with the map to and from its vectors x0.

    x0 (B, D) holds the components of the ordinary beat, the log residual level of each lead, and
    the components of the ventricular beat. Their distribution is learned jointly, so that the
    levels and the ventricular beat fit the ordinary beat. In records without ventricular beats the
    last part is zero, and the denoiser returns zero for it.

    Records are a scale mixture rather than Gaussian (a noisy record is noisy in all its weak
    components); the network therefore takes the log power of groups of components as input.

    With d the standard deviations of x0, (D,), the denoiser is (Karras et al. 2022, eq. 7, with one
    sigma_data per component)
        D(x; sigma) = c_skip x + c_out F(c_in x; sigma, condition), c_skip = d^2 / (sigma^2 + d^2),
        c_out = sigma d / sqrt(sigma^2 + d^2), c_in = 1 / sqrt(sigma^2 + d^2).

    The buffer `noise_told` is the calibrated factor of the noise level that the denoiser is given
    when sampling, see `calibrate_sampling_noise`.
    """

    level_mean: Tensor
    level_deviation: Tensor
    spread: Tensor
    noise_told: Tensor

    def __init__(self, config: BeatShapeConfig) -> None:
        super().__init__()
        self.config = config
        leads = len(INDEPENDENT_LEADS)
        features = leads * shape_samples(config.sampling_rate_hz)
        self.ordinary = PrincipalComponents(features, config.components)
        self.ventricular = PrincipalComponents(features, config.ventricular_components)
        self.register_buffer("level_mean", torch.zeros(leads))
        self.register_buffer("level_deviation", torch.ones(leads))
        self.parts = (config.components, leads, config.ventricular_components)
        self.register_buffer("spread", torch.ones(sum(self.parts)))
        self.register_buffer("noise_told", torch.ones(()))
        self.network = ResidualMLP(
            ResidualMLPConfig(
                features=sum(self.parts),
                labels=2 * len(config.label_names),
                scalars=RHYTHM_SCALARS + PATIENT_SCALARS,
                groups=tuple(size for part in self.parts for size in _groups(part)),
                width=config.width,
                blocks=config.blocks,
                conditioning=config.conditioning,
            )
        )
        embedding = self.network.conditioning.label
        assert embedding is not None
        present, absent = embedding.weight.data.chunk(2, dim=1)
        present.normal_(0.0, PRESENT_DEVIATION)
        absent.normal_(0.0, ABSENT_DEVIATION)

    @property
    def dimensions(self) -> int:
        """Length D of x0."""
        return sum(self.parts)

    def measure_units(self, shapes_mv: NDArray[np.floating], level: NDArray[np.floating]) -> None:
        """Fit components and scales on training records.

        Args:
            shapes_mv: (N, SHAPE_ROWS, 8, W) beat shapes in millivolts.
            level: (N, 8) residual levels.

        Raises:
            ConfigError: fewer than 2 records with an ordinary beat.
        """
        for row, components in (
            (ORDINARY_ROW, self.ordinary),
            (VENTRICULAR_ROW, self.ventricular),
        ):
            present = shapes_mv[:, row].any(axis=(1, 2))
            # A set without ventricular beats cannot teach them, and the model generates none.
            if row == ORDINARY_ROW or present.sum() >= FEWEST_SHAPES:
                components.fit(shapes_mv[present, row].reshape(int(present.sum()), -1))
        logarithm = np.log(np.maximum(level, SMALLEST_LEVEL))
        self.level_mean.copy_(torch.from_numpy(logarithm.mean(axis=0)))
        self.level_deviation.copy_(torch.from_numpy(logarithm.std(axis=0) + 1e-6))
        spread = [
            self.ordinary.deviation ** (1 - self.config.whitening),
            self.level_deviation.new_ones(self.parts[1]),
            self.ventricular.deviation ** (1 - self.config.whitening),
        ]
        for number in (0, 2):
            spread[number] = spread[number] / spread[number].square().mean().sqrt()
        self.spread.copy_(torch.cat(spread))

    def encode(self, shapes_mv: Tensor, level: Tensor) -> Tensor:
        """Convert shapes (B, SHAPE_ROWS, 8, W) in mV and levels (B, 8) to x0 (B, D).

        Raises:
            ConfigError: the shapes have another size.
        """
        width = shape_samples(self.config.sampling_rate_hz)
        expected = (SHAPE_ROWS, len(INDEPENDENT_LEADS), width)
        if shapes_mv.shape[1:] != expected:
            raise ConfigError(
                f"expected beat shapes of shape (B, {', '.join(map(str, expected))}), got "
                f"{tuple(shapes_mv.shape)}"
            )
        rows = shapes_mv.flatten(2)
        present = rows[:, VENTRICULAR_ROW].any(dim=1, keepdim=True)
        logarithm = level.clamp_min(SMALLEST_LEVEL).log()
        parts = [
            self.ordinary.encode(rows[:, ORDINARY_ROW]),
            (logarithm - self.level_mean) / self.level_deviation,
            self.ventricular.encode(rows[:, VENTRICULAR_ROW]) * present,
        ]
        return torch.cat(parts, dim=1) * self.spread

    def decode(self, x0: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Convert x0 (B, D) to shapes (B, SHAPE_ROWS, 8, W) in mV and levels (B, 8).

        The ventricular shape is zero for records without ventricular beats.
        """
        ordinary, logarithm, ventricular = torch.split(x0 / self.spread, list(self.parts), dim=1)
        shapes = torch.stack(
            [
                self.ordinary.decode(ordinary),
                self.ventricular.decode(ventricular) * _has_ventricular(condition, x0)[:, None],
            ],
            dim=1,
        )
        level = (logarithm * self.level_deviation + self.level_mean).exp()
        width = shape_samples(self.config.sampling_rate_hz)
        leads = len(INDEPENDENT_LEADS)
        return shapes.reshape(-1, SHAPE_ROWS, leads, width), level.clamp_min(SMALLEST_LEVEL)

    def forward(self, x: Tensor, sigma: Tensor, label: Condition | Tensor | None) -> Tensor:
        """Denoise x (B, D) at sigma (B,), given a condition, a label or None: (B, D)."""
        given = as_condition(label)
        values, hidden = masked_label(given)
        rhythm = given.rhythm
        if rhythm is None:
            rhythm = x.new_zeros(len(x), RHYTHM_SCALARS)
        scalars = torch.cat([rhythm.to(x), patient_scalars(given, x)], dim=1)
        noise, data = per_record(sigma, x).square(), self.spread.square()
        total = noise + data
        inside = self.present(given, x)
        c_in = total.rsqrt() * inside
        output = self.network(c_in * x, sigma, values, hidden, scalars)
        c_out = (noise * data / total).sqrt()
        result: Tensor = (data / total * x + c_out * output) * inside
        return result

    def present(self, condition: Condition, x: Tensor) -> Tensor:
        """Mask of the components that each record has, 1 or 0: (B, D), with the type of x."""
        inside = torch.ones_like(x)
        inside[:, -self.parts[2] :] = _has_ventricular(condition, x)[:, None]
        return inside

    def condition(
        self,
        label: Tensor | None,
        beats: Sequence[Beats],
        *,
        known: Tensor | None = None,
        age: Tensor | None = None,
        sex: Tensor | None = None,
    ) -> Condition:
        """Make the condition of beat shapes.

        Args:
            label: (B, K), or None.
            beats: beats of each record.
            known: (B, K) bool, which statements are known; None if all are.
            age: (B,) years, NaN if unknown.
            sex: (B,) 0 male, 1 female, NaN if unknown.
        """
        rhythm = torch.from_numpy(np.stack([rhythm_summary(each) for each in beats]))
        return Condition(label=label, known=known, age=age, sex=sex, rhythm=rhythm)

    @torch.no_grad()
    def draw(
        self,
        condition: Condition,
        seeds: Sequence[int],
        *,
        steps: int = 40,
        label_scale: float = 1.0,
        denoise: Callable[[Tensor, Tensor, Condition], Tensor] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Sample beat shapes and residual levels.

        Each record depends only on its seed and its row of the condition.

        Args:
            condition: one row per record, see `condition`.
            seeds: one seed per record.
            steps: sampler steps, with one call of the denoiser each.
            label_scale: classifier-free guidance scale; 1 for none.
            denoise: another denoiser to sample with, such as a guided one; None for this model.

        Returns:
            Shapes (B, SHAPE_ROWS, 8, W) in millivolts, and levels (B, 8).

        Raises:
            ConfigError: the number of seeds differs from the number of rows.
        """
        if len(seeds) != len(condition):
            raise ConfigError(
                f"expected one seed for each of {len(condition)} records, got {len(seeds)}"
            )
        noise_config = self.config.noise
        sigmas = karras_sigmas(steps, noise_config.sigma_min, noise_config.sigma_max)
        denoiser, noise_scale = denoise or self, self.noise_told

        def denoise_scaled(x: Tensor, sigma: Tensor, label: Any) -> Tensor:
            return denoiser(x, noise_scale * sigma, label)

        guided_denoiser = classifier_free(denoise_scaled, label_scale)
        device = self.spread.device
        shapes, levels = [], []
        for start in range(0, len(seeds), SAMPLED_AT_ONCE):
            rows = np.arange(start, min(start + SAMPLED_AT_ONCE, len(seeds)))
            filled = np.resize(rows, SAMPLED_AT_ONCE)
            noise = record_noise([seeds[int(row)] for row in filled], (self.dimensions,)).to(device)
            given = condition[filled].to(device)
            x0 = sample(guided_denoiser, noise, given, sigmas, RECORD_SOLVER)
            shape, level = self.decode(x0, given)
            shapes.append(shape[: len(rows)].cpu().numpy())
            levels.append(level[: len(rows)].cpu().numpy())
        return np.concatenate(shapes), np.concatenate(levels)


def _groups(features: int) -> list[int]:
    """Sizes of consecutive groups of `features` features, at most COMPONENTS_PER_GROUP each."""
    full, rest = divmod(features, COMPONENTS_PER_GROUP)
    return [COMPONENTS_PER_GROUP] * full + [rest] * (rest > 0)


def _has_ventricular(condition: Condition, x: Tensor) -> Tensor:
    """1 for records with ventricular beats, else 0: (B,), with the type of x."""
    if condition.rhythm is None:
        return x.new_zeros(len(x))
    flag: Tensor = condition.rhythm[:, -1] > 0
    return flag.to(x)


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
    if len(train) < FEWEST_SHAPES:
        raise ConfigError(
            f"expected at least {FEWEST_SHAPES} training records with an ordinary beat, got "
            f"{len(train)}"
        )
    if measure_units:
        model.measure_units(records.shapes_mv[train], np.asarray(level[train], np.float64))
    x0, condition = encode_records(model, records, level, train)
    label = condition.label
    assert label is not None
    # Weights depend on the core labels only. Given all core labels, such weights do not change
    # the distribution of shapes that the model learns.
    weighed = label.numpy()[:, list(records.core)] if records.core else label.numpy()
    weights = label_weights(weighed, model.config.label_balance)
    order = shuffled_batches(len(train), config.batch_size, config.seed, weights)

    def loss(network: nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        device = model.spread.device
        visible = hide_condition(condition[rows], records.core, generator).to(device)
        sigma = draw_sigma(len(rows), model.config.noise, generator).to(device)
        noise = torch.randn(len(rows), model.dimensions, generator=generator).to(device)
        return shape_loss(model, network, x0[rows].to(device), visible, sigma, noise)

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
    The factor is the one at which the leading components of sampled ordinary beats have the same
    standard deviations as those of real beats (half the width of the middle 68 %, median over
    components). It is interpolated between `NOISE_SCALES`, and is at most 1.

    Args:
        model: a trained model; its `noise_told` is set.
        x0: (B, D), preferably of held-out records.
        condition: condition of these records.
        seed: seed of the samples.
        steps: sampler steps.
    """
    compared = min(CALIBRATED_COMPONENTS, model.parts[0])
    real = _half_widths(x0[:, :compared])
    rng = streams.generator(seed, streams.CALIBRATING_DRAWS)
    seeds = rng.integers(2**62, size=len(x0)).tolist()
    excess: list[float] = []
    for share in NOISE_SCALES:
        model.noise_told.fill_(share)
        drawn = model.encode(*map(torch.from_numpy, model.draw(condition, seeds, steps=steps)))
        ratio = _half_widths(drawn.cpu()[:, :compared]) / real.clamp_min(1e-9)
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
    shapes = torch.from_numpy(np.asarray(records.shapes_mv[indices], np.float32))
    levels = torch.from_numpy(np.asarray(level[indices], np.float32))
    device = model.spread.device
    x0 = torch.cat(
        [
            model.encode(shapes_part.to(device), levels_part.to(device)).cpu()
            for shapes_part, levels_part in zip(
                torch.split(shapes, 1000), torch.split(levels, 1000), strict=True
            )
        ]
    )
    condition = model.condition(
        torch.from_numpy(np.asarray(records.labels[indices], np.float32)),
        [records.beats[index] for index in indices],
        age=torch.from_numpy(np.asarray(records.age[indices], np.float32)),
        sex=torch.from_numpy(np.asarray(records.sex[indices], np.float32)),
    )
    return x0, condition


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
