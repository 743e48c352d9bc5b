"""The density ratio r = q/p, estimated by domain classifiers on folds of patients.

For each fold of patients, a network and a linear classifier of log band powers are fitted to all
other folds. Their logits of the left-out records decide when the networks stop and how both are
combined and calibrated; see `fit_domain_classifier`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.diffusion import Condition, NoiseConfig, label_of
from ecgtransfer.diffusion.condition import Given, channels_of
from ecgtransfer.errors import ConfigError
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
from ecgtransfer.training.loop import WEIGHTS
from ecgtransfer.transfer.band_powers import fit_band_powers
from ecgtransfer.transfer.conditioned_encoder import ConditionedEncoder
from ecgtransfer.transfer.diagnostics import RatioDiagnostics
from ecgtransfer.transfer.domain_classifier import DomainClassifier, EncoderEnsemble
from ecgtransfer.transfer.guidance import sobolev_penalty
from ecgtransfer.transfer.guided import noised
from ecgtransfer.transfer.out_of_fold import OutOfFold, common_patient_folds
from ecgtransfer.transfer.records import (
    DomainRecords,
    device_of,
    draw_noise,
    refuse_other_labels,
)


@dataclass(frozen=True)
class DomainClassifierConfig:
    """Shape and training of a `DomainClassifier`.

    Attributes:
        widths: channels of each stage of a network. The default is small and learns slowly: from
            64 target records, a network of twice the width separated unseen patients less well.
        blocks: residual blocks per stage.
        noise: distribution of the noise levels in training; None for a classifier of clean records.
            The cycle loss needs a classifier of noised records.
        sobolev: weight of the penalty on the gradient of the network's logit; 0 for none.
        folds: number of patient folds, with one network each; fewer if a domain has fewer patients.
        band_powers: whether a linear classifier of log band powers is stacked with the networks.
            It applies to clean signals only.
        train: training of the networks; `batch_size` is that of each network, half of it per
            domain. Training stops by the calibrated loss of records out of fold, and not before
            `validate_from`: during warm-up that loss is not informative.
    """

    widths: tuple[int, ...] = (16, 32, 48, 64)
    blocks: int = 1
    noise: NoiseConfig | None = None
    sobolev: float = 0.0
    folds: int = 5
    band_powers: bool = True
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


@dataclass(frozen=True, eq=False)
class DomainClassifierFit:
    """A fitted domain classifier, and what records out of fold say about it.

    Each of these records is evaluated by the classifiers of one fold only; the ensemble is better.

    Attributes:
        classifier: the calibrated ensemble, in evaluation mode.
        diagnostics: diagnostics of the density ratio, each fold calibrated on the others; the AUC
            is that within each fold.
        result: result of the training; its validation score is the calibrated logistic loss, log 2
            at chance.
    """

    classifier: DomainClassifier
    diagnostics: RatioDiagnostics
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
    """Fit, stop and calibrate a label-aware ensemble of domain classifiers.

    The patients of both domains are split into folds; for each fold, one network is trained on all
    records of the others. Half of each batch is target, so the logit is log q/p itself
    (`log_density_ratio` with equal counts). For clean signals a linear classifier of log band
    powers is fitted in the same way (`fit_band_powers`): it needs fewer records to recognise a
    recorder, and leaves the label to the network.

    The logits of all records out of fold, pooled, decide the number of steps of all networks, by
    the logistic loss *after* stacking and calibration. Both are one logistic regression, log r =
    a · network + b · linear + c with a, b ≥ 0 (Platt 1999; Wolpert 1992; Breiman 1996). Before
    calibration the loss is not informative: few target records, repeated many times, shift the
    logits of all unseen records long before their order deteriorates.

    The label is given in the shared label space. Source records may be recorded or sampled from the
    source model: p is the distribution of the *model*.

    Args:
        source: records of the source.
        target: records of the target.
        config: shape and training.
        folder: receives weights (with calibration) and log.
        encoder: returns one network of the ensemble, with weights that `config.train.seed` decides;
            None takes the `Encoder1d` of the configured widths and blocks, for signals.
        progress: called after every step.
        keep_checkpoint: keep the last checkpoint in the folder, see `fit`.

    Raises:
        ConfigError: the records are not signals (N, leads, T), and there is no `encoder`.
        CorpusError: the domains have different label spaces, or a domain has fewer than two
            patients.
        RunError: a loss is not finite.
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
    unseen = OutOfFold.of(source, target, fold, config.noise, train.seed)
    linear = None
    if config.band_powers and config.noise is None and source.x0.ndim == 3:
        linear = fit_band_powers(unseen.records, unseen.is_target, fold)
        unseen = replace(unseen, linear=unseen.outputs(DomainClassifier(linear, False)))
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
    slopes, offset = unseen.calibration(logits)
    classifier = DomainClassifier(classifier.encoder, classifier.sees_noise, linear)
    classifier.to(device_of(classifier.encoder)).eval()
    classifier.slope.copy_(torch.from_numpy(slopes))
    classifier.offset.fill_(offset)
    save_weights(classifier, folder / WEIGHTS)
    return DomainClassifierFit(classifier, unseen.diagnostics(logits), result)


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
    """Records of a step, whether each is target, and the network that is trained on it."""

    x0: Tensor
    label: Given
    is_target: Tensor
    member: Tensor


def _balanced_draws(
    is_target: np.ndarray, fold: np.ndarray, train: TrainConfig
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Indices of records and networks by step; half of each network's batch is target."""
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
