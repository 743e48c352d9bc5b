"""An augmented training set in one call: split, transfer, generation, gate, files."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch

from ecgtransfer.corpus import ECGSet
from ecgtransfer.errors import RunError
from ecgtransfer.pipeline.augmented import (
    ROUNDS,
    Augmentation,
    AugmentSettings,
    augment,
    wanted_records,
)
from ecgtransfer.pipeline.augmented_files import (
    FORMS,
    RUN_FOLDER,
    AugmentedSets,
    check_destination,
    write_augmented,
)
from ecgtransfer.pipeline.demo import StageReporter
from ecgtransfer.pipeline.methods import TransferSettings, stage_name
from ecgtransfer.pipeline.pretrained import find_source
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import (
    Source,
    absolute,
    import_source_model,
    load_source,
    read_source,
)
from ecgtransfer.pipeline.source_stage import SOURCE
from ecgtransfer.pipeline.synthetic import only_method
from ecgtransfer.pipeline.target import (
    TARGET,
    Target,
    TargetSettings,
    check_target,
    split_target,
)
from ecgtransfer.pipeline.transfer_config import OPTIONS
from ecgtransfer.pipeline.transfer_request import TransferRequest, request_transfer
from ecgtransfer.signals import LEADS
from ecgtransfer.transfer.methods import METHODS

#: The shipped source model, where the run has none and no other is asked for.
DEFAULT_SOURCE = "ptbxl-cascade"

#: Records of the network call that is timed.
TIMED_RECORDS = 16
#: Work in calls of the network with as many records: per sampler step of guided generation, per
#: step of a guidance training, and per fold for the domain classifiers. Rough: a plan should tell
#: minutes from hours. A run of 29 minutes on two busy cores was expected to take 18.
CALLS_PER_STEP, CALLS_PER_TRAINING_STEP, CALLS_PER_FOLD = 5.0, 4.0, 600.0
#: Seconds per record that is measured, and of all classifiers of the gate.
SECONDS_MEASURED, SECONDS_CLASSIFIERS = 0.15, 60.0


@dataclass(frozen=True)
class AugmentRequest:
    """Arguments of `request_augmentation`.

    Attributes:
        run: run folder; new, or with a source, a target or a transfer that are then used.
        target: the clinic's set and its split; with no more than the set stated, the run's own
            split is used where it has one.
        settings: settings of the augmentation.
        transfer: settings of the transfer; a run that has the transfer must have the same, except
            for the options of the command line (`transfer_config.OPTIONS`). None for those of the
            run or, in a run without the transfer, the default ones with the seed of `settings`. The
            method of `settings`, or of the run's only transfer, replaces its own.
        source: source model to import into the run, as `find_source` knows it; None for that of the
            run or, in a run without one, `DEFAULT_SOURCE`.
        split_seed: seed of the split; None for that of the run, 0 in a run without one.
    """

    run: Path
    target: TargetSettings
    settings: AugmentSettings = field(default_factory=AugmentSettings)
    transfer: TransferSettings | None = None
    source: str | None = None
    split_seed: int | None = None


@dataclass(frozen=True)
class AugmentPlan:
    """Work that is about to start.

    Attributes:
        set: the clinic's set.
        train_records: training records of the split.
        test_records: test records of the split.
        synthetic_records: number to add.
        transfer: whether the source model has to be transferred first.
        seconds: expected time on this machine.
        megabytes: disk space of the results, at most.
        folder: where they are written.
    """

    set: Path
    train_records: int
    test_records: int
    synthetic_records: int
    transfer: bool
    seconds: float
    megabytes: float
    folder: Path

    def __str__(self) -> str:
        minutes = self.seconds / 60
        time_needed = f"{minutes:.0f} minutes" if minutes >= 1.5 else "a minute"
        if minutes > 90:
            time_needed = f"{minutes / 60:.1f} hours"
        first = "transfers the source model, then " if self.transfer else ""
        return (
            f"{self.set}: {self.train_records} records train, {self.test_records} test; {first}"
            f"adds {self.synthetic_records} synthetic records; about {time_needed} on this "
            f"machine, up to {self.megabytes:.0f} MB in {self.folder}; stop at any time, the same "
            "command resumes"
        )


def request_augmentation(
    request: AugmentRequest,
    reporter: StageReporter,
    *,
    folder: Path | None = None,
    workers: int = 1,
    note: Callable[[str], None] = lambda sentence: None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> tuple[Source, Augmentation]:
    """Split, transfer, generate and judge; what is done already is kept.

    Args:
        request: what to do.
        reporter: shows progress.
        folder: where the results will be written, for the plan; None for the run.
        workers: processes that measure records.
        note: called with the plan, as a sentence, before the work starts.
        warn: called with each sentence that the user should read.

    Returns:
        Source of the run, and the augmentation.

    Raises:
        ConfigError: options that contradict each other, or nothing to add.
        CorpusError: a set that does not suit the source model.
        RunError: the run has another target, a transfer or another stage with other settings, or
            several transfers and no method.
    """
    run = Run.create(request.run)
    name = request.source
    if name is None and not run.stage(SOURCE).is_done:
        name = DEFAULT_SOURCE
    split = _split(run, request)
    if name is not None:
        theirs = find_source(name)
        if not request.run.exists():
            check_target(read_source(theirs), split)  # so that a refused set leaves no run
        import_source_model(run, theirs)
    source = load_source(run)
    target = split_target(run, source, split)
    settings = replace(request.settings, method=_method(run, request))
    done = run.stage(stage_name(str(settings.method))).is_done
    transfer = request.transfer or TransferSettings(seed=settings.seed)
    transfer = replace(transfer, method=str(settings.method))
    if done and request.transfer is not None:
        _refuse_other_transfer(run, transfer)
    number = sum(wanted_records(source, target, settings).values())
    if not run.stage(f"augment-{settings.name}").is_done:
        plan = _plan(source, target, settings, transfer, number, not done, folder, request)
        note(str(plan))
    if not done:
        request_transfer(
            request.run,
            TransferRequest(split, transfer, split_seed=split.seed),
            reporter.training,
            warn,
        )
    augmentation = augment(run, source, target, settings, reporter, workers)
    for sentence in augmentation.summary.warnings:
        warn(sentence)
    return source, augmentation


def request_augmented_sets(
    request: AugmentRequest,
    folder: Path,
    reporter: StageReporter,
    *,
    forms: Collection[str] = FORMS,
    workers: int = 1,
    note: Callable[[str], None] = lambda sentence: None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> tuple[Augmentation, AugmentedSets]:
    """Augment and write the sets; see `request_augmentation` and `write_augmented`.

    Args:
        request: what to do.
        folder: destination of the sets.
        reporter: shows progress.
        forms: further forms beside the sets.
        workers: as in `request_augmentation`.
        note: as in `request_augmentation`.
        warn: as in `request_augmentation`.

    Raises:
        ConfigError: as in `request_augmentation`.
        CorpusError: as in `request_augmentation`.
        RunError: as in both, the folder holds something else, or the run is in it and is not
            `default_run`.
    """
    _check_run(request.run, folder)
    check_destination(folder, request.settings)
    source, augmentation = request_augmentation(
        request, reporter, folder=folder, workers=workers, note=note, warn=warn
    )
    return augmentation, write_augmented(augmentation, source, folder, reporter, forms)


def default_run(folder: Path) -> Path:
    """Run folder of an augmented set, where no other is named."""
    return folder / RUN_FOLDER


def _split(run: Run, request: AugmentRequest) -> TargetSettings:
    """The split that is asked for, or the run's own where no more than the set is stated."""
    asked = replace(request.target, target=absolute(request.target.target))
    ECGSet.open(asked.target)  # or refuse it before a model is read
    stage = run.stage(TARGET)
    held = stage.read(TargetSettings, "settings.target") if stage.is_done else None
    if held is not None and held.target != asked.target:
        raise RunError(
            f"expected the set that the run {run.folder} was split on, {held.target}, got "
            f"{asked.target}; name that set, or another run"
        )
    if held is not None and asked == TargetSettings(asked.target) and request.split_seed is None:
        return held
    seed = request.split_seed if request.split_seed is not None else (held.seed if held else 0)
    return replace(asked, seed=seed)


