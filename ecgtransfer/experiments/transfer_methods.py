"""The methods of the study on Gaussian mixtures, each judged by the same rule.

The methods that ship (`transfer.methods.METHODS`) run as they do for ECGs, with networks for
vectors. Beside them stand references that know the exact answer, rivals that do not ship, and
guidance by each combination of the loss terms.

A method gets an `Assignment`, the target records of one seed with the source model, and returns a
`Transferred`: a denoiser with its cost. Trainings that several methods share, such as that of the
fine-tuned denoiser, are made once.

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
from torch import Tensor

from ecgtransfer.diffusion import Denoiser, NoiseConfig, label_of, mean_denoising_loss
from ecgtransfer.errors import ConfigError, DivergedError
from ecgtransfer.experiments.gaussian_mixture import GaussianMixture
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
    extrapolated,
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

#: Of factors and scales that start where they change nothing.
ADAPTER_RATES = (5e-4, 5e-3, 2e-2)

#: Candidate rates of the shipped methods that train on target records alone; `RATES` of any other.
RIVAL_RATES: dict[str, tuple[float, ...]] = {
    "scratch": RATES,
    "finetune": TUNING_RATES,
    "difffit": ADAPTER_RATES,
    "lora": ADAPTER_RATES,
}

#: Strengths of the Sobolev penalty, and scales of Domain Guidance, that it decides between.
SOBOLEV_WEIGHTS = (0.01, 0.1)
EXTRAPOLATION_SCALES = (1.25, 1.5, 2.0)

#: Least noise draws behind the rule.
RULE_DRAWS = 8

#: Steps of expectation maximisation.
EM_STEPS = 100


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


@dataclass(frozen=True)
class StudiedMethod:
    """A row of the study's tables.

    Attributes:
        name: as in tables and files.
        title: for readers.
        group: "reference" (looks at the exact answer, or does nothing), "rival", "term" (which
            terms of the loss), "form" (which form of the guidance loss) or "ours".
        transfer: the method.
    """

    name: str
    title: str
    group: str
    transfer: Callable[[Assignment], Transferred]


def _rival(name: str, rates: Sequence[float]) -> StudiedMethod:
    """A shipped method that trains on target records alone."""

    def transfer(assignment: Assignment) -> Transferred:
        found = assignment.finetuned if name == "finetune" else assignment.tuned(name, rates)
        return found.transferred(found.result.denoiser(), found.result.parameters)

    return StudiedMethod(name, shipped.METHODS[name].title, "rival", transfer)


def _rivals() -> list[StudiedMethod]:
    """Every shipped method but guidance and the source model as it is."""
    others = [
        name
        for name, method in shipped.METHODS.items()
        if not method.uses_source_records and name not in {*RIVAL_RATES, "source"}
    ]
    rates = {**RIVAL_RATES, **dict.fromkeys(others, RATES)}
    return [_rival(name, each) for name, each in rates.items()]


def _guided_by(name: str, config: TgdpConfig) -> Callable[[Assignment], Transferred]:
    return lambda assignment: assignment.guidance(name, config)


def _exact(assignment: Assignment) -> Transferred:
    return Transferred(guided(assignment.source, assignment.problem.log_h))


def _classifier_guidance(assignment: Assignment) -> Transferred:
    found = assignment.noisy_classifier
    return _guided_by_classifier(assignment, found)


def _sobolev(assignment: Assignment) -> Transferred:
    found = assignment.best(
        SOBOLEV_WEIGHTS,
        assignment.sobolev_classifier,
        lambda fit: assignment.rule(guided(assignment.source, fit.classifier)),
        "sobolev",
    )
    rate = replace(assignment.noisy_classifier, seconds=0.0)
    return _guided_by_classifier(assignment, found, rate)


def _guided_by_classifier(
    assignment: Assignment, found: Kept[DomainClassifierFit], *others: Kept[Any]
) -> Transferred:
    classifier = found.result.classifier
    parameters = sum(p.numel() for p in classifier.parameters())
    return found.transferred(guided(assignment.source, classifier), parameters, *others)


def _domain_guidance(assignment: Assignment) -> Transferred:
    found = assignment.finetuned
    tuned = found.result.denoiser()
    candidates = {
        scale: extrapolated(assignment.source, tuned, scale) for scale in EXTRAPOLATION_SCALES
    }
    scale = min(candidates, key=lambda each: assignment.rule(candidates[each]))
    result = found.transferred(candidates[scale], found.result.parameters)
    return replace(result, chosen={**found.chosen, "scale": scale})


def _logistic(assignment: Assignment) -> Transferred:
    found = assignment.logistic
    return found.transferred(
        assignment.guided(found.result), found.result.parameters, assignment.clean_classifier
    )


def _consistency(assignment: Assignment) -> Transferred:
    found = assignment.consistency
    return found.transferred(assignment.guided(found.result), found.result.parameters)


def _calibrated(assignment: Assignment) -> Transferred:
    """Consistency alone on one split, followed as far as the held-out fifth says."""
    result = assignment.calibrated
    return assignment.consistency.transferred(result.denoiser(), result.parameters)


def _tgdp(assignment: Assignment) -> Transferred:
    found, result = assignment.consistency, assignment.cross_fitted
    return replace(
        found.transferred(result.denoiser(), result.parameters),
        seconds=found.seconds + result.seconds,
    )


def _stack(assignment: Assignment) -> Transferred:
    guidance, tuned, result = _tgdp(assignment), assignment.finetuned, assignment.stack
    return Transferred(
        result.denoiser(),
        result.parameters,
        guidance.seconds + result.seconds,
        guidance.selection_seconds + tuned.selection_seconds,
        tuned.chosen,
    )


def _maximum_likelihood(assignment: Assignment) -> Transferred:
    target = assignment.target
    stated = label_of(target.label)
    label = None if stated is None else stated.double()
    return Transferred(
        maximum_likelihood(assignment.problem.target, target.x0.double(), label).denoise
    )


def maximum_likelihood(start: GaussianMixture, x0: Tensor, label: Tensor | None) -> GaussianMixture:
    """Expectation maximisation from `start`: the mixture of that shape most likely given x0.

    Begun at the truth it knows the family and which maximum to take, more than any method does.

    Args:
        start: the mixture that the iteration begins at.
        x0: (N, d) records.
        label: (N, K) or None.
    """
    least = 1e-3 * float(start.variances.min())
    mixture = start
    for _ in range(EM_STEPS):
        share = mixture.responsibilities(x0, label=label)
        count = share.sum(0).clamp(min=1e-6)
        means = (share.T @ x0) / count[:, None]
        spread = (x0[:, None] - means).square().mean(2)
        variances = ((share * spread).sum(0) / count).clamp(min=least)
        mixture = replace(mixture, weights=count / count.sum(), means=means, variances=variances)
    return mixture


METHODS: dict[str, StudiedMethod] = {
    method.name: method
    for method in (
        StudiedMethod(
            "exact-target",
            "exact target denoiser",
            "reference",
            lambda a: Transferred(a.problem.target.denoise),
        ),
        StudiedMethod("exact", "exact guidance of the learned source model", "reference", _exact),
        StudiedMethod("mle", "maximum likelihood, family known", "reference", _maximum_likelihood),
        StudiedMethod(
            "source", "source model as it is", "reference", lambda a: Transferred(a.source)
        ),
        *_rivals(),
        StudiedMethod("domain-guidance", "Domain Guidance", "rival", _domain_guidance),
        StudiedMethod("classifier", "noise-dependent classifier", "rival", _classifier_guidance),
        StudiedMethod("sobolev", "noise-dependent classifier, Sobolev penalty", "rival", _sobolev),
        StudiedMethod("guidance", "guidance term", "term", _logistic),
        StudiedMethod("cycle", "cycle term", "term", _guided_by("cycle", terms(False, True))),
        StudiedMethod("consistency", "consistency term", "term", _consistency),
        StudiedMethod(
            "guidance+cycle", "guidance, cycle", "term", _guided_by("g-c", terms(True, True))
        ),
        StudiedMethod(
            "guidance+consistency",
            "guidance, consistency",
            "term",
            _guided_by("g-k", terms(True, False, True)),
        ),
        StudiedMethod(
            "cycle+consistency",
            "cycle, consistency",
            "term",
            _guided_by("c-k", terms(False, True, True)),
        ),
        StudiedMethod(
            "all",
            "guidance, cycle, consistency",
            "term",
            _guided_by("g-c-k", terms(True, True, True)),
        ),
        StudiedMethod(
            "guidance-mse",
            "guidance term, squared form",
            "form",
            _guided_by("mse", terms(True, form="mse")),
        ),
        StudiedMethod(
            "guidance-kl",
            "guidance term, KL form",
            "form",
            _guided_by("kl", terms(True, form="kl")),
        ),
        StudiedMethod(
            "calibrated", "consistency, weight calibrated on one split", "ours", _calibrated
        ),
        StudiedMethod("tgdp", "consistency, cross-fitted, calibrated", "ours", _tgdp),
        StudiedMethod("stack", "the same and fine-tuning, stacked", "ours", _stack),
    )
}


def method(name: str) -> StudiedMethod:
    """The method of this name, or a sentence that lists them."""
    if name not in METHODS:
        raise ConfigError(f"expected a method of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]
