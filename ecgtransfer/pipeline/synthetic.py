"""Stages `<name>-<method>`: labelled synthetic records, as a set and, if asked, as WFDB.

RUN/<name>-<method>/set           the set
RUN/<name>-<method>/set.shards    while it is drawn in shards (`synthesis.shards`); all of them, on
                                  whatever machines, share the stage's request.json
RUN/<name>-<method>/wfdb          the same as WFDB
"""

import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import InitVar, dataclass, field, replace
from functools import partial
from pathlib import Path

from ecgtransfer.corpus import ECGSet, LabelSpace
from ecgtransfer.defaults import LABEL_SCALE, RECORD_SOLVER, RECORD_STEPS
from ecgtransfer.diffusion import SOLVERS, sampling_sigmas
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.export import export_wfdb
from ecgtransfer.pipeline.methods import load_target_model, stage_name
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.steering import (
    Steering,
    cascade_conditions,
    patient_columns,
    steering_card,
)
from ecgtransfer.pipeline.target import TARGET, Target, load_target
from ecgtransfer.storage import OMIT_AT_DEFAULT, bytes_below, require_space
from ecgtransfer.synthesis import (
    DiskSpace,
    Shard,
    SynthesisRequest,
    disk_bytes,
    generate,
    missing_shards,
    parse_counts,
    per_class,
)
from ecgtransfer.training import is_main_process, make_barrier, process_number
from ecgtransfer.transfer.methods import METHODS, transfer_method

SET, WFDB = "set", "wfdb"
#: The surrogate source set, see `pipeline.surrogate`.
SURROGATE_SET = "stand-ins"
#: First words of the names of other stages, which a set may not take.
TAKEN = (
    "transfer",
    "simulated",
    "utility",
    "fidelity",
    "physiology",
    "privacy",
    "report",
    "augment",
    SURROGATE_SET,
)


