"""The density ratio r = q/p from an ensemble of domain classifiers, one for each fold of patients.

Each network learns from all folds but one, and its logits of the fold that it missed say when to
stop and how to calibrate. The ensemble's logit is the mean of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.corpus.splits import common_folds
from ecgtransfer.diffusion import Condition, NoiseConfig, label_of, per_record
from ecgtransfer.diffusion.condition import Given, channels_of
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.models import Encoder1d, EncoderConfig
from ecgtransfer.statistics import streams
from ecgtransfer.training import (
    FitResult,
    Progress,
    TrainConfig,
    fit,
    save_weights,
    seeded_initialisation,
    shuffled_batches,
)
from ecgtransfer.training.loop import WEIGHTS
from ecgtransfer.transfer.conditioned_encoder import ConditionedEncoder
from ecgtransfer.transfer.diagnostics import (
    RatioDiagnostics,
    balanced_log_loss,
    domain_auc,
    ratio_diagnostics,
)
from ecgtransfer.transfer.guidance import sobolev_penalty
from ecgtransfer.transfer.guided import noised
from ecgtransfer.transfer.records import (
    DomainRecords,
    HeldOutDraws,
    device_of,
    draw_noise,
    refuse_other_labels,
)

#: Noise draws of each record out of fold, where the classifier sees noise: target records are few.
SOURCE_DRAWS, TARGET_DRAWS = 1, 4


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
        widths: channels of each stage of an encoder. The default is small and learns slowly: with
            64 target records a network of twice the width separated other patients' records less
            well.
        blocks: residual blocks a stage.
        noise: noise levels that it is trained on; None for a classifier of clean records. The
            cycle loss wants one that sees noise.
        sobolev: weight of the penalty on the slope of the logit, 0 for none.
        folds: of patients, and networks in the ensemble; fewer where a domain has fewer patients.
        train: how long and how fast; `batch_size` is that of each network, half of each domain.
            Training stops by the calibrated loss of records out of fold, and not before
            `validate_from`: while the rate warms up, that loss says little.
    """

    widths: tuple[int, ...] = (16, 32, 48, 64)
    blocks: int = 1
    noise: NoiseConfig | None = None
    sobolev: float = 0.0
    folds: int = 5
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=180,
            batch_size=64,
            learning_rate=3e-4,
            warmup_steps=20,
            weight_decay=0.05,
            ema_decay=0.95,
            validate_every=30,
            validate_from=30,
            patience=2,
        )
    )

    def __post_init__(self) -> None:
        if not 0 <= self.sobolev < math.inf:
            raise ConfigError(f"expected a Sobolev weight not below 0, got {self.sobolev}")
        if self.folds < 2:
            raise ConfigError(
                f"expected at least 2 folds for the domain classifier, got {self.folds}"
            )
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


