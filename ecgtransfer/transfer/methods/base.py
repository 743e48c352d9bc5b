"""The interface of transfer methods: inputs, settings and results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from torch import nn

from ecgtransfer.diffusion import Denoiser, NoiseConfig
from ecgtransfer.errors import ConfigError
from ecgtransfer.storage import OMIT_AT_DEFAULT
from ecgtransfer.training import Bars, TrainConfig, no_bars
from ecgtransfer.transfer.adapters import LoraConfig
from ecgtransfer.transfer.density_ratio import DomainClassifierConfig
from ecgtransfer.transfer.finetune import FinetuneConfig
from ecgtransfer.transfer.records import DomainRecords, device_of
from ecgtransfer.transfer.tgdp import TgdpConfig

#: How a method transfers the beat shapes of a factorised source.
BeatShapeTransfer = Literal["guide", "finetune", "keep"]

#: Learning rate of lora and difffit, ten times that of full fine-tuning: at that lower rate,
#: adapters have not converged after 600 steps.
ADAPTER_LEARNING_RATE = 2e-3

#: Candidate learning rates of scratch, as factors of the rate of fine-tuning: from random weights,
#: the factor 0.1 of fine-tuning is too slow.
SCRATCH_RATE_FACTORS = (1.0, 10.0)

_Trained = TypeVar("_Trained", TgdpConfig, FinetuneConfig)
_WithTraining = TypeVar("_WithTraining", DomainClassifierConfig, TgdpConfig, FinetuneConfig)


def adapter_training() -> FinetuneConfig:
    """Return the default training of lora and difffit: fine-tuning at a higher learning rate."""
    config = FinetuneConfig()
    return replace(config, train=replace(config.train, learning_rate=ADAPTER_LEARNING_RATE))


def scratch_training() -> FinetuneConfig:
    """Return the default training of scratch: fine-tuning with higher candidate learning rates."""
    return FinetuneConfig(rate_factors=SCRATCH_RATE_FACTORS)


@dataclass(frozen=True)
class MethodSettings:
    """Settings of all methods; each method reads its own.

    Attributes:
        tgdp: loss weights and training of the guidance network.
        classifier: training of the domain classifiers.
        finetune: training of finetune, and of the fine-tuned part of stack.
        adapter: training of lora and difffit.
        scratch: training of scratch.
        lora: rank and scale of the low-rank update.
        folds: number of patient folds of tgdp and stack. With 1 fold, one fifth of the target
            records is held out; stack needs more. With several folds, each network is fitted once
            per fold, on the other folds, and the networks are averaged (`cross_fit`,
            `cross_fit_stack`).
        seed: seed of all random numbers.
        calibration_draws: noise draws per held-out record and noise level for the calibration of
            the guidance weight.

    Raises:
        ConfigError: a setting is out of range.
    """

    tgdp: TgdpConfig = field(default_factory=TgdpConfig)
    classifier: DomainClassifierConfig = field(default_factory=DomainClassifierConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    adapter: FinetuneConfig = field(default_factory=adapter_training)
    scratch: FinetuneConfig = field(default_factory=scratch_training)
    lora: LoraConfig = field(default_factory=LoraConfig)
    folds: int = 3
    seed: int = 0
    calibration_draws: int = field(default=4, metadata=OMIT_AT_DEFAULT)

    def __post_init__(self) -> None:
        if self.folds < 1:
            raise ConfigError(f"expected at least 1 fold, got {self.folds}; correct the setting")
        if self.calibration_draws < 1:
            raise ConfigError(
                f"expected at least 1 calibration draw, got {self.calibration_draws}; correct the "
                "setting"
            )

    def with_training(
        self: _Settings, steps: int | None = None, learning_rates: Sequence[float] = ()
    ) -> _Settings:
        """Return settings with other steps or learning rates of guidance and denoisers.

        The domain classifiers are not changed.

        Args:
            steps: steps of each training; None keeps them.
            learning_rates: candidate learning rates, of which the one with the lowest held-out
                loss is kept; an empty sequence keeps the present ones.

        Raises:
            ConfigError: steps is below 1, or a learning rate is not above 0.
        """

        def changed(config: _Trained) -> _Trained:
            train = config.train
            if steps is not None:
                train = replace(train, steps=steps)
            if not learning_rates:
                return replace(config, train=train)
            train = replace(train, learning_rate=learning_rates[0])
            factors = tuple(rate / learning_rates[0] for rate in learning_rates)
            return replace(config, train=train, rate_factors=factors)

        return replace(
            self,
            tgdp=changed(self.tgdp),
            finetune=changed(self.finetune),
            adapter=changed(self.adapter),
            scratch=changed(self.scratch),
        )


_Settings = TypeVar("_Settings", bound=MethodSettings)


@dataclass(frozen=True, eq=False)
class Networks:
    """Factories of networks for one kind of record, such as ECGs or points in the plane.

    Attributes:
        guidance: creates a guidance network, a `LogH` that is 0 before training.
        denoiser: creates a denoiser with the architecture of the source model and random weights.
        domain_encoder: creates an encoder of domain classifiers; None is the one for signals.
        embeddings: submodules of the denoiser that embed noise level and label, see `with_difffit`.
    """

    guidance: Callable[[], nn.Module]
    denoiser: Callable[[], nn.Module]
    domain_encoder: Callable[[], nn.Module] | None = None
    embeddings: tuple[str, ...] = ()


def _no_records() -> DomainRecords:
    raise ConfigError(
        "expected source records for a guidance that learns from them, got none; pass a function "
        "that returns them to SourceDomain"
    )


@dataclass(frozen=True, eq=False)
class SourceDomain:
    """The source, as input of a method.

    Attributes:
        model: the frozen denoiser D_p, (x, sigma, label, dropped) -> denoised.
        noise: noise levels of all training.
        networks: factories of the networks that a method trains.
        records: returns source records, recorded or sampled from the model; only called by methods
            that use them.
    """

    model: nn.Module
    noise: NoiseConfig
    networks: Networks
    records: Callable[[], DomainRecords] = _no_records

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return device_of(self.model)


@dataclass(frozen=True, eq=False)
class TargetDomain:
    """Training records of the target.

    Attributes:
        fit: records to fit on.
        held_out: records of other patients, for early stopping and calibration.
        train: all training records, `fit` and `held_out`, in the order that patient folds use.
    """

    fit: DomainRecords
    held_out: DomainRecords
    train: DomainRecords


class TransferredModel(Protocol):
    """A model of the target."""

    def denoiser(self, cfg_scale: float = 1.0) -> Denoiser:
        """Return the target's denoiser with classifier-free guidance at a scale; 1 turns it off.

        Raises:
            ConfigError: the scale is not 1, and the guidance was not trained without labels.
        """
        ...


@dataclass(frozen=True, eq=False)
class Fitted:
    """Result of `Method.fit`.

    Attributes:
        model: the model of the target.
        parameters: number of trained parameters.
        seconds: duration of the training in seconds.
        warnings: sentences for the user.
        details: JSON values for the card; `Method.load` reads them.
        evaluated: denoisers, each with records that it was not fitted on; their pooled denoising
            loss is the held-out loss of the transfer.
    """

    model: TransferredModel
    parameters: int
    seconds: float
    evaluated: Sequence[tuple[Denoiser, DomainRecords]]
    warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def denoiser(self, cfg_scale: float = 1.0) -> Denoiser:
        """See `TransferredModel.denoiser`."""
        return self.model.denoiser(cfg_scale)


class Method(ABC):
    """A method that turns the source's denoiser into one of the target.

    Attributes:
        name: name on the command line and in folder names.
        title: short description for help and tables.
        fewest_folds: minimum number of patient folds; None if the method uses no folds.
        uses_source_records: whether it needs source records in addition to the source model.
        beat_shapes: how the beat shapes of a factorised source are transferred. Rhythms are
            selected unless this is "keep".
    """

    name: ClassVar[str]
    title: ClassVar[str]
    fewest_folds: ClassVar[int | None] = None
    uses_source_records: ClassVar[bool] = False
    beat_shapes: ClassVar[BeatShapeTransfer] = "keep"

    @abstractmethod
    def fit(
        self,
        source: SourceDomain,
        target: TargetDomain,
        settings: MethodSettings,
        folder: Path,
        *,
        bars: Bars = no_bars,
        reuse: Sequence[Path] = (),
    ) -> Fitted:
        """Transfer the source model to the target, or resume an interrupted transfer.

        Args:
            source: the source.
            target: training records of the target.
            settings: settings of all methods.
            folder: receives weights and logs. Training that is complete there is not repeated.
            bars: returns a progress callback for each training.
            reuse: folders of the first folds, each with a guidance network that was fitted with
                the same settings on the same fold; it is copied instead of trained.

        Raises:
            CorpusError: there are fewer patients than folds.
            DivergedError: a loss is not finite.
        """

    @abstractmethod
    def load(
        self, source: SourceDomain, folder: Path, details: Mapping[str, Any], card: Path
    ) -> TransferredModel:
        """Load a fitted transfer.

        Args:
            source: the source; its records are not needed.
            folder: folder that `fit` wrote.
            details: `Fitted.details`.
            card: file with the details, for error messages.

        Raises:
            StorageError: a file or a field of the details is missing or damaged.
        """


def with_seed(config: _WithTraining, seed: int) -> _WithTraining:
    """Return the training settings with another seed."""
    train: TrainConfig = replace(config.train, seed=seed)
    return replace(config, train=train)


def fold_folders(folder: Path, folds: int) -> list[Path]:
    """Return the folder of each fold; a single fold uses the folder of the transfer itself."""
    return [folder] if folds == 1 else [folder / f"fold-{index}" for index in range(folds)]


def fitted_fold_folders(folder: Path) -> list[Path]:
    """Return the fold folders of a finished transfer."""
    found = len(list(folder.glob("fold-*")))
    return fold_folders(folder, max(found, 1))
