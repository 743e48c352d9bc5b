"""An augmented training set on disk: sets, arrays, WFDB, PTB-XL's layout, and a data sheet.

TO/train          recorded training records and synthetic ones, a set of origin `mixed`
TO/test           recorded test records, unchanged
TO/arrays/train   the same in numpy, and TO/arrays/test
TO/wfdb/train     the same as WFDB records with a table of labels, and TO/wfdb/test
TO/ptbxl          the training set in the layout of PTB-XL, folds 1 to 8
TO/README.md      data sheet
TO/augmented.json numbers and settings for programs; written last
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ecgtransfer.corpus import ECGSet, SetPart, join_sets
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.export import export_arrays, export_set, export_wfdb
from ecgtransfer.pipeline.augmented import (
    PLUS,
    Augmentation,
    AugmentSettings,
)
from ecgtransfer.pipeline.data_sheet import data_sheet
from ecgtransfer.pipeline.evaluation import ProgressReporter
from ecgtransfer.pipeline.source import Source
from ecgtransfer.storage import (
    atomic_file,
    disk_errors,
    exclusive_lock,
    make_folder,
    to_card,
    write_json,
)

TRAIN, TEST, RUN_FOLDER = "train", "test", "run"
SHEET, NUMBERS = "README.md", "augmented.json"

#: Forms in which the sets are also written.
Form = Literal["arrays", "wfdb", "ptbxl"]
FORMS: tuple[Form, ...] = get_args(Form)

#: Names in the folder of an augmented set.
OWN_NAMES = frozenset({TRAIN, TEST, RUN_FOLDER, SHEET, NUMBERS, *FORMS})

#: Entry of the card of both sets.
ENTRY = "augmentation"

#: Fold of a synthetic record. `sklearn.model_selection.PredefinedSplit` always trains on fold -1.
SYNTHETIC_FOLD = -1


@dataclass(frozen=True, eq=False)
class AugmentedSets:
    """An augmented training set on disk.

    Attributes:
        folder: its folder.
        train: training records, recorded and synthetic.
        test: recorded test records.
        forms: folder of each further form that is written, by "arrays/train" and the like.
    """

    folder: Path
    train: ECGSet
    test: ECGSet
    forms: dict[str, Path]


def check_destination(folder: Path, settings: AugmentSettings) -> None:
    """Check, before any work, that a folder can hold an augmented set with these settings.

    Raises:
        RunError: the folder is a file, holds other files, or an augmented set with other settings.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RunError(
            f"expected a folder for the augmented set at {folder}, found a file; choose another "
            "place"
        )
    others = sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in OWN_NAMES and not path.name.startswith(".")
    )
    if others:
        raise RunError(
            f"expected a new folder, or one with an augmented set, found {others[0]!r} in "
            f"{folder}; choose another folder"
        )
    for name in (TRAIN, TEST):
        if (folder / name).exists():
            held = ECGSet.open(folder / name).card.get(ENTRY, {}).get("settings")
            if held is None or _without_method(held) != _without_method(to_card(settings)):
                raise RunError(
                    f"{folder} holds an augmented set with other settings, or another set; choose "
                    "another folder, or remove it"
                )


def write_augmented(
    augmentation: Augmentation,
    source: Source,
    folder: Path,
    reporter: ProgressReporter,
    forms: Collection[str] = FORMS,
) -> AugmentedSets:
    """Write an augmentation as sets and in other forms; what is written already is kept.

    Args:
        augmentation: what to write.
        source: source of the run, for the data sheet.
        folder: destination.
        reporter: shows progress.
        forms: further forms beside the sets.

    Raises:
        ConfigError: an unknown form, or PTB-XL's layout at another rate than 100 or 500 Hz.
        RunError: the folder holds something else, another process writes it, or there is too little
            disk space.
    """
    if unknown := sorted(set(forms) - set(FORMS)):
        raise ConfigError(f"expected forms of {', '.join(FORMS)}, got {unknown[0]!r}")
    check_destination(folder, augmentation.settings)
    make_folder(folder)
    with exclusive_lock(folder, inside=".lock"):
        entry = _card_entry(augmentation)
        parts = {TRAIN: training_parts(augmentation), TEST: test_parts(augmentation)}
        _refuse_shared_patients(parts)
        extra = _provenance(augmentation)
        sets = {}
        for name, task in ((TRAIN, "training set"), (TEST, "test set")):
            with reporter.progress(task) as progress:
                sets[name] = _written_set(
                    folder / name,
                    parts[name],
                    augmentation,
                    {ENTRY: entry, **(extra if name == TRAIN else _corpus(augmentation))},
                    progress,
                )
        written = _write_forms(folder, sets, forms, reporter)
        sheet = data_sheet(augmentation, source, sets[TRAIN], sets[TEST])
        with atomic_file(folder / SHEET) as partial:
            partial.write_text(sheet, encoding="utf-8")
        numbers = {
            "settings": augmentation.settings,
            "result": augmentation.summary,
            "fingerprint": augmentation.fingerprint,
            "sets": {name: ecgset.fingerprint for name, ecgset in sets.items()},
        }
        write_json(folder / NUMBERS, to_card(numbers), ordered=True)
    return AugmentedSets(folder, sets[TRAIN], sets[TEST], written)


