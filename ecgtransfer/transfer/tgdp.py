"""Training of the guidance: the weighted sum of the losses, and the draws behind it."""

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

#: Noise draws a held-out record behind the validation score.
HELD_OUT_DRAWS = 4


@dataclass(frozen=True)
class TgdpConfig:
    """Weights and draws of the total loss,

    eta_guidance * guidance + eta_cycle * cycle + eta_consistency * D * consistency,

    in nats a record. The first two losses are of order 1 a *record*; the third is a mean over
    the D = 8 T coordinates of a record, so its sum is what compares: with the mean in its place
    the guidance loss outweighed it several thousandfold on ECGs, and no slope worth following was
    learned. The whole is divided by D, which moves no minimum. A weight of 0 leaves its term out.

    Attributes:
        form: of the guidance loss.
        resample: draw the positives of the logistic form in proportion to r, instead of weighing
            each record by its r.
        target_positives: share of the positives of the logistic form that are noised target
            records; the rest are source records drawn in proportion to r. 1 needs no ratio.
        eta_guidance: weight of the guidance loss.
        eta_cycle: weight of the cycle loss; needs a noise-dependent classifier.
        eta_consistency: weight of the consistency loss. Where the source model is far from its
            own source, real source records and the consistency loss pull log h to two different
            functions; on a half-trained one 10 was worse than consistency alone, 100 better.
        sobolev: weight of the penalty on the slope of log h at noised target records.
        label_dropout: share of target records whose label is hidden from the consistency loss, so
            that log h knows records without a label and classifier-free guidance works
            (`guided_at_scale`). The other two losses hide none: they compare with source records
            whose mix of labels need not be that of the source model without a label.
        log_ratio_clip: largest size of log r that the guidance loss uses.
        noise: noise levels of training.
        rate_factors: each times `train.learning_rate` is tried, and the one with the lowest
            consistency loss on held-out target records is kept.
        train: how long and how fast.
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
                f"expected a form of the guidance loss, mse, kl or logistic, got {self.form!r}"
            )
        if not 0 <= self.target_positives <= 1:
            raise ConfigError(
                f"expected a share of target positives from 0 to 1, got {self.target_positives}"
            )
        weights = (self.eta_guidance, self.eta_cycle, self.eta_consistency, self.sobolev)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights[:3]):
            raise ConfigError(
                "expected loss weights that are not below 0 and not all 0, got guidance, cycle, "
                f"consistency and Sobolev weights {weights}"
            )
        if not self.log_ratio_clip > 0:
            raise ConfigError(f"expected log_ratio_clip above 0, got {self.log_ratio_clip}")
        if not 0 <= self.label_dropout < 1:
            raise ConfigError(f"expected 0 <= label_dropout < 1, got {self.label_dropout}")
        check_factors(self.rate_factors)

    @property
    def classifies(self) -> bool:
        """Whether the guidance loss is a classification of noised records with 0/1 targets."""
        return self.form == "logistic" and self.resample

    @property
    def knows_no_label(self) -> bool:
        """Whether log h learns of records without a label."""
        return self.eta_consistency > 0 and self.label_dropout > 0

    @property
    def needs_ratio(self) -> bool:
        """Whether training asks for log r of the source records."""
        return self.eta_guidance > 0 and not (self.classifies and self.target_positives == 1)

    def trusting(self, ratio: bool, noisy_ratio: bool) -> TgdpConfig:
        """The same without what rests on a ratio that knows no more than chance.

        With r = 1 for want of knowledge the positives that are source records are negatives, and
        the minimiser is log of (share of target positives) h + (the rest), whose slope is that
        much smaller; target records alone are as good as an exact r. A noise-dependent classifier
        of no use pulls log h to a constant. A form of the guidance loss that weighs records by r,
        or a cycle loss that stands alone, stays as it is.

        Args:
            ratio: whether the clean ratio beats chance, `RatioDiagnostics.beats_chance`.
            noisy_ratio: the same of the noise-dependent classifier.
        """
        changed = self
        if not ratio and self.classifies:
            changed = replace(changed, target_positives=1.0)
        if not noisy_ratio and (self.eta_guidance or self.eta_consistency):
            changed = replace(changed, eta_cycle=0.0)
        return changed


@dataclass(frozen=True, eq=False)
class _Batch:
    """Record numbers of a step: source, positives (and whether each is target), target."""

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
    """Train `network`, a `LogH`, in place; the denoiser stays as it is.

    Every record of a step has a noise level of its own. The weights with the lowest consistency
    loss on the held-out target records are kept, those of the start if no step does better.
    `measure_guidance` on those same records comes next.

    Args:
        denoise: the source's denoiser D_p, on the device of training.
        network: (x, sigma, label) -> (B,), for instance a `GuidanceNetwork`.
        source: records of p, recorded or drawn from the source model.
        target: training records of the target.
        held_out_target: target records of other patients, for validation.
        config: weights, draws, length.
        folder: gets weights, log and, while training, the checkpoint.
        log_ratio: (N,) log q/p of each source record, unclipped; see `TgdpConfig.needs_ratio`.
        noisy_log_ratio: the noise-dependent classifier, where `eta_cycle` is above 0.
        progress: called after every step.

    Raises:
        ConfigError: log_ratio or noisy_log_ratio is needed and missing, or of a wrong shape.
        CorpusError: a patient both in training and held out, or domains in different label
            spaces.
        RunError: a loss that is not finite.
    """
    refuse_shared_patients(target, held_out_target)
    refuse_other_labels(source, target, held_out_target)
    clipped = _ratio_for(config, source, log_ratio)
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
    """Mean consistency loss on held-out target records, with the same noise each time.

    For log h = 0 it is the denoising loss of the source's denoiser on the target.

    Args:
        denoise: the source's denoiser.
        records: held-out target records.
        noise: their noise levels.
        seed: of noise levels and noise.
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