def _method(run: Run, request: AugmentRequest) -> str:
    """Method that is asked for, that of the run's only transfer, or that of the transfer settings.

    Raises:
        RunError: the run has several transfers.
    """
    if request.settings.method is not None:
        return request.settings.method
    if any(run.stage(stage_name(method)).is_done for method in METHODS):
        return only_method(run)
    return (request.transfer or TransferSettings()).method


def _refuse_other_transfer(run: Run, asked: TransferSettings) -> None:
    """Refuse settings that differ from those of the run's finished transfer.

    Raises:
        RunError: a setting that is not an option of the command line differs.
    """
    stage = run.stage(stage_name(asked.method))
    held = stage.read(TransferSettings, "settings.transfer")
    names = [each.name for each in fields(TransferSettings) if each.name not in OPTIONS]
    changed = [name for name in names if getattr(held, name) != getattr(asked, name)]
    if changed:
        raise RunError(
            f"expected the settings with which {stage.folder} was trained, got others "
            f"({', '.join(changed)}) in --config; omit the option, or name another run"
        )


def _check_run(run: Path, folder: Path) -> None:
    """Refuse a run in the folder of the augmented sets, except for the default one.

    Raises:
        RunError: the run is that folder, or inside it.
    """
    run, folder = run.resolve(), folder.resolve()
    if run.is_relative_to(folder) and run != default_run(folder):
        raise RunError(
            f"expected a run outside of {folder}, or {default_run(folder)}, got {run}; choose "
            "another --run or --to"
        )