def training_parts(augmentation: Augmentation) -> list[SetPart]:
    """Recorded training records, then the added synthetic ones of each round.

    Columns that are added or replaced: `fold` (patient-disjoint, from 1; -1 for a synthetic
    record), `weight`, `labels` as text, and `set_fold`, the fold that the target's set states.
    """
    target, weight = augmentation.target, augmentation.summary.weight
    table = target.ecgset.records.iloc[target.train]
    columns: dict[str, Any] = {
        "fold": augmentation.folds,
        "weight": 1.0,
        "labels": _label_texts(target.ecgset, target.train),
    }
    if table["fold"].notna().any():
        columns["set_fold"] = table["fold"].to_numpy()
    parts = [SetPart(target.ecgset, target.train, columns)]
    for number, (ecgset, indices) in enumerate(augmentation.kept(), 1):
        if not len(indices):
            continue
        ending = "" if number == 1 else f"-{number}"
        names = [f"{name}{ending}" for name in ecgset.records.name.iloc[indices]]
        own = {
            "name": names,
            "patient": names,
            "fold": SYNTHETIC_FOLD,
            "weight": weight,
            "labels": _label_texts(ecgset, indices),
        }
        parts.append(SetPart(ecgset, indices, own))
    return parts


def test_parts(augmentation: Augmentation) -> list[SetPart]:
    """Recorded test records, unchanged."""
    target = augmentation.target
    return [SetPart(target.ecgset, target.test)]


def _label_texts(ecgset: ECGSet, indices: np.ndarray) -> list[str]:
    return [PLUS.join(ecgset.label_space.decode(ecgset.labels[index])) for index in indices]


def _refuse_shared_patients(parts: Mapping[str, list[SetPart]]) -> None:
    """Refuse a test patient in the training set: a bug or a split from elsewhere."""
    patients = {
        name: {str(patient) for part in held for patient in part.table()["patient"]}
        for name, held in parts.items()
    }
    if shared := sorted(patients[TRAIN] & patients[TEST]):
        raise RunError(
            f"expected no test patient in the training set, found {shared[0]} in both; split the "
            "set again in a new run"
        )


def _card_entry(augmentation: Augmentation) -> dict[str, object]:
    """Entry about the augmentation on the cards of both sets."""
    summary = augmentation.summary
    entry: dict[str, object] = to_card(
        {
            "settings": augmentation.settings,
            "fingerprint": augmentation.fingerprint,
            "rounds": {each.name: each.fingerprint for each in summary.rounds},
            "recorded_set": augmentation.target.ecgset.fingerprint,
            "train_records": summary.train_records,
            "test_records": summary.test_records,
            "synthetic_records": summary.synthetic_records,
            "synthetic_weight": summary.weight,
        }
    )
    return entry


def _corpus(augmentation: Augmentation) -> dict[str, object]:
    """Corpus of the recorded records, if their set states it."""
    corpus = augmentation.target.ecgset.card.get("corpus")
    space = augmentation.target.ecgset.label_space.card_entry()
    return {**({} if corpus is None else {"corpus": corpus}), **space}


def _provenance(augmentation: Augmentation) -> dict[str, object]:
    """Corpus of the recorded records, and model of the synthetic ones."""
    card = augmentation.kept()[0][0].card
    stated = {name: card[name] for name in ("model_fingerprint", "method")}
    return {**_corpus(augmentation), **stated}


def _written_set(
    folder: Path,
    parts: list[SetPart],
    augmentation: Augmentation,
    card_extra: Mapping[str, object],
    progress: Callable[[int, int], None],
) -> ECGSet:
    """Write a set, or open it if it is there."""
    if folder.exists():
        ecgset = ECGSet.open(folder)
        if ecgset.card.get(ENTRY) != card_extra[ENTRY]:
            raise RunError(
                f"{folder} belongs to another augmentation than {augmentation.stage.folder}; "
                "choose another folder, or remove it"
            )
        return ecgset
    space = augmentation.target.ecgset.label_space
    return join_sets(folder, parts, space, card_extra=card_extra, progress=progress)


def _write_forms(
    folder: Path, sets: Mapping[str, ECGSet], forms: Collection[str], reporter: ProgressReporter
) -> dict[str, Path]:
    written: dict[str, Path] = {}
    writers: dict[str, Callable[[ECGSet, Path, Callable[[int, int], None]], Path]] = {
        "arrays": export_arrays,
        "wfdb": export_set,
    }
    for form in (form for form in FORMS if form in forms):
        if form == "ptbxl":
            with reporter.progress("PTB-XL's layout") as progress:
                written[form] = export_wfdb(sets[TRAIN], folder / form, progress=progress)
            continue
        with disk_errors(folder):
            (folder / form).mkdir(exist_ok=True)
        for name, ecgset in sets.items():
            with reporter.progress(f"{form}, {name}") as progress:
                place = writers[form](ecgset, folder / form / name, progress)
            written[f"{form}/{name}"] = place
    return written


def _without_method(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the method, which a run with one transfer fills in."""
    return {name: value for name, value in settings.items() if name != "method"}
