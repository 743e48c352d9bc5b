"""Stage `source`: the model of the source, trained or taken over.

RUN/source/weights.safetensors    the model of records
RUN/source/rhythm/                of a factorised model: p(beats | label) ...
RUN/source/beat_shapes/           ... and p(beat shapes, level | beats, label)
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from ecgtransfer.corpus import ECGSet, LabelSpace, patient_split, select_records
from ecgtransfer.diffusion import (
    BeatShapeConfig,
    BeatShapeModel,
    Cascade,
    Condition,
    ConditionedRecords,
    DiffusionConfig,
    DiffusionModel,
    Precision,
    fastest_precision,
    fit_beat_shapes,
    fit_diffusion,
    gaussian_identity,
    measure_units,
    spread_label,
    true_condition,
)
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.pipeline.conditioned import (
    CORE_LABELS,
    FEWEST_BEATS,
    ages,
    conditioned_records,
    record_shapes,
    sexes,
)
from ecgtransfer.pipeline.config import SourceSettings, preset
from ecgtransfer.pipeline.run import Run, Stage, begin_run
from ecgtransfer.pipeline.seen import Seen
from ecgtransfer.pipeline.source_stage import (
    BEAT_SHAPES,
    RHYTHM,
    SOURCE,
    SourceSummary,
    StageSummary,
    corpus_of,
    source_files,
)
from ecgtransfer.rhythm import RhythmConfig, RhythmModel, fit_rhythm
from ecgtransfer.signals import INDEPENDENT_LEADS
from ecgtransfer.storage import (
    atomic_folder,
    from_card,
    make_folder,
    read_json,
    write_json,
)
from ecgtransfer.training import (
    WEIGHTS,
    Bars,
    Progress,
    is_main_process,
    load_weights,
    no_bars,
    seeded_initialisation,
)

#: Where the source's records lie on this machine, if they do: `{"set": folder}`.
RECORDS = "records.json"
#: Held-out source records behind the printed identities.
RECORDS_FOR_IDENTITIES = 512


@dataclass(frozen=True)
class SourceStart:
    """The training that a source model began with: fingerprint, steps and seconds."""

    fingerprint: str
    steps: int
    seconds: float


@dataclass(frozen=True)
class Source:
    """A trained source model, and the records that it learned from where they are at hand.

    Attributes:
        model: the denoiser with its units.
        label_space: columns of its label.
        fingerprint: of the training.
        settings: of the training.
        set_fingerprint: of the set that it learned from.
        location: folder of that set on this machine; None where it is not here.
        summary: what the training came to.
        start: the training that it began with; None where it began with fresh weights.
        cascade: rhythm, beat shapes and records, of a factorised model.
        seen: patients and signals that the model was trained or validated on; None for a model
            that does not state them.
    """

    model: DiffusionModel
    label_space: LabelSpace
    fingerprint: str
    settings: SourceSettings
    set_fingerprint: str
    location: Path | None
    summary: SourceSummary
    start: SourceStart | None = None
    cascade: Cascade | None = None
    seen: Seen | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.units.amplitude_mv.device

    def label_space_for(self, ecgset: ECGSet) -> LabelSpace:
        """The label space in which a run of this source and a target set works.

        A factorised source takes the target's, as far as it is stated there: whatever else it
        knows is unknown of the target's records. Any other source takes its own.
        """
        if self.cascade is None:
            return self.label_space
        names = [name for name in ecgset.label_space.names if name in self.label_space.names]
        return LabelSpace(tuple(names))

    def condition(
        self,
        ecgset: ECGSet,
        label_space: LabelSpace,
        labels: np.ndarray,
        numbers: np.ndarray,
    ) -> Condition:
        """What is known of some records of a set, as the model takes it; their level is open.

        Args:
            ecgset: the records.
            label_space: whose statements are known; the model knows each of them.
            labels: (N, K) of all records of the set, in that space.
            numbers: of the records to take.
        """
        label = torch.from_numpy(np.asarray(labels[numbers], np.float32))
        if self.cascade is None:
            return Condition(label=label).to(self.device)
        told = spread_label(label, label_space.names, self.model.config.label_names)
        return self.model.condition(
            told.label,
            known=told.known,
            beats=[ecgset.beats[number] for number in numbers],
            shapes_mv=record_shapes(ecgset, numbers),
            age=torch.from_numpy(ages(ecgset)[numbers]),
            sex=torch.from_numpy(sexes(ecgset)[numbers]),
        )

    @property
    def known_labels(self) -> tuple[str, ...]:
        """Labels that the model saw in training."""
        return tuple(name for name in self.label_space.names if self.summary.labels[name])

    def records(self) -> tuple[ECGSet, np.ndarray, np.ndarray]:
        """The source set with the record numbers that were trained on and held out.

        Raises:
            CorpusError: the set is gone.
            RunError: the set was never here, or another lies in its place.
        """
        if self.location is None:
            raise RunError(
                "expected the records that the source model learned from, which are not here; "
                "prepare them and name the set with --source-set, or do without them "
                "(--source-records model, --arm other than source)"
            )
        ecgset = ECGSet.open(self.location)
        if ecgset.fingerprint != self.set_fingerprint:
            raise RunError(
                f"expected in {self.location} the set that the source model was trained on "
                f"(fingerprint {self.set_fingerprint[:12]}), got {ecgset.fingerprint[:12]}; "
                f"prepare it again as it was, or name another with --source-set"
            )
        return ecgset, *source_split(ecgset, self.settings)


def train_source(
    run: Run,
    settings: SourceSettings,
    progress: Callable[[Progress], None] | None = None,
    start: Source | None = None,
    bars: Bars | None = None,
) -> SourceSummary:
    """Train the source model of a run, or find it done.

    Args:
        run: gets the source.
        settings: of the training.
        progress: called after every step of the model of records.
        start: a trained model whose weights and units the training begins with; layers that it
            lacks begin without effect.
        bars: gives a progress callback for each training, by its name.

    Raises:
        CorpusError: the set cannot be opened, or the selection names what it does not have.
        RunError: the run holds a source with other settings, `start` is a model of other records,
            labels or shape, or training diverged.
    """
    bars = bars or no_bars
    settings = replace(settings, source=absolute(settings.source))
    ecgset = ECGSet.open(settings.source)
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
        _begin_with(model, start.model)  # or refuses, before anything is begun
    stage = run.stage(SOURCE)
    asked: dict[str, Any] = {
        "source": settings,
        "set": ecgset.fingerprint,
        "model": config,
        "train": settings.train(),
    }
    if settings.factorised:
        rhythm_config = RhythmConfig.of_records(names, config.samples / config.sampling_rate_hz)
        shape_config = BeatShapeConfig(names, config.sampling_rate_hz)
        asked |= {
            "rhythm": {"model": rhythm_config, "train": chosen.rhythm},
            "beat_shapes": {"model": shape_config, "train": chosen.beat_shapes},
        }
    if start is not None:
        asked["start"] = SourceStart(start.fingerprint, start.summary.steps, start.summary.seconds)
    if stage.begin(asked):
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
    """Statements of a set that the model learns, those of `CORE_LABELS` first.

    Raises:
        ConfigError: none has `least_records` training records.
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
            f"commonest has {int(max(counts.values()))}; lower --least-records"
        )
    return tuple(core + others)