def _plan(
    source: Source,
    target: Target,
    settings: AugmentSettings,
    transfer: TransferSettings,
    number: int,
    to_transfer: bool,
    folder: Path | None,
    request: AugmentRequest,
) -> AugmentPlan:
    call = _seconds_per_call(source, target)
    scales = 1 if settings.sampler.classifier_free_scale == 1 else 2
    calls = number / TIMED_RECORDS * settings.sampler.steps * CALLS_PER_STEP * scales
    seconds = call * calls
    if settings.gate is not None:
        seconds *= ROUNDS / 2  # a part is generated again
        measured = number * ROUNDS / 2 + len(target.train)
        seconds += SECONDS_MEASURED * measured * settings.gate.rules
        seconds += SECONDS_CLASSIFIERS * settings.gate.classifier
    if to_transfer and settings.method != "source":
        train = transfer.tgdp.train
        steps = train.steps * train.batch_size / TIMED_RECORDS
        fold = CALLS_PER_TRAINING_STEP * steps + CALLS_PER_FOLD
        draws = transfer.n_source / TIMED_RECORDS * settings.sampler.steps
        seconds += call * (draws + transfer.folds * fold)
    # Sets hold 8 leads of 2 bytes, arrays 12 of 4, WFDB and PTB-XL's layout 12 of 2 each.
    per_record = target.ecgset.n_samples * (16 + 4 * len(LEADS) + 4 * len(LEADS)) + 30_000
    records = len(target.train) + len(target.test) + 2 * number
    return AugmentPlan(
        set=target.ecgset.folder,
        train_records=len(target.train),
        test_records=len(target.test),
        synthetic_records=number,
        transfer=to_transfer,
        seconds=seconds,
        megabytes=records * per_record / 1e6,
        folder=folder or request.run,
    )


def _seconds_per_call(source: Source, target: Target) -> float:
    """Seconds of one call of the network with 16 records of the target."""
    indices = np.resize(target.train, TIMED_RECORDS)
    condition = source.condition(target.ecgset, target.label_space, target.labels, indices)
    x = torch.zeros(TIMED_RECORDS, *source.model.units.shape, device=source.device)
    sigma = torch.ones(TIMED_RECORDS, device=source.device)
    label = condition if source.cascade is not None else condition.label
    with torch.no_grad():
        source.model(x, sigma, label)  # the first call prepares kernels
        began = time.perf_counter()
        source.model(x, sigma, label)
    return time.perf_counter() - began
