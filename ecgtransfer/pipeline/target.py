"""Stage `target`: split of the target set into training and test records.

RUN/target/split.csv    index ("number"), name and part of each record: fit, held_out or test
"""

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
from ecgtransfer.pipeline.recorded import require_recorded
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.seen import Seen, corpus_name
from ecgtransfer.pipeline.source import Source, absolute
from ecgtransfer.storage import atomic_file
from ecgtransfer.transfer import DomainRecords

TARGET = "target"
SPLIT = "split.csv"
#: Share of the training records that are held out for early stopping and calibration.
HELD_OUT_SHARE = 0.2
#: Fewest held-out records for a calibration.
FEWEST_HELD_OUT = 2


@dataclass(frozen=True)
class TargetSettings:
    """Target set of a run and its split.

    Attributes:
        target: folder of the prepared target set.
        select: selection of its records, in the form of `select_records`.
        train_records: number of training records, of whole patients; None for three quarters.
        protocol: "split" for a random split, or a protocol of `corpus.protocol_splits`: "paper" and
            "standard" use published folds; for "cross-validation" a run has one part.
        part: test part of a cross-validation, such as (2, 5) for the second of five.
        seed: seed of the split.

    Raises:
        ConfigError: a setting is out of its range, or the settings contradict each other.
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
                f"expected a protocol of {', '.join(get_args(SplitProtocol))}, got "
                f"{self.protocol!r}; choose one of these"
            )
        if self.protocol != "split" and self.train_records is not None:
            raise ConfigError(
                "expected either a number of training records or a protocol, got "
                f"{self.train_records} and {self.protocol!r}; omit one of them"
            )
        if (self.protocol == "cross-validation") != (self.part is not None):
            raise ConfigError(
                "expected the part of a cross-validation, such as 2/5, with that protocol and with "
                f"no other, got {self.protocol!r} and {'one' if self.part else 'none'}; give both "
                "or neither"
            )
        if self.part is not None and not 1 <= self.part[0] <= self.part[1]:
            raise ConfigError(
                f"expected a part such as 2/5, got {self.part[0]}/{self.part[1]}; change it"
            )


@dataclass(frozen=True)
class Target:
    """Target set of a run, split, with labels that the source model knows.

    Attributes:
        ecgset: the whole set.
        label_space: label space of the run, see `Source.label_space_for`.
        labels: labels (N, K) of all records, in that space.
        fit: indices of the records that are trained on.
        held_out: indices of records of other patients, for early stopping and calibration.
        test: indices of the test records, used by no training and no selection.
        fingerprint: fingerprint of the set and its split settings.
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
        """Indices of all training records: `fit` and `held_out`."""
        return np.sort(np.concatenate([self.fit, self.held_out]))


def split_target(run: Run, source: Source, settings: TargetSettings) -> Target:
    """Split the target once for the whole run, or read the split if it exists.

    Nothing is written for a target that is refused.

    Args:
        run: the run.
        source: source of the run.
        settings: target set and split.

    Raises:
        ConfigError: there are too few training records.
        CorpusError: the set has another rate, length or label space than the source, or fewer
            records than `train_records`.
        RunError: the run has another target already, or the disk is full.
    """
    settings, ecgset, space, labels = _opened(source, settings)
    stage = run.stage(TARGET)
    # Check everything before anything is written.
    parts, known = ({}, 0) if stage.is_done else _parts(source, ecgset, labels, settings)
    if not stage.begin({"target": settings, "set": ecgset.fingerprint}):
        listed = [
            (int(index), str(ecgset.records.name.iloc[index]), part)
            for part, indices in parts.items()
            for index in indices
        ]
        frame = pd.DataFrame(listed, columns=["number", "name", "part"]).sort_values("number")
        with atomic_file(stage.folder / SPLIT) as partial:
            frame.to_csv(partial, index=False)
        counts = {part: len(indices) for part, indices in parts.items()}
        stage.finish(counts | {"left_out_as_patients_of_the_source": known})
    rows = pd.read_csv(stage.folder / SPLIT)
    indices_of = {
        part: rows.number[rows.part == part].to_numpy(np.int64)
        for part in ("fit", "held_out", "test")
    }
    return Target(
        ecgset=ecgset,
        label_space=space,
        labels=labels,
        fit=indices_of["fit"],
        held_out=indices_of["held_out"],
        test=indices_of["test"],
        fingerprint=stage.read(str, "fingerprint"),
    )


def check_target(source: Source, settings: TargetSettings) -> None:
    """Check a target without a run and without writing anything.

    Raises:
        ConfigError: there are too few training records.
        CorpusError: the set does not suit the source, or has too few records.
    """
    settings, ecgset, _, labels = _opened(source, settings)
    _parts(source, ecgset, labels, settings)


def load_target(run: Run, source: Source) -> Target:
    """Load the target of a run.

    Raises:
        RunError: the run has no target yet.
    """
    stage = run.stage(TARGET)
    if not stage.is_done:
        raise RunError(
            f"expected a target in {run.folder}, found none; run 'ecgtransfer transfer' first"
        )
    return split_target(run, source, stage.read(TargetSettings, "settings.target"))


