"""Stages `<name>-<method>`: labelled synthetic records as a set and, on request, as WFDB.

RUN/<name>-<method>/set           the set
RUN/<name>-<method>/set.shards    its shards until they are joined (`synthesis.shards`); shards on
                                  several machines share the stage's request.json
RUN/<name>-<method>/wfdb          the same records as WFDB
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
#: Name of the surrogate source set on disk, see `pipeline.surrogate`.
SURROGATE_SET = "stand-ins"
#: Prefixes of the names of other stages, which the name of a set may not have.
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
    """Settings of the sampler.

    Attributes:
        steps: number of sampler steps.
        solver: name of the solver, a key of `SOLVERS`.
        classifier_free_scale: scale of classifier-free guidance by the label; 1 for none.

    Raises:
        ConfigError: a setting is out of its range.
    """

    steps: int = RECORD_STEPS
    solver: str = RECORD_SOLVER
    classifier_free_scale: float = LABEL_SCALE

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ConfigError(f"expected at least 2 sampler steps, got {self.steps}; raise them")
        if self.solver not in SOLVERS:
            raise ConfigError(
                f"expected a solver of {', '.join(SOLVERS)}, got {self.solver!r}; choose one of "
                "these"
            )
        if not 0 <= self.classifier_free_scale < math.inf:
            raise ConfigError(
                "expected a finite label scale of at least 0, got "
                f"{self.classifier_free_scale}; change it"
            )


@dataclass(frozen=True)
class GenerateSettings:
    """Settings of a synthetic set: exactly one of `counts`, `per_class` and `ratio`.

    Attributes:
        counts: records by label combination, such as "AFIB=200" or "CRBBB+PVC=20".
        per_class: records of each single label.
        ratio: records per training record of the target, in the target's class mix.
        method: transfer method; None for the only transfer of the run.
        name: name of the set.
        sampler: settings of the sampler.
        seed: seed of the set; each record has its own seed derived from it.
        steering: rhythm and patient of the records.
        of_evaluation: whether an evaluation makes the set; only then may it be `SURROGATE_SET`.

    Raises:
        ConfigError: a setting is out of its range, or the settings contradict each other.
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
                f"to the target's records, got {'several' if any(ways) else 'none'} of them; give "
                "one"
            )
        if self.ratio is not None and not 0 < self.ratio < math.inf:
            raise ConfigError(f"expected a positive ratio, got {self.ratio}; change it")
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(
                f"expected a name of letters, digits, - and _ for the set, got {self.name!r}; "
                "change it"
            )
        if f"{self.name}-".startswith(tuple(f"{word}-" for word in TAKEN)) and not of_evaluation:
            raise ConfigError(
                f"expected a name for the set that no other stage has, got {self.name!r}; choose "
                f"one that does not start with {', '.join(TAKEN)}"
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
    """Generate the records of a synthetic set, unless it exists; an interrupted call is resumed.

    With several processes (`torchrun`, `accelerate launch`), each generates a shard, and the main
    process joins them.

    Args:
        run: run with a finished transfer; the method "source" needs none.
        source: source of the run.
        settings: settings of the set.
        progress: called with (records finished, records requested) of this process.
        shard: shard to generate; None for all. A call without `shard` joins finished shards, and
            only then is the stage done.
        disk: called before the start with the disk space that is needed.

    Returns:
        The set, or with `shard` this part of it, unless the joined set exists.

    Raises:
        ConfigError: a count cannot be parsed, the model was not trained on a label, or there are
            more shards than batches.
        RunError: there is no transfer by this method, the disk is full, the stage has other
            settings, or a shard to be joined is missing.
    """
    process, processes = process_number()
    if shard is not None and processes > 1:
        raise ConfigError(
            f"expected either a shard or one of several processes, got shard {shard} in "
            f"{processes} processes, which take a shard each; omit one of them"
        )
    method = settings.method or only_method(run)
    settings = replace(settings, method=method, of_evaluation=True)  # the name is checked already
    request = _request(run, source, settings)
    space = run_label_space(run, source)
    target_model = load_target_model(run, source, method, settings.sampler.classifier_free_scale)
    stage = run.stage(synthetic_stage(settings.name, method))
    inputs = {"generate": settings, "model": target_model.fingerprint} | settings.steering.inputs()
    conditions = cascade_conditions(
        source,
        space.names,
        settings.steering,
        settings.sampler.classifier_free_scale,
        target_model.cascade_changes,
    )
    done = stage.begin(inputs, alone=False)  # `generate` locks each shard
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
        barrier = make_barrier()
        if not done:
            both = 2 * disk_bytes(request.total, request.total, config.samples, len(space))
            needed = require_space(whole, both - bytes_below(stage.folder))
            if disk is not None and is_main_process():
                disk(needed)
        draw(shard=Shard(process + 1, processes), progress=progress)
        barrier()
        if is_main_process():
            draw()
        barrier()
        ecgset = ECGSet.open(whole)
    if not done:
        stage.finish({"records": len(ecgset), "fingerprint": ecgset.fingerprint})
    return ecgset


def export(
    run: Run, name: str, method: str, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write a finished synthetic set as WFDB records with a CSV table like PTB-XL's.

    Returns:
        The folder of the records.
    """
    stage = run.stage(synthetic_stage(name, method))
    return export_wfdb(ECGSet.open(stage.folder / SET), stage.folder / WFDB, progress=progress)


def run_label_space(run: Run, source: Source) -> LabelSpace:
    """Return the label space of a run: that of its target if it has one, else of its source."""
    if source.cascade is None or not run.stage(TARGET).is_done:
        return source.label_space
    return load_target(run, source).label_space


def unfinished_shards(run: Run, name: str, method: str, of: int) -> tuple[Shard, ...]:
    """Return the missing shards of a synthetic set that is generated in `of` shards."""
    return missing_shards(run.stage(synthetic_stage(name, method)).folder / SET, of)


def synthetic_stage(name: str, method: str) -> str:
    """Name of the stage of a synthetic set."""
    return f"{name}-{method}"


def only_method(run: Run) -> str:
    """Return the method of the only finished transfer of a run.

    Raises:
        RunError: there is none, or there are several.
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

    Counts are rounded up, so that every combination of labels of the target occurs. With `known`,
    combinations with other labels are ignored.
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
