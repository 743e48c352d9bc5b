"""Stage `target`: which records of the target may be learned from, and which only test."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import torch

from ecgtransfer.corpus import (
    ECGSet,
    LabelSpace,
    Split,
    SplitProtocol,
    patient_split,
    protocol_splits,
    select_records,
    take_patients,
)
from ecgtransfer.diffusion import Condition
from ecgtransfer.errors import ConfigError, CorpusError, RunError
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.seen import Seen, corpus_name
from ecgtransfer.pipeline.source import Source, absolute
from ecgtransfer.storage import atomic_file
from ecgtransfer.transfer import DomainRecords

TARGET = "target"
SPLIT = "split.csv"
#: Share of the target's training records that stop trainings early and calibrate the guidance.
HELD_OUT_SHARE = 0.2
#: The fewest held-out records that a calibration can be fitted on.
FEWEST_HELD_OUT = 2


@dataclass(frozen=True)
class TargetSettings:
    """What the run's target is.

    Attributes:
        target: folder of the prepared target set.
        select: which of its records take part, as `select_records` reads it.
        train_records: records to learn from, whole patients; None takes three quarters.
        protocol: "split" at random, or one of `corpus.protocol_splits`: "paper" and "standard"
            by the published folds, "cross-validation", of which a run has one part.
        part: of a cross-validation, (2, 5) for the second of five, which is tested on.
        seed: of the split.
    """

    target: Path
    select: tuple[str, ...] = ()
    train_records: int | None = None
    protocol: SplitProtocol = "split"
    part: tuple[int, int] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in get_args(SplitProtocol):
            raise ConfigError(
                f"expected a protocol of {', '.join(get_args(SplitProtocol))}, "
                f"got {self.protocol!r}"
            )
        if self.protocol != "split" and self.train_records is not None:
            raise ConfigError(
                f"expected either a number of records to learn from or a protocol, got "
                f"{self.train_records} and {self.protocol!r}"
            )
        if (self.protocol == "cross-validation") != (self.part is not None):
            raise ConfigError(
                "expected the part of a cross-validation, such as 2/5, with that protocol and with "
                f"no other, got {self.protocol!r} and {'one' if self.part else 'none'}"
            )
        if self.part is not None and not 1 <= self.part[0] <= self.part[1]:
            raise ConfigError(f"expected a part such as 2/5, got {self.part[0]}/{self.part[1]}")


@dataclass(frozen=True)
class Target:
    """The target set of a run, in a label space whose every name the source model knows.

    Attributes:
        ecgset: all of it.
        label_space: of the run, see `Source.label_space_for`.
        labels: (N, K), columns in the order of `label_space`.
        fit: record numbers to fit on. held_out: of other patients, to stop and calibrate on.
            Together they are the training records.
        test: record numbers that no training and no choice ever sees.
    """

    ecgset: ECGSet
    label_space: LabelSpace
    labels: np.ndarray
    fit: np.ndarray
    held_out: np.ndarray
    test: np.ndarray
    fingerprint: str

    @property
    def train(self) -> np.ndarray:
        """All records that may be learned from."""
        return np.sort(np.concatenate([self.fit, self.held_out]))


def settle_target(run: Run, source: Source, settings: TargetSettings) -> Target:
    """Split the target once for the whole run, or read the split back.

    Raises:
        ConfigError: too few records to learn from.
        CorpusError: a set of another rate, length or label space than the source's, or more
            records to learn from than there are.
        RunError: the run has another target already, or the disk is full.

    Nothing is written for a target that is refused.
    """
    settings, ecgset, space, labels = _opened(source, settings)
    stage = run.stage(TARGET)
    # Whatever is refused is refused before anything is written.
    parts, known = ({}, 0) if stage.is_done else _parts(source, ecgset, labels, settings)
    if not stage.begin({"target": settings, "set": ecgset.fingerprint}):
        listed = [
            (int(number), str(ecgset.records.name.iloc[number]), part)
            for part, numbers in parts.items()
            for number in numbers
        ]
        frame = pd.DataFrame(listed, columns=["number", "name", "part"]).sort_values("number")
        with atomic_file(stage.folder / SPLIT) as partial:
            frame.to_csv(partial, index=False)
        counts = {part: len(numbers) for part, numbers in parts.items()}
        stage.finish(counts | {"left_out_as_patients_of_the_source": known})
    rows = pd.read_csv(stage.folder / SPLIT)
    numbers_of = {
        part: rows.number[rows.part == part].to_numpy(np.int64)
        for part in ("fit", "held_out", "test")
    }
    return Target(
        ecgset=ecgset,
        label_space=space,
        labels=labels,
        fit=numbers_of["fit"],
        held_out=numbers_of["held_out"],
        test=numbers_of["test"],
        fingerprint=stage.read(str, "fingerprint"),
    )


def check_target(source: Source, settings: TargetSettings) -> None:
    """Raise what `settle_target` would, without a run and without writing anything."""
    settings, ecgset, _, labels = _opened(source, settings)
    _parts(source, ecgset, labels, settings)


def load_target(run: Run, source: Source) -> Target:
    """The target that a transfer of this run settled; RunError where there is none yet."""
    stage = run.stage(TARGET)
    if not stage.is_done:
        raise RunError(
            f"expected a target in {run.folder}, found none; run 'ecgtransfer transfer' first"
        )
    return settle_target(run, source, stage.read(TargetSettings, "settings.target"))


def _opened(
    source: Source, settings: TargetSettings
) -> tuple[TargetSettings, ECGSet, LabelSpace, np.ndarray]:
    """Settings with an absolute path, the set, the label space of the run and the labels in it."""
    settings = replace(settings, target=absolute(settings.target))
    ecgset = ECGSet.open(settings.target)
    if ecgset.origin in ("generated", "mixed"):
        raise CorpusError(
            f"expected recorded ECGs in {settings.target}, because some of them test the results, "
            f"got a {ecgset.origin} set; name the set of the recorded ECGs"
        )
    config = source.model.config
    if (ecgset.sampling_rate_hz, ecgset.n_samples) != (config.sampling_rate_hz, config.samples):
        raise CorpusError(
            f"expected a target of {config.samples} samples at {config.sampling_rate_hz} Hz as "
            f"the source model was trained on, got {ecgset.n_samples} at "
            f"{ecgset.sampling_rate_hz:g} Hz; prepare {settings.target} with the source's rate"
        )
    space = source.label_space_for(ecgset)
    return settings, ecgset, space, labels_in(space, ecgset)


def _parts(
    source: Source, ecgset: ECGSet, labels: np.ndarray, settings: TargetSettings
) -> tuple[dict[str, np.ndarray], int]:
    """Record numbers of each part, and how many records were left out as the source's patients."""
    selected = select_records(ecgset.records, settings.select)
    strangers = _without_source_patients(source, ecgset, selected)
    known, selected = len(selected) - len(strangers), strangers
    table = ecgset.records.iloc[selected]
    split = _split(table, labels[selected], settings)
    if split.validation is None:
        fit, held_out = patient_split(
            table.iloc[split.train],
            labels[selected][split.train],
            (1 - HELD_OUT_SHARE, HELD_OUT_SHARE),
            settings.seed,
        )
        fit, held_out = split.train[fit], split.train[held_out]
    else:
        fit, held_out = split.train, split.validation
    if len(held_out) < FEWEST_HELD_OUT:
        raise ConfigError(
            f"expected target records enough to hold {FEWEST_HELD_OUT} out of those that are "
            f"learned from, got {len(held_out)} of {len(split.train)}; learn from more records"
        )
    parts = {
        "fit": selected[fit],
        "held_out": selected[held_out],
        "test": selected[split.test],
    }
    return parts, known


