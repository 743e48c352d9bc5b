"""What every transfer method is given and what it returns."""

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

#: Learning rate of lora and difffit, ten times that of full fine-tuning: at the latter, adapters
#: are far from converged after 600 steps.
ADAPTER_LEARNING_RATE = 2e-3

#: Rates of training from random weights, as factors of the rate of fine-tuning: a tenth of it,
#: which fine-tuning tries, is too slow.
SCRATCH_RATE_FACTORS = (1.0, 10.0)

_Trained = TypeVar("_Trained", TgdpConfig, FinetuneConfig)
_WithTraining = TypeVar("_WithTraining", DomainClassifierConfig, TgdpConfig, FinetuneConfig)


def adapter_training() -> FinetuneConfig:
    """Training of lora and difffit: that of fine-tuning at a higher rate."""
    config = FinetuneConfig()
    return replace(config, train=replace(config.train, learning_rate=ADAPTER_LEARNING_RATE))


def scratch_training() -> FinetuneConfig:
    """Training of scratch: that of fine-tuning with a choice of higher rates."""
    return FinetuneConfig(rate_factors=SCRATCH_RATE_FACTORS)


@dataclass(frozen=True)
class MethodSettings:
    """Settings of all methods; each reads those that concern it.

    Attributes:
        tgdp: weights of the loss terms and training of the guidance network.
        classifier: training of the domain classifiers.
        finetune: training of finetune, and of that part of a stack.
        adapter: training of lora and difffit.
        scratch: training of scratch.
        lora: rank and scale of the low-rank update.
        folds: patient folds of tgdp and stack. With 1, a fifth of the target records is held out
            once, which cannot calibrate a stack. With more, guidance and denoiser are fitted once
            per fold, on all but that fold, and averaged (`cross_fit`, `cross_fit_stack`).
        seed: of every random draw.
        calibration_draws: noise draws per held-out record and noise level that calibrate the
            guidance weight.
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
            raise ConfigError(f"expected at least 1 fold, got {self.folds}")
        if self.calibration_draws < 1:
            raise ConfigError(f"expected at least 1 calibration draw, got {self.calibration_draws}")

    def with_training(
        self: _Settings, steps: int | None = None, learning_rates: Sequence[float] = ()
    ) -> _Settings:
        """Change steps or learning rates of whatever the method trains, guidance or denoiser.

        Args:
            steps: of each training; None keeps them.
            learning_rates: candidates, of which held-out records choose; empty keeps them.

        Raises:
            ConfigError: fewer than 1 step, or a learning rate that is not above 0.
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
    """The networks that suit one kind of record, such as ECGs or points of a plane.

    Attributes:
        guidance: makes a guidance network, a `LogH` that is 0 before training.
        denoiser: makes a denoiser of the source model's shape with random weights.
        domain_encoder: makes an encoder of domain classifiers; None is the one for signals.
        embeddings: submodules of the denoiser that embed noise level and label, see `with_difffit`.
    """

    guidance: Callable[[], nn.Module]
    denoiser: Callable[[], nn.Module]
    domain_encoder: Callable[[], nn.Module] | None = None
    embeddings: tuple[str, ...] = ()


def _no_records() -> DomainRecords:
    raise ConfigError(
        "expected source records for a guidance that learns from them, got none; give SourceDomain "
        "a function that returns them"
    )


@dataclass(frozen=True, eq=False)
class SourceDomain:
    """The source as a method sees it.

    Attributes:
        model: the frozen denoiser D_p, (x, sigma, label, dropped) -> denoised.
        noise: noise levels of every training.
        networks: to be trained beside it.
        records: returns source records, recorded or drawn from the model; called by the methods
            that learn from them.
    """

    model: nn.Module
    noise: NoiseConfig
    networks: Networks
    records: Callable[[], DomainRecords] = _no_records

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return device_of(self.model)


@dataclass(frozen=True, eq=False)
class TargetDomain:
    """Training records of the target.

    Attributes:
        fit: to fit on, and
        held_out: of other patients, to stop trainings and calibrate.
        train: both, in the order that folds are made from.
    """

    fit: DomainRecords
    held_out: DomainRecords
    train: DomainRecords


class TransferredModel(Protocol):
    """A model of the target."""

    def denoiser(self, cfg_scale: float = 1.0) -> Denoiser:
        """The target's denoiser with classifier-free guidance at a scale, 1 for none.

        Raises:
            ConfigError: a scale other than 1 of a guidance that never saw records without label.
        """
        ...


@dataclass(frozen=True, eq=False)
class Fitted:
    """A transferred model with what its training cost and found.

    Attributes:
        model: of the target.
        parameters: that were trained.
        seconds: of the trainings.
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
    """A way from the source's denoiser to the target's.

    Attributes:
        name: on the command line and in folders.
        title: a few words for help and tables.
        fewest_folds: patient folds that it needs; None for a method that uses no folds.
        uses_source_records: whether it learns from source records beside the source model.
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
            settings: of all methods.
            folder: gets weights and logs. Trainings that are complete there are not repeated.
            bars: gives a progress callback for each training.
            reuse: one folder per fold, from the first on, with a guidance network that was fitted
                with the same settings on the same fold; it is copied instead of trained.

        Raises:
            CorpusError: fewer patients than folds.
            DivergedError: a loss is not finite.
        """

    @abstractmethod
    def load(
        self, source: SourceDomain, folder: Path, details: Mapping[str, Any], card: Path
    ) -> TransferredModel:
        """Load a fitted transfer.

        Args:
            source: the source; its records are not needed.
            folder: that `fit` wrote.
            details: `Fitted.details`.
            card: file that holds the details, for error messages.

        Raises:
            StorageError: a file or a field of the details is missing or damaged.
        """


def with_seed(config: _WithTraining, seed: int) -> _WithTraining:
    """The same training with another seed."""
    train: TrainConfig = replace(config.train, seed=seed)
    return replace(config, train=train)


def fold_folders(folder: Path, folds: int) -> list[Path]:
    """The folder of each fold's trainings; a single fold uses the transfer's own folder."""
    return [folder] if folds == 1 else [folder / f"fold-{number}" for number in range(folds)]


def fitted_fold_folders(folder: Path) -> list[Path]:
    """The fold folders of a finished transfer."""
    found = len(list(folder.glob("fold-*")))
    return fold_folders(folder, max(found, 1))
