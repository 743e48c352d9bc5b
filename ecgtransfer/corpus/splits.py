"""Choosing records by their table, and parting them by patient with the labels in proportion."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import CorpusError

if TYPE_CHECKING:
    import pandas as pd

#: `column=value|value` or `column!=value|value`.
_EXPRESSION = re.compile(r"^\s*(?P<column>\w+)\s*(?P<sign>!?=)\s*(?P<values>\S.*?)\s*$")

#: `3` or `1-8`, in a column of numbers.
_RANGE = re.compile(r"^(?P<low>-?\d+(?:\.\d+)?)(?:-(?P<high>-?\d+(?:\.\d+)?))?$")


def select_records(records: pd.DataFrame, expressions: Sequence[str]) -> NDArray[np.int64]:
    """Row numbers, ascending, of the records for which every expression holds.

    An expression is `column=value`, `column=value|value` (one of them) or `column!=value|value`
    (none of them). In a column of numbers a value may be a range with both ends included:
    `fold=1-8`, `age=40-60|75`. A record whose value is not stated equals nothing.

    Raises:
        CorpusError: something that is not an expression, an unknown column, a word that no record
            has, a value that is no number in a column of numbers, or nothing selected.
    """
    if isinstance(expressions, str):
        raise CorpusError(
            f"expected a list of expressions, got the bare string {expressions!r}; "
            f"give [{expressions!r}]"
        )
    chosen = np.ones(len(records), dtype=bool)
    for expression in expressions:
        chosen &= _holds(records, expression)
    if not chosen.any():
        raise CorpusError(
            f"no record satisfies {' and '.join(expressions) or 'an empty table'}; "
            "widen the selection"
        )
    return np.flatnonzero(chosen)


def patient_split(
    records: pd.DataFrame,
    labels: NDArray[Any],
    parts: Sequence[float] | Sequence[int],
    seed: int,
) -> tuple[NDArray[np.int64], ...]:
    """Part records so that no patient is in two parts and each part has its share of every label.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas, ECML PKDD 2011) over patients: the
    rarest label first, each patient to the part that lacks it most; a label that a part does not
    have at all goes there first, for up to half of the part. Sizes are met exactly, unless patients
    with several records make that impossible. The same patients, labels and seed give the same
    parts whatever the order of the rows.

    Args:
        records: the table, with a column `patient`.
        labels: multi-hot, (N, K).
        parts: fractions that sum to 1, or whole numbers of records that sum to N.
        seed: another seed, another split.

    Returns:
        Row numbers of each part, ascending; together all rows.

    Raises:
        CorpusError: another number of labels than rows, no column `patient`, a record without
            patient, or parts that do not add up.
    """
    labels = np.asarray(labels, dtype=np.float64)
    if labels.ndim != 2 or len(labels) != len(records):
        raise CorpusError(
            f"expected labels of shape ({len(records)}, K), one row a record, got {labels.shape}"
        )
    if "patient" not in records.columns:
        raise CorpusError("a split by patient needs a column patient in the table; add it")
    if records["patient"].isna().any():
        raise CorpusError("a split by patient needs every record's patient; some are not stated")
    sizes = _sizes(parts, len(records))
    patients = _Patients.of(records["patient"].astype(str).to_numpy(), labels, seed)
    part_of = _assign(patients, sizes, labels.sum(axis=0))
    _mend_sizes(patients, part_of, sizes)
    part_of_record = part_of[patients.of_record]
    return tuple(np.flatnonzero(part_of_record == part) for part in range(len(sizes)))


def take_patients(
    records: pd.DataFrame, labels: NDArray[Any], n: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take n records, whole patients with the labels in proportion, and leave the rest.

    Exactly n, or as near as whole patients allow; see `patient_split`.

    Returns:
        Row numbers of the n records and of the others, ascending.

    Raises:
        CorpusError: n that is not between 1 and N - 1, and what `patient_split` refuses.
    """
    if not 1 <= n < len(records):
        raise CorpusError(
            f"expected to take between 1 and {len(records) - 1} of {len(records)} records, got {n}"
        )
    taken, rest = patient_split(records, labels, (int(n), len(records) - int(n)), seed)
    return taken, rest


@dataclass(frozen=True, eq=False)
class _Patients:
    """The patients in the order of the draw: (P,) sizes, (P, K) label counts, (N,) whose record."""

    sizes: NDArray[np.int64]
    label_counts: NDArray[np.float64]
    of_record: NDArray[np.int64]

    @classmethod
    def of(cls, names: NDArray[Any], labels: NDArray[np.float64], seed: int) -> _Patients:
        """Patients ordered by a hash of seed and name: a draw that row order cannot change."""
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
    """Records in each part; fractions are rounded so that they add up (largest remainder)."""
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
    """The part of each patient, (P,)."""
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
        # A part that lacks the label, then the largest wish, then most room, then the first part;
        # rounded, so that sums of fractions tie.
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


def _mend_sizes(patients: _Patients, part_of: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
    """Swap patients of unlike size and like labels until every part has its size (in place)."""
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
    """A patient of `over`, and one of `under` or -1, whose exchange moves 1 to `most` records."""
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
    """The first of each kind (size and label counts) among some patients."""
    if not len(members):
        return members
    kinds = np.column_stack([patients.sizes[members], patients.label_counts[members]])
    _, first = np.unique(kinds, axis=0, return_index=True)
    return members[np.sort(first)]


def _holds(records: pd.DataFrame, expression: str) -> NDArray[np.bool_]:
    match = _EXPRESSION.match(expression)
    if match is None:
        raise CorpusError(
            f"cannot read the selection {expression!r}; "
            "expected column=value, column!=value, column=value|value or column=1-8"
        )
    column = match["column"]
    if column not in records.columns:
        raise CorpusError(
            f"unknown column {column!r}; expected one of {', '.join(map(str, records.columns))}"
        )
    values = [value.strip() for value in match["values"].split("|")]
    if records[column].dtype.kind in "iuf":
        numbers = records[column].to_numpy(dtype=np.float64, na_value=np.nan)
        found = _in_ranges(numbers, values, expression)
    else:
        found = _is_one_of(records, column, values)
    return ~found if match["sign"] == "!=" else found


def _in_ranges(
    numbers: NDArray[np.float64], values: Sequence[str], expression: str
) -> NDArray[np.bool_]:
    found = np.zeros(len(numbers), dtype=bool)
    for value in values:
        match = _RANGE.match(value)
        if match is None:
            raise CorpusError(
                f"cannot read {value!r} in {expression!r}; "
                "that column holds numbers, expected one such as 3 or a range such as 1-8"
            )
        low = float(match["low"])
        high = low if match["high"] is None else float(match["high"])
        if low > high:
            raise CorpusError(
                f"the range {value!r} in {expression!r} runs backwards; swap its ends"
            )
        found |= (numbers >= low) & (numbers <= high)
    return found


def _is_one_of(records: pd.DataFrame, column: str, values: Sequence[str]) -> NDArray[np.bool_]:
    texts = records[column].map(str, na_action="ignore")
    known = sorted(texts.dropna().unique())
    for value in values:
        if value not in known:
            shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
            raise CorpusError(
                f"no record has {column} {value!r}; there is {shown or 'none stated'}"
            )
    found: NDArray[np.bool_] = texts.isin(values).to_numpy(dtype=bool)
    return found