class EncoderEnsemble(nn.Module):
    """Networks of one shape whose output is the mean of theirs.

    Args:
        members: each (x (B, ...), sigma (B,) or None, label (B, K) or None) -> (B, outputs).
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ConfigError("expected at least one network in an ensemble, got none")
        self.members = nn.ModuleList(members)

    def forward(
        self, x: Tensor, sigma: Tensor | None, label: Given, member: Tensor | None = None
    ) -> Tensor:
        """(B, ...), (B,) or None, (B, K) or None -> (B, outputs).

        Args:
            x: records.
            sigma: noise levels, for networks that see them.
            label: labels, for networks that see them.
            member: (B,) int64, the one network that reads each record; None is the mean of all.
        """
        if member is None:
            return torch.stack([network(x, sigma, label) for network in self.members]).mean(0)
        values, rows = [], []
        for number, network in enumerate(self.members):
            own = (member == number).nonzero()[:, 0]
            if len(own):
                values.append(
                    network(
                        x[own],
                        None if sigma is None else sigma[own],
                        None if label is None else label[own],
                    )
                )
                rows.append(own)
        return torch.cat(values)[torch.cat(rows).argsort()]


class DomainClassifier(nn.Module):
    """log q(x0, y)/p(x0, y), or log q_σ/p_σ of noised records: a `LogH`, without bounds.

    An encoder gives the logit; slope and offset of a calibration on records out of fold are
    buffers, so that they travel with the weights.

    Args:
        encoder: (x (B, ...), sigma (B,) or None, label (B, K) or None) -> (B, 1), such as an
            `Encoder1d`, or an `EncoderEnsemble` of them.
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

    def logit(
        self,
        x: Tensor,
        sigma: Tensor | None,
        label: Given,
        member: Tensor | None = None,
    ) -> Tensor:
        """Uncalibrated log P(target)/P(source), domains counted alike: (B, ...) -> (B,).

        Args:
            x: (B, ...) records.
            sigma: (B,) noise levels, or None.
            label: (B, K) or None.
            member: (B,) the network of an ensemble that reads each record; None is their mean.

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
            return self._encoded(x, None, label, member)
        # Noise of size sigma leaves of log q/p a part of order 1 / sigma.
        scale = (sigma**2 + 1).rsqrt()
        return scale * self._encoded(per_record(scale, x) * x, sigma, label, member)

    def _encoded(
        self, x: Tensor, sigma: Tensor | None, label: Given, member: Tensor | None
    ) -> Tensor:
        """The encoder's one number per record: (B,)."""
        of_member = () if member is None else (member,)
        logit: Tensor = self.encoder(x, sigma, label, *of_member)
        if logit.shape != (len(x), 1):
            raise ConfigError(
                f"expected an encoder with one number for each record, shape ({len(x)}, 1), got "
                f"{tuple(logit.shape)}; end it in a layer of one output"
            )
        return logit[:, 0]

    def forward(
        self,
        x: Tensor,
        sigma: Tensor | None,
        label: Given,
        member: Tensor | None = None,
    ) -> Tensor:
        """Calibrated log-ratio: (B, ...), (B,) or None, (B, K) or None -> (B,).

        The batches that it was fitted on were balanced, and both domains weigh the same in its
        calibration, so the numbers of records enter as 1 and 1. `member` as in `logit`.
        """
        logit = self.logit(x, sigma, label, member)
        return log_density_ratio(self.slope * logit + self.offset, 1, 1)

    @torch.no_grad()
    def log_ratio(self, records: DomainRecords, batch_size: int = 256) -> Tensor:
        """Log r of clean records, for a classifier of clean records: (N,), on the CPU."""
        parts = []
        for start in range(0, len(records), batch_size):
            index = np.arange(start, min(start + batch_size, len(records)))
            x0, label = records.take(index, device_of(self))
            parts.append(self(x0, None, label).cpu())
        return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class DomainClassifierFit:
    """A fitted classifier and what records out of fold say about it.

    Each record is judged by the one network that missed its patient, which is less than the
    ensemble knows.

    Attributes:
        classifier: the ensemble with its calibration, in evaluation mode.
        diagnostics: of the density ratio, each fold calibrated on the others; the AUC is that of
            the uncalibrated logits within each fold.
        uncalibrated: the same before calibration.
        result: of the training; its validation is the calibrated logistic loss, log 2 at chance.
    """

    classifier: DomainClassifier
    diagnostics: RatioDiagnostics
    uncalibrated: RatioDiagnostics
    result: FitResult


