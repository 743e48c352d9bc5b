"""Requests for synthetic records: exact counts of label combinations, in a fixed order."""

import re
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus import LabelSpace
from ecgtransfer.errors import ConfigError

#: A count on the command line: decimal digits with an optional sign; neither "1e3" nor "1_000".
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True)
class SynthesisRequest:
    """Counts of label combinations to generate.

    Records are numbered through the entries in order: `((("AFIB",), 200), (("CRBBB", "PVC"), 20))`
    requests records 0 to 199 with AFIB and records 200 to 219 with both CRBBB and PVC. Memory does
    not grow with the counts.

    Attributes:
        entries: pairs of (label names, count).

    Raises:
        ConfigError: there is no entry; an entry has no label or a repeated one; a combination
            occurs twice (in any order of its labels); or a count is not a whole number of at least
            1.
    """

    entries: tuple[tuple[tuple[str, ...], int], ...]

    def __post_init__(self) -> None:
        if not self.entries:
            raise ConfigError("a request needs at least one count of records, such as AFIB=200")
        seen: set[frozenset[str]] = set()
        for labels, count in self.entries:
            text = "+".join(labels)
            if not labels:
                raise ConfigError(f"a count of {count} records names no label; write AFIB={count}")
            if len(set(labels)) != len(labels):
                raise ConfigError(f"{text!r} names a label twice; name each of its labels once")
            if frozenset(labels) in seen:
                raise ConfigError(
                    f"{text!r} is requested twice; give one count for each combination"
                )
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ConfigError(
                    f"the count of {text} must be a whole number of at least 1, got {count!r}"
                )
            seen.add(frozenset(labels))

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        """Index after the last record of each entry."""
        return tuple(accumulate(count for _, count in self.entries))

    @property
    def total(self) -> int:
        """Number of requested records."""
        return self._ends[-1]

    @property
    def labels(self) -> tuple[str, ...]:
        """All requested labels, without repetition, in the order of first mention."""
        return tuple(dict.fromkeys(name for names, _ in self.entries for name in names))

    def labels_of_record(self, number: int) -> tuple[str, ...]:
        """Label names of the record with index `number`, counted from 0.

        Raises:
            ConfigError: the index is outside 0 to total - 1.
        """
        if not 0 <= number < self.total:
            raise ConfigError(f"record indices run from 0 to {self.total - 1}, got {number}")
        return self.entries[bisect_right(self._ends, number)][0]

    def label_matrix(
        self, label_space: LabelSpace, start: int = 0, stop: int | None = None
    ) -> NDArray[np.float32]:
        """Multi-hot labels of records start to stop - 1 (default: all): (stop - start, K) float32.

        Raises:
            ConfigError: the range is outside the request.
            CorpusError: a label is not in the label space.
        """
        stop = self.total if stop is None else stop
        if not 0 <= start <= stop <= self.total:
            raise ConfigError(f"records {start} to {stop} are not within 0 to {self.total}")
        rows = np.stack([label_space.encode(labels) for labels, _ in self.entries])
        entry = np.searchsorted(np.array(self._ends), np.arange(start, stop), side="right")
        matrix: NDArray[np.float32] = rows[entry].astype(np.float32)
        return matrix

    def __str__(self) -> str:
        return " ".join(f"{'+'.join(labels)}={count}" for labels, count in self.entries)


def parse_counts(
    counts: Sequence[str], label_space: LabelSpace, known: Collection[str] | None = None
) -> SynthesisRequest:
    """Parse counts from the command line, such as "AFIB=200" and "CRBBB+PVC=20".

    The labels of a combination are sorted by the label space, so that "PVC+CRBBB" and "CRBBB+PVC"
    are the same.

    Args:
        counts: texts to parse.
        label_space: the model's label space.
        known: labels that occurred in training; default: the whole label space.

    Raises:
        ConfigError: malformed text, an unknown label, a repeated combination, or a count that is
            not a whole number above 0.
    """
    names = tuple(name for name in label_space.names if known is None or name in known)
    entries = []
    for text in counts:
        combination, equals, number = (part.strip() for part in text.rpartition("="))
        labels = tuple(label.strip() for label in combination.split("+"))
        if not equals or not all(labels):
            raise ConfigError(
                f"cannot read the count {text!r}; write labels and a number, "
                "such as AFIB=200 or CRBBB+PVC=20"
            )
        if not WHOLE_NUMBER.fullmatch(number) or int(number) < 1:
            raise ConfigError(
                f"the count of {combination} must be a whole number of at least 1, got {number!r}"
            )
        for label in labels:
            if label not in names:
                raise ConfigError(
                    f"the model was not trained with the label {label!r}; it knows "
                    f"{', '.join(names)}"
                )
        entries.append((tuple(sorted(labels, key=label_space.index)), int(number)))
    return SynthesisRequest(tuple(entries))


def per_class(
    label_space: LabelSpace, count: int, known: Collection[str] | None = None
) -> SynthesisRequest:
    """Request `count` records of each label alone, in the order of the label space.

    Args:
        label_space: the model's label space.
        count: records per label.
        known: labels that occurred in training; the others are skipped. Default: all.

    Raises:
        ConfigError: the count is below 1, or no label is left.
    """
    names = (name for name in label_space.names if known is None or name in known)
    return SynthesisRequest(tuple(((name,), count) for name in names))
