"""Stages `<name>-<method>`: labelled synthetic records, as a set and, if asked, as WFDB."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ecgtransfer.corpus import ECGSet
from ecgtransfer.diffusion import karras_sigmas
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.pipeline.config import METHODS
from ecgtransfer.pipeline.methods import load_target_model, stage_name
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.target import Target, load_target
from ecgtransfer.synthesis import (
    SynthesisRequest,
    export_wfdb,
    generate,
    parse_counts,
    per_class,
)

SET, WFDB = "set", "wfdb"
#: Solvers of `diffusion.sample`.
SOLVERS = ("dpmpp2m", "heun")
#: Names of other stages, which a set may not take.
TAKEN = ("transfer", "simulated", "utility", "fidelity", "physiology", "privacy", "report")


@dataclass(frozen=True)
class SamplerSettings:
    """How records are drawn from any denoiser."""

    steps: int = 20
    solver: str = "dpmpp2m"
    classifier_free_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ConfigError(f"expected at least 2 sampler steps, got {self.steps}")
        if self.solver not in SOLVERS:
            raise ConfigError(f"expected a solver of {', '.join(SOLVERS)}, got {self.solver!r}")
        if not 0 <= self.classifier_free_scale < math.inf:
            raise ConfigError(
                f"expected a finite scale of the labels of at least 0, got "
                f"{self.classifier_free_scale}"
            )


@dataclass(frozen=True)
class GenerateSettings:
    """What `generate` is asked for.

    Attributes:
        counts: such as "AFIB=200" or "CRBBB+PVC=20".
        per_class: records of each label alone, in place of counts.
        ratio: in place of both, so many times the target's training records, in their mix.
        method: whose denoiser; None takes the only transfer of the run.
        name: of the set.
        sampler: solver and steps.
        seed: of the set; each record has its own.
    """

    counts: tuple[str, ...] = ()
    per_class: int | None = None
    ratio: float | None = None
    method: str | None = None
    name: str = "synthetic"
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        ways = (bool(self.counts), self.per_class is not None, self.ratio is not None)
        if sum(ways) != 1:
            raise ConfigError(
                "expected either counts such as AFIB=200, a number of records per class or a ratio "
                f"to the target's records, got {'several' if any(ways) else 'none'} of them"
            )
        if self.ratio is not None and not 0 < self.ratio < math.inf:
            raise ConfigError(f"expected a positive ratio, got {self.ratio}")
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(
                f"expected a name of letters, digits, - and _ for the set, got {self.name!r}"
            )
        if self.name.partition("-")[0] in TAKEN:
            raise ConfigError(
                f"expected a name for the set that no other stage has, got {self.name!r}; choose "
                f"one that does not begin with {', '.join(TAKEN)}"
            )
        if self.method is not None:
            known_method(self.method)


def synthesise(
    run: Run,
    source: Source,
    settings: GenerateSettings,
    progress: Callable[[int, int], None] | None = None,
) -> ECGSet:
    """Draw the records asked for, or find them done; an interrupted call goes on.

    Raises:
        ConfigError: a count that cannot be read, or a label that the model never saw.
        RunError: no transfer by that method, no room on the disk, or other settings in place.
    """
    method = settings.method or only_method(run)
    settings = replace(settings, method=method)
    request = _request(run, source, settings)
    target_model = load_target_model(run, source, method, settings.sampler.classifier_free_scale)
    stage = run.stage(synthetic_stage(settings.name, method))
    asked = {"generate": settings, "model": target_model.fingerprint}
    done = stage.begin(asked)
    config = source.model.config
    ecgset = generate(
        target_model.denoise,
        source.model.units,
        request,
        stage.folder / SET,
        label_space=source.label_space,
        sigmas=karras_sigmas(
            settings.sampler.steps, config.noise.sigma_min, config.noise.sigma_max
        ),
        card_extra={
            "model_fingerprint": target_model.fingerprint,
            "method": method,
            "classifier_free_scale": settings.sampler.classifier_free_scale,
        },
        samples=config.samples,
        sampling_rate_hz=config.sampling_rate_hz,
        solver=settings.sampler.solver,
        seed=settings.seed,
        progress=progress,
        device=next(source.model.parameters()).device,
    )
    if not done:
        stage.finish({"records": len(ecgset), "fingerprint": ecgset.fingerprint})
    return ecgset


def export(
    run: Run, name: str, method: str, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write a finished synthetic set as WFDB records and a PTB-XL-shaped csv; its folder."""
    stage = run.stage(synthetic_stage(name, method))
    return export_wfdb(ECGSet.open(stage.folder / SET), stage.folder / WFDB, progress=progress)


def known_method(name: str) -> str:
    """The name of a method, or a ConfigError that lists them."""
    if name not in METHODS:
        raise ConfigError(f"expected a method of {', '.join(METHODS)}, got {name!r}")
    return name


def synthetic_stage(name: str, method: str) -> str:
    """The stage folder of a synthetic set."""
    return f"{name}-{method}"


def only_method(run: Run) -> str:
    """The method of the only finished transfer of a run.

    Raises:
        RunError: none, or several; the sentence names them.
    """
    done = [method for method in METHODS if run.stage(stage_name(method)).is_done]
    if len(done) != 1:
        found = f"transfers by {', '.join(done)}" if done else "none"
        raise RunError(
            f"expected one finished transfer in {run.folder}, found {found}; "
            + ("name one with --method" if done else "run 'ecgtransfer transfer' first")
        )
    return done[0]


def _request(run: Run, source: Source, settings: GenerateSettings) -> SynthesisRequest:
    known = source.known_labels
    if settings.per_class is not None:
        return per_class(source.label_space, settings.per_class, known)
    counts = settings.counts
    if settings.ratio is not None:
        counts = _counts_like(load_target(run, source), source, settings.ratio)
    return parse_counts(counts, source.label_space, known)


def _counts_like(target: Target, source: Source, ratio: float) -> tuple[str, ...]:
    """Counts such as "CRBBB+PVC=20" of the target's training records, times a ratio.

    Rounded up, so that every combination of labels that the target has comes at least once.
    """
    combinations = Counter(
        "+".join(source.label_space.decode(row)) for row in target.labels[target.train]
    )
    combinations.pop("", None)
    return tuple(f"{names}={math.ceil(ratio * n)}" for names, n in sorted(combinations.items()))