def _split(table: pd.DataFrame, labels: np.ndarray, settings: TargetSettings) -> Split:
    """Row numbers to learn from, to hold out where the protocol says so, and to test on."""
    if settings.protocol == "split":
        n_train = settings.train_records
        if n_train is None:
            n_train = round(0.75 * len(table))
        return Split("split", *take_patients(table, labels, n_train, settings.seed))
    number, parts = settings.part or (1, 2)
    splits = protocol_splits(
        settings.protocol,
        table.fold.to_numpy(np.float64),
        table.patient.astype(str).to_numpy(),
        labels,
        parts=parts,
        seed=settings.seed,
    )
    return splits[number - 1]


def _without_source_patients(source: Source, ecgset: ECGSet, selected: np.ndarray) -> np.ndarray:
    """The selected records of patients that the source model was neither trained nor validated on.

    Patients are compared within a corpus, whatever sets were prepared from it, and signals in any
    case (`seen`).

    Raises:
        CorpusError: nobody is left, or the source does not state whom of the target's corpus it
            has seen.
    """
    if source.seen is not None:
        left = selected[~source.seen.holds(ecgset, selected)]
    elif ecgset.fingerprint == source.set_fingerprint:
        _, train, held_out = source.records()
        left = selected[~Seen.of(ecgset, np.concatenate([train, held_out])).holds(ecgset, selected)]
    elif corpus_name(ecgset) is not None and corpus_name(ecgset) == source.summary.corpus["name"]:
        raise CorpusError(
            f"expected a source model that states which patients of {corpus_name(ecgset)} it has "
            "seen, got one of an earlier version that does not; train or export it anew, or name "
            "the very set that it was trained on as the target"
        )
    else:
        return selected
    if len(left) == 0:
        raise CorpusError(
            f"expected target patients whom the source model never met, all {len(selected)} "
            f"selected records are of patients it did; select other records with --select"
        )
    return left


