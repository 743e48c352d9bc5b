"""Inputs of the methods in the mixture study: records, shared trainings, and model selection.

A training that several methods need, such as that of the fine-tuned denoiser, runs once.

Model selection: each training tries a few candidates of one setting, and keeps the candidate whose
denoiser has the lowest denoising loss on the held-out fifth of the target records. The noise is the
same for all methods. The same loss stops each training early. The domain classifier of clean
records gives no denoiser; it is selected by its out-of-fold logistic loss on the records that it is
fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from ecgtransfer.diffusion import Denoiser, NoiseConfig, mean_denoising_loss
from ecgtransfer.errors import DivergedError
from ecgtransfer.experiments.networks import VectorDenoiser, vector_networks
from ecgtransfer.experiments.problems import Problem
from ecgtransfer.training import TrainConfig
from ecgtransfer.transfer import (
    DomainClassifierConfig,
    DomainClassifierFit,
    DomainRecords,
    FinetuneConfig,
    LoraConfig,
    TgdpConfig,
    fit_domain_classifier,
    guided,
    methods,
    patient_folds,
)
from ecgtransfer.transfer.methods import Fitted, MethodSettings, SourceDomain, TargetDomain
from ecgtransfer.transfer.methods.base import fold_folders
from ecgtransfer.transfer.methods.tgdp import Classifiers, FoldGuidance, fit_fold_guidance
from ecgtransfer.transfer.records import HeldOutDraws

T = TypeVar("T")

#: Noise levels of the study, in model units: from a tenth of the width of the narrowest mode to a
#: level at which all distributions are indistinguishable from noise.
NOISE = NoiseConfig(log_mean=-0.5, log_std=1.2, sigma_min=0.03, sigma_max=20.0)

#: Folds of the target records. Fold 0 is held out for early stopping and model selection;
#: cross-fitted methods hold out each fold in turn.
FOLDS = 5

#: Candidate learning rates of training from random weights.
RATES = (2e-3, 8e-3)

#: Candidate learning rates of fine-tuning; at `RATES`, few records can make the source model worse.
TUNING_RATES = (2e-4, *RATES)

#: Minimum number of noise draws per held-out record for model selection.
SELECTION_DRAWS = 8


def loss_terms(
    guidance: bool = False, cycle: bool = False, consistency: bool = False, **changes: object
) -> TgdpConfig:
    """Return settings in which each loss term has weight 1 or 0."""
    return replace(
        TgdpConfig(),
        eta_guidance=float(guidance),
        eta_cycle=float(cycle),
        eta_consistency=float(consistency),
        **changes,  # type: ignore[arg-type]
    )


#: Loss of the cross-fitted method: the term that contributes most in this study.
CONSISTENCY = loss_terms(consistency=True)


@dataclass(frozen=True, eq=False)
class TransferResult:
    """A denoiser of the target, with its cost.

    Attributes:
        denoise: denoiser of the target.
        parameters: number of trained parameters.
        seconds: duration of the trainings that it depends on.
        selection_seconds: duration of the candidates that were not kept.
        chosen: settings that were selected.
    """

    denoise: Denoiser
    parameters: int = 0
    seconds: float = 0.0
    selection_seconds: float = 0.0
    chosen: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Selected(Generic[T]):
    """The selected candidate of a training, with its cost.

    Attributes:
        result: result of the training.
        seconds: duration of the training.
        selection_seconds: duration of the other candidates.
        chosen: the selected setting.
    """

    result: T
    seconds: float
    selection_seconds: float
    chosen: Mapping[str, float]

    def to_result(
        self, denoise: Denoiser, parameters: int, *others: Selected[Any]
    ) -> TransferResult:
        """Return a denoiser with the total cost of this training and of others it depends on."""
        trainings = (self, *others)
        return TransferResult(
            denoise,
            parameters,
            sum(each.seconds for each in trainings),
            sum(each.selection_seconds for each in trainings),
            self.chosen,
        )


@dataclass(frozen=True, eq=False)
class TransferTask:
    """Inputs of all methods in one cell, and the trainings that methods share.

    Attributes:
        problem: the problem; only methods of the group "reference" use its true target.
        source: the trained denoiser of the source.
        source_fit: source records.
        target: all target training records.
        steps: maximum steps of each training.
        seed: seed of all random numbers.
        folder: folder for the files of the trainings.
    """

    problem: Problem
    source: VectorDenoiser
    source_fit: DomainRecords
    target: DomainRecords
    steps: int
    seed: int
    folder: Path

    @cached_property
    def split(self) -> tuple[DomainRecords, DomainRecords]:
        """Target records to fit on, and the held-out fifth of the target records."""
        return patient_folds(self.target, FOLDS, self.seed)[0]

    @cached_property
    def domains(self) -> tuple[SourceDomain, TargetDomain]:
        """Source and target as inputs of the methods in `transfer.methods`."""
        networks = vector_networks(self.problem.dimension, self.problem.labels)
        source = SourceDomain(self.source, NOISE, networks, lambda: self.source_fit)
        return source, TargetDomain(*self.split, self.target)

    @cached_property
    def held_out_loss(self) -> Callable[[Denoiser], float]:
        """Function that returns the denoising loss on held-out target records, with fixed noise."""
        held_out = self.split[1]
        draws = HeldOutDraws.of(held_out, NOISE, draws=SELECTION_DRAWS, seed=self.seed)
        x0, label = held_out.take(draws.index)
        return lambda denoise: mean_denoising_loss(
            denoise, x0, label, draws.sigma, draws.noise, batch_size=len(x0)
        )

    def train_config(self, rate: float) -> TrainConfig:
        """Settings of a training; all but the learning rate are the same for all trainings."""
        return TrainConfig(
            steps=self.steps,
            batch_size=64,
            learning_rate=rate,
            warmup_steps=20,
            ema_decay=0.98,
            gradient_clip=100.0,
            validate_every=25,
            log_every=self.steps,
            checkpoint_every=self.steps,
            patience=6,
            seed=self.seed,
        )

    def settings(
        self,
        rate: float,
        *,
        tgdp: TgdpConfig = CONSISTENCY,
        guidance_rate: float | None = None,
        folds: int = 1,
    ) -> MethodSettings:
        """Settings of the methods in `transfer.methods`.

        Args:
            rate: learning rate of denoisers.
            tgdp: loss terms of the guidance.
            guidance_rate: learning rate of the guidance; None takes `rate`.
            folds: number of patient folds.
        """
        tuning = FinetuneConfig(rate_factors=(1.0,), train=self.train_config(rate))
        guidance_rate = rate if guidance_rate is None else guidance_rate
        return MethodSettings(
            tgdp=replace(tgdp, train=self.train_config(guidance_rate)),
            finetune=tuning,
            adapter=tuning,
            scratch=tuning,
            lora=LoraConfig(rank=4, alpha=4.0),
            folds=folds,
            seed=self.seed,
            calibration_draws=self.calibration_draws,
        )

    @property
    def calibration_draws(self) -> int:
        """Noise draws per record and noise level for the calibration of a guidance weight."""
        return max(SELECTION_DRAWS, 2048 // len(self.target))

    def fitted(
        self, method: str, name: str, settings: MethodSettings, reuse: Sequence[Path] = ()
    ) -> Fitted:
        """Fit a method of `transfer.methods`, with its files in the folder `name`."""
        return methods.METHODS[method].fit(*self.domains, settings, self.folder / name, reuse=reuse)

    def tuned(self, method: str, rates: Sequence[float]) -> Selected[Fitted]:
        """Fit a method that trains on target records only, and select its learning rate."""

        def train(rate: float) -> tuple[Fitted, float]:
            result = self.fitted(method, f"{method}-{rate}", self.settings(rate))
            return result, result.seconds

        return self.select(
            rates, train, lambda result: self.held_out_loss(result.denoiser()), "learning_rate"
        )

    @cached_property
    def finetuned(self) -> Selected[Fitted]:
        """The fine-tuned source model."""
        return self.tuned("finetune", TUNING_RATES)

    @cached_property
    def noisy_classifier(self) -> Selected[DomainClassifierFit]:
        """The noise-dependent domain classifier."""
        return self._classifier("noisy", NOISE, dict.fromkeys(RATES, 0.0))

    @cached_property
    def clean_classifier(self) -> Selected[DomainClassifierFit]:
        """The domain classifier of clean records."""
        return self._classifier("clean", None, dict.fromkeys(RATES, 0.0))

    @cached_property
    def logistic(self) -> Selected[FoldGuidance]:
        """Guidance trained with the guidance loss only, in its logistic form."""
        return self.chosen_guidance("guidance", loss_terms(guidance=True))

    @cached_property
    def consistency(self) -> Selected[FoldGuidance]:
        """Guidance trained with the consistency loss only."""
        return self.chosen_guidance("consistency", CONSISTENCY)

    def chosen_guidance(self, name: str, config: TgdpConfig) -> Selected[FoldGuidance]:
        """Train guidance networks on the split, and select one by its held-out loss."""

        def train(rate: float) -> tuple[FoldGuidance, float]:
            result = self.fitted_guidance(f"{name}-{rate}", config, rate)
            return result, result.seconds

        return self.select(
            RATES, train, lambda result: self.held_out_loss(self.guided(result)), "learning_rate"
        )

    def guided(self, guidance: FoldGuidance) -> Denoiser:
        """Return the source's denoiser with a guidance network at weight 1."""
        return guided(self.source, guidance.network)

    def fitted_guidance(self, name: str, config: TgdpConfig, rate: float) -> FoldGuidance:
        """Train a guidance network on the split, with the selected domain classifiers."""
        source, target = self.domains
        classifiers = Classifiers(
            self.clean_classifier.result if config.needs_ratio else None,
            self.noisy_classifier.result if config.eta_cycle else None,
        )
        return fit_fold_guidance(
            source,
            self.source_fit,
            target.fit,
            target.held_out,
            self.settings(rate, tgdp=config),
            self.folder / name,
            classifiers=classifiers,
        )

    def guidance(self, name: str, config: TgdpConfig) -> TransferResult:
        """Train guidance on one split with a combination of loss terms, and use it at weight 1.

        The learning rate is the one selected for the consistency loss alone if that is among the
        terms, else the one selected for the guidance loss alone.
        """
        chosen = self.consistency if config.eta_consistency else self.logistic
        found = self.fitted_guidance(name, config, chosen.chosen["learning_rate"])
        dependencies: list[Selected[Any]] = [self.clean_classifier] if config.needs_ratio else []
        if config.eta_cycle:
            dependencies.append(self.noisy_classifier)
        selected = Selected(found, found.seconds, chosen.selection_seconds, chosen.chosen)
        return selected.to_result(self.guided(found), found.parameters, *dependencies)

    @cached_property
    def calibrated(self) -> Fitted:
        """The method tgdp on one split, with the guidance of `consistency`."""
        rate = self.consistency.chosen["learning_rate"]
        reuse = [self.folder / f"consistency-{rate}"]
        return self.fitted("tgdp", "calibrated", self.settings(rate), reuse)

    @cached_property
    def cross_fitted(self) -> Fitted:
        """The method tgdp over all folds; fold 0 is the split of all other methods."""
        rate = self.consistency.chosen["learning_rate"]
        reuse = [self.folder / f"consistency-{rate}"]
        return self.fitted("tgdp", "tgdp", self.settings(rate, folds=FOLDS), reuse)

    @cached_property
    def stack(self) -> Fitted:
        """The method stack, with the guidance of `cross_fitted`."""
        assert self.cross_fitted is not None  # its networks are on disk
        settings = self.settings(
            self.finetuned.chosen["learning_rate"],
            guidance_rate=self.consistency.chosen["learning_rate"],
            folds=FOLDS,
        )
        return self.fitted("stack", "stack", settings, fold_folders(self.folder / "tgdp", FOLDS))

    def _classifier(
        self, name: str, noise: NoiseConfig | None, candidates: Mapping[float, float]
    ) -> Selected[DomainClassifierFit]:
        """Train and select a domain classifier; candidates map learning rate to Sobolev weight."""
        fit, _ = self.split

        def train(rate: float) -> tuple[DomainClassifierFit, float]:
            config = self.train_config(rate)
            # Random weights are not a candidate, and those of the first steps are little better.
            first = min(config.validate_every, config.steps)
            found = fit_domain_classifier(
                self.source_fit,
                fit,
                DomainClassifierConfig(
                    noise=noise,
                    sobolev=candidates[rate],
                    train=replace(config, validate_from=first),
                ),
                self.folder / f"{name}-{rate}",
                encoder=self.domains[0].networks.domain_encoder,
            )
            return found, found.result.seconds

        def score(found: DomainClassifierFit) -> float:
            if noise is None:
                return float(found.result.validation or 0.0)
            return self.held_out_loss(guided(self.source, found.classifier))

        return self.select(tuple(candidates), train, score, "learning_rate")

    def sobolev_classifier(self, weight: float) -> tuple[DomainClassifierFit, float]:
        """Train a noise-dependent classifier with a Sobolev penalty of this weight."""
        rate = self.noisy_classifier.chosen["learning_rate"]
        found = self._classifier(f"sobolev-{weight}", NOISE, {rate: weight})
        return found.result, found.seconds

    def select(
        self,
        candidates: Sequence[float],
        train: Callable[[float], tuple[T, float]],
        score: Callable[[T], float],
        setting: str,
    ) -> Selected[T]:
        """Train all candidates of a setting, and select the one with the lowest score.

        Args:
            candidates: values of the setting.
            train: value -> (result, seconds).
            score: result -> score, lower is better.
            setting: name of the setting.

        Raises:
            DivergedError: all candidates diverged.
        """
        trained, scores = [], []
        for candidate in candidates:
            try:
                result, seconds = train(candidate)
            except DivergedError as error:
                diverged = error
                continue
            trained.append((candidate, result, seconds))
            scores.append(score(result))
        if not trained:
            raise diverged
        candidate, result, seconds = trained[int(np.argmin(scores))]
        return Selected(
            result,
            seconds,
            sum(spent for _, _, spent in trained) - seconds,
            {setting: candidate},
        )