def fit_domain_classifier(
    source: DomainRecords,
    target: DomainRecords,
    config: DomainClassifierConfig,
    folder: Path,
    *,
    encoder: Callable[[], nn.Module] | None = None,
    progress: Callable[[Progress], None] | None = None,
    keep_checkpoint: bool = False,
) -> DomainClassifierFit:
    """Fit, stop early and calibrate a label-aware ensemble of domain classifiers.

    The patients of both domains are dealt into folds, and for each fold a network learns from all
    records of the others. Half of its batches is target, so its logit is log q/p itself
    (`log_density_ratio` with equal numbers). All records out of fold, pooled, decide once for all
    networks after how many steps they are kept, by the logistic loss *after* calibration, and give
    that calibration: slope and offset of the logit (Platt). Before calibration the loss is no
    guide: few target records, met again and again, shift the logits of all unseen records long
    before their order suffers.

    The label is seen through the shared label space only. Source records may be recorded or drawn
    from the source model: p is the law that the *model* draws from.

    Args:
        source: records of the source.
        target: records of the target.
        config: shape and training.
        folder: gets weights (calibration included) and log.
        encoder: makes one network of the ensemble, with weights that `config.train.seed` decides;
            None is the `Encoder1d` of the configured widths and blocks, for signals.
        progress: called after every step.
        keep_checkpoint: leave the last checkpoint in the folder, see `fit`.

    Raises:
        ConfigError: records that are no signals (N, leads, T), and no encoder of their own.
        CorpusError: domains in different label spaces, or fewer than two patients of a domain.
        RunError: a loss that is not finite.
    """
    refuse_other_labels(source, target)
    fold = common_patient_folds(source, target, config.folds, config.train.seed)
    if encoder is None and source.x0.ndim != 3:
        raise ConfigError(
            f"expected signals of shape (N, leads, T), got {tuple(source.x0.shape)}; say with "
            "encoder= which network reads other records"
        )
    train, folds = config.train, int(fold.max()) + 1
    with seeded_initialisation(train.seed):
        members = [encoder() if encoder else _records_encoder(config, source) for _ in range(folds)]
    classifier = DomainClassifier(EncoderEnsemble(members), config.noise is not None)
    unseen = _OutOfFold.of(source, target, fold, config.noise, train.seed)
    draw = _balanced_draws(unseen.is_target, fold, train)

    def batches(step: int) -> _Batch:
        index, member = draw(step)
        x0, label = unseen.records.take(index)
        is_target = torch.from_numpy(unseen.is_target[index])
        return _Batch(x0, label, is_target, torch.from_numpy(member))

    def loss(network: nn.Module, batch: _Batch, generator: torch.Generator) -> Tensor:
        return _domain_loss(network, batch, config, generator)

    result = fit(
        classifier,
        loss,
        batches,
        train,
        folder,
        validate=unseen.calibrated_loss,
        progress=progress,
        keep_checkpoint=keep_checkpoint,
    )
    logits = unseen.logits(classifier)
    scale, offset = unseen.platt(logits)
    classifier.slope.fill_(scale)
    classifier.offset.fill_(offset)
    save_weights(classifier, folder / WEIGHTS)
    return DomainClassifierFit(
        classifier,
        unseen.diagnostics(logits, calibrated=True),
        unseen.diagnostics(logits, calibrated=False),
        result,
    )


def common_patient_folds(
    source: DomainRecords, target: DomainRecords, folds: int, seed: int
) -> np.ndarray:
    """Fold number of each source record, then of each target record: (N + M,) int64.

    A patient has one fold in both domains. Each domain's patients are dealt evenly; the folds are
    as many as the domain with fewer patients has patients where it has fewer than `folds`.

    Raises:
        CorpusError: fewer than two patients of a domain.
    """
    patients = [sorted(set(domain.patient)) for domain in (target, source)]
    least = min(map(len, patients))
    if least < 2:
        raise CorpusError(
            "expected at least two patients of each domain, to judge the domain classifier on "
            f"patients that it did not learn from, got {len(patients[1])} source and "
            f"{len(patients[0])} target patients"
        )
    of_target, of_source = common_folds(
        (target.patient, source.patient),
        min(folds, least),
        streams.generator(seed, streams.DOMAIN_FOLDS),
    )
    return np.concatenate([of_source, of_target])


