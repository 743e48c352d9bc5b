"""The methods of the study on Gaussian mixtures, each judged by the same rule.

The methods that ship (`transfer.methods.METHODS`) run as they do for ECGs, with networks for
vectors. Beside them stand references that know the exact answer, rivals that do not ship, and
guidance by each combination of the loss terms.

A method gets an `Assignment`, the target records of one seed with the source model, and returns a
`Transferred`: a denoiser with its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ecgtransfer.diffusion import label_of
from ecgtransfer.errors import ConfigError
from ecgtransfer.experiments.assignment import (
    RATES,
    TUNING_RATES,
    Assignment,
    Kept,
    Transferred,
    terms,
)
from ecgtransfer.experiments.gaussian_mixture import GaussianMixture
from ecgtransfer.transfer import DomainClassifierFit, TgdpConfig, extrapolated, guided
from ecgtransfer.transfer import methods as shipped

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

#: Steps of expectation maximisation.
EM_STEPS = 100


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
