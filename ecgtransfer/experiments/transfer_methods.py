"""The methods of the study on Gaussian mixtures, all with the same model selection.

The methods for ECGs (`transfer.methods.METHODS`) run with networks for vectors. For comparison
there are references that use the true target, further methods from the literature, and guidance
with each combination of the loss terms.

A method takes a `TransferTask`, the records of one cell with the source model, and returns a
`TransferResult`: a denoiser with its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ecgtransfer.diffusion import label_of
from ecgtransfer.errors import ConfigError
from ecgtransfer.experiments.gaussian_mixture import GaussianMixture
from ecgtransfer.experiments.transfer_task import (
    RATES,
    TUNING_RATES,
    Selected,
    TransferResult,
    TransferTask,
    loss_terms,
)
from ecgtransfer.transfer import DomainClassifierFit, TgdpConfig, extrapolated, guided, methods

#: Candidate learning rates of adapters, which start at the source model.
ADAPTER_RATES = (5e-4, 5e-3, 2e-2)

#: Candidate learning rates of the methods that train on target records only; default `RATES`.
TARGET_ONLY_RATES: dict[str, tuple[float, ...]] = {
    "scratch": RATES,
    "finetune": TUNING_RATES,
    "difffit": ADAPTER_RATES,
    "lora": ADAPTER_RATES,
}

#: Candidate weights of the Sobolev penalty, and candidate scales of Domain Guidance.
SOBOLEV_WEIGHTS = (0.01, 0.1)
EXTRAPOLATION_SCALES = (1.25, 1.5, 2.0)

#: Iterations of expectation maximisation.
EM_STEPS = 100


@dataclass(frozen=True)
class StudiedMethod:
    """A row of the study's tables.

    Attributes:
        name: name in tables and files.
        title: title in figures and tables.
        group: "reference" (uses the true target, or leaves the source unchanged), "baseline" (a
            method to compare with), "term" (a combination of loss terms), "form" (a form of the
            guidance loss) or "calibrated" (guidance with calibrated weights).
        transfer: function that runs the method.
    """

    name: str
    title: str
    group: str
    transfer: Callable[[TransferTask], TransferResult]


def _target_only(name: str, rates: Sequence[float]) -> StudiedMethod:
    """Return a method of `transfer.methods` that trains on target records only."""

    def transfer(task: TransferTask) -> TransferResult:
        found = task.finetuned if name == "finetune" else task.tuned(name, rates)
        return found.to_result(found.result.denoiser(), found.result.parameters)

    return StudiedMethod(name, methods.METHODS[name].title, "baseline", transfer)


def _target_only_methods() -> list[StudiedMethod]:
    """Return the methods of `transfer.methods` that train on target records only."""
    others = [
        name
        for name, method in methods.METHODS.items()
        if not method.uses_source_records and name not in {*TARGET_ONLY_RATES, "source"}
    ]
    rates = {**TARGET_ONLY_RATES, **dict.fromkeys(others, RATES)}
    return [_target_only(name, each) for name, each in rates.items()]


def _guided_by(name: str, config: TgdpConfig) -> Callable[[TransferTask], TransferResult]:
    return lambda task: task.guidance(name, config)


def _exact(task: TransferTask) -> TransferResult:
    return TransferResult(guided(task.source, task.problem.log_h))


def _classifier_guidance(task: TransferTask) -> TransferResult:
    found = task.noisy_classifier
    return _guided_by_classifier(task, found)


def _sobolev(task: TransferTask) -> TransferResult:
    found = task.select(
        SOBOLEV_WEIGHTS,
        task.sobolev_classifier,
        lambda fit: task.held_out_loss(guided(task.source, fit.classifier)),
        "sobolev",
    )
    rate = replace(task.noisy_classifier, seconds=0.0)
    return _guided_by_classifier(task, found, rate)


def _guided_by_classifier(
    task: TransferTask, found: Selected[DomainClassifierFit], *others: Selected[Any]
) -> TransferResult:
    classifier = found.result.classifier
    parameters = sum(p.numel() for p in classifier.parameters())
    return found.to_result(guided(task.source, classifier), parameters, *others)


def _domain_guidance(task: TransferTask) -> TransferResult:
    found = task.finetuned
    tuned = found.result.denoiser()
    candidates = {scale: extrapolated(task.source, tuned, scale) for scale in EXTRAPOLATION_SCALES}
    scale = min(candidates, key=lambda each: task.held_out_loss(candidates[each]))
    result = found.to_result(candidates[scale], found.result.parameters)
    return replace(result, chosen={**found.chosen, "scale": scale})


def _logistic(task: TransferTask) -> TransferResult:
    found = task.logistic
    return found.to_result(
        task.guided(found.result), found.result.parameters, task.clean_classifier
    )


def _consistency(task: TransferTask) -> TransferResult:
    found = task.consistency
    return found.to_result(task.guided(found.result), found.result.parameters)


def _calibrated(task: TransferTask) -> TransferResult:
    """Guidance by the consistency loss on one split, with a weight from the held-out fifth."""
    result = task.calibrated
    return task.consistency.to_result(result.denoiser(), result.parameters)


def _tgdp(task: TransferTask) -> TransferResult:
    found, result = task.consistency, task.cross_fitted
    return replace(
        found.to_result(result.denoiser(), result.parameters),
        seconds=found.seconds + result.seconds,
    )


def _stack(task: TransferTask) -> TransferResult:
    guidance, tuned, result = _tgdp(task), task.finetuned, task.stack
    return TransferResult(
        result.denoiser(),
        result.parameters,
        guidance.seconds + result.seconds,
        guidance.selection_seconds + tuned.selection_seconds,
        tuned.chosen,
    )


def _maximum_likelihood(task: TransferTask) -> TransferResult:
    target = task.target
    target_label = label_of(target.label)
    label = None if target_label is None else target_label.double()
    return TransferResult(
        maximum_likelihood(task.problem.target, target.x0.double(), label).denoise
    )


def maximum_likelihood(start: GaussianMixture, x0: Tensor, label: Tensor | None) -> GaussianMixture:
    """Fit a Gaussian mixture to records by expectation maximisation.

    With the true target as initial mixture, it has more information than any method: the family
    of the distribution, and a start near the right maximum.

    Args:
        start: initial mixture.
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
            lambda a: TransferResult(a.problem.target.denoise),
        ),
        StudiedMethod("exact", "exact guidance of the learned source model", "reference", _exact),
        StudiedMethod("mle", "maximum likelihood, family known", "reference", _maximum_likelihood),
        StudiedMethod(
            "source", "unchanged source model", "reference", lambda a: TransferResult(a.source)
        ),
        *_target_only_methods(),
        StudiedMethod("domain-guidance", "Domain Guidance", "baseline", _domain_guidance),
        StudiedMethod("classifier", "noise-dependent classifier", "baseline", _classifier_guidance),
        StudiedMethod(
            "sobolev", "noise-dependent classifier, Sobolev penalty", "baseline", _sobolev
        ),
        StudiedMethod("guidance", "guidance term", "term", _logistic),
        StudiedMethod("cycle", "cycle term", "term", _guided_by("cycle", loss_terms(False, True))),
        StudiedMethod("consistency", "consistency term", "term", _consistency),
        StudiedMethod(
            "guidance+cycle", "guidance, cycle", "term", _guided_by("g-c", loss_terms(True, True))
        ),
        StudiedMethod(
            "guidance+consistency",
            "guidance, consistency",
            "term",
            _guided_by("g-k", loss_terms(True, False, True)),
        ),
        StudiedMethod(
            "cycle+consistency",
            "cycle, consistency",
            "term",
            _guided_by("c-k", loss_terms(False, True, True)),
        ),
        StudiedMethod(
            "all",
            "guidance, cycle, consistency",
            "term",
            _guided_by("g-c-k", loss_terms(True, True, True)),
        ),
        StudiedMethod(
            "guidance-mse",
            "guidance term, squared form",
            "form",
            _guided_by("mse", loss_terms(True, form="mse")),
        ),
        StudiedMethod(
            "guidance-kl",
            "guidance term, KL form",
            "form",
            _guided_by("kl", loss_terms(True, form="kl")),
        ),
        StudiedMethod(
            "calibrated", "consistency, weight calibrated on one split", "calibrated", _calibrated
        ),
        StudiedMethod("tgdp", "consistency, cross-fitted, calibrated", "calibrated", _tgdp),
        StudiedMethod("stack", "guidance and fine-tuning, stacked", "calibrated", _stack),
    )
}


def method(name: str) -> StudiedMethod:
    """Return the method of this name.

    Raises:
        ConfigError: there is no such method.
    """
    if name not in METHODS:
        raise ConfigError(f"expected a method of {', '.join(METHODS)}, got {name!r}; choose one")
    return METHODS[name]
