"""Stage `source`: the conditional diffusion model of the source, trained or taken over."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from ecgtransfer.corpus import ECGSet, LabelSpace, patient_split, select_records
from ecgtransfer.diffusion import (
    DiffusionConfig,
    DiffusionModel,
    NoiseConfig,
    Precision,
    fastest_precision,
    fit_diffusion,
    gaussian_identity,
)
from ecgtransfer.errors import RunError
from ecgtransfer.models import UNetConfig
from ecgtransfer.pipeline.config import SourceSettings, preset
from ecgtransfer.pipeline.run import (
    CARD,
    REQUEST,
    Run,
    Stage,
    begin_run,
    make_folder,
    read_json,
    write_json,
)
from ecgtransfer.training import Progress, load_weights, seeded_initialisation

SOURCE = "source"
WEIGHTS = "weights.safetensors"
#: Where the source's records lie on this machine, if they do: `{"set": folder}`.
RECORDS = "records.json"
#: What is told of the corpus that a set is from, in this order.
STATED_OF_CORPUS = ("name", "version", "licence", "url")
#: Held-out source records behind the printed identities.
RECORDS_FOR_IDENTITIES = 512


@dataclass(frozen=True)
class SourceSummary:
    """What training the source came to.

    `labels` counts the training records of each label, `corpus` says where they are from.
    """

    records: int
    held_out: int
    parameters: int
    steps: int
    validation_loss: float | None
    gaussian_loss: float
    seconds: float
    precision: str
    labels: Mapping[str, int]
    corpus: Mapping[str, str]


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
    """

    model: DiffusionModel
    label_space: LabelSpace
    fingerprint: str
    settings: SourceSettings
    set_fingerprint: str
    location: Path | None
    summary: SourceSummary
    start: SourceStart | None = None

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
) -> SourceSummary:
    """Train the source model of a run, or find it done.

    Args:
        run: gets the source.
        settings: of the training.
        progress: called after every step.
        start: a trained model whose weights and units the training begins with; layers that it
            lacks begin without effect.

    Raises:
        CorpusError: the set cannot be opened, or the selection names what it does not have.
        RunError: the run holds a source with other settings, `start` is a model of other records,
            labels or shape, or training diverged.
    """
    settings = replace(settings, source=absolute(settings.source))
    ecgset = ECGSet.open(settings.source)
    train, held_out = source_split(ecgset, settings)
    chosen = preset(settings.preset)
    precision = _precision(settings.precision)
    config = DiffusionConfig(
        label_names=ecgset.label_space.names,
        samples=ecgset.n_samples,
        sampling_rate_hz=int(ecgset.sampling_rate_hz),
        unet=chosen.unet(len(ecgset.label_space), ecgset.independent_mv([0]).shape[1]),
        precision=precision,
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
    if start is not None:
        asked["start"] = SourceStart(start.fingerprint, start.summary.steps, start.summary.seconds)
    if stage.begin(asked):
        return SourceSummary(**stage.card["results"])
    result = fit_diffusion(
        model,
        ecgset,
        train,
        held_out,
        settings.train(),
        stage.folder,
        measure_units=start is None,
        progress=progress,
        keep_checkpoint=True,
    )
    probe = held_out[:RECORDS_FOR_IDENTITIES] if len(held_out) else train[:RECORDS_FOR_IDENTITIES]
    summary = SourceSummary(
        records=len(train),
        held_out=len(held_out),
        parameters=sum(p.numel() for p in model.parameters()),
        steps=result.steps,
        validation_loss=result.validation,
        gaussian_loss=gaussian_identity(
            model.units, torch.from_numpy(ecgset.independent_mv(probe)), config.noise, settings.seed
        ),
        seconds=result.seconds,
        precision=precision,
        labels=_label_counts(ecgset, train),
        corpus=corpus_of(ecgset),
    )
    stage.finish(summary)
    return summary


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
        partial = ours.folder.with_name(f".{ours.folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        make_folder(partial)
        try:
            for name in (REQUEST, WEIGHTS, CARD):
                shutil.copy2(theirs.folder / name, partial / name)
            if (theirs.folder / RECORDS).exists():
                shutil.copy2(theirs.folder / RECORDS, partial / RECORDS)
            partial.rename(ours.folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise RunError(
                f"{theirs.folder} could not be copied to {ours.folder} ({error.strerror}); make "
                f"room and run the same command again"
            ) from None
    if records is not None:
        replace(load_source(run), location=absolute(records)).records()
        write_json(ours.folder / RECORDS, {"set": str(absolute(records))})


def load_source(run: Run) -> Source:
    """The trained source of a run; RunError where it has none."""
    return read_source(run.stage(SOURCE))


def read_source(stage: Stage) -> Source:
    """A trained source from its stage, in a run or apart; RunError where it is not finished."""
    asked: dict[str, Any] = stage.card["settings"]
    model = DiffusionModel(_diffusion_config(asked["model"]))
    load_weights(model, stage.folder / WEIGHTS)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).eval().requires_grad_(False)
    settings = asked["source"] | {
        "source": Path(asked["source"]["source"]),
        "select": tuple(asked["source"]["select"]),
        "validation": tuple(asked["source"]["validation"]),
    }
    location = settings["source"]
    if (stage.folder / RECORDS).exists():
        location = Path(read_json(stage.folder / RECORDS)["set"])
    return Source(
        model=model,
        label_space=LabelSpace(model.config.label_names),
        fingerprint=str(stage.card["fingerprint"]),
        settings=SourceSettings(**settings),
        set_fingerprint=str(asked["set"]),
        # The path of a model that came without its records is but the name of their set.
        location=location if location.is_absolute() else None,
        summary=SourceSummary(**stage.card["results"]),
        start=SourceStart(**asked["start"]) if "start" in asked else None,
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


def corpus_of(ecgset: ECGSet) -> dict[str, str]:
    """Name, version, licence and address of the corpus of a set, as far as its card states them."""
    stated = ecgset.card.get("corpus")
    known: Mapping[str, Any] = stated if isinstance(stated, Mapping) else {}
    named = {"name": str(known.get("name") or ecgset.folder.name)}
    return named | {key: str(known[key]) for key in STATED_OF_CORPUS[1:] if known.get(key)}


def corpus_in_words(corpus: Mapping[str, str]) -> str:
    """What `corpus_of` found, in a line."""
    return ", ".join(corpus[key] for key in STATED_OF_CORPUS if key in corpus)


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


def _label_counts(ecgset: ECGSet, numbers: np.ndarray) -> dict[str, int]:
    """How many of some records have each label."""
    counts = ecgset.labels[numbers].sum(axis=0)
    return {name: int(count) for name, count in zip(ecgset.label_space.names, counts, strict=True)}


def _diffusion_config(held: dict[str, Any]) -> DiffusionConfig:
    unet = UNetConfig(**held["unet"] | {"widths": tuple(held["unet"]["widths"])})
    return DiffusionConfig(
        **held
        | {
            "label_names": tuple(held["label_names"]),
            "unet": unet,
            "noise": NoiseConfig(**held["noise"]),
        }
    )


def _precision(name: str) -> Precision:
    for precision in get_args(Precision):
        if name == precision:
            chosen: Precision = precision
            return chosen
    return fastest_precision()
