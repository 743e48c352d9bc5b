"""A corpus on disk: name, patient, statements and file of each recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus.labels import LabelSpace
from ecgtransfer.corpus.manifest import Manifest
from ecgtransfer.corpus.readers.array_files import ArrayPart, read_array
from ecgtransfer.corpus.readers.icbeb_struct import read_icbeb_struct
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import Recording
from ecgtransfer.signals.plain_wfdb import read_wfdb


def _read_array(record: CorpusRecord, at_most_s: float | None) -> Recording:
    if record.part is None:
        raise CorpusError(f"record {record.name}: an array needs its part; pass it")
    return read_array(record.path, record.part, at_most_s)


#: Functions that read the signal of a record, by `CorpusRecord.reader`.
READERS: dict[str, Callable[[CorpusRecord, float | None], Recording]] = {
    "wfdb": lambda record, at_most_s: read_wfdb(record.path, at_most_s),
    "icbeb_struct": lambda record, at_most_s: read_icbeb_struct(record.path),
    "array": _read_array,
}


@dataclass(frozen=True)
class OwnSource:
    """Source of unpublished records; unknown fields are empty."""

    name: str
    version: str = ""
    licence: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class CorpusRecord:
    """One recording of a corpus, before its signal is read.

    Attributes:
        name: unique name.
        path: argument of the reader.
        reader: key of `READERS`.
        patient: patient identifier.
        codes: statements as the corpus spells them.
        vocabulary: code system of `codes`.
        fold: published fold; None if unknown, like the following.
        age: age in years.
        sex: "male" or "female".
        device: recording device.
        site: place of recording.
        patient_stated: False if the patient is unknown and `patient` is the record's name.
        repairs: flaws of the header that were repaired.
        problem: why the record cannot be read, if known.
        part: which recording of an array file it is.
        origin: "recorded", or what the file states of a synthetic record.

    Raises:
        CorpusError: the reader or sex is unknown, or name or patient is empty.
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
    patient_stated: bool = True
    repairs: tuple[str, ...] = ()
    problem: str | None = None
    part: ArrayPart | None = None
    origin: str = "recorded"

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

    Attributes:
        manifest: facts about the data set.
        records: the records.
        notes: sentences for the report of its preparation.

    Raises:
        CorpusError: there are no records, or two have the same name.
    """

    manifest: Manifest | OwnSource
    records: tuple[CorpusRecord, ...]
    notes: tuple[str, ...] = ()

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

    @cached_property
    def origin(self) -> str:
        """Origin of all records, or "mixed"."""
        origins = {record.origin for record in self.records}
        return origins.pop() if len(origins) == 1 else "mixed"

    def labels(self, space: LabelSpace) -> NDArray[np.float32]:
        """Multi-hot labels of all records, (N, K) float32; codes outside the space are ignored."""
        rows = np.zeros((len(self.records), len(space)), dtype=np.float32)
        for row, record in zip(rows, self.records, strict=True):
            row[:] = space.encode_codes(record.codes, record.vocabulary)
        return rows


def read_signal(record: CorpusRecord, at_most_s: float | None = None) -> Recording:
    """Read a recording at its own sampling rate: completely, or its first seconds.

    Raises:
        SignalError: the file is missing, damaged or not a 12-lead ECG.
    """
    if record.problem is not None:
        raise SignalError(record.problem)
    return READERS[record.reader](record, at_most_s)
