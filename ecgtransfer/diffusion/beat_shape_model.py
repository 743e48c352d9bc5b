"""Conditional diffusion model of beat shapes and residual levels: p(m, level | b, y).

This is the second stage of the factorised record p(b | y) p(m, level | b, y) p(x | m, level, b, y).
A record's average beats (`signals.beat_shapes`) and the level of its residual (`Condition.level`)
become one vector of standardised principal components, which a small network denoises in EDM form.
Methods that transfer a model of signals, such as `transfer.guided`, therefore apply to beat shapes
too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecgtransfer.defaults import RECORD_SOLVER
from ecgtransfer.diffusion.beat_windows import p_wave_power
from ecgtransfer.diffusion.condition import (
    PATIENT_SCALARS,
    SMALLEST_LEVEL,
    Condition,
    as_condition,
    masked_label,
    patient_scalars,
)
from ecgtransfer.diffusion.denoiser import classifier_free, per_record
from ecgtransfer.diffusion.noise import NoiseConfig, karras_sigmas
from ecgtransfer.diffusion.principal_components import (
    FEWEST_VECTORS,
    PrincipalComponents,
    SizeAndDirection,
    group_sizes,
)
from ecgtransfer.diffusion.sampler import sample
from ecgtransfer.diffusion.shape_augmentation import AUGMENTATION_PARAMETERS
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
from ecgtransfer.training import record_noise

#: Length of `rhythm_summary`.
RHYTHM_SCALARS = 3
#: RR interval assumed for a record with fewer than two beats, seconds.
UNSTATED_INTERVAL_S = 1.0
#: Size of the groups of consecutive components whose log power is a network input.
COMPONENTS_PER_GROUP = 8
#: Standard deviation of the initial embeddings of present and of absent statements. A bundle branch
#: block changes the whole shape, and embeddings of the usual size learn that slowly.
PRESENT_DEVIATION, ABSENT_DEVIATION = 0.5, 0.02
#: Records that are denoised together. Smaller batches are padded to this size: a matrix product of
#: another size rounds differently, and a record must not depend on the others in its batch.
SAMPLED_AT_ONCE = 16


@dataclass(frozen=True)
class BeatShapeConfig:
    """Settings that fix a beat-shape model before training.

    Attributes:
        label_names: the label space, in the order of the label's columns.
        sampling_rate_hz: sampling rate of the shapes.
        components, ventricular_components: number of principal components of the ordinary and of
            the ventricular beat.
        p_wave_components: number of components of the ordinary beat that hold its P wave, see
            `p_wave_power`; their size is then a feature of its own. 0 for none.
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
    p_wave_components: int = 24
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
        if not 0 <= self.p_wave_components <= self.components:
            raise ConfigError(
                f"expected 0 to {self.components} components of the P wave, got "
                f"{self.p_wave_components}"
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


class BeatShapeModel(nn.Module):
    """A `Denoiser` of beat shapes and residual levels, with the map to and from its vectors x0.

    x0 (B, D) holds the components of the ordinary beat (first those of its P wave, in units of the
    wave's size), the log size of the P wave, the log residual level of each lead, and the
    components of the ventricular beat. Their distribution is learned jointly, so that the levels
    and the ventricular beat fit the ordinary beat. In records without ventricular beats the last
    part is zero, and the denoiser returns zero for it.

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
        p_wave = config.p_wave_components
        self.p_wave = SizeAndDirection(p_wave) if p_wave else None
        self.register_buffer("level_mean", torch.zeros(leads))
        self.register_buffer("level_deviation", torch.ones(leads))
        self.parts = (config.components + (p_wave > 0), leads, config.ventricular_components)
        self.register_buffer("spread", torch.ones(sum(self.parts)))
        self.register_buffer("noise_told", torch.ones(()))
        self.network = ResidualMLP(
            ResidualMLPConfig(
                features=sum(self.parts),
                labels=2 * len(config.label_names),
                scalars=RHYTHM_SCALARS + PATIENT_SCALARS + AUGMENTATION_PARAMETERS,
                groups=group_sizes(self.parts, COMPONENTS_PER_GROUP),
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
        rows = {row: shapes_mv[:, row].reshape(len(shapes_mv), -1) for row in range(SHAPE_ROWS)}
        ordinary, ventricular = (
            rows[row][rows[row].any(axis=1)] for row in (ORDINARY_ROW, VENTRICULAR_ROW)
        )
        p_wave = p_wave_power(self.config.sampling_rate_hz)
        self.ordinary.fit(ordinary, p_wave, self.config.p_wave_components)
        # A set without ventricular beats cannot teach them, and the model generates none.
        if len(ventricular) >= FEWEST_VECTORS:
            self.ventricular.fit(ventricular)
        deviation = self.ordinary.deviation
        size = deviation[:0]
        if self.p_wave is not None:
            inside = self.config.p_wave_components
            vectors = torch.from_numpy(np.asarray(ordinary, np.float32))
            components = self.ordinary.encode(vectors.to(deviation.device))[:, :inside]
            self.p_wave.fit(components, deviation[:inside])
            size = deviation.new_ones(1)
        logarithm = np.log(np.maximum(level, SMALLEST_LEVEL))
        self.level_mean.copy_(torch.from_numpy(logarithm.mean(axis=0)))
        self.level_deviation.copy_(torch.from_numpy(logarithm.std(axis=0) + 1e-6))
        spread = [
            _mean_square_one(part.deviation ** (1 - self.config.whitening))
            for part in (self.ordinary, self.ventricular)
        ]
        levels = self.level_deviation.new_ones(self.parts[1])
        self.spread.copy_(torch.cat([spread[0], size, levels, spread[1]]))

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
        components = self.ordinary.encode(rows[:, ORDINARY_ROW])
        if self.p_wave is not None:
            inside = self.config.p_wave_components
            direction, size = self.p_wave.encode(components[:, :inside])
            components = torch.cat([direction, components[:, inside:], size], dim=1)
        parts = [
            components,
            (logarithm - self.level_mean) / self.level_deviation,
            self.ventricular.encode(rows[:, VENTRICULAR_ROW]) * present,
        ]
        return torch.cat(parts, dim=1) * self.spread

    def decode(self, x0: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Convert x0 (B, D) to shapes (B, SHAPE_ROWS, 8, W) in mV and levels (B, 8).

        The ventricular shape is zero for records without ventricular beats.
        """
        ordinary, logarithm, ventricular = torch.split(x0 / self.spread, list(self.parts), dim=1)
        if self.p_wave is not None:
            inside = self.config.p_wave_components
            wave = self.p_wave.decode(ordinary[:, :inside], ordinary[:, -1:])
            ordinary = torch.cat([wave, ordinary[:, inside:-1]], dim=1)
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
        change = given.augmentation
        if change is None:
            change = x.new_zeros(len(x), AUGMENTATION_PARAMETERS)
        scalars = torch.cat([rhythm.to(x), patient_scalars(given, x), change.to(x)], dim=1)
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


def _mean_square_one(values: Tensor) -> Tensor:
    """Values divided by their root mean square."""
    return values / values.square().mean().sqrt()


def _has_ventricular(condition: Condition, x: Tensor) -> Tensor:
    """1 for records with ventricular beats, else 0: (B,), with the type of x."""
    if condition.rhythm is None:
        return x.new_zeros(len(x))
    flag: Tensor = condition.rhythm[:, -1] > 0
    return flag.to(x)
