"""The density ratio r = q/p from a domain classifier: fitted, stopped early, calibrated."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.diffusion import Condition, NoiseConfig, label_of, per_record
from ecgtransfer.diffusion.condition import Given, channels_of, joined
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.models import Encoder1d, EncoderConfig
from ecgtransfer.training import (
    FitResult,
    Progress,
    TrainConfig,
    fit,
    save_weights,
    seeded_initialisation,
    shuffled_batches,
)
from ecgtransfer.training.fit import WEIGHTS
from ecgtransfer.transfer.conditioned_encoder import ConditionedEncoder
from ecgtransfer.transfer.diagnostics import RatioDiagnostics, ratio_diagnostics
from ecgtransfer.transfer.guidance import sobolev_penalty
from ecgtransfer.transfer.guided import noised
from ecgtransfer.transfer.records import (
    DomainRecords,
    HeldOutDraws,
    device_of,
    draw_noise,
    refuse_other_labels,
    refuse_shared_patients,
)

#: Folds in which the calibration behind the diagnostics is cross-fitted.
CALIBRATION_FOLDS = 5

#: Noise draws a held-out record, where the classifier sees noise.
HELD_OUT_DRAWS = 4


def log_density_ratio(logit: Tensor, n_source: int, n_target: int) -> Tensor:
    """Log q/p = logit - log(n_target / n_source): (B,). Bayes, for unequal numbers of records.

    The numbers are those that the classifier *met*: the sizes of the corpora where it saw every
    record once, equal numbers where its batches were balanced.

    Args:
        logit: (B,) log P(target)/P(source) of the domain classifier.
        n_source: source records that it was fitted on.
        n_target: target records that it was fitted on.

    Raises:
        ConfigError: a number of records below 1.
    """
    if n_source < 1 or n_target < 1:
        raise ConfigError(
            f"expected at least one record of each domain, got {n_source} source and {n_target} "
            "target records"
        )
    return logit - math.log(n_target / n_source)


@dataclass(frozen=True)
class DomainClassifierConfig:
    """Shape and training of a `DomainClassifier`.

    Attributes:
        widths: channels of each stage of the encoder. The default is small and learns slowly:
            with 64 target records a network of twice the width was past its best after ten
            steps, and separated other patients' records less well.
        blocks: residual blocks a stage.
        noise: noise levels that it is trained on; None for a classifier of clean records. The
            cycle loss wants one that sees noise.
        sobolev: weight of the penalty on the slope of the logit, 0 for none.
        train: how long and how fast; validation stops it early.
    """

    widths: tuple[int, ...] = (16, 32, 48, 64)
    blocks: int = 1
    noise: NoiseConfig | None = None
    sobolev: float = 0.0
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=600,
            batch_size=64,
            learning_rate=3e-4,
            warmup_steps=20,
            weight_decay=0.05,
            ema_decay=0.95,
            validate_every=10,
            patience=8,
        )
    )

    def __post_init__(self) -> None:
        if not 0 <= self.sobolev < math.inf:
            raise ConfigError(f"expected a Sobolev weight not below 0, got {self.sobolev}")
        if self.train.batch_size < 2 or self.train.batch_size % 2:
            raise ConfigError(
                "expected an even batch size, half of each domain, for the domain classifier, "
                f"got {self.train.batch_size}"
            )
        if self.train.validate_every < 1:
            raise ConfigError(
                "expected validate_every of at least 1, for the domain classifier is stopped "
                f"early, got {self.train.validate_every}"
            )


class DomainClassifier(nn.Module):
    """log q(x0, y)/p(x0, y), or log q_σ/p_σ of noised records: a `LogH`, without bounds.

    An encoder gives the logit; slope and offset of a calibration on held-out records are
    buffers, so that they travel with the weights.

    Args:
        encoder: (x (B, ...), sigma (B,) or None, label (B, K) or None) -> (B, 1), such as an
            `Encoder1d`.
        sees_noise: whether it is told, and trained on, the noise level.
    """

    slope: Tensor
    offset: Tensor

    def __init__(self, encoder: nn.Module, sees_noise: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.sees_noise = sees_noise
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    def logit(self, x: Tensor, sigma: Tensor | None, label: Given) -> Tensor:
        """Uncalibrated log P(target)/P(source), domains counted alike: (B, ...) -> (B,).

        Raises:
            ConfigError: a noise level is missing, or given to a classifier of clean records, or
                the encoder does not give (B, 1).
        """
        if (sigma is not None) != self.sees_noise:
            raise ConfigError(
                "expected sigma for a domain classifier that sees noise and None for one that "
                f"does not, got {'sigma' if sigma is not None else 'None'}; set "
                "DomainClassifierConfig.noise to choose"
            )
        if sigma is None:
            return self._encoded(x, None, label)
        # Noise of size sigma leaves of log q/p a part of order 1 / sigma.
        scale = (sigma**2 + 1).rsqrt()
        return scale * self._encoded(per_record(scale, x) * x, sigma, label)

    def _encoded(self, x: Tensor, sigma: Tensor | None, label: Given) -> Tensor:
        """The encoder's one number per record: (B,)."""
        logit: Tensor = self.encoder(x, sigma, label)
        if logit.shape != (len(x), 1):
            raise ConfigError(
                f"expected an encoder with one number for each record, shape ({len(x)}, 1), got "
                f"{tuple(logit.shape)}; end it in a layer of one output"
            )
        return logit[:, 0]

    def forward(self, x: Tensor, sigma: Tensor | None, label: Given) -> Tensor:
        """Calibrated log-ratio: (B, ...), (B,) or None, (B, K) or None -> (B,).

        The batches that it was fitted on were balanced, and both domains weigh the same in its
        calibration, so the numbers of records enter as 1 and 1.
        """
        return log_density_ratio(self.slope * self.logit(x, sigma, label) + self.offset, 1, 1)

    @torch.no_grad()
    def log_ratio(self, records: DomainRecords, batch_size: int = 256) -> Tensor:
        """Log r of clean records, for a classifier of clean records: (N,), on the CPU."""
        parts = []
        for start in range(0, len(records), batch_size):
            index = np.arange(start, min(start + batch_size, len(records)))
            x0, label = records.take(index, device_of(self))
            parts.append(self(x0, None, label).cpu())
        return torch.cat(parts)