def with_beats(records: ConditionedRecords, numbers: np.ndarray) -> np.ndarray:
    """Those of some records in which at least three beats were found."""
    return np.array(
        [number for number in numbers if len(records.beats[number]) >= FEWEST_BEATS], np.int64
    )


def residual_levels(model: DiffusionModel, records: ConditionedRecords) -> np.ndarray:
    """Level of what the layout leaves over of each record, (N, leads) in model units."""
    numbers = np.arange(len(records))
    levels = []
    with torch.no_grad():
        for part in np.array_split(numbers, 1 + len(numbers) // 256):
            _, condition = true_condition(model, records, part)
            assert condition.level is not None
            levels.append(condition.level.cpu().numpy())
    return np.concatenate(levels)


def adopt_source(run: Run, theirs: Stage, records: Path | None = None) -> None:
    """Copy a finished source stage into a run, so that one source serves many targets.

    Args:
        run: begun if it is new.
        theirs: the source stage of another run, or a model that came without its records
            (`pretrained.find_source`).
        records: where the source's records lie on this machine, if not where they were.

    Raises:
        CorpusError: no set in `records`.
        RunError: no finished source there, other records, or a run with another source.
    """
    ours = run.stage(SOURCE)
    card = theirs.card
    if ours.folder.exists():
        if not ours.is_done or ours.card["fingerprint"] != card["fingerprint"]:
            raise RunError(
                f"{ours.folder} already holds another source than {theirs.folder}; use another run "
                f"folder"
            )
    else:
        begin_run(run.folder)
        with atomic_folder(ours.folder) as partial:
            for name in source_files(theirs):
                make_folder((partial / name).parent)
                shutil.copy2(theirs.folder / name, partial / name)
            if (theirs.folder / RECORDS).exists():
                shutil.copy2(theirs.folder / RECORDS, partial / RECORDS)
    if records is not None:
        replace(load_source(run), location=absolute(records)).records()
        write_json(ours.folder / RECORDS, {"set": str(absolute(records))})


def load_source(run: Run) -> Source:
    """The trained source of a run; RunError where it has none."""
    return read_source(run.stage(SOURCE))


def read_source(stage: Stage) -> Source:
    """A trained source from its stage, in a run or apart; RunError where it is not finished."""
    asked = stage.read(dict[str, Any], "settings")
    model = DiffusionModel(stage.read(DiffusionConfig, "settings.model"))
    load_weights(model, stage.folder / WEIGHTS)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).eval().requires_grad_(False)
    settings = stage.read(SourceSettings, "settings.source")
    cascade = _read_cascade(stage, model.eval()) if "rhythm" in asked else None
    location = settings.source
    if (stage.folder / RECORDS).exists():
        path = stage.folder / RECORDS
        location = from_card(Path, read_json(path), path, "set")
    return Source(
        model=model,
        label_space=LabelSpace(model.config.label_names),
        fingerprint=stage.read(str, "fingerprint"),
        settings=settings,
        set_fingerprint=stage.read(str, "settings.set"),
        # The path of a model that came without its records is but the name of their set.
        location=location if location.is_absolute() else None,
        summary=stage.read(SourceSummary, "results"),
        start=stage.read(SourceStart, "settings.start") if "start" in asked else None,
        cascade=cascade,
        seen=Seen.read(stage.folder),
    )