def _ratio_for(config: TgdpConfig, source: DomainRecords, log_ratio: Tensor | None) -> Tensor:
    """Log r of each source record, clipped; 0 where no term of the loss looks at it: (N,)."""
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
            f"{tuple(log_ratio.shape)}"
        )
    return clip_log_ratio(log_ratio.detach().cpu(), config.log_ratio_clip)


def _batches(
    config: TgdpConfig, n_source: int, n_target: int, log_ratio: Tensor
) -> Callable[[int], _Batch]:
    """Record numbers of each step, a pure function of it; none where no loss looks at them."""
    size, seed = config.train.batch_size, config.train.seed
    of_source = shuffled_batches(n_source, size, seed)
    of_target = shuffled_batches(n_target, size, seed + 1)
    positive_target = shuffled_batches(n_target, size, seed + 2)
    ratio = (log_ratio.double() - log_ratio.max()).exp().numpy()
    positive_source = shuffled_batches(n_source, size, seed + 3, weights=ratio)

    none = np.empty(0, np.int64)

    def batch(step: int) -> _Batch:
        if not config.eta_guidance:
            return _Batch(none, none, none.astype(bool), of_target(step))
        if not config.classifies:
            return _Batch(of_source(step), none, none.astype(bool), of_target(step))
        # The places of the whole batch that are target, spread so that the share holds over
        # steps even where the batch is too small to hold it.
        place = np.arange(step * size, (step + 1) * size)
        share = config.target_positives
        is_target = np.floor((place + 1) * share) > np.floor(place * share)
        return _Batch(
            of_source(step),
            np.where(is_target, positive_target(step), positive_source(step)),
            is_target,
            of_target(step),
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
    """The guidance loss of one step: (B,).

    As a classification it is softplus(f) of source records plus softplus(-f) of the positives,
    the same sum as the logistic form with E_p[r] = 1.
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
    """Source records drawn in proportion to r, and target records: (B, 8, T), (B, K) or None."""
    theirs = batch.positive_is_target
    x_target, label_target = target.take(batch.positive[theirs], device)
    x_source, label_source = source.take(batch.positive[~theirs], device)
    x0 = torch.cat([x_target, x_source])
    return x0, joined([label_target, label_source])