def signal_encoder(config: DomainClassifierConfig, records: DomainRecords) -> nn.Module:
    """A fresh encoder of signals (B, leads, T) and of what the records are conditioned on."""
    label, condition = label_of(records.label), records.label
    conditioned = isinstance(condition, Condition)
    channels = channels_of(condition) if isinstance(condition, Condition) else None
    shape = EncoderConfig(
        outputs=1,
        leads=records.x0.shape[1] + (0 if channels is None else channels.shape[1]),
        labels=0 if label is None else label.shape[1] * (1 + conditioned),
        noise=config.noise is not None,
        widths=config.widths,
        blocks=config.blocks,
    )
    return ConditionedEncoder(shape) if conditioned else Encoder1d(shape)


@dataclass(frozen=True, eq=False)
class DomainClassifierFit:
    """A fitted classifier and what held-out records say about it.

    Attributes:
        classifier: with its calibration, in evaluation mode.
        diagnostics: on the held-out records, each judged by a calibration without its fold.
        uncalibrated: the same before calibration.
        result: of the training; its validation is the logistic loss, log 2 at chance.
    """

    classifier: DomainClassifier
    diagnostics: RatioDiagnostics
    uncalibrated: RatioDiagnostics
    result: FitResult


def fit_domain_classifier(
    source: DomainRecords,
    target: DomainRecords,
    held_out_source: DomainRecords,
    held_out_target: DomainRecords,
    config: DomainClassifierConfig,
    folder: Path,
    *,
    encoder: Callable[[], nn.Module] | None = None,
    progress: Callable[[Progress], None] | None = None,
    keep_checkpoint: bool = False,
) -> DomainClassifierFit:
    """Fit, stop early and calibrate a label-aware domain classifier.

    Half of each batch is target, so the logit is log q/p itself (`log_density_ratio` with equal
    numbers). The weights with the lowest logistic loss on the held-out records are kept, then
    slope and offset of the logit are fitted there too (Platt). It sees the label through the
    shared label space only. Source records may be recorded or drawn from the source model: p is
    the law that the *model* draws from.

    Args:
        source: training records of the source.
        target: training records of the target.
        held_out_source: source records of other patients.
        held_out_target: target records of other patients.
        config: shape and training.
        folder: gets weights (calibration included) and log.
        encoder: makes the network of the `DomainClassifier`, with weights that `config.train.seed`
            decides; None is the `Encoder1d` of the configured widths and blocks, for signals.
        progress: called after every step.
        keep_checkpoint: leave the last checkpoint in the folder, see `fit`.

    Raises:
        ConfigError: records that are no signals (N, leads, T), and no encoder of their own.
        CorpusError: a patient both in training and held out, domains in different label spaces,
            or fewer than two held-out records of a domain.
        RunError: a loss that is not finite.
    """
    refuse_shared_patients(source, held_out_source)
    refuse_shared_patients(target, held_out_target)
    refuse_other_labels(source, target, held_out_source, held_out_target)
    if min(len(held_out_source), len(held_out_target)) < 2:
        raise CorpusError(
            "expected at least two held-out records of each domain to validate and calibrate on, "
            f"got {len(held_out_source)} source and {len(held_out_target)} target records"
        )
    if encoder is None and source.x0.ndim != 3:
        raise ConfigError(
            f"expected signals of shape (N, leads, T), got {tuple(source.x0.shape)}; say with "
            "encoder= which network reads other records"
        )
    train = config.train
    with seeded_initialisation(train.seed):
        network = signal_encoder(config, source) if encoder is None else encoder()
        classifier = DomainClassifier(network, config.noise is not None)
    half = train.batch_size // 2
    draw_source = shuffled_batches(len(source), half, train.seed)
    draw_target = shuffled_batches(len(target), half, train.seed + 1)
    held_out = [
        _HeldOut.of(domain, config.noise, train.seed + place)
        for place, domain in enumerate((held_out_source, held_out_target))
    ]

    def batches(step: int) -> tuple[Tensor, Given]:
        x_source, label_source = source.take(draw_source(step))
        x_target, label_target = target.take(draw_target(step))
        return torch.cat([x_source, x_target]), joined([label_source, label_target])

    def loss(network: nn.Module, batch: tuple[Tensor, Given], generator: torch.Generator) -> Tensor:
        return _domain_loss(network, batch, config, generator)

    def validate(network: nn.Module) -> float:
        logits = [part.logits(network) for part in held_out]
        return float((F.softplus(logits[0]).mean() + F.softplus(-logits[1]).mean()) / 2)

    result = fit(
        classifier,
        loss,
        batches,
        train,
        folder,
        validate=validate,
        progress=progress,
        keep_checkpoint=keep_checkpoint,
    )
    logits = [part.logits(classifier) for part in held_out]
    scale, offset = platt(logits[0], logits[1])
    classifier.slope.fill_(scale)
    classifier.offset.fill_(offset)
    save_weights(classifier, folder / WEIGHTS)
    return DomainClassifierFit(
        classifier,
        ratio_diagnostics(
            *cross_fitted_platt(logits[0], logits[1], held_out[0].index, held_out[1].index)
        ),
        ratio_diagnostics(logits[0], logits[1]),
        result,
    )