def _opened(
    source: Source, settings: TargetSettings
) -> tuple[TargetSettings, ECGSet, LabelSpace, np.ndarray]:
    """Open the target set and check its format.

    Returns:
        The settings with an absolute path, the set, the label space of the run, and the labels in
        this space.
    """
    settings = replace(settings, target=absolute(settings.target))
    ecgset = ECGSet.open(settings.target)
    require_recorded(ecgset, "some of them test the results")
    config = source.model.config
    if (ecgset.sampling_rate_hz, ecgset.n_samples) != (config.sampling_rate_hz, config.samples):
        raise CorpusError(
            f"expected a target of {config.samples} samples at {config.sampling_rate_hz} Hz as in "
            f"the training of the source model, got {ecgset.n_samples} at "
            f"{ecgset.sampling_rate_hz:g} Hz; prepare {settings.target} at the source's rate and "
            "length"
        )
    space = source.label_space_for(ecgset)
    return settings, ecgset, space, project_labels(space, ecgset)


def _parts(
    source: Source, ecgset: ECGSet, labels: np.ndarray, settings: TargetSettings
) -> tuple[dict[str, np.ndarray], int]:
    """Split the selected records.

    Returns:
        The record indices of each part, and the number of records that were excluded because they
        are of patients of the source.
    """
    selected = select_records(ecgset.records, settings.select)
    unseen = _without_source_patients(source, ecgset, selected)
    known, selected = len(selected) - len(unseen), unseen
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
            f"expected at least {FEWEST_HELD_OUT} held-out target records for calibration, got "
            f"{len(held_out)} of {len(split.train)} training records; raise --train-records"
        )
    parts = {
        "fit": selected[fit],
        "held_out": selected[held_out],
        "test": selected[split.test],
    }
    return parts, known


def _split(table: pd.DataFrame, labels: np.ndarray, settings: TargetSettings) -> Split:
    """Split the rows into training, test, and for some protocols validation."""
    if settings.protocol == "split":
        n_train = settings.train_records
        if n_train is None:
            n_train = round(0.75 * len(table))
        return Split("split", *take_patients(table, labels, n_train, settings.seed))
    part, parts = settings.part or (1, 2)
    splits = protocol_splits(
        settings.protocol,
        table.fold.to_numpy(np.float64),
        table.patient.astype(str).to_numpy(),
        labels,
        parts=parts,
        seed=settings.seed,
    )
    return splits[part - 1]


def _without_source_patients(source: Source, ecgset: ECGSet, selected: np.ndarray) -> np.ndarray:
    """Exclude records of patients on whom the source model was trained or validated.

    Patients are compared within a corpus, across all sets prepared from it. Signals are always
    compared (`seen`).

    Raises:
        CorpusError: no record is left, or the source model does not state which patients of the
            target's corpus it was trained on.
    """
    if source.seen is not None:
        left = selected[~source.seen.holds(ecgset, selected)]
    elif ecgset.fingerprint == source.set_fingerprint:
        _, train, held_out = source.records()
        left = selected[~Seen.of(ecgset, np.concatenate([train, held_out])).holds(ecgset, selected)]
    elif corpus_name(ecgset) is not None and corpus_name(ecgset) == source.summary.corpus["name"]:
        raise CorpusError(
            f"expected a source model that states which patients of {corpus_name(ecgset)} it was "
            "trained on, got one of an earlier version that does not; train or export it again, or "
            "use the set that it was trained on as the target"
        )
    else:
        return selected
    if len(left) == 0:
        raise CorpusError(
            "expected target patients on whom the source model was not trained, but it was trained "
            f"on the patients of all {len(selected)} selected records; select other records with "
            "--select"
        )
    return left


def project_labels(space: LabelSpace, ecgset: ECGSet, *, drop_others: bool = False) -> np.ndarray:
    """Return the labels of a set in another label space, matched by name: (N, K), float32.

    Args:
        space: the other label space.
        ecgset: the set.
        drop_others: whether to ignore labels that the space does not have, instead of refusing
            them.

    Raises:
        CorpusError: a record has a label that the space does not have.
    """
    names = ecgset.label_space.names
    unknown = [
        name
        for column, name in enumerate(names)
        if name not in space.names and ecgset.labels[:, column].any()
    ]
    if unknown and not drop_others:
        raise CorpusError(
            f"expected labels that the source model knows ({', '.join(space.names)}), "
            f"{ecgset.folder} also has {', '.join(unknown)}; prepare it in the source's label "
            "space"
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
    indices: np.ndarray,
) -> DomainRecords:
    """Return records of a set for a transfer, in model units and with their conditions.

    Args:
        source: source model, whose units are used.
        ecgset: set of the records.
        label_space: label space of the run.
        labels: labels (N, K) of all records of the set, in that space.
        indices: indices of the records.
    """
    x0, conditions = [], []
    with torch.no_grad():
        for part in np.array_split(indices, 1 + len(indices) // 512):
            signals = torch.from_numpy(ecgset.independent_mv(part)).to(source.device)
            condition = source.condition(ecgset, label_space, labels, part)
            in_units, complete = source.model.to_model(signals, condition)
            x0.append(in_units.cpu())
            conditions.append(complete.to("cpu"))
    patients = ecgset.records.patient.iloc[indices].astype(str)
    condition = Condition.cat(conditions)
    return DomainRecords(
        torch.cat(x0),
        condition.label if source.cascade is None else condition,
        tuple(patients.tolist()),
    )


def target_records(source: Source, target: Target, indices: np.ndarray) -> DomainRecords:
    """Return target records for a transfer, in model units and with their conditions."""
    return domain_records(source, target.ecgset, target.label_space, target.labels, indices)
