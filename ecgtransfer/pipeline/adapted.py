"""The command line's work in Python: load a source model, transfer it, generate, augment.

Results, run folders and resumption are those of the commands. Sentences for the user go to the
logger "ecgtransfer": plans as information, the rest as warnings.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ecgtransfer.corpus import ECGSet, SetPart
from ecgtransfer.corpus.sets.joining import joined_labels
from ecgtransfer.defaults import LABEL_SCALE, RECORD_STEPS
from ecgtransfer.evaluation.gate import GateSettings
from ecgtransfer.export import TrainingArrays
from ecgtransfer.pipeline.augment_request import AugmentRequest, request_augmentation
from ecgtransfer.pipeline.augmented import Augmentation, AugmentSettings, augment_stage
from ecgtransfer.pipeline.augmented_files import (
    AugmentedSets,
    check_destination,
    training_parts,
    write_augmented,
)
from ecgtransfer.pipeline.evaluation import Answer, QuestionSettings, evaluate_all
from ecgtransfer.pipeline.methods import TransferSettings, TransferSummary, stage_name
from ecgtransfer.pipeline.pretrained import find_source
from ecgtransfer.pipeline.run import REQUEST, Run, Stage
from ecgtransfer.pipeline.source import Source, load_source
from ecgtransfer.pipeline.synthetic import (
    GenerateSettings,
    SamplerSettings,
    only_method,
    synthesise,
    synthetic_stage,
)
from ecgtransfer.pipeline.target import Target, TargetSettings, load_target
from ecgtransfer.pipeline.transfer_request import TransferRequest, request_transfer
from ecgtransfer.storage import fingerprint, read_json, to_card
from ecgtransfer.training import Progress

LOGGER = logging.getLogger("ecgtransfer")


def load(name: str | Path) -> "SourceModel":
    """Find a source model.

    Args:
        name: a shipped model such as "ptbxl-cascade", a run folder, or the folder of an exported
            model.

    Raises:
        RunError: it is none of these.
    """
    stage = find_source(str(name))
    return SourceModel(str(name), stage, tuple(stage.read(dict[str, int], "results.labels")))


@dataclass(frozen=True)
class SourceModel:
    """A source model on disk, see `load`.

    Attributes:
        name: what it was loaded by.
        stage: its files.
        names: labels that it knows.
    """

    name: str
    stage: Stage
    names: tuple[str, ...]

    def transfer(
        self,
        clinic: ECGSet | Path | str,
        folder: Path | str,
        *,
        method: str = "tgdp",
        train_records: int | None = None,
        select: Sequence[str] = (),
        split_seed: int | None = None,
        seed: int = 0,
        settings: TransferSettings | None = None,
    ) -> "AdaptedModel":
        """Split a clinic's set and transfer to its training records, as `ecgtransfer transfer`.

        Args:
            clinic: the clinic's set.
            folder: run folder; what is done there is kept.
            method: transfer method.
            train_records: records to learn from; None for three quarters.
            select: records that take part, such as "device=CS-12".
            split_seed: seed of the split; None for that of the run, 0 in a new one.
            seed: seed of the trainings.
            settings: research settings, in place of `method` and `seed`.

        Raises:
            ConfigError: settings out of range.
            CorpusError: a set that does not suit the model.
            RunError: the run holds a source, a target or this transfer with other settings.
        """
        folder = Path(folder)
        settings = settings or TransferSettings(method=method, seed=seed)
        target = TargetSettings(_folder_of(clinic), tuple(select), train_records)
        request = TransferRequest(target, settings, source=self.name, split_seed=split_seed)
        request_transfer(folder, request, warn=LOGGER.warning)
        return AdaptedModel.open(folder, settings.method)


@dataclass(frozen=True, eq=False)
class AdaptedModel:
    """A model that was transferred to a clinic, in its run folder.

    Attributes:
        run: the run.
        source: its source.
        target: the clinic's set and its split.
        method: transfer method.
    """

    run: Run
    source: Source
    target: Target
    method: str

    @classmethod
    def open(cls, folder: Path | str, method: str | None = None) -> "AdaptedModel":
        """Open a run with a finished transfer.

        Args:
            folder: run folder.
            method: one of its transfers; None if it has only one.

        Raises:
            RunError: no run, no finished transfer, or several and no method.
        """
        run = Run.open(Path(folder))
        method = method or only_method(run)
        run.stage(stage_name(method)).read(TransferSummary, "results")
        source = load_source(run)
        return cls(run, source, load_target(run, source), method)

    @property
    def folder(self) -> Path:
        """Run folder."""
        return self.run.folder

    @property
    def summary(self) -> TransferSummary:
        """Result of the transfer."""
        return self.run.stage(stage_name(self.method)).read(TransferSummary, "results")

    def generate(
        self,
        counts: Mapping[str, int] | None = None,
        *,
        per_class: int | None = None,
        ratio: float | None = None,
        seed: int = 0,
        label_scale: float = LABEL_SCALE,
        steps: int = RECORD_STEPS,
        name: str | None = None,
    ) -> ECGSet:
        """Generate labelled records as a set in the run folder, as `ecgtransfer generate`.

        Args:
            counts: number of records by labels, such as {"AFIB": 200, "CRBBB+PVC": 20}.
            per_class: records of each label, in place of counts.
            ratio: records per training record, in their mix of labels, in place of counts.
            seed: seed of the records.
            label_scale: classifier-free guidance; 1 is the model without it.
            steps: sampler steps.
            name: name of the set; None for "synthetic", with an ending if the run has another set
                of that name.

        Raises:
            ConfigError: a count that cannot be read, or a label that the model does not know.
            RunError: other settings in place, or too little disk space.
        """
        settings = GenerateSettings(
            counts=tuple(f"{labels}={count}" for labels, count in (counts or {}).items()),
            per_class=per_class,
            ratio=ratio,
            method=self.method,
            name=name or "synthetic",
            sampler=SamplerSettings(steps=steps, classifier_free_scale=label_scale),
            seed=seed,
        )
        if name is None:
            settings = replace(settings, name=self._free_name(settings, "generate", _synthetic))
        return synthesise(self.run, self.source, settings)

    def augment(
        self,
        clinic: ECGSet | Path | str | None = None,
        *,
        ratio: float | None = None,
        at_least: int | None = None,
        balance: bool = False,
        gate: bool | GateSettings = True,
        seed: int = 0,
        label_scale: float = LABEL_SCALE,
        name: str | None = None,
    ) -> TrainingArrays:
        """Recorded training records and synthetic ones as `X, y, groups, weight`.

        X (n, 12, T) float32 millivolts, y (n, K) float32 with the columns `clinic.names`, groups
        (n,) patients, weight (n,). Recorded records come first. No test record is among them: see
        `test`. `augmentation` and `write` give the same as sets with a data sheet.

        Args:
            clinic: the set that the run was split on, for a check; None for the run's.
            ratio: synthetic records per recorded one; 1 if nothing else is given.
            at_least: fewest records of each class, recorded and synthetic together.
            balance: whether each class gets as many records as the most frequent one.
            gate: whether, or how, records of bad quality are dropped.
            seed: seed of records, folds and classifiers.
            label_scale: classifier-free guidance.
            name: name in the run; None for "augmented", with an ending if that is taken.

        Raises:
            ConfigError: options out of range, or nothing to add.
            RunError: another set than that of the run, or other settings in place.
        """
        made = self.augmentation(
            clinic,
            ratio=ratio,
            at_least=at_least,
            balance=balance,
            gate=gate,
            seed=seed,
            label_scale=label_scale,
            name=name,
        )
        return _arrays(training_parts(made), made.target)

    def augmentation(
        self,
        clinic: ECGSet | Path | str | None = None,
        *,
        ratio: float | None = None,
        at_least: int | None = None,
        balance: bool = False,
        gate: bool | GateSettings = True,
        seed: int = 0,
        label_scale: float = LABEL_SCALE,
        name: str | None = None,
    ) -> Augmentation:
        """Generate and judge the records of `augment`, or find it done; arguments as there."""
        chosen = (GateSettings() if gate else None) if isinstance(gate, bool) else gate
        settings = AugmentSettings(
            ratio,
            at_least,
            balance,
            self.method,
            name or "augmented",
            chosen,
            SamplerSettings(classifier_free_scale=label_scale),
            seed,
        )
        if name is None:
            settings = replace(settings, name=self._free_name(settings, "augment", _augmented))
        clinic = self.target.ecgset if clinic is None else clinic
        request = AugmentRequest(self.folder, TargetSettings(_folder_of(clinic)), settings)
        _, made = request_augmentation(request, _Silent(), note=LOGGER.info, warn=LOGGER.warning)
        return made

    def write(self, made: Augmentation, folder: Path | str) -> AugmentedSets:
        """Write an augmentation as `ecgtransfer augment --to FOLDER` does.

        Raises:
            RunError: the folder holds something else, or there is too little disk space.
        """
        check_destination(Path(folder), made.settings)
        return write_augmented(made, self.source, Path(folder), _Silent())

    def evaluate(self, *questions: QuestionSettings) -> tuple[Answer, ...]:
        """Answer questions about synthetic sets, as `ecgtransfer evaluate`.

        Args:
            questions: settings such as `PrivacySettings(name="synthetic")`.

        Raises:
            ConfigError: too few records for a question.
            RunError: no such synthetic set, or other settings in place.
        """
        return evaluate_all(self.run, self.source, self.target, questions, _Silent())

    def test(self) -> TrainingArrays:
        """Recorded test records as `X, y, groups, weight`, of patients that nothing was fitted to.

        Use them once, at the end.
        """
        return _arrays([SetPart(self.target.ecgset, self.target.test)], self.target)

    def _free_name(self, settings: Any, part: str, stage_of: Callable[[str, str], str]) -> str:
        """Name of a set with these settings: its own where it exists, else one that is free."""
        base, asked = settings.name, _nameless(to_card(settings))
        request = self.run.stage(stage_of(base, self.method)).folder / REQUEST
        if not request.exists():
            return str(base)
        held = read_json(request).get("settings", {}).get(part, {})
        return str(base) if _nameless(held) == asked else f"{base}-{fingerprint(asked)[:6]}"


def _synthetic(name: str, method: str) -> str:
    return synthetic_stage(name, method)


def _augmented(name: str, method: str) -> str:
    return augment_stage(name)


def _nameless(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "name"}


def _folder_of(clinic: ECGSet | Path | str) -> Path:
    return clinic.folder if isinstance(clinic, ECGSet) else Path(clinic)


def _arrays(parts: Sequence[SetPart], target: Target) -> TrainingArrays:
    """Records of several sets, in the label space of the target's set."""
    tables = [part.table() for part in parts]
    return TrainingArrays(
        X=np.concatenate([part.ecgset.signals_mv(part.indices) for part in parts]),
        y=np.concatenate(
            [joined_labels(p.ecgset, target.ecgset.label_space, p.indices) for p in parts]
        ),
        groups=np.array([str(name) for table in tables for name in table["patient"]], np.str_),
        weight=np.concatenate(
            [
                table["weight"].to_numpy(np.float32)
                if "weight" in part.columns
                else np.ones(len(part), np.float32)
                for part, table in zip(parts, tables, strict=True)
            ]
        ),
    )


class _Silent:
    """Shows no progress."""

    @contextmanager
    def progress(self, task: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: None

    @contextmanager
    def training(self, task: str) -> Iterator[Callable[[Progress], None]]:
        yield lambda now: None