def labels_in(space: LabelSpace, ecgset: ECGSet, *, drop_others: bool = False) -> np.ndarray:
    """Labels of a set in another label space, joined by name: (N, K) float32.

    Args:
        space: the other label space.
        ecgset: the set.
        drop_others: leave out the labels that the space does not know, in place of refusing them.

    Raises:
        CorpusError: the set has records of a label that the space does not know.
    """
    names = ecgset.label_space.names
    strangers = [
        name
        for column, name in enumerate(names)
        if name not in space.names and ecgset.labels[:, column].any()
    ]
    if strangers and not drop_others:
        raise CorpusError(
            f"expected labels that the source model knows ({', '.join(space.names)}), "
            f"{ecgset.folder} also has {', '.join(strangers)}; prepare it in the source's label "
            f"space"
        )
    joined = np.zeros((len(ecgset), len(space.names)), np.float32)
    for column, name in enumerate(names):
        if name in space.names:
            joined[:, space.names.index(name)] = ecgset.labels[:, column]
    return joined


def domain_records(
    source: Source,
    ecgset: ECGSet,
    label_space: LabelSpace,
    labels: np.ndarray,
    numbers: np.ndarray,
) -> DomainRecords:
    """Records of a set as the transfer sees them: in model units, each with its condition.

    Args:
        source: whose units they are in.
        ecgset: the records.
        label_space: of the run.
        labels: (N, K) of all records of the set, in that space.
        numbers: of the records to take.
    """
    x0, conditions = [], []
    with torch.no_grad():
        for part in np.array_split(numbers, 1 + len(numbers) // 512):
            signals = torch.from_numpy(ecgset.independent_mv(part)).to(source.device)
            condition = source.condition(ecgset, label_space, labels, part)
            in_units, told = source.model.to_model(signals, condition)
            x0.append(in_units.cpu())
            conditions.append(told.to("cpu"))
    patients = ecgset.records.patient.iloc[numbers].astype(str)
    condition = Condition.cat(conditions)
    return DomainRecords(
        torch.cat(x0),
        condition.label if source.cascade is None else condition,
        tuple(patients.tolist()),
    )


def target_records(source: Source, target: Target, numbers: np.ndarray) -> DomainRecords:
    """Some of the target's records as the transfer sees them."""
    return domain_records(source, target.ecgset, target.label_space, target.labels, numbers)
