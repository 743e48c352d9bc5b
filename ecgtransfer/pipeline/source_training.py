"""Training of the source model of a run."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch

from ecgtransfer.corpus import ECGSet
from ecgtransfer.diffusion import (
    BeatShapeConfig,
    BeatShapeModel,
    ConditionedRecords,
    DiffusionConfig,
    DiffusionModel,
    Precision,
    fastest_precision,
    fit_beat_shapes,
    fit_diffusion,
    gaussian_identity,
    measure_units,
    true_condition,
)
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.pipeline.conditioned import (
    CORE_LABELS,
    FEWEST_BEATS,
    conditioned_records,
)
from ecgtransfer.pipeline.config import SourceSettings, preset
from ecgtransfer.pipeline.recorded import require_recorded
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.seen import Seen
from ecgtransfer.pipeline.source import Source, SourceStart, absolute, source_split
from ecgtransfer.pipeline.source_stage import (
    BEAT_SHAPES,
    RHYTHM,
    SOURCE,
    SourceSummary,
    StageSummary,
    corpus_of,
)
from ecgtransfer.rhythm import RhythmConfig, RhythmModel, fit_rhythm
from ecgtransfer.signals import INDEPENDENT_LEADS
from ecgtransfer.training import (
    Bars,
    Progress,
    is_main_process,
    no_bars,
    seeded_initialisation,
)

#: Largest number of held-out source records for the printed identities.
RECORDS_FOR_IDENTITIES = 512


def train_source(
    run: Run,
    settings: SourceSettings,
    progress: Callable[[Progress], None] | None = None,
    start: Source | None = None,
    bars: Bars | None = None,
) -> SourceSummary:
    """Train the source model of a run, unless it is trained already.

    Args:
        run: run that gets the source.
        settings: settings of the training.
        progress: called after every step of the record model.
        start: trained model whose weights and units the training starts from; layers that it lacks
            start with zero effect.
        bars: makes a progress callback for each training, by its name.

    Raises:
        CorpusError: the set cannot be opened or holds generated records, or the selection names a
            column or value that it does not have.
        RunError: the run has a source with other settings, `start` has other records, labels or
            shape, or a training diverged.
    """
    bars = bars or no_bars
    settings = replace(settings, source=absolute(settings.source))
    ecgset = ECGSet.open(settings.source)
    require_recorded(ecgset, "a source model repeats the errors of the model that made the others")
    train, held_out = source_split(ecgset, settings)
    names = learned_labels(ecgset, train, settings)
    chosen = preset(settings.preset)
    precision = _precision(settings.precision)
    config = DiffusionConfig(
        label_names=names,
        samples=ecgset.n_samples,
        sampling_rate_hz=int(ecgset.sampling_rate_hz),
        unet=chosen.unet(len(names), len(INDEPENDENT_LEADS), settings.factorised),
        precision=precision,
        masked_labels=settings.factorised,
        residual=settings.factorised,
    )
    with seeded_initialisation(settings.seed):
        model = DiffusionModel(config)
    if start is not None:
        _load_start(model, start.model)  # refuses an unsuitable model before the stage begins
    stage = run.stage(SOURCE)
    request: dict[str, Any] = {
        "source": settings,
        "set": ecgset.fingerprint,
        "model": config,
        "train": settings.train(),
    }
    if settings.factorised:
        rhythm_config = RhythmConfig.of_records(names, config.samples / config.sampling_rate_hz)
        shape_config = BeatShapeConfig(names, config.sampling_rate_hz)
        request |= {
            "rhythm": {"model": rhythm_config, "train": chosen.rhythm},
            "beat_shapes": {"model": shape_config, "train": chosen.beat_shapes},
        }
    if start is not None:
        request["start"] = SourceStart(
            start.fingerprint, start.summary.steps, start.summary.seconds
        )
    if stage.begin(request):
        return stage.read(SourceSummary, "results")
    stages: dict[str, StageSummary] = {}
    records: ECGSet | ConditionedRecords = ecgset
    if settings.factorised:
        with bars("beats and beat shapes"):
            records = conditioned_records(ecgset, names)
        train, held_out = (with_beats(records, part) for part in (train, held_out))
        with seeded_initialisation(settings.seed):
            rhythm = RhythmModel(rhythm_config)
        with bars("rhythm") as shown:
            fitted = fit_rhythm(
                rhythm,
                records.beats,
                records.labels,
                np.ones(records.labels.shape, bool),
                records.age,
                records.sex,
                train,
                held_out,
                replace(chosen.rhythm, seed=settings.seed),
                stage.folder / RHYTHM,
                core_labels=[names[column] for column in records.core],
                progress=shown,
                keep_checkpoint=True,
            )
        stages["rhythm"] = StageSummary.of(rhythm, fitted)
        if start is None:
            measure_units(model, records, train, settings.seed)
        with seeded_initialisation(settings.seed):
            shapes = BeatShapeModel(shape_config)
        with bars("beat shapes") as shown:
            fitted = fit_beat_shapes(
                shapes,
                records,
                residual_levels(model, records),
                train,
                held_out,
                replace(chosen.beat_shapes, seed=settings.seed),
                stage.folder / BEAT_SHAPES,
                progress=shown,
                keep_checkpoint=True,
            )
        stages["beat_shapes"] = StageSummary.of(shapes, fitted)
    with bars("source model") as shown:
        result = fit_diffusion(
            model,
            records,
            train,
            held_out,
            settings.train(),
            stage.folder,
            fit_units=start is None,
            progress=progress or shown,
            keep_checkpoint=True,
        )
    seen = Seen.of(ecgset, np.concatenate([train, held_out]))
    if start is not None and start.seen is not None:
        seen = seen | start.seen
    if is_main_process():
        seen.write(stage.folder)
    probe = held_out[:RECORDS_FOR_IDENTITIES] if len(held_out) else train[:RECORDS_FOR_IDENTITIES]
    summary = SourceSummary(
        records=len(train),
        held_out=len(held_out),
        parameters=sum(p.numel() for p in model.parameters()),
        steps=result.steps,
        validation_loss=result.validation,
        gaussian_loss=gaussian_identity(
            true_condition(model, records, probe)[0], config.noise, settings.seed
        ),
        seconds=result.seconds,
        precision=precision,
        labels=_label_counts(records.labels, names, train),
        corpus=corpus_of(ecgset),
        stages=stages,
    )
    stage.finish(summary)
    return summary


def learned_labels(ecgset: ECGSet, train: np.ndarray, settings: SourceSettings) -> tuple[str, ...]:
    """Return the statements of a set that the model learns, those of `CORE_LABELS` first.

    Raises:
        ConfigError: no statement has `least_records` training records.
    """
    names = ecgset.label_space.names
    if not settings.factorised:
        return names
    counts = dict(zip(names, ecgset.labels[train].sum(axis=0), strict=True))
    core = [name for name in CORE_LABELS if counts.get(name, 0) >= 1]
    others = [
        name
        for name in names
        if name not in core and counts[name] >= max(settings.least_records, 1)
    ]
    if not core + others:
        raise ConfigError(
            f"expected a statement with at least {settings.least_records} training records, the "
            f"most frequent has {int(max(counts.values()))}; lower --least-records"
        )
    return tuple(core + others)


def with_beats(records: ConditionedRecords, indices: np.ndarray) -> np.ndarray:
    """Return the indices of the records with at least three beats."""
    return np.array(
        [index for index in indices if len(records.beats[index]) >= FEWEST_BEATS], np.int64
    )


def residual_levels(model: DiffusionModel, records: ConditionedRecords) -> np.ndarray:
    """Return the level of the residual of each record, (N, leads), in model units."""
    indices = np.arange(len(records))
    levels = []
    with torch.no_grad():
        for part in np.array_split(indices, 1 + len(indices) // 256):
            _, condition = true_condition(model, records, part)
            assert condition.level is not None
            levels.append(condition.level.cpu().numpy())
    return np.concatenate(levels)


def _load_start(model: DiffusionModel, start: DiffusionModel) -> None:
    """Copy weights and units of a trained model by name.

    Raises:
        RunError: labels, records, rate or layers differ.
    """
    wanted, found = model.config, start.config
    if (wanted.label_names, model.units.shape, wanted.sampling_rate_hz) != (
        found.label_names,
        start.units.shape,
        found.sampling_rate_hz,
    ):
        raise RunError(
            f"expected to start from a model of {', '.join(wanted.label_names)} on records of "
            f"{model.units.shape[0]} leads and {wanted.samples} samples at "
            f"{wanted.sampling_rate_hz} Hz, got one of {', '.join(found.label_names)} on "
            f"{start.units.shape[0]} leads and {start.units.shape[1]} samples at "
            f"{found.sampling_rate_hz} Hz; name another with --start"
        )
    weights, layers = start.state_dict(), model.state_dict()
    foreign = [
        name for name in weights if name not in layers or layers[name].shape != weights[name].shape
    ]
    if foreign:
        raise RunError(
            "expected to start from a model whose layers are among those of the preset, got "
            f"{len(foreign)} that are not or have another shape, e.g. {foreign[0]}; choose the "
            "preset with which it was trained"
        )
    model.load_state_dict(weights, strict=False)


def _label_counts(labels: np.ndarray, names: Sequence[str], indices: np.ndarray) -> dict[str, int]:
    """Number of the selected records with each label."""
    counts = labels[indices].sum(axis=0)
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _precision(name: str) -> Precision:
    for precision in get_args(Precision):
        if name == precision:
            chosen: Precision = precision
            return chosen
    return fastest_precision()