@dataclass(frozen=True)
class SamplerSettings:
    """How records are drawn from any denoiser."""

    steps: int = RECORD_STEPS
    solver: str = RECORD_SOLVER
    classifier_free_scale: float = LABEL_SCALE

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
        steering: rhythm and patient of the records.
        of_evaluation: whether an evaluation asks, which may take a name of its own.
    """

    counts: tuple[str, ...] = ()
    per_class: int | None = None
    ratio: float | None = None
    method: str | None = None
    name: str = "synthetic"
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    seed: int = 0
    steering: Steering = field(default=Steering(), metadata=OMIT_AT_DEFAULT)
    of_evaluation: InitVar[bool] = False

    def __post_init__(self, of_evaluation: bool) -> None:
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
        if f"{self.name}-".startswith(tuple(f"{word}-" for word in TAKEN)) and not of_evaluation:
            raise ConfigError(
                f"expected a name for the set that no other stage has, got {self.name!r}; choose "
                f"one that does not begin with {', '.join(TAKEN)}"
            )
        if self.method is not None:
            transfer_method(self.method)


def synthesise(
    run: Run,
    source: Source,
    settings: GenerateSettings,
    progress: Callable[[int, int], None] | None = None,
    *,
    shard: Shard | None = None,
    disk: Callable[[DiskSpace], None] | None = None,
) -> ECGSet:
    """Draw the records asked for, or find them done; an interrupted call goes on.

    In one of several processes (`torchrun`, `accelerate launch`) each draws a shard, and the main
    one joins them.

    Args:
        run: with a finished transfer, or to draw from the source as it is.
        source: of the run.
        settings: what is asked for.
        progress: called with (records finished, records asked for) of this process.
        shard: the only part to draw; the stage is done when all of them are joined, by a call
            without it.
        disk: called before the start with what the disk is to take.

    Returns:
        The set; with `shard` that part of it, unless the whole set is there.

    Raises:
        ConfigError: a count that cannot be read, a label that the model never saw, or more shards
            than there is work for.
        RunError: no transfer by that method, no room on the disk, other settings in place, or
            shards to be joined of which one is missing.
    """
    process, processes = process_number()
    if shard is not None and processes > 1:
        raise ConfigError(
            f"expected either a shard or one of several processes, got shard {shard} in "
            f"{processes} processes, which take a shard each; leave one of them out"
        )
    method = settings.method or only_method(run)
    settings = replace(settings, method=method, of_evaluation=True)  # its name was checked before
    request = _request(run, source, settings)
    space = run_label_space(run, source)
    target_model = load_target_model(run, source, method, settings.sampler.classifier_free_scale)
    stage = run.stage(synthetic_stage(settings.name, method))
    asked = {"generate": settings, "model": target_model.fingerprint} | settings.steering.inputs()
    conditions = cascade_conditions(
        source,
        space.names,
        settings.steering,
        settings.sampler.classifier_free_scale,
        target_model.cascade_changes,
    )
    done = stage.begin(asked, alone=False)  # `generate` keeps others out, shard by shard
    config = source.model.config
    whole = stage.folder / SET
    draw = partial(
        generate,
        target_model.denoise,
        source.model,
        request,
        whole,
        label_space=space,
        conditions=conditions,
        columns=patient_columns(settings.steering),
        sigmas=sampling_sigmas(settings.sampler.steps, config.noise),
        card_extra={
            "model_fingerprint": target_model.fingerprint,
            "method": method,
            "classifier_free_scale": settings.sampler.classifier_free_scale,
            **steering_card(settings.steering),
        },
        samples=config.samples,
        sampling_rate_hz=config.sampling_rate_hz,
        solver=settings.sampler.solver,
        seed=settings.seed,
        device=next(source.model.parameters()).device,
    )
    if shard is not None:
        return draw(shard=shard, progress=progress, disk=disk)
    if processes == 1:
        ecgset = draw(progress=progress, disk=disk)
    else:
        meet = make_barrier()
        if not done:
            both = 2 * disk_bytes(request.total, request.total, config.samples, len(space))
            room = require_space(whole, both - bytes_below(stage.folder))
            if disk is not None and is_main_process():
                disk(room)
        draw(shard=Shard(process + 1, processes), progress=progress)
        meet()
        if is_main_process():
            draw()
        meet()
        ecgset = ECGSet.open(whole)
    if not done:
        stage.finish({"records": len(ecgset), "fingerprint": ecgset.fingerprint})
    return ecgset


def export(
    run: Run, name: str, method: str, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write a finished synthetic set as WFDB records and a PTB-XL-shaped csv; its folder."""
    stage = run.stage(synthetic_stage(name, method))
    return export_wfdb(ECGSet.open(stage.folder / SET), stage.folder / WFDB, progress=progress)


def run_label_space(run: Run, source: Source) -> LabelSpace:
    """The label space of a run: its target's where it has one, else its source's."""
    if source.cascade is None or not run.stage(TARGET).is_done:
        return source.label_space
    return load_target(run, source).label_space


def unfinished_shards(run: Run, name: str, method: str, of: int) -> tuple[Shard, ...]:
    """The shards of a synthetic set in `of` of them that are still to be drawn."""
    return missing_shards(run.stage(synthetic_stage(name, method)).folder / SET, of)


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


def counts_like(
    target: Target, source: Source, ratio: float, known: Collection[str] | None = None
) -> tuple[str, ...]:
    """Counts such as "CRBBB+PVC=20" of the target's training records, times a ratio.

    Rounded up, so that every combination of labels that the target has comes at least once; with
    `known`, every combination of those labels.
    """
    combinations = Counter(
        "+".join(names)
        for names in map(target.label_space.decode, target.labels[target.train])
        if names and (known is None or set(names) <= set(known))
    )
    return tuple(f"{names}={math.ceil(ratio * n)}" for names, n in sorted(combinations.items()))


def _request(run: Run, source: Source, settings: GenerateSettings) -> SynthesisRequest:
    space = run_label_space(run, source)
    known = [name for name in space.names if name in source.known_labels]
    if settings.per_class is not None:
        return per_class(space, settings.per_class, known)
    counts = settings.counts
    if settings.ratio is not None:
        counts = counts_like(load_target(run, source), source, settings.ratio)
    return parse_counts(counts, space, known)
