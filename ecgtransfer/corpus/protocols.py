"""Which records of a set are learned from, validated and tested on: published and own splits."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecgtransfer.corpus.splits import stratified_folds
from ecgtransfer.defaults import SplitProtocol
from ecgtransfer.errors import ConfigError, CorpusError

#: Published folds by protocol, (training, validation, test). "paper": the small target of TGDP
#: (Ouyang et al. 2024), a tenth of ICBEB for training; "standard": that of PTB-XL's benchmark
#: (Strodthoff et al. 2020).
FOLDS = {
    "paper": ((10,), (), (1, 2, 3, 4, 5, 6, 7, 8)),
    "standard": ((1, 2, 3, 4, 5, 6, 7, 8), (9,), (10,)),
}


@dataclass(frozen=True, eq=False)
class Split:
    """Record numbers of the target: training, test and, where there are any, validation."""

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
    """How a protocol splits N target records; no patient is on two sides.

    "paper": fold 10 trains, folds 1 to 8 test. "standard": folds 1 to 8 train, 9 validates, 10
    tests. "cross-validation": `parts` folds with the labels in proportion (`stratified_folds`),
    each of which tests what the others train; every record is tested once. "split": the record
    numbers `train`, `test` and `validation` as given.

    Args:
        protocol: one of the four.
        folds: published fold of each record, (N,); not needed for the last two.
        patients: patient of each record, (N,); none means that every record is its own.
        labels: multi-hot, (N, K).
        parts: of a cross-validation.
        seed: of a cross-validation.
        train: record numbers of "split".
        test: the same.
        validation: the same, or none.

    Raises:
        CorpusError: folds that are not stated, an empty side, or a patient on two sides.
        ConfigError: an unknown protocol, or fewer than 2 parts.
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
            raise CorpusError("the protocol 'split' needs the record numbers train and test")
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
    """The split of a protocol by published folds."""
    numbers = np.full(n, np.nan) if folds is None else np.asarray(folds, dtype=np.float64)
    missing = int((~np.isfinite(numbers)).sum()) if numbers.shape == (n,) else n
    if missing:
        raise CorpusError(
            f"the protocol {protocol!r} goes by the published folds 1 to 10, and {missing} of {n} "
            "records have none; add them to the set, or take 'cross-validation' or 'split'"
        )
    train, validation, test = (np.flatnonzero(np.isin(numbers, part)) for part in FOLDS[protocol])
    return Split(protocol, train, test, validation if FOLDS[protocol][1] else None)


def _check_split(split: Split, patients: npt.NDArray[np.generic]) -> None:
    """CorpusError for an empty side, or a patient on two sides."""
    sides = {"training": split.train, "test": split.test}
    if split.validation is not None:
        sides["validation"] = split.validation
    for name, side in sides.items():
        if not len(side):
            raise CorpusError(f"the {name} side of {split.name!r} is empty; choose another split")
    named = list(sides.items())
    for number, (first, here) in enumerate(named):
        for second, there in named[number + 1 :]:
            refuse_shared(patients[here], patients[there], first, second)


def refuse_shared(
    here: npt.ArrayLike | None, there: npt.ArrayLike | None, first: str, second: str
) -> None:
    """CorpusError where a patient is in both (checked where both name their patients)."""
    if here is None or there is None:
        return
    shared = np.intersect1d(np.asarray(here), np.asarray(there))
    if len(shared):
        raise CorpusError(
            f"{len(shared)} patients are in both {first} and {second}, {shared[0]} for one; split "
            "by patient (and where two corpora merely count alike, give their patients other names)"
        )
