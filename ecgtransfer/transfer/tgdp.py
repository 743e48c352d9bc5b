"""Training of the guidance network: the weighted sum of the losses, and its batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from ecgtransfer.diffusion import Denoiser, NoiseConfig
from ecgtransfer.diffusion.condition import Given, joined
from ecgtransfer.errors import ConfigError
from ecgtransfer.training import (
    FitResult,
    Progress,
    TrainConfig,
    check_factors,
    fit_best_rate,
    shuffled_batches,
)
from ecgtransfer.transfer.guidance import (
    GuidanceForm,
    clip_log_ratio,
    consistency_loss,
    cycle_loss,
    guidance_loss,
    noised_classification_loss,
    sobolev_penalty,
)
from ecgtransfer.transfer.guided import LogH, hiding_labels
from ecgtransfer.transfer.records import (
    DomainRecords,
    HeldOutDraws,
    device_of,
    draw_noise,
    records_at_once,
    refuse_other_labels,
    refuse_shared_patients,
)

#: Noise draws per held-out record for the validation loss.
HELD_OUT_DRAWS = 4


@dataclass(frozen=True)
class TgdpConfig:
    """Settings of the training of log h.

    The total loss, in nats per record, is

    eta_guidance * guidance + eta_cycle * cycle + eta_consistency * D * consistency.

    The guidance and the cycle loss are of order 1 per *record*. The consistency loss is a mean over
    the D = 8 T coordinates of a record; the factor D makes it a sum, which is of the same order.
    Without D, the guidance loss was several thousand times larger on ECGs, and the gradient of
    log h was useless. The total is divided by D, which does not move its minimum. A weight of 0
    removes a term.

    Attributes:
        form: form of the guidance loss, see `guidance_loss`.
        resample: for the logistic form, resample the positives with probability proportional to r,
            instead of weighting each record by r.
        target_positives: fraction of the resampled positives that are target records; the others
            are source records. 1 needs no density ratio.
        eta_guidance: weight of the guidance loss.
        eta_cycle: weight of the cycle loss; above 0 it needs a noise-dependent classifier.
        eta_consistency: weight of the consistency loss. If the source model fits its source badly,
            real source records and the consistency loss disagree about log h. For a half-trained
            source model, 10 was worse than the consistency loss alone, and 100 was better.
        sobolev: weight of the penalty on the gradient of log h at noised target records.
        label_dropout: fraction of target records whose label is hidden from the consistency loss,
            so that log h is trained without labels too and classifier-free guidance works
            (`guided_at_scale`). The other two losses always use labels, because the source records
            can have another mix of labels than the source model has without a label.
        log_ratio_clip: limit of |log r| in the guidance loss.
        noise: noise levels of training.
        rate_factors: factors of `train.learning_rate` to try; the one with the lowest consistency
            loss on held-out target records is kept.
        train: steps, batch size and optimiser.

    Raises:
        ConfigError: a setting is out of range.
    """

    form: GuidanceForm = "logistic"
    resample: bool = True
    target_positives: float = 0.5
    eta_guidance: float = 1.0
    eta_cycle: float = 0.1
    eta_consistency: float = 100.0
    sobolev: float = 0.0
    label_dropout: float = 0.1
    log_ratio_clip: float = 10.0
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    rate_factors: tuple[float, ...] = (1.0,)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=400,
            batch_size=32,
            learning_rate=1e-3,
            warmup_steps=50,
            ema_decay=0.99,
            validate_every=50,
            gradient_clip=100.0,
        )
    )

    def __post_init__(self) -> None:
        if self.form not in get_args(GuidanceForm):
            raise ConfigError(
                f"expected guidance loss form mse, kl or logistic, got {self.form!r}; choose one"
            )
        if not 0 <= self.target_positives <= 1:
            raise ConfigError(
                f"expected target_positives from 0 to 1, got {self.target_positives}; correct the "
                "setting"
            )
        weights = (self.eta_guidance, self.eta_cycle, self.eta_consistency, self.sobolev)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights[:3]):
            raise ConfigError(
                "expected loss weights that are not below 0 and not all 0, got guidance, cycle, "
                f"consistency and Sobolev weights {weights}; correct the settings"
            )
        if not self.log_ratio_clip > 0:
            raise ConfigError(
                f"expected log_ratio_clip above 0, got {self.log_ratio_clip}; use inf for no limit"
            )
        if not 0 <= self.label_dropout < 1:
            raise ConfigError(
                f"expected 0 <= label_dropout < 1, got {self.label_dropout}; correct the setting"
            )
        check_factors(self.rate_factors)

    @property
    def classifies(self) -> bool:
        """Whether the guidance loss is `noised_classification_loss`, with 0/1 targets."""
        return self.form == "logistic" and self.resample

    @property
    def trains_without_label(self) -> bool:
        """Whether log h is trained on records without a label too."""
        return self.eta_consistency > 0 and self.label_dropout > 0

    @property
    def needs_ratio(self) -> bool:
        """Whether training needs log r of the source records."""
        return self.eta_guidance > 0 and not (self.classifies and self.target_positives == 1)

    def without_useless_ratios(
        self, ratio_beats_chance: bool, noisy_ratio_beats_chance: bool
    ) -> TgdpConfig:
        """Drop the loss terms that use a density ratio no better than chance.

        With an uninformative r = 1, resampled source records are negatives labelled as positives:
        the minimiser becomes log(s h + 1 - s), with s = target_positives, whose gradient is too
        small. Positives from target records only need no ratio and have the minimiser log h. An
        uninformative noise-dependent classifier pulls log h towards a constant. Settings without
        such a substitute are unchanged: a guidance loss that weights records by r, and a cycle
        loss that is the only term.

        Args:
            ratio_beats_chance: `RatioDiagnostics.beats_chance` of the classifier of clean records.
            noisy_ratio_beats_chance: `beats_chance` of the noise-dependent classifier.
        """
        changed = self
        if not ratio_beats_chance and self.classifies:
            changed = replace(changed, target_positives=1.0)
        if not noisy_ratio_beats_chance and (self.eta_guidance or self.eta_consistency):
            changed = replace(changed, eta_cycle=0.0)
        return changed


@dataclass(frozen=True, eq=False)
class _Batch:
    """Record indices of a step: source, positives (and whether each is target), target."""

    source: np.ndarray
    positive: np.ndarray
    positive_is_target: np.ndarray
    target: np.ndarray


def fit_guidance(
    denoise: Denoiser,
    network: nn.Module,
    source: DomainRecords,
    target: DomainRecords,
    held_out_target: DomainRecords,
    config: TgdpConfig,
    folder: Path,
    *,
    log_ratio: Tensor | None = None,
    noisy_log_ratio: LogH | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> FitResult:
    """Train a guidance network in place; the denoiser is not modified.

    Each record of a batch has its own noise level. The weights with the lowest consistency loss on
    the held-out target records are kept, which may be the initial ones. Calibrate the guidance
    weight afterwards, with `measure_guidance` on the same held-out records.

    Args:
        denoise: the source's denoiser D_p, on the device of training.
        network: a `LogH`, such as a `GuidanceNetwork`.
        source: source records, recorded or sampled from the source model.
        target: training records of the target.
        held_out_target: target records of other patients, for validation.
        config: settings of the training.
        folder: receives weights, log and, during training, the checkpoint.
        log_ratio: (N,) log q/p of each source record, not clipped; see `TgdpConfig.needs_ratio`.
        noisy_log_ratio: the noise-dependent classifier; needed if `eta_cycle` is above 0.
        progress: called after every step.

    Raises:
        ConfigError: log_ratio or noisy_log_ratio is needed but missing, or has a wrong shape.
        CorpusError: training and held-out records share a patient, or domains differ in their
            labels.
        DivergedError: the loss is not finite.
    """
    refuse_shared_patients(target, held_out_target)
    refuse_other_labels(source, target, held_out_target)
    clipped = _clipped_log_ratio(config, source, log_ratio)
    if config.eta_cycle and noisy_log_ratio is None:
        raise ConfigError(
            f"expected a noise-dependent classifier for eta_cycle = {config.eta_cycle}, got none; "
            "fit one with DomainClassifierConfig(noise=...) or set eta_cycle to 0"
        )
    batches = _batches(config, len(source), len(target), clipped)

    def loss(model: nn.Module, batch: _Batch, generator: torch.Generator) -> Tensor:
        device = device_of(network)
        total = torch.zeros(len(batch.target), device=device)
        if config.eta_guidance:
            total = total + config.eta_guidance * _guidance_term(
                model, source, target, clipped, batch, config, generator, device
            )
        x0, label = target.take(batch.target, device)
        sigma, noise = draw_noise(x0, config.noise, generator)
        if config.eta_cycle and noisy_log_ratio is not None:
            total = total + config.eta_cycle * cycle_loss(
                model, x0, label, noisy_log_ratio, sigma, noise
            )
        if config.sobolev:
            total = total + config.sobolev * sobolev_penalty(model, x0, label, sigma, noise)
        total = total / x0[0].numel()
        if config.eta_consistency:
            hidden = torch.rand(len(x0), generator=generator) < config.label_dropout
            hidden = hidden.to(device)
            total = total + config.eta_consistency * consistency_loss(
                hiding_labels(denoise, hidden),
                hiding_labels(model, hidden),
                x0,
                label,
                sigma,
                noise,
            )
        return total

    validate = held_out_consistency(denoise, held_out_target, config.noise, config.train.seed)
    return fit_best_rate(
        network,
        loss,
        batches,
        config.train,
        folder,
        config.rate_factors,
        validate=validate,
        progress=progress,
    )


def held_out_consistency(
    denoise: Denoiser, records: DomainRecords, noise: NoiseConfig, seed: int
) -> Callable[[nn.Module], float]:
    """Return a function that computes the mean consistency loss on held-out target records.

    The noise is the same in every call. For log h = 0, the result is the denoising loss of the
    source's denoiser on the target.

    Args:
        denoise: the source's denoiser D_p.
        records: held-out target records.
        noise: distribution of the noise levels.
        seed: seed of noise levels and noise.
    """
    batch_size = records_at_once(records.x0)
    draws = HeldOutDraws.of(records, noise, draws=HELD_OUT_DRAWS, seed=seed)

    @torch.no_grad()
    def validate(network: nn.Module) -> float:
        device = device_of(network)
        total = 0.0
        for start in range(0, len(draws.index), batch_size):
            part = slice(start, start + batch_size)
            x0, label = records.take(draws.index[part], device)
            sigma, noise_part = draws.sigma[part].to(x0), draws.noise[part].to(x0)
            loss = consistency_loss(denoise, network, x0, label, sigma, noise_part)
            total += float(loss.sum())
        return total / len(draws.index)

    return validate


def _clipped_log_ratio(
    config: TgdpConfig, source: DomainRecords, log_ratio: Tensor | None
) -> Tensor:
    """Check and clip log r of the source records, (N,); zeros if no loss term needs it."""
    if not config.needs_ratio:
        return torch.zeros(len(source))
    if log_ratio is None:
        raise ConfigError(
            "expected log_ratio of the source records for the guidance loss, got none; fit a "
            "domain classifier, or set target_positives to 1 or eta_guidance to 0"
        )
    if log_ratio.shape != (len(source),):
        raise ConfigError(
            f"expected one log-ratio for each of {len(source)} source records, got shape "
            f"{tuple(log_ratio.shape)}; pass the log_ratio of a DomainClassifier"
        )
    return clip_log_ratio(log_ratio.detach().cpu(), config.log_ratio_clip)


def _batches(
    config: TgdpConfig, n_source: int, n_target: int, log_ratio: Tensor
) -> Callable[[int], _Batch]:
    """Return the batches as a function of the step; index arrays are empty if no loss uses them."""
    size, seed = config.train.batch_size, config.train.seed
    source_indices = shuffled_batches(n_source, size, seed)
    target_indices = shuffled_batches(n_target, size, seed + 1)
    positive_target = shuffled_batches(n_target, size, seed + 2)
    ratio = (log_ratio.double() - log_ratio.max()).exp().numpy()
    positive_source = shuffled_batches(n_source, size, seed + 3, weights=ratio)

    none = np.empty(0, np.int64)

    def batch(step: int) -> _Batch:
        if not config.eta_guidance:
            return _Batch(none, none, none.astype(bool), target_indices(step))
        if not config.classifies:
            return _Batch(source_indices(step), none, none.astype(bool), target_indices(step))
        # Target positives are spread evenly over the positions of all batches, so that their
        # fraction is exact over many steps even if the batch is small.
        position = np.arange(step * size, (step + 1) * size)
        fraction = config.target_positives
        is_target = np.floor((position + 1) * fraction) > np.floor(position * fraction)
        return _Batch(
            source_indices(step),
            np.where(is_target, positive_target(step), positive_source(step)),
            is_target,
            target_indices(step),
        )

    return batch


def _guidance_term(
    log_h: LogH,
    source: DomainRecords,
    target: DomainRecords,
    log_ratio: Tensor,
    batch: _Batch,
    config: TgdpConfig,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Compute the guidance loss of one step: (B,).

    As a classification, it is softplus(f) of the source records plus softplus(-f) of the positives,
    which has the expectation of the logistic form if E_p[r] = 1.
    """
    x0, label = source.take(batch.source, device)
    if not config.classifies:
        sigma, noise = draw_noise(x0, config.noise, generator)
        ratio = log_ratio[torch.from_numpy(batch.source)].to(x0)
        return guidance_loss(log_h, x0, label, ratio, sigma, noise, config.form)
    positive, positive_label = _positives(source, target, batch, device)
    both = torch.cat([x0, positive])
    labels = joined([label, positive_label])
    is_target = torch.arange(len(both), device=device) >= len(x0)
    sigma, noise = draw_noise(both, config.noise, generator)
    loss = noised_classification_loss(log_h, both, labels, is_target, sigma, noise)
    return loss[: len(x0)] + loss[len(x0) :]


def _positives(
    source: DomainRecords, target: DomainRecords, batch: _Batch, device: torch.device
) -> tuple[Tensor, Given]:
    """Return the positives of a batch, (B, ...), with their labels or condition."""
    is_target = batch.positive_is_target
    x_target, label_target = target.take(batch.positive[is_target], device)
    x_source, label_source = source.take(batch.positive[~is_target], device)
    x0 = torch.cat([x_target, x_source])
    return x0, joined([label_target, label_source])