def platt(source: Tensor, target: Tensor, fewest: int | None = None) -> tuple[float, float]:
    """Slope (not below 0) and offset of a logit, by logistic regression on unseen records.

    Both domains weigh the same. Platt's targets keep the slope finite where the domains are apart
    (Platt 1999): 1/(k + 2) and (k + 1)/(k + 2), with k the records of the smaller domain for both.
    With a number for each domain the offset leans towards the domain with more records, and
    E_p[r] away from 1.

    Args:
        source: (N,) logits of source records.
        target: (M,) logits of target records.
        fewest: records of the smaller domain, where a record has several logits; None is
            min(N, M).
    """
    z = torch.cat([source, target]).double().numpy(force=True)
    n, m = len(source), len(target)
    off = 1 / ((min(n, m) if fewest is None else fewest) + 2)
    aim = np.repeat([off, 1 - off], [n, m])
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
    fold_source: np.ndarray,
    fold_target: np.ndarray,
    fewest: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Calibrated logits, each from a calibration on the other folds: (N,), (M,).

    For losses and identities, not for ranks: a calibration without a fold leans away from it, so
    that the AUC of these values lies below that of the logits.

    Args:
        source: (N,) logits of source records.
        target: (M,) logits of target records.
        fold_source: (N,) fold number of each; every fold has logits of both domains.
        fold_target: (M,) the same for target records.
        fewest: as in `platt`, of all folds together.
    """
    calibrated_source, calibrated_target = source.clone(), target.clone()
    for number in np.unique(fold_source):
        ours = torch.from_numpy(fold_source == number)
        theirs = torch.from_numpy(fold_target == number)
        scale, offset = platt(source[~ours], target[~theirs], fewest)
        calibrated_source[ours] = scale * source[ours] + offset
        calibrated_target[theirs] = scale * target[theirs] + offset
    return calibrated_source, calibrated_target


def _signal_encoder(config: DomainClassifierConfig, leads: int, labels: int) -> Encoder1d:
    """One network of the ensemble, for signals (B, leads, T)."""
    return Encoder1d(
        EncoderConfig(
            outputs=1,
            leads=leads,
            labels=labels,
            noise=config.noise is not None,
            widths=config.widths,
            blocks=config.blocks,
        )
    )


def _records_encoder(config: DomainClassifierConfig, records: DomainRecords) -> nn.Module:
    """One network of the ensemble, for signals and for what they are conditioned on."""
    leads, condition = records.x0.shape[1], records.label
    label = label_of(condition)
    if not isinstance(condition, Condition):
        return _signal_encoder(config, leads, 0 if label is None else label.shape[1])
    channels = channels_of(condition)
    further = 0 if channels is None else channels.shape[1]
    labels = 0 if label is None else 2 * label.shape[1]  # present and absent
    return ConditionedEncoder(_signal_encoder(config, leads + further, labels))


@dataclass(frozen=True, eq=False)
class _Batch:
    """Records of a step, whether each is target, and which network learns from it."""

    x0: Tensor
    label: Given
    is_target: Tensor
    member: Tensor


def _balanced_draws(
    is_target: np.ndarray, fold: np.ndarray, train: TrainConfig
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Record and network numbers of a step: each network's batch of both domains, half and half."""
    half = train.batch_size // 2
    draws = []
    for number in np.unique(fold):
        for domain in (False, True):
            rows = np.flatnonzero((fold != number) & (is_target == domain))
            seed = train.seed + 2 * int(number) + domain
            draws.append((rows, shuffled_batches(len(rows), half, seed)))
    member = np.repeat(np.unique(fold), 2 * half)

    def draw(step: int) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([rows[order(step)] for rows, order in draws]), member

    return draw


def _domain_loss(
    network: nn.Module,
    batch: _Batch,
    config: DomainClassifierConfig,
    generator: torch.Generator,
) -> Tensor:
    """Logistic loss of a batch, plus the Sobolev penalty: (B,)."""
    device = device_of(network)
    x0, member = batch.x0.to(device), batch.member.to(device)
    label = None if batch.label is None else batch.label.to(device)
    sigma, x = None, x0
    if config.noise is not None:
        sigma, noise = draw_noise(x0, config.noise, generator)
        x = noised(x0, sigma, noise)
    f = network(x, sigma, label, member)
    loss = F.softplus(torch.where(batch.is_target.to(device), -f, f))
    if config.sobolev:
        none = torch.zeros_like(f)
        loss = loss + config.sobolev * sobolev_penalty(
            lambda point, _, y: network(point, sigma, y, member),
            x,
            label,
            none,
            torch.zeros_like(x),
        )
    return loss


