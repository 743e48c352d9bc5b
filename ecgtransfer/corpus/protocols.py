"""Split protocols: published folds, cross-validation, or given training and test records."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecgtransfer.corpus.splits import stratified_folds
from ecgtransfer.defaults import SplitProtocol
from ecgtransfer.errors import ConfigError, CorpusError

#: Published folds by protocol, (training, validation, test). "paper": the small target of TGDP
#: (Ouyang et al. 2024) with a tenth of ICBEB for training; "standard": the benchmark of PTB-XL
#: (Strodthoff et al. 2020).
FOLDS = {
    "paper": ((10,), (), (1, 2, 3, 4, 5, 6, 7, 8)),
    "standard": ((1, 2, 3, 4, 5, 6, 7, 8), (9,), (10,)),
}


@dataclass(frozen=True, eq=False)
class Split:
    """Record indices of the target's training, test and, optionally, validation records."""

    name: str
    train: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64] | None = None


def protocol_splits(
    protocol: SplitProtocol,
    folds: npt.ArrayLike | None,
    patients: npt.ArrayLike | None,
    labels: npt.ArrayLike,
    *,
    parts: int = 5,
    seed: int = 0,
    train: npt.ArrayLike | None = None,
    test: npt.ArrayLike | None = None,
    validation: npt.ArrayLike | None = None,
) -> tuple[Split, ...]:
    """Split N target records; no patient is in two parts.

    "paper": fold 10 for training, folds 1 to 8 for testing. "standard": folds 1 to 8 for training,
    9 for validation, 10 for testing. "cross-validation": `parts` label-stratified folds
    (`stratified_folds`), each of which is the test set of one split. "split": the indices `train`,
    `test` and `validation` as given.

    Args:
        protocol: one of the four.
        folds: (N,) published fold of each record; not needed for the last two protocols.
        patients: (N,) patient of each record; None makes every record its own patient.
        labels: (N, K) multi-hot.
        parts: number of folds of a cross-validation.
        seed: seed of a cross-validation.
        train: record indices for "split".
        test: record indices for "split".
        validation: record indices for "split"; optional.

    Raises:
        CorpusError: folds are missing, a part is empty, or a patient is in two parts.
        ConfigError: the protocol is unknown, or there are fewer than 2 parts.
    """
    hot = np.asarray(labels)
    names = np.arange(len(hot)) if patients is None else np.asarray(patients)
    if protocol == "cross-validation":
        if parts < 2:
            raise ConfigError(f"a cross-validation needs at least 2 parts, got {parts}")
        fold_of = stratified_folds(hot, names, parts, seed)
        splits = tuple(
            Split(f"fold {part}", np.flatnonzero(fold_of != part), np.flatnonzero(fold_of == part))
            for part in range(parts)
        )
    elif protocol == "split":
        if train is None or test is None:
            raise CorpusError("the protocol 'split' needs the record indices train and test")
        held = None if validation is None else np.asarray(validation, dtype=np.int64)
        splits = (Split("split", np.asarray(train, np.int64), np.asarray(test, np.int64), held),)
    elif protocol in FOLDS:
        splits = (_published(protocol, folds, len(hot)),)
    else:
        raise ConfigError(
            f"unknown protocol {protocol!r}; expected paper, standard, cross-validation or split"
        )
    for split in splits:
        _check_split(split, names)
    return splits


def _published(protocol: str, folds: npt.ArrayLike | None, n: int) -> Split:
    """Split by the published folds of a protocol."""
    numbers = np.full(n, np.nan) if folds is None else np.asarray(folds, dtype=np.float64)
    missing = int((~np.isfinite(numbers)).sum()) if numbers.shape == (n,) else n
    if missing:
        raise CorpusError(
            f"the protocol {protocol!r} needs the published folds 1 to 10, and {missing} of {n} "
            "records have none; add them to the set, or use 'cross-validation' or 'split'"
        )
    train, validation, test = (np.flatnonzero(np.isin(numbers, part)) for part in FOLDS[protocol])
    return Split(protocol, train, test, validation if FOLDS[protocol][1] else None)


def _check_split(split: Split, patients: npt.NDArray[np.generic]) -> None:
    """Check a split.

    Raises:
        CorpusError: a part is empty, or a patient is in two parts.
    """
    sides = {"training": split.train, "test": split.test}
    if split.validation is not None:
        sides["validation"] = split.validation
    for name, side in sides.items():
        if not len(side):
            raise CorpusError(f"the {name} part of {split.name!r} is empty; choose another split")
    named = list(sides.items())
    for number, (first, first_records) in enumerate(named):
        for second, second_records in named[number + 1 :]:
            refuse_shared(patients[first_records], patients[second_records], first, second)


def refuse_shared(
    first_patients: npt.ArrayLike | None,
    second_patients: npt.ArrayLike | None,
    first: str,
    second: str,
) -> None:
    """Check that no patient is in both arrays, if both name their patients.

    Raises:
        CorpusError: a patient is in both.
    """
    if first_patients is None or second_patients is None:
        return
    shared = np.intersect1d(np.asarray(first_patients), np.asarray(second_patients))
    if len(shared):
        raise CorpusError(
            f"{len(shared)} patients are in both {first} and {second}, such as {shared[0]}; split "
            "by patient (if two corpora only use the same numbers, rename their patients)"
        )