def platt(source: Tensor, target: Tensor) -> tuple[float, float]:
    """Slope (not below 0) and offset of a logit, by logistic regression on held-out records.

    Both domains weigh the same; Platt's targets, (m + 1)/(m + 2) instead of 1, keep the slope
    finite where the domains are apart (Platt 1999).

    Args:
        source: (N,) logits of held-out source records.
        target: (M,) logits of held-out target records.
    """
    z = torch.cat([source, target]).double().numpy(force=True)
    n, m = len(source), len(target)
    aim = np.repeat([1 / (n + 2), (m + 1) / (m + 2)], [n, m])
    mass = np.repeat([0.5 / n, 0.5 / m], [n, m])
    # In units of the logits' own size, so that the optimiser meets numbers near 1.
    unit = max(float(np.abs(z).max()), 1e-6)

    def logistic(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        f = parameters[0] * z / unit + parameters[1]
        residual = mass * (1 / (1 + np.exp(-np.clip(f, -500, 500))) - aim)
        value = float(np.sum(mass * (np.logaddexp(0, f) - aim * f)))
        return value, np.array([np.sum(residual * z / unit), np.sum(residual)])

    found = minimize(
        logistic,
        np.array([unit, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None), (None, None)],
        options={"gtol": 1e-10, "ftol": 1e-14},
    )
    return float(found.x[0]) / unit, float(found.x[1])


def cross_fitted_platt(
    source: Tensor,
    target: Tensor,
    record_source: np.ndarray | None = None,
    record_target: np.ndarray | None = None,
) -> tuple[Tensor, Tensor]:
    """Calibrated logits, each from a calibration that did not see its fold: (N,), (M,).

    Args:
        source: (N,) logits of held-out source records.
        target: (M,) logits of held-out target records.
        record_source: (N,) which record each logit is of, where a record has several.
        record_target: (M,) the same for target records.
    """
    record_source = np.arange(len(source)) if record_source is None else record_source
    record_target = np.arange(len(target)) if record_target is None else record_target
    folds = min(CALIBRATION_FOLDS, len(set(record_source)), len(set(record_target)))
    calibrated_source, calibrated_target = source.clone(), target.clone()
    for number in range(folds):
        ours = torch.from_numpy(record_source % folds == number)
        theirs = torch.from_numpy(record_target % folds == number)
        scale, offset = platt(source[~ours], target[~theirs])
        calibrated_source[ours] = scale * source[ours] + offset
        calibrated_target[theirs] = scale * target[theirs] + offset
    return calibrated_source, calibrated_target


def _domain_loss(
    network: nn.Module,
    batch: tuple[Tensor, Given],
    config: DomainClassifierConfig,
    generator: torch.Generator,
) -> Tensor:
    """Logistic loss of a batch whose second half is target, plus the Sobolev penalty: (B,)."""
    device = device_of(network)
    x0 = batch[0].to(device)
    label = None if batch[1] is None else batch[1].to(device)
    sigma, x = None, x0
    if config.noise is not None:
        sigma, noise = draw_noise(x0, config.noise, generator)
        x = noised(x0, sigma, noise)
    f = network(x, sigma, label)
    sign = torch.ones_like(f)
    sign[len(f) // 2 :] = -1
    loss = F.softplus(sign * f)
    if config.sobolev:
        none = torch.zeros_like(f)
        loss = loss + config.sobolev * sobolev_penalty(
            lambda point, _, y: network(point, sigma, y), x, label, none, torch.zeros_like(x)
        )
    return loss


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Held-out records of one domain, with fixed noise where the classifier sees noise."""

    records: DomainRecords
    draws: HeldOutDraws | None

    @classmethod
    def of(cls, records: DomainRecords, noise: NoiseConfig | None, seed: int) -> _HeldOut:
        if noise is None:
            return cls(records, None)
        return cls(records, HeldOutDraws.of(records, noise, draws=HELD_OUT_DRAWS, seed=seed))

    @property
    def index(self) -> np.ndarray:
        """Record number of each logit."""
        return np.arange(len(self.records)) if self.draws is None else self.draws.index

    @torch.no_grad()
    def logits(self, network: nn.Module, batch_size: int = 256) -> Tensor:
        """(N,), or (draws * N,) with noise."""
        device = device_of(network)
        index = self.index
        parts = []
        for start in range(0, len(index), batch_size):
            part = slice(start, start + batch_size)
            x, label = self.records.take(index[part], device)
            sigma = None
            if self.draws is not None:
                sigma = self.draws.sigma[part].to(x)
                x = noised(x, sigma, self.draws.noise[part].to(x))
            parts.append(network(x, sigma, label))
        return torch.cat(parts).cpu()