@dataclass(frozen=True, eq=False)
class _OutOfFold:
    """All records, each for the network that missed its fold, with fixed noise where it sees noise.

    Attributes:
        records: of both domains.
        is_target: (N + M,) bool, source records first.
        fold: (N + M,) fold numbers, which are those of the networks too.
        index: (L,) record number of each logit, a record several times where there is noise.
        noise: (L,) noise levels and (L, ...) standard normal, or None for clean records.
    """

    records: DomainRecords
    is_target: np.ndarray
    fold: np.ndarray
    index: np.ndarray
    noise: tuple[Tensor, Tensor] | None

    @classmethod
    def of(
        cls,
        source: DomainRecords,
        target: DomainRecords,
        fold: np.ndarray,
        noise: NoiseConfig | None,
        seed: int,
    ) -> _OutOfFold:
        records = source.joined(target)
        is_target = np.arange(len(records)) >= len(source)
        if noise is None:
            return cls(records, is_target, fold, np.arange(len(records)), None)
        drawn = [
            HeldOutDraws.of(domain, noise, draws=draws, seed=seed + place)
            for place, (domain, draws) in enumerate(
                ((source, SOURCE_DRAWS), (target, TARGET_DRAWS))
            )
        ]
        return cls(
            records,
            is_target,
            fold,
            np.concatenate([drawn[0].index, drawn[1].index + len(source)]),
            (torch.cat([part.sigma for part in drawn]), torch.cat([part.noise for part in drawn])),
        )

    @torch.no_grad()
    def logits(self, network: nn.Module, batch_size: int = 256) -> Tensor:
        """Each record by the network that missed it: (L,), on the CPU."""
        device, parts = device_of(network), []
        for start in range(0, len(self.index), batch_size):
            part = slice(start, start + batch_size)
            index = self.index[part]
            x, label = self.records.take(index, device)
            sigma = None
            if self.noise is not None:
                sigma = self.noise[0][part].to(x)
                x = noised(x, sigma, self.noise[1][part].to(x))
            member = torch.from_numpy(self.fold[index]).to(device)
            parts.append(network(x, sigma, label, member))
        return torch.cat(parts).cpu()

    def platt(self, logits: Tensor) -> tuple[float, float]:
        """One calibration of all."""
        return platt(*self._domains(logits), self._fewest)

    def calibrated_loss(self, network: nn.Module) -> float:
        """Balanced logistic loss after calibration on the same logits; lower is better."""
        logits = self.logits(network)
        scale, offset = self.platt(logits)
        return balanced_log_loss(*self._domains(scale * logits + offset))[0]

    def diagnostics(self, logits: Tensor, calibrated: bool) -> RatioDiagnostics:
        """Of the first draw of each record, so that standard errors count records."""
        folds = [self.fold[self.index[part]] for part in self._parts]
        source, target = self._domains(logits)
        once = [np.unique(self.index[part], return_index=True)[1] for part in self._parts]
        auc = domain_auc(source[once[0]], target[once[1]], folds[0][once[0]], folds[1][once[1]])
        if calibrated:
            source, target = cross_fitted_platt(source, target, folds[0], folds[1], self._fewest)
        return ratio_diagnostics(source[once[0]], target[once[1]], auc=auc)

    @property
    def _parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Places of the logits of source and of target records."""
        is_target = self.is_target[self.index]
        return np.flatnonzero(~is_target), np.flatnonzero(is_target)

    def _domains(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of source and of target records."""
        source, target = self._parts
        return logits[source], logits[target]

    @property
    def _fewest(self) -> int:
        """Records of the smaller domain."""
        return int(np.bincount(self.is_target, minlength=2).min())
