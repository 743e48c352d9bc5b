"""Patient-disjoint splits of records: parts of given sizes, folds and halves.

`patient_split` and `take_patients` make label-stratified parts of given sizes, `stratified_folds`
label-stratified folds, `common_folds` folds of two domains that share patients, `dealt_folds`
random folds, and `patient_halves` two random halves to compare with each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecgtransfer.errors import CorpusError
from ecgtransfer.statistics import checked_labels

if TYPE_CHECKING:
    import pandas as pd


def patient_split(
    records: pd.DataFrame,
    labels: NDArray[Any],
    parts: Sequence[float] | Sequence[int],
    seed: int,
) -> tuple[NDArray[np.int64], ...]:
    """Split records into label-stratified parts such that no patient is in two parts.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas, ECML PKDD 2011) over patients: patients
    with the rarest label are assigned first, each to the part that lacks it most. Parts without any
    record of a label have priority, for up to half of the part. Sizes are exact unless patients
    with several records make that impossible. The result depends on patients, labels and seed, not
    on the order of the rows.

    Args:
        records: the table, with a column `patient`.
        labels: multi-hot, (N, K).
        parts: fractions that sum to 1, or numbers of records that sum to N.
        seed: seed of the split.

    Returns:
        Row indices of each part, ascending; together they cover all rows.

    Raises:
        CorpusError: the numbers of labels and rows differ, there is no column `patient`, a patient
            is missing, or the parts do not add up.
    """
    labels = np.asarray(labels, dtype=np.float64)
    if labels.ndim != 2 or len(labels) != len(records):
        raise CorpusError(
            f"expected labels of shape ({len(records)}, K), one row per record, got {labels.shape}"
        )
    if "patient" not in records.columns:
        raise CorpusError("a split by patient needs a column patient in the table; add it")
    if records["patient"].isna().any():
        raise CorpusError("a split by patient needs every record's patient; some are missing")
    sizes = _sizes(parts, len(records))
    patients = _Patients.of(records["patient"].astype(str).to_numpy(), labels, seed)
    part_of = _assign(patients, sizes, labels.sum(axis=0))
    _repair_sizes(patients, part_of, sizes)
    part_of_record = part_of[patients.of_record]
    return tuple(np.flatnonzero(part_of_record == part) for part in range(len(sizes)))


def take_patients(
    records: pd.DataFrame, labels: NDArray[Any], n: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take n records, label-stratified and by whole patients.

    Exactly n, or as close as whole patients allow; see `patient_split`.

    Returns:
        Row indices of the n records and of the others, ascending.

    Raises:
        CorpusError: n is not between 1 and N - 1, or the arguments are invalid (`patient_split`).
    """
    if not 1 <= n < len(records):
        raise CorpusError(
            f"expected to take between 1 and {len(records) - 1} of {len(records)} records, got {n}"
        )
    taken, rest = patient_split(records, labels, (int(n), len(records) - int(n)), seed)
    return taken, rest


def stratified_folds(
    labels: ArrayLike, patients: ArrayLike | None, folds: int, seed: int
) -> NDArray[np.int64]:
    """Assign records to label-stratified folds 0 ... folds − 1 by patient: (N,).

    Patients with rare labels are assigned first, each to the fold with the fewest records of its
    rarest label, then with the fewest records (after Sechidis et al. 2011).

    Raises:
        CorpusError: there are fewer patients than folds, or `patients` has another length.
    """
    hot = checked_labels(labels)
    names = np.arange(len(hot)) if patients is None else np.asarray(patients)
    if names.shape != (len(hot),):
        raise CorpusError(f"expected one patient per record, {len(hot)}, got shape {names.shape}")
    patient_of = np.unique(names, return_inverse=True)[1].reshape(-1)
    count = int(patient_of.max()) + 1
    if count < folds:
        raise CorpusError(f"{folds} folds need at least {folds} patients, got {count}")
    by_patient = np.zeros((count, hot.shape[1] + 1))
    np.add.at(by_patient[:, :-1], patient_of, hot)
    by_patient[:, -1] = np.bincount(patient_of)
    frequency = np.append(hot.sum(axis=0), len(hot) + 1)
    rarest = np.where(by_patient > 0, frequency, np.inf).argmin(axis=1)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(count)
    held = np.zeros((folds, hot.shape[1] + 1))
    fold_of = np.empty(count, dtype=np.int64)
    for patient in shuffled[np.argsort(frequency[rarest[shuffled]], kind="stable")]:
        fold = int(np.lexsort((held[:, -1], held[:, rarest[patient]]))[0])
        fold_of[patient] = fold
        held[fold] += by_patient[patient]
    return fold_of[patient_of]


