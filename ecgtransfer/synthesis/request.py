"""What is to be generated: exact counts of label combinations, in a fixed order."""

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

#: A count as a user writes it: decimal digits, perhaps a sign; neither "1e3" nor "1_000".
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True)
class SynthesisRequest:
    """How many records of which labels, record numbers running through the entries in order.

    `entries` is a tuple of (label names, count): `((("AFIB",), 200), (("CRBBB", "PVC"), 20))` asks
    for records 0 to 199 with AFIB and records 200 to 219 with both of the others. Nothing here
    grows with the counts, so they may be in the millions.

    Raises `ConfigError` when there is no entry, an entry has no label or one twice, a combination
    comes twice (in any order of its labels), or a count is not a whole number of at least 1.
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
                raise ConfigError(f"{text!r} is counted twice; give one count for a combination")
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ConfigError(
                    f"the count of {text} must be a whole number of at least 1, got {count!r}"
                )
            seen.add(frozenset(labels))

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        """Record number after the last of each entry."""
        return tuple(accumulate(count for _, count in self.entries))

    @property
    def total(self) -> int:
        """Number of records asked for."""
        return self._ends[-1]

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label named, each once, in the order of first mention."""
        return tuple(dict.fromkeys(name for names, _ in self.entries for name in names))

    def labels_of_record(self, number: int) -> tuple[str, ...]:
        """Label names of record `number`, which counts from 0.

        Raises `ConfigError` for a number outside 0 to total - 1.
        """
        if not 0 <= number < self.total:
            raise ConfigError(f"record numbers run from 0 to {self.total - 1}, got {number}")
        return self.entries[bisect_right(self._ends, number)][0]

    def label_matrix(
        self, label_space: LabelSpace, start: int = 0, stop: int | None = None
    ) -> NDArray[np.float32]:
        """Multi-hot labels of records start to stop - 1 (default: all): (stop - start, K) float32.

        Raises `ConfigError` for a range outside the request, `CorpusError` for a label that the
        space does not have.
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
    """Read counts as the command line takes them: "AFIB=200", "CRBBB+PVC=20".

    Labels of one combination come out in the order of the label space, so "PVC+CRBBB" and
    "CRBBB+PVC" are the same. `known` are the labels that the model saw in training (default: the
    whole space); any other is refused.

    Raises `ConfigError`, in one sentence, for malformed text, an unknown label (the sentence lists
    the known ones), a combination that comes twice, or a count that is not a whole number above 0.
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
                    f"the model has never seen the label {label!r}; it knows {', '.join(names)}"
                )
        entries.append((tuple(sorted(labels, key=label_space.index)), int(number)))
    return SynthesisRequest(tuple(entries))


def per_class(
    label_space: LabelSpace, count: int, known: Collection[str] | None = None
) -> SynthesisRequest:
    """`count` records of each label alone, in the order of the label space.

    `known` are the labels that the model saw in training (default: the whole space); the others
    are passed over. Raises `ConfigError` for a count below 1 or when no label is left.
    """
    names = (name for name in label_space.names if known is None or name in known)
    return SynthesisRequest(tuple(((name,), count) for name in names))
