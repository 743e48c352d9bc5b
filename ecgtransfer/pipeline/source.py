"""Stage `source`: the source model of a run, which was trained here or imported.

RUN/source/weights.safetensors    the record model
RUN/source/rhythm/                rhythm model of a factorised source: p(beats | label)
RUN/source/beat_shapes/           its beat-shape model: p(beat shapes, level | beats, label)
"""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecgtransfer.corpus import ECGSet, LabelSpace, patient_split, select_records
from ecgtransfer.diffusion import (
    BeatShapeConfig,
    BeatShapeModel,
    Cascade,
    Condition,
    DiffusionConfig,
    DiffusionModel,
    spread_label,
)
from ecgtransfer.errors import RunError
from ecgtransfer.pipeline.conditioned import (
    ages,
    record_shapes,
    sexes,
)
from ecgtransfer.pipeline.config import SourceSettings
from ecgtransfer.pipeline.run import Run, Stage, begin_run
from ecgtransfer.pipeline.seen import Seen
from ecgtransfer.pipeline.source_stage import (
    BEAT_SHAPES,
    RHYTHM,
    SOURCE,
    SourceSummary,
    source_files,
)
from ecgtransfer.rhythm import RhythmConfig, RhythmModel
from ecgtransfer.storage import (
    atomic_folder,
    from_card,
    make_folder,
    read_json,
    write_json,
)
from ecgtransfer.training import (
    WEIGHTS,
    load_weights,
)

#: File with the folder of the source's records on this machine, if they are here: {"set": folder}.
RECORDS = "records.json"


@dataclass(frozen=True)
class SourceStart:
    """An earlier training whose weights the training of a source model started from.

    Attributes:
        fingerprint: fingerprint of the earlier training.
        steps: its number of steps.
        seconds: its duration.
    """

    fingerprint: str
    steps: int
    seconds: float


@dataclass(frozen=True)
class Source:
    """A trained source model, and its training records if they are on this machine.

    Attributes:
        model: denoiser of records, with its units.
        label_space: columns of the model's label.
        fingerprint: fingerprint of the training.
        settings: settings of the training.
        set_fingerprint: fingerprint of the source set.
        location: folder of the source set; None if it is not on this machine.
        summary: result of the training.
        start: earlier training that it started from; None if it started from random weights.
        cascade: models of rhythm, beat shapes and records of a factorised source, else None.
        seen: patients and signals on which the model was trained or validated; None for a model
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
        """Device of the model."""
        return self.model.units.amplitude_mv.device

    def label_space_for(self, ecgset: ECGSet) -> LabelSpace:
        """Return the label space of a run with this source and a target set.

        For a factorised source, these are the target's labels that the source knows; its other
        labels are unknown for the target's records. For any other source, it is the source's label
        space.
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
        indices: np.ndarray,
    ) -> Condition:
        """Return the condition of selected records, without their level.

        Args:
            ecgset: set of the records.
            label_space: labels that are known for the records; the model knows all of them.
            labels: labels (N, K) of all records of the set, in that space.
            indices: indices of the selected records.
        """
        label = torch.from_numpy(np.asarray(labels[indices], np.float32))
        if self.cascade is None:
            return Condition(label=label).to(self.device)
        stated = spread_label(label, label_space.names, self.model.config.label_names)
        return self.model.condition(
            stated.label,
            known=stated.known,
            beats=[ecgset.beats[index] for index in indices],
            shapes_mv=record_shapes(ecgset, indices),
            age=torch.from_numpy(ages(ecgset)[indices]),
            sex=torch.from_numpy(sexes(ecgset)[indices]),
        )

    @property
    def known_labels(self) -> tuple[str, ...]:
        """Labels with at least one training record."""
        return tuple(name for name in self.label_space.names if self.summary.labels[name])

    def records(self) -> tuple[ECGSet, np.ndarray, np.ndarray]:
        """Return the source set with the indices of its training and of its held-out records.

        Raises:
            CorpusError: the set is no longer there.
            RunError: the set was never on this machine, or another set is in its place.
        """
        if self.location is None:
            raise RunError(
                "expected the training records of the source model, which are not here; prepare "
                "them and name the set with --source-set, or do without them (--source-records "
                "model, --arm other than source)"
            )
        ecgset = ECGSet.open(self.location)
        if ecgset.fingerprint != self.set_fingerprint:
            raise RunError(
                f"expected in {self.location} the set that the source model was trained on "
                f"(fingerprint {self.set_fingerprint[:12]}), got {ecgset.fingerprint[:12]}; "
                "prepare the same set again, or name its folder with --source-set"
            )
        return ecgset, *source_split(ecgset, self.settings)


