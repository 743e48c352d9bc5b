"""Ways from the source's denoiser to the target's, each judged by the same rule.

A method gets an `Assignment`, the target records of one seed with the source model, and returns a
`Transferred`: a denoiser with what it cost. Trainings that several methods share, such as that of
the fine-tuned denoiser, are made once.

The rule: every training has a few candidates of one setting. Kept is the candidate whose denoiser
has the least denoising loss on the held-out fifth of the target records, with the same noise for
all methods, which is also what stops each training early. Only the domain classifier of clean
records gives no denoiser; it is chosen by its logistic loss out of fold on the records that it is
fitted on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ecgtransfer.diffusion import Denoiser, NoiseConfig, label_of, mean_denoising_loss
from ecgtransfer.errors import ConfigError, DivergedError
from ecgtransfer.experiments.gaussian_mixture import GaussianMixture
from ecgtransfer.experiments.networks import VectorDenoiser, VectorGuidance, VectorNetwork
from ecgtransfer.experiments.problems import Problem
from ecgtransfer.training import TrainConfig, seeded_initialisation
from ecgtransfer.transfer import (
    CrossFittedGuidance,
    DomainClassifier,
    DomainClassifierConfig,
    DomainClassifierFit,
    DomainRecords,
    FinetuneConfig,
    LoraConfig,
    TgdpConfig,
    averaged,
    cross_fit,
    cross_fit_stack,
    extrapolated,
    finetune,
    fit_domain_classifier,
    fit_guidance,
    guided,
    measure_guidance,
    noise_level_edges,
    patient_folds,
    stacked,
    trainable_parameters,
    with_difffit,
    with_lora,
)
from ecgtransfer.transfer.records import HeldOutDraws

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

#: Strengths of the Sobolev penalty, and scales of Domain Guidance, that it decides between.
SOBOLEV_WEIGHTS = (0.01, 0.1)
EXTRAPOLATION_SCALES = (1.25, 1.5, 2.0)

#: Least noise draws behind the rule.
RULE_DRAWS = 8

#: Steps of expectation maximisation.
EM_STEPS = 100


@dataclass(frozen=True, eq=False)
class Transferred:
    """What a method came to.

    Attributes:
        denoise: of the target.
        parameters: trained for it.
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
class Trained:
    """A network that the rule kept, with the cost of the training and of its rivals."""

    network: nn.Module
    seconds: float
    selection_seconds: float
    chosen: Mapping[str, float]

    def transferred(self, denoise: Denoiser, *others: Trained) -> Transferred:
        """A denoiser that rests on this training and on others, whose candidates count too."""
        everything = (self, *others)
        return Transferred(
            denoise,
            trainable_parameters(self.network),
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

    @cached_property
    def finetuned(self) -> Trained:
        """The whole source model, trained on by early stopping."""
        return self._tuned("finetune", lambda: self.unfrozen_source(), TUNING_RATES)

    @cached_property
    def noisy_classifier(self) -> Trained:
        """Noise-dependent domain classifier."""
        return self._classifier("noisy", NOISE, dict.fromkeys(RATES, 0.0))

    @cached_property
    def clean_classifier(self) -> Trained:
        """Domain classifier of clean records."""
        return self._classifier("clean", None, dict.fromkeys(RATES, 0.0))

    @cached_property
    def classifier_fits(self) -> dict[int, DomainClassifierFit]:
        """What records out of fold say of each classifier, by the `id` of its network."""
        return {}

    def beats_chance(self, classifier: Trained) -> bool:
        """Whether a classifier tells the domains apart better than chance, out of fold."""
        return self.classifier_fits[id(classifier.network)].diagnostics.beats_chance

    @cached_property
    def log_ratio(self) -> Tensor:
        """Estimated log r of the source records."""
        classifier = self.clean_classifier.network
        assert isinstance(classifier, DomainClassifier)
        return classifier.log_ratio(self.source_fit, batch_size=len(self.source_fit))

    def guidance(self, name: str, config: TgdpConfig) -> Transferred:
        """Guidance trained on one split by the weighted sum of loss terms, at weight 1.

        It learns at the rate that the rule chose for the consistency loss alone where that is one
        of the terms, and for the guidance loss alone where it is not.
        """
        chosen = self.consistency if config.eta_consistency else self.logistic
        rate = chosen.chosen["learning_rate"]
        network, seconds = self.fitted_guidance(name, config, rate, *self.split)
        rests_on = [self.clean_classifier] if config.needs_ratio else []
        if config.eta_cycle:
            rests_on.append(self.noisy_classifier)
        found = Trained(network, seconds, chosen.selection_seconds, chosen.chosen)
        return found.transferred(guided(self.source, network), *rests_on)

    @cached_property
    def logistic(self) -> Trained:
        """Guidance by the guidance loss alone, in its logistic form."""
        return self.chosen_guidance("guidance", terms(guidance=True))

    @cached_property
    def consistency(self) -> Trained:
        """Guidance by the consistency loss alone."""
        return self.chosen_guidance("consistency", CONSISTENCY)

    def chosen_guidance(self, name: str, config: TgdpConfig) -> Trained:
        """A guidance network trained on the split, by the rule."""
        fit, held_out = self.split
        return self.best(
            RATES,
            lambda rate: self.fitted_guidance(f"{name}-{rate}", config, rate, fit, held_out),
            lambda network: self.rule(guided(self.source, network)),
            "learning_rate",
        )

    def fitted_guidance(
        self,
        name: str,
        config: TgdpConfig,
        rate: float,
        fit: DomainRecords,
        held_out: DomainRecords,
    ) -> tuple[nn.Module, float]:
        """A guidance network with the seconds of its training."""
        config = config.trusting(
            not config.needs_ratio or self.beats_chance(self.clean_classifier),
            not config.eta_cycle or self.beats_chance(self.noisy_classifier),
        )
        with seeded_initialisation(self.seed):
            network = VectorGuidance(self.problem.dimension, self.problem.labels)
        result = fit_guidance(
            self.source,
            network,
            self.source_fit,
            fit,
            held_out,
            replace(config, noise=NOISE, train=self.train_config(rate)),
            self.folder / name,
            log_ratio=self.log_ratio if config.needs_ratio else None,
            noisy_log_ratio=self.noisy_classifier.network if config.eta_cycle else None,
        )
        return network, result.seconds

    @cached_property
    def cross_fitted(self) -> tuple[CrossFittedGuidance, float]:
        """A guidance network for each fold, and the seconds of their trainings.

        The rule decides on the first fold, which is the split of all other methods.
        """
        rate = self.consistency.chosen["learning_rate"]
        seconds = [self.consistency.seconds]

        def fit_fold(number: int, fit: DomainRecords, held_out: DomainRecords) -> nn.Module:
            if number == 0:
                return self.consistency.network
            name = f"consistency-fold-{number}"
            network, spent = self.fitted_guidance(name, CONSISTENCY, rate, fit, held_out)
            seconds.append(spent)
            return network

        result = cross_fit(
            self.source,
            self.target,
            fit_fold,
            noise_level_edges(NOISE.sigma_min, NOISE.sigma_max),
            folds=FOLDS,
            draws=self.calibration_draws,
            seed=self.seed,
        )
        return result, sum(seconds)

    @property
    def calibration_draws(self) -> int:
        """Noise draws a record and noise level behind a calibrated weight."""
        return max(RULE_DRAWS, 2048 // len(self.target))

    def tuned_from(
        self, name: str, start: Callable[[], nn.Module], rates: Sequence[float]
    ) -> Transferred:
        """A denoiser that learned on the target records, as far as its parameters are free."""
        found = self._tuned(name, start, rates)
        return found.transferred(_denoiser(found.network))

    def _tuned(self, name: str, start: Callable[[], nn.Module], rates: Sequence[float]) -> Trained:
        fit, held_out = self.split

        def train(rate: float) -> tuple[nn.Module, float]:
            config = FinetuneConfig(noise=NOISE, rate_factors=(1.0,), train=self.train_config(rate))
            network, result = finetune(
                start(), fit, held_out, config, self.folder / f"{name}-{rate}"
            )
            return network, result.seconds

        return self.best(rates, train, lambda net: self.rule(_denoiser(net)), "learning_rate")

    def unfrozen_source(self) -> VectorDenoiser:
        """A copy of the source model, all of which may learn."""
        return copy.deepcopy(self.source).requires_grad_(True)

    def _classifier(
        self, name: str, noise: NoiseConfig | None, candidates: Mapping[float, float]
    ) -> Trained:
        """A domain classifier; candidates are learning rates with their Sobolev weights."""
        fit, _ = self.split

        def train(rate: float) -> tuple[nn.Module, float]:
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
                encoder=lambda: VectorNetwork(self.problem.dimension, self.problem.labels, 1),
            )
            self.classifier_fits[id(found.classifier)] = found
            return found.classifier, found.result.seconds

        def score(network: nn.Module) -> float:
            if noise is None:
                return float(self.classifier_fits[id(network)].result.validation or 0.0)
            return self.rule(guided(self.source, network))

        return self.best(tuple(candidates), train, score, "learning_rate")

    def sobolev_classifier(self, weight: float) -> tuple[nn.Module, float]:
        """A noise-dependent classifier whose logit is kept from growing steep."""
        rate = self.noisy_classifier.chosen["learning_rate"]
        found = self._classifier(f"sobolev-{weight}", NOISE, {rate: weight})
        return found.network, found.seconds

    def best(
        self,
        candidates: Sequence[float],
        train: Callable[[float], tuple[nn.Module, float]],
        score: Callable[[nn.Module], float],
        setting: str,
    ) -> Trained:
        """The rule; a candidate that diverges is never kept.

        Raises:
            DivergedError: all of them did.
        """
        trained, scores = [], []
        for candidate in candidates:
            try:
                network, seconds = train(candidate)
            except DivergedError as error:
                diverged = error
                continue
            trained.append((candidate, network, seconds))
            scores.append(score(network))
        if not trained:
            raise diverged
        candidate, network, seconds = trained[int(np.argmin(scores))]
        return Trained(
            network,
            seconds,
            sum(spent for _, _, spent in trained) - seconds,
            {setting: candidate},
        )


@dataclass(frozen=True)
class Method:
    """A way from the source's denoiser to the target's.

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


def _guided_by(name: str, config: TgdpConfig) -> Callable[[Assignment], Transferred]:
    return lambda assignment: assignment.guidance(name, config)


def _exact(assignment: Assignment) -> Transferred:
    return Transferred(guided(assignment.source, assignment.problem.log_h))


def _classifier_guidance(assignment: Assignment) -> Transferred:
    found = assignment.noisy_classifier
    return found.transferred(guided(assignment.source, found.network))


def _sobolev(assignment: Assignment) -> Transferred:
    found = assignment.best(
        SOBOLEV_WEIGHTS,
        assignment.sobolev_classifier,
        lambda network: assignment.rule(guided(assignment.source, network)),
        "sobolev",
    )
    rate = replace(assignment.noisy_classifier, seconds=0.0)
    return found.transferred(guided(assignment.source, found.network), rate)


def _vanilla(assignment: Assignment) -> Transferred:
    def fresh() -> VectorDenoiser:
        with seeded_initialisation(assignment.seed):
            return VectorDenoiser(assignment.problem.dimension, assignment.problem.labels)

    return assignment.tuned_from("vanilla", fresh, RATES)


def _finetuned(assignment: Assignment) -> Transferred:
    found = assignment.finetuned
    return found.transferred(_denoiser(found.network))


def _domain_guidance(assignment: Assignment) -> Transferred:
    tuned = assignment.finetuned
    candidates = {
        scale: extrapolated(assignment.source, _denoiser(tuned.network), scale)
        for scale in EXTRAPOLATION_SCALES
    }
    scale = min(candidates, key=lambda each: assignment.rule(candidates[each]))
    return replace(tuned.transferred(candidates[scale]), chosen={**tuned.chosen, "scale": scale})


def _difffit(assignment: Assignment) -> Transferred:
    # Noise level and label enter through the first layer, which is what the embedding is here.
    return assignment.tuned_from(
        "difffit",
        lambda: with_difffit(assignment.source, embeddings=("network.layers.0",)),
        ADAPTER_RATES,
    )


def _lora(assignment: Assignment) -> Transferred:
    return assignment.tuned_from(
        "lora",
        lambda: with_lora(assignment.source, LoraConfig(rank=4, alpha=4.0), assignment.seed),
        ADAPTER_RATES,
    )


def _calibrated(assignment: Assignment) -> Transferred:
    """Consistency alone on one split, followed as far as the held-out fifth says."""
    found = assignment.consistency
    network, held_out = found.network, assignment.split[1]
    measured = measure_guidance(
        assignment.source,
        network,
        held_out.x0,
        held_out.label,
        noise_level_edges(NOISE.sigma_min, NOISE.sigma_max),
        draws=assignment.calibration_draws,
        generator=torch.Generator().manual_seed(assignment.seed),
    )
    return found.transferred(guided(assignment.source, network, measured.weight()))


def _tgdp(assignment: Assignment) -> Transferred:
    result, seconds = assignment.cross_fitted
    return replace(
        assignment.consistency.transferred(result.guided(assignment.source)),
        parameters=sum(p.numel() for p in result.log_h.parameters()),
        seconds=seconds,
    )


def _stack(assignment: Assignment) -> Transferred:
    """Cross-fitted guidance and fine-tuning, as often, in the best sum at each noise level."""
    result, seconds = assignment.cross_fitted
    source, rate = assignment.source, assignment.finetuned.chosen["learning_rate"]
    train = assignment.train_config(rate)
    config = FinetuneConfig(noise=NOISE, rate_factors=(1.0,), train=train)
    tuned: list[Denoiser] = []
    spent: list[float] = [seconds]

    def fit_fold(number: int, fit: DomainRecords, held_out: DomainRecords) -> list[Denoiser]:
        start, folder = assignment.unfrozen_source(), assignment.folder / f"stack-{number}"
        network, outcome = finetune(start, fit, held_out, config, folder)
        tuned.append(_denoiser(network))
        spent.append(outcome.seconds)
        return [guided(source, result.log_h.networks[number]), tuned[-1]]

    measured = cross_fit_stack(
        source,
        assignment.target,
        fit_fold,
        noise_level_edges(NOISE.sigma_min, NOISE.sigma_max),
        folds=FOLDS,
        draws=assignment.calibration_draws,
        seed=assignment.seed,
    )
    parameters = sum(p.numel() for p in result.log_h.parameters())
    parameters += FOLDS * sum(p.numel() for p in source.parameters())
    return Transferred(
        stacked(source, [guided(source, result.log_h), averaged(tuned)], measured.weights()),
        parameters,
        sum(spent),
        assignment.consistency.selection_seconds + assignment.finetuned.selection_seconds,
        {"learning_rate": rate},
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


def _denoiser(network: nn.Module) -> Denoiser:
    """A network of three arguments as a denoiser, without a gradient."""

    @torch.no_grad()
    def denoise(x: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        denoised: Tensor = network(x, sigma, label)
        return denoised

    return denoise


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "exact-target",
            "exact target denoiser",
            "reference",
            lambda a: Transferred(a.problem.target.denoise),
        ),
        Method("exact", "exact guidance of the learned source model", "reference", _exact),
        Method("mle", "maximum likelihood, family known", "reference", _maximum_likelihood),
        Method("source", "source model as it is", "reference", lambda a: Transferred(a.source)),
        Method("vanilla", "target records only", "rival", _vanilla),
        Method("finetune", "full fine-tuning", "rival", _finetuned),
        Method("difffit", "DiffFit: biases and scales", "rival", _difffit),
        Method("lora", "LoRA: low-rank updates", "rival", _lora),
        Method("domain-guidance", "Domain Guidance", "rival", _domain_guidance),
        Method("classifier", "noise-dependent classifier", "rival", _classifier_guidance),
        Method("sobolev", "noise-dependent classifier, Sobolev penalty", "rival", _sobolev),
        Method(
            "guidance",
            "guidance term",
            "term",
            lambda a: a.logistic.transferred(
                guided(a.source, a.logistic.network), a.clean_classifier
            ),
        ),
        Method("cycle", "cycle term", "term", _guided_by("cycle", terms(False, True))),
        Method(
            "consistency",
            "consistency term",
            "term",
            lambda a: a.consistency.transferred(guided(a.source, a.consistency.network)),
        ),
        Method("guidance+cycle", "guidance, cycle", "term", _guided_by("g-c", terms(True, True))),
        Method(
            "guidance+consistency",
            "guidance, consistency",
            "term",
            _guided_by("g-k", terms(True, False, True)),
        ),
        Method(
            "cycle+consistency",
            "cycle, consistency",
            "term",
            _guided_by("c-k", terms(False, True, True)),
        ),
        Method(
            "all",
            "guidance, cycle, consistency",
            "term",
            _guided_by("g-c-k", terms(True, True, True)),
        ),
        Method(
            "guidance-mse",
            "guidance term, squared form",
            "form",
            _guided_by("mse", terms(True, form="mse")),
        ),
        Method(
            "guidance-kl",
            "guidance term, KL form",
            "form",
            _guided_by("kl", terms(True, form="kl")),
        ),
        Method("calibrated", "consistency, weight calibrated on one split", "ours", _calibrated),
        Method("tgdp", "consistency, cross-fitted, calibrated", "ours", _tgdp),
        Method("stack", "the same and fine-tuning, stacked", "ours", _stack),
    )
}


def method(name: str) -> Method:
    """The method of this name, or a sentence that lists them."""
    if name not in METHODS:
        raise ConfigError(f"expected a method of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]