def source_split(ecgset: ECGSet, settings: SourceSettings) -> tuple[np.ndarray, np.ndarray]:
    """(training, held-out) record numbers of the source.

    Where the settings name no validation records, a twentieth of the patients is held out.
    """
    selected = select_records(ecgset.records, settings.select)
    if settings.validation:
        held_out = select_records(ecgset.records, settings.validation)
        both = np.intersect1d(selected, held_out)
        if len(both):
            raise RunError(
                f"expected training and validation records that differ, {len(both)} are in both; "
                f"narrow --select or --validation"
            )
        patients = ecgset.records.patient
        shared = set(patients.iloc[selected].dropna()) & set(patients.iloc[held_out].dropna())
        if shared:
            raise RunError(
                f"expected validation records of other patients than the training records, "
                f"{len(shared)} patients are in both; select both by fold, or narrow one of them"
            )
        return selected, held_out
    parts = patient_split(
        ecgset.records.iloc[selected], ecgset.labels[selected], (0.95, 0.05), settings.seed
    )
    return selected[parts[0]], selected[parts[1]]


def absolute(folder: Path) -> Path:
    """A path that later commands find from wherever they are called."""
    return Path(os.path.abspath(folder))


def _begin_with(model: DiffusionModel, start: DiffusionModel) -> None:
    """Take over weights and units by name; RunError where they do not fit."""
    ours, theirs = model.config, start.config
    if (ours.label_names, model.units.shape, ours.sampling_rate_hz) != (
        theirs.label_names,
        start.units.shape,
        theirs.sampling_rate_hz,
    ):
        raise RunError(
            f"expected a model to start with of {', '.join(ours.label_names)} on records of "
            f"{model.units.shape[0]} leads and {ours.samples} samples at {ours.sampling_rate_hz} "
            f"Hz, got one of {', '.join(theirs.label_names)} on {start.units.shape[0]} leads and "
            f"{start.units.shape[1]} samples at {theirs.sampling_rate_hz} Hz"
        )
    weights, held = start.state_dict(), model.state_dict()
    strange = [
        name for name in weights if name not in held or held[name].shape != weights[name].shape
    ]
    if strange:
        raise RunError(
            f"expected a model to start with whose layers are among those of the preset, got "
            f"{len(strange)} that are not or have another shape, e.g. {strange[0]}; choose the "
            f"preset that it was trained with"
        )
    model.load_state_dict(weights, strict=False)


def _read_cascade(stage: Stage, record: DiffusionModel) -> Cascade:
    """The models of rhythm and beat shapes beside that of records."""
    rhythm = RhythmModel(stage.read(RhythmConfig, "settings.rhythm.model"))
    load_weights(rhythm, stage.folder / RHYTHM / WEIGHTS)
    shapes = BeatShapeModel(stage.read(BeatShapeConfig, "settings.beat_shapes.model"))
    load_weights(shapes, stage.folder / BEAT_SHAPES / WEIGHTS)
    return Cascade(rhythm, shapes, record).eval().requires_grad_(False)


def _label_counts(labels: np.ndarray, names: Sequence[str], numbers: np.ndarray) -> dict[str, int]:
    """How many of some records have each label."""
    counts = labels[numbers].sum(axis=0)
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _precision(name: str) -> Precision:
    for precision in get_args(Precision):
        if name == precision:
            chosen: Precision = precision
            return chosen
    return fastest_precision()