def import_source_model(run: Run, model: Stage, records: Path | None = None) -> None:
    """Copy a finished source stage into a run, so that several runs can share one source.

    Args:
        run: run that gets the source; it is created if it is new.
        model: source stage of another run, or a model without its records
            (`pretrained.find_source`).
        records: folder of the source's records on this machine, if they have moved.

    Raises:
        CorpusError: `records` is not a set.
        RunError: the source is not finished, `records` is another set, or the run has another
            source.
    """
    stage = run.stage(SOURCE)
    card = model.card
    if stage.folder.exists():
        if not stage.is_done or stage.card["fingerprint"] != card["fingerprint"]:
            raise RunError(
                f"{stage.folder} already holds another source than {model.folder}; use another run "
                "folder"
            )
    else:
        begin_run(run.folder)
        with atomic_folder(stage.folder) as partial:
            for name in source_files(model):
                make_folder((partial / name).parent)
                shutil.copy2(model.folder / name, partial / name)
            if (model.folder / RECORDS).exists():
                shutil.copy2(model.folder / RECORDS, partial / RECORDS)
    if records is not None:
        replace(load_source(run), location=absolute(records)).records()
        write_json(stage.folder / RECORDS, {"set": str(absolute(records))})


def load_source(run: Run) -> Source:
    """Load the trained source of a run.

    Raises:
        RunError: the run has no finished source.
    """
    return read_source(run.stage(SOURCE))


def read_source(stage: Stage) -> Source:
    """Load a trained source from its stage, inside or outside of a run.

    Raises:
        RunError: the stage is not finished.
    """
    settings_card = stage.read(dict[str, Any], "settings")
    model = DiffusionModel(stage.read(DiffusionConfig, "settings.model"))
    load_weights(model, stage.folder / WEIGHTS)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).eval().requires_grad_(False)
    settings = stage.read(SourceSettings, "settings.source")
    cascade = _read_cascade(stage, model.eval()) if "rhythm" in settings_card else None
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
        # An exported model has only the name of its set, which is a relative path.
        location=location if location.is_absolute() else None,
        summary=stage.read(SourceSummary, "results"),
        start=stage.read(SourceStart, "settings.start") if "start" in settings_card else None,
        cascade=cascade,
        seen=Seen.read(stage.folder),
    )


def source_split(ecgset: ECGSet, settings: SourceSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the training and of the held-out records of the source.

    If the settings select no validation records, a twentieth of the patients is held out.

    Raises:
        RunError: records or patients are in both parts.
    """
    selected = select_records(ecgset.records, settings.select)
    if settings.validation:
        held_out = select_records(ecgset.records, settings.validation)
        both = np.intersect1d(selected, held_out)
        if len(both):
            raise RunError(
                f"expected training and validation records that differ, {len(both)} are in both; "
                "narrow --select or --validation"
            )
        patients = ecgset.records.patient
        shared = set(patients.iloc[selected].dropna()) & set(patients.iloc[held_out].dropna())
        if shared:
            raise RunError(
                "expected validation records of other patients than the training records, "
                f"{len(shared)} patients are in both; select both by fold, or narrow one of them"
            )
        return selected, held_out
    parts = patient_split(
        ecgset.records.iloc[selected], ecgset.labels[selected], (0.95, 0.05), settings.seed
    )
    return selected[parts[0]], selected[parts[1]]


def absolute(folder: Path) -> Path:
    """Make a path absolute, so that later commands find it from any working directory."""
    return Path(os.path.abspath(folder))


def _read_cascade(stage: Stage, record: DiffusionModel) -> Cascade:
    """Load the models of rhythm and beat shapes and combine them with the record model."""
    rhythm = RhythmModel(stage.read(RhythmConfig, "settings.rhythm.model"))
    load_weights(rhythm, stage.folder / RHYTHM / WEIGHTS)
    shapes = BeatShapeModel(stage.read(BeatShapeConfig, "settings.beat_shapes.model"))
    load_weights(shapes, stage.folder / BEAT_SHAPES / WEIGHTS)
    return Cascade(rhythm, shapes, record).eval().requires_grad_(False)
