"""What the methods of the mixture study share: records, trainings, and the rule that chooses.

Trainings that several methods share, such as that of the fine-tuned denoiser, are made once.

The rule: every training has a few candidates of one setting. Kept is the candidate whose denoiser
has the least denoising loss on the held-out fifth of the target records, with the same noise for
all methods, which is also what stops each training early. Only the domain classifier of clean
records gives no denoiser; it is chosen by its logistic loss out of fold on the records that it is
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
    patient_folds,
)
from ecgtransfer.transfer import methods as shipped
from ecgtransfer.transfer.methods import Fitted, MethodSettings, SourceDomain, TargetDomain
from ecgtransfer.transfer.methods.base import fold_folders
from ecgtransfer.transfer.methods.tgdp import Classifiers, FoldGuidance, fit_fold_guidance
from ecgtransfer.transfer.records import HeldOutDraws

T = TypeVar("T")

#: Noise levels of the study, in model units: from a tenth of the sharpest mode's width to where
#: nothing is left of any law.
NOISE = NoiseConfig(log_mean=-0.5, log_std=1.2, sigma_min=0.03, sigma_max=20.0)

#: Folds of the target records. One fifth stops trainings and decides between candidates; the
#: cross-fitted methods hold out each fifth in turn.
FOLDS = 5

#: Learning rates that the rule decides between, for weights that begin at random.
RATES = (2e-3, 8e-3)

#: For those of the source model, which few records may only spoil at the rates above.
TUNING_RATES = (2e-4, *RATES)

#: Least noise draws behind the rule.
RULE_DRAWS = 8


def terms(
    guidance: bool = False, cycle: bool = False, consistency: bool = False, **changes: object
) -> TgdpConfig:
    """Loss terms at equal weight, a nat for a nat, or left out."""
    return replace(
        TgdpConfig(),
        eta_guidance=float(guidance),
        eta_cycle=float(cycle),
        eta_consistency=float(consistency),
        **changes,  # type: ignore[arg-type]
    )


#: Loss of the cross-fitted method: what the study found to carry the others.
CONSISTENCY = terms(consistency=True)


@dataclass(frozen=True, eq=False)
class Transferred:
    """A denoiser of the target with its cost.

    Attributes:
        denoise: of the target.
        parameters: that were trained.
        seconds: of the trainings that it rests on.
        selection_seconds: of the candidates that were not kept.
        chosen: the settings that the rule kept.
    """

    denoise: Denoiser
    parameters: int = 0
    seconds: float = 0.0
    selection_seconds: float = 0.0
    chosen: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Kept(Generic[T]):
    """The candidate that the rule kept, with the cost of its training and of the others."""

    result: T
    seconds: float
    selection_seconds: float
    chosen: Mapping[str, float]

    def transferred(self, denoise: Denoiser, parameters: int, *others: Kept[Any]) -> Transferred:
        """A denoiser that rests on this training and on others, whose candidates count too."""
        everything = (self, *others)
        return Transferred(
            denoise,
            parameters,
            sum(each.seconds for each in everything),
            sum(each.selection_seconds for each in everything),
            self.chosen,
        )


@dataclass(frozen=True, eq=False)
class Assignment:
    """One transfer to be made: the records of one seed, and the source model.

    Attributes:
        problem: with the exact answer, which only the methods of the group "reference" look at.
        source: the source's denoiser, which learned from source records.
        source_fit: source records.
        target: all target records for training.
        steps: of each training at most.
        seed: of everything that is drawn.
        folder: for the trainings.
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
        """Target records to fit on, and the held-out fifth."""
        return patient_folds(self.target, FOLDS, self.seed)[0]

    @cached_property
    def domains(self) -> tuple[SourceDomain, TargetDomain]:
        """Source and target as the shipped methods see them."""
        networks = vector_networks(self.problem.dimension, self.problem.labels)
        source = SourceDomain(self.source, NOISE, networks, lambda: self.source_fit)
        return source, TargetDomain(*self.split, self.target)

    @cached_property
    def rule(self) -> Callable[[Denoiser], float]:
        """Denoising loss on the held-out target records, with the same noise every time."""
        held_out = self.split[1]
        draws = HeldOutDraws.of(held_out, NOISE, draws=RULE_DRAWS, seed=self.seed)
        x0, label = held_out.take(draws.index)
        return lambda denoise: mean_denoising_loss(
            denoise, x0, label, draws.sigma, draws.noise, batch_size=len(x0)
        )

    def train_config(self, rate: float) -> TrainConfig:
        """The same length, batch and stopping for every training."""
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
        """Settings of the shipped methods.

        Args:
            rate: learning rate of every denoiser.
            tgdp: loss terms of the guidance.
            guidance_rate: learning rate of the guidance; None takes `rate`.
            folds: patient folds.
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
        """Noise draws per record and noise level behind a calibrated weight."""
        return max(RULE_DRAWS, 2048 // len(self.target))

    def fitted(
        self, method: str, name: str, settings: MethodSettings, reuse: Sequence[Path] = ()
    ) -> Fitted:
        """A shipped method, with its trainings in a folder of that name."""
        return shipped.METHODS[method].fit(*self.domains, settings, self.folder / name, reuse=reuse)

    def tuned(self, method: str, rates: Sequence[float]) -> Kept[Fitted]:
        """A shipped method that trains on target records alone, at the rate that the rule keeps."""

        def train(rate: float) -> tuple[Fitted, float]:
            result = self.fitted(method, f"{method}-{rate}", self.settings(rate))
            return result, result.seconds

        return self.best(rates, train, lambda result: self.rule(result.denoiser()), "learning_rate")

    @cached_property
    def finetuned(self) -> Kept[Fitted]:
        """The whole source model, trained on by early stopping."""
        return self.tuned("finetune", TUNING_RATES)

    @cached_property
    def noisy_classifier(self) -> Kept[DomainClassifierFit]:
        """Noise-dependent domain classifier."""
        return self._classifier("noisy", NOISE, dict.fromkeys(RATES, 0.0))

    @cached_property
    def clean_classifier(self) -> Kept[DomainClassifierFit]:
        """Domain classifier of clean records."""
        return self._classifier("clean", None, dict.fromkeys(RATES, 0.0))

    @cached_property
    def logistic(self) -> Kept[FoldGuidance]:
        """Guidance by the guidance loss alone, in its logistic form."""
        return self.chosen_guidance("guidance", terms(guidance=True))

    @cached_property
    def consistency(self) -> Kept[FoldGuidance]:
        """Guidance by the consistency loss alone."""
        return self.chosen_guidance("consistency", CONSISTENCY)

    def chosen_guidance(self, name: str, config: TgdpConfig) -> Kept[FoldGuidance]:
        """A guidance network trained on the split, by the rule."""

        def train(rate: float) -> tuple[FoldGuidance, float]:
            result = self.fitted_guidance(f"{name}-{rate}", config, rate)
            return result, result.seconds

        return self.best(
            RATES, train, lambda result: self.rule(self.guided(result)), "learning_rate"
        )

    def guided(self, guidance: FoldGuidance) -> Denoiser:
        """The source's denoiser with a guidance network at weight 1."""
        return guided(self.source, guidance.network)

    def fitted_guidance(self, name: str, config: TgdpConfig, rate: float) -> FoldGuidance:
        """A guidance network trained on the split, with the classifiers that the rule kept."""
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

    def guidance(self, name: str, config: TgdpConfig) -> Transferred:
        """Guidance trained on one split by the weighted sum of loss terms, at weight 1.

        It learns at the rate that the rule chose for the consistency loss alone where that is one
        of the terms, and for the guidance loss alone where it is not.
        """
        chosen = self.consistency if config.eta_consistency else self.logistic
        found = self.fitted_guidance(name, config, chosen.chosen["learning_rate"])
        rests_on: list[Kept[Any]] = [self.clean_classifier] if config.needs_ratio else []
        if config.eta_cycle:
            rests_on.append(self.noisy_classifier)
        kept = Kept(found, found.seconds, chosen.selection_seconds, chosen.chosen)
        return kept.transferred(self.guided(found), found.parameters, *rests_on)

    @cached_property
    def calibrated(self) -> Fitted:
        """The shipped tgdp on one split, with the guidance of `consistency`."""
        rate = self.consistency.chosen["learning_rate"]
        reuse = [self.folder / f"consistency-{rate}"]
        return self.fitted("tgdp", "calibrated", self.settings(rate), reuse)

    @cached_property
    def cross_fitted(self) -> Fitted:
        """The shipped tgdp over folds, the first of which is the split of all other methods."""
        rate = self.consistency.chosen["learning_rate"]
        reuse = [self.folder / f"consistency-{rate}"]
        return self.fitted("tgdp", "tgdp", self.settings(rate, folds=FOLDS), reuse)

    @cached_property
    def stack(self) -> Fitted:
        """The shipped stack, with the guidance of `cross_fitted`."""
        assert self.cross_fitted is not None  # its networks are on disk
        settings = self.settings(
            self.finetuned.chosen["learning_rate"],
            guidance_rate=self.consistency.chosen["learning_rate"],
            folds=FOLDS,
        )
        return self.fitted("stack", "stack", settings, fold_folders(self.folder / "tgdp", FOLDS))

    def _classifier(
        self, name: str, noise: NoiseConfig | None, candidates: Mapping[float, float]
    ) -> Kept[DomainClassifierFit]:
        """A domain classifier; candidates are learning rates with their Sobolev weights."""
        fit, _ = self.split

        def train(rate: float) -> tuple[DomainClassifierFit, float]:
            config = self.train_config(rate)
            # Random weights are no candidate, and those of the first steps know little.
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
            return self.rule(guided(self.source, found.classifier))

        return self.best(tuple(candidates), train, score, "learning_rate")

    def sobolev_classifier(self, weight: float) -> tuple[DomainClassifierFit, float]:
        """A noise-dependent classifier whose logit is kept from growing steep."""
        rate = self.noisy_classifier.chosen["learning_rate"]
        found = self._classifier(f"sobolev-{weight}", NOISE, {rate: weight})
        return found.result, found.seconds

    def best(
        self,
        candidates: Sequence[float],
        train: Callable[[float], tuple[T, float]],
        score: Callable[[T], float],
        setting: str,
    ) -> Kept[T]:
        """The rule; a candidate that diverges is never kept.

        Raises:
            DivergedError: all of them did.
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
        return Kept(
            result,
            seconds,
            sum(spent for _, _, spent in trained) - seconds,
            {setting: candidate},
        )