def common_folds(
    domains: Sequence[Sequence[str]], folds: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Assign records of several domains to folds; a patient has the same fold in all domains.

    The patients of each domain are assigned to the folds in turn, in random order, except those
    already assigned in an earlier domain.

    Args:
        domains: patient of each record, one sequence per domain.
        folds: number of folds.
        rng: generator of the orders.

    Returns:
        Fold indices (N,) of each domain.
    """
    fold_of: dict[str, int] = {}
    for patients in domains:
        new = [name for name in sorted(set(patients)) if name not in fold_of]
        for number, place in enumerate(rng.permutation(len(new))):
            fold_of[new[place]] = number % folds
    return [np.array([fold_of[name] for name in patients], np.int64) for patients in domains]


def dealt_folds(
    patients: ArrayLike, folds: int, rng: np.random.Generator, labels: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Assign records to random folds, (N,): patients in random order take the folds in turn.

    With labels, multi-hot (N, K), patients with the same labels follow each other, so that each
    fold has its share of them; suitable for few labels.
    """
    number = np.unique(np.asarray(patients), return_inverse=True)[1].reshape(-1)
    order = rng.permutation(int(number.max()) + 1)
    kinds = np.zeros(len(order), dtype=np.int64)
    if labels is not None:
        hot = np.asarray(labels, dtype=np.bool_)
        has = np.zeros((len(order), hot.shape[1]), dtype=np.bool_)
        np.logical_or.at(has, number, hot)
        kinds = has @ 2 ** np.arange(hot.shape[1])
    fold = np.empty(len(order), dtype=np.int64)
    fold[np.lexsort((order, kinds))] = np.arange(len(order)) % folds
    return fold[number]


def patient_halves(
    patients: ArrayLike, rng: np.random.Generator, records: int | None = None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Two random index arrays of equal length that share no patient.

    Args:
        patients: (N,) patient of each record.
        rng: random generator.
        records: length of each half, at most (N + 1 − most records of one patient) // 2, which is
            the default.

    Raises:
        CorpusError: that length is less than `records` or than 1.
    """
    names = np.asarray(patients)
    if names.ndim != 1 or len(names) == 0:
        raise CorpusError(f"expected one patient per record, (N,), got shape {names.shape}")
    most = largest_half(names)
    length = most if records is None else records
    if not 1 <= length <= most:
        raise CorpusError(
            f"two patient-disjoint halves of {len(names)} records hold up to {most} each, "
            f"requested {length}; give more patients or request fewer records"
        )
    order = in_patient_order(names, rng)
    return order[:length], order[-length:]


def largest_half(patients: NDArray[np.generic]) -> int:
    """Size of two patient-disjoint halves that is possible for any order of the patients."""
    _, of_patient = np.unique(patients, return_counts=True)
    return (len(patients) + 1 - int(of_patient.max())) // 2


def in_patient_order(patients: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.intp]:
    """Record indices ordered by patient, with the patients in random order."""
    number = np.unique(patients, return_inverse=True)[1].reshape(-1)
    return np.argsort(rng.permutation(number.max() + 1)[number], kind="stable")


@dataclass(frozen=True, eq=False)
class _Patients:
    """Patients in random order: (P,) sizes, (P, K) label counts, (N,) patient of each record."""

    sizes: NDArray[np.int64]
    label_counts: NDArray[np.float64]
    of_record: NDArray[np.int64]

    @classmethod
    def of(cls, names: NDArray[Any], labels: NDArray[np.float64], seed: int) -> _Patients:
        """Order patients by a hash of seed and name, independent of the order of the rows."""
        distinct, of_record = np.unique(names, return_inverse=True)
        keys = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in distinct]
        order = sorted(range(len(distinct)), key=lambda patient: keys[patient])
        place = np.empty(len(distinct), dtype=np.int64)
        place[order] = np.arange(len(distinct))
        of_record = place[of_record]
        counts = np.zeros((len(distinct), labels.shape[1]))
        np.add.at(counts, of_record, labels)
        return cls(np.bincount(of_record, minlength=len(distinct)), counts, of_record)


def _sizes(parts: Sequence[float] | Sequence[int], n: int) -> NDArray[np.int64]:
    """Records in each part; fractions are rounded by largest remainder."""
    values = np.asarray(parts)
    if values.ndim != 1 or len(values) < 2 or values.dtype.kind not in "iuf" or (values <= 0).any():
        raise CorpusError(f"expected two or more positive parts, got {parts!r}")
    if values.dtype.kind in "iu":
        if values.sum() != n:
            raise CorpusError(f"expected parts that sum to {n} records, got {list(parts)}")
        whole: NDArray[np.int64] = values.astype(np.int64)
        return whole
    if abs(values.sum() - 1) > 1e-9:
        raise CorpusError(f"expected fractions that sum to 1, got {list(parts)}")
    exact = values * n
    sizes: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    short = n - int(sizes.sum())
    sizes[np.argsort(sizes - exact, kind="stable")[:short]] += 1
    return sizes


def _assign(
    patients: _Patients, sizes: NDArray[np.int64], totals: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Part of each patient, (P,)."""
    room = sizes.astype(np.float64)
    wanted = np.outer(sizes / sizes.sum(), totals)
    present = np.zeros(wanted.shape, dtype=bool)
    first_ones = np.zeros(len(sizes))
    part_of = np.full(len(patients.sizes), -1, dtype=np.int64)
    has_label = patients.label_counts > 0
    waiting = has_label.sum(axis=0)

    def place(patient: int, wish: NDArray[np.float64], lacks: NDArray[np.bool_]) -> None:
        size = patients.sizes[patient]
        fits = room >= size
        candidates = np.flatnonzero(fits if fits.any() else room == room.max())
        # A part without the label, then the largest wish, then most space, then the first part;
        # rounded, so that equal sums of fractions tie.
        wishes = np.round(wish[candidates], 9)
        part = int(candidates[np.lexsort((-room[candidates], -wishes, ~lacks[candidates]))[0]])
        first_ones[part] += size * bool(lacks[part])
        part_of[patient] = part
        room[part] -= size
        wanted[part] -= patients.label_counts[patient]
        present[part] |= has_label[patient]

    while waiting.any():
        label = int(np.argmin(np.where(waiting > 0, waiting, np.inf)))
        for patient in np.flatnonzero(has_label[:, label] & (part_of < 0)):
            lacks = ~present[:, label] & (first_ones < sizes / 2)
            place(int(patient), wanted[:, label], lacks)
            waiting = waiting - has_label[patient]
    nowhere = np.zeros(len(sizes), dtype=bool)
    unlabelled = np.flatnonzero(part_of < 0)
    for patient in unlabelled[np.argsort(-patients.sizes[unlabelled], kind="stable")]:
        place(int(patient), room.copy(), nowhere)
    return part_of


def _repair_sizes(
    patients: _Patients, part_of: NDArray[np.int64], sizes: NDArray[np.int64]
) -> None:
    """Swap patients with similar labels until every part has its size, in place."""
    for _ in range(len(part_of)):
        surplus = np.bincount(part_of, weights=patients.sizes, minlength=len(sizes)) - sizes
        over, under = int(np.argmax(surplus)), int(np.argmin(surplus))
        if surplus[over] <= 0:
            return
        best = _best_swap(patients, part_of, over, under, min(surplus[over], -surplus[under]))
        if best is None:
            return
        moved, returned = best
        part_of[moved] = under
        if returned >= 0:
            part_of[returned] = over


def _best_swap(
    patients: _Patients, part_of: NDArray[np.int64], over: int, under: int, most: float
) -> tuple[int, int] | None:
    """A patient of `over`, and one of `under` or -1, whose swap moves 1 to `most` records."""
    best: tuple[float, float, int, int] | None = None
    givers, takers = np.flatnonzero(part_of == over), np.flatnonzero(part_of == under)
    counts = patients.label_counts
    for size in np.unique(patients.sizes[givers]):
        of_size = givers[patients.sizes[givers] == size]
        choices = [(-1, np.zeros(counts.shape[1]), 0)] + [
            (int(taker), counts[taker], int(patients.sizes[taker]))
            for taker in _distinct(takers, patients)
        ]
        for taker, taker_counts, taker_size in choices:
            moved = float(size - taker_size)
            if not 0 < moved <= most:
                continue
            change = np.abs(counts[of_size] - taker_counts).sum(axis=1)
            giver = int(of_size[np.argmin(change)])
            candidate = (-moved, float(change.min()), giver, taker)
            if best is None or candidate < best:
                best = candidate
    return None if best is None else (best[2], best[3])


def _distinct(members: NDArray[np.int64], patients: _Patients) -> NDArray[np.int64]:
    """First patient of each kind (size and label counts) among some patients."""
    if not len(members):
        return members
    kinds = np.column_stack([patients.sizes[members], patients.label_counts[members]])
    _, first = np.unique(kinds, axis=0, return_index=True)
    return members[np.sort(first)]
