"""A corpus as it lies on disk: each recording's name, patient, statements and file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus.icbeb_struct import read_icbeb_struct
from ecgtransfer.corpus.labels import LabelSpace, resolve
from ecgtransfer.corpus.manifest import Manifest
from ecgtransfer.corpus.plain_wfdb import read_wfdb
from ecgtransfer.errors import CorpusError
from ecgtransfer.signals import Recording

#: How the signal of a record is read; the key is `CorpusRecord.reader`.
READERS: dict[str, Callable[[Path], Recording]] = {
    "wfdb": read_wfdb,
    "icbeb_struct": read_icbeb_struct,
}


@dataclass(frozen=True)
class CorpusRecord:
    """One recording of a corpus, not yet read.

    `path` is what the reader takes; `codes` are the statements as the corpus spells them, in
    `vocabulary`; `age` is in years; what the corpus does not state is None.

    Raises:
        CorpusError: an unknown reader, a sex other than male or female, an empty name or patient.
    """

    name: str
    path: Path
    reader: str
    patient: str
    codes: tuple[str, ...]
    vocabulary: str
    fold: int | None = None
    age: float | None = None
    sex: Literal["male", "female"] | None = None
    device: str | None = None
    site: str | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.patient:
            raise CorpusError(
                f"a record needs a name and a patient, got {self.name!r} and {self.patient!r}"
            )
        if self.reader not in READERS:
            raise CorpusError(
                f"record {self.name}: unknown reader {self.reader!r}; "
                f"expected one of {', '.join(READERS)}"
            )
        if self.sex not in (None, "male", "female"):
            raise CorpusError(
                f"record {self.name}: expected sex male, female or None, got {self.sex!r}"
            )


@dataclass(frozen=True)
class Corpus:
    """A data set on disk: its manifest and its records, in a fixed order.

    Raises:
        CorpusError: no records, or two of one name.
    """

    manifest: Manifest
    records: tuple[CorpusRecord, ...]

    def __post_init__(self) -> None:
        if not self.records:
            raise CorpusError(f"the corpus {self.manifest.name} has no records; check its folder")
        seen: set[str] = set()
        for record in self.records:
            if record.name in seen:
                raise CorpusError(
                    f"the corpus {self.manifest.name} has two records named {record.name}; "
                    "remove one of the copies"
                )
            seen.add(record.name)

    def __len__(self) -> int:
        return len(self.records)

    def labels(self, space: LabelSpace) -> NDArray[np.float32]:
        """Multi-hot labels of all records, (N, K) float32; codes outside the space do not count."""
        rows = np.zeros((len(self.records), len(space)), dtype=np.float32)
        for row, record in zip(rows, self.records, strict=True):
            row[:] = space.encode(
                label for label in canonical_labels(record) if label in space.names
            )
        return rows


def canonical_labels(record: CorpusRecord) -> tuple[str, ...]:
    """Canonical labels of the codes of a record that the vocabulary knows."""
    found = (resolve(code, (record.vocabulary,)) for code in record.codes)
    return tuple(dict.fromkeys(label for label in found if label is not None))


def read_signal(record: CorpusRecord) -> Recording:
    """Read the recording of a record, whole and at its own sampling rate.

    Raises:
        SignalError: the file is missing, damaged or no 12-lead ECG.
    """
    return READERS[record.reader](record.path)
