"""Labels meet by name: SCP, SNOMED CT, ICBEB numbers and abbreviations as one vocabulary."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus.manifest import manifest_text
from ecgtransfer.errors import CorpusError, ManifestError

#: The vocabularies of `data_manifests/labels.csv`.
VOCABULARIES = ("scp", "snomed", "icbeb_number", "abbreviation")

#: Columns of `data_manifests/labels.csv`.
LABEL_COLUMNS = ("label", "vocabulary", "code", "description")


@dataclass(frozen=True)
class LabelSpace:
    """The labels of a run, in the order of the columns of every (N, K) label array.

    Raises:
        CorpusError: no names, an empty name, or the same name twice.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if isinstance(self.names, str) or not self.names or not all(self.names):
            raise CorpusError(
                f"a label space needs one or more label names, got {self.names!r}; "
                "give a tuple such as ('NORM', 'AFIB')"
            )
        object.__setattr__(self, "names", tuple(self.names))
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise CorpusError(
                f"a label space names each label once, got {', '.join(repeated)} more than once; "
                "remove the repetition"
            )

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Column of a label.

        Raises:
            CorpusError: a name that the space does not have.
        """
        try:
            return self._columns[name]
        except KeyError:
            raise CorpusError(
                f"unknown label {name!r}; expected one of {', '.join(self.names)}"
            ) from None

    def encode(self, names: Iterable[str]) -> NDArray[np.float32]:
        """Label names as a multi-hot row, (K,) float32.

        Raises:
            CorpusError: a name that the space does not have, or a bare string in place of several.
        """
        if isinstance(names, str):
            raise CorpusError(
                f"expected several label names, got the bare string {names!r}; give [{names!r}]"
            )
        row = np.zeros(len(self), dtype=np.float32)
        for name in names:
            row[self.index(name)] = 1.0
        return row

    def decode(self, row: NDArray[Any]) -> tuple[str, ...]:
        """Names of the labels that a multi-hot row (K,) states (values of 0.5 and more).

        Raises:
            CorpusError: a row of another length.
        """
        if np.shape(row) != (len(self),):
            raise CorpusError(
                f"expected a row of {len(self)} labels ({', '.join(self.names)}), "
                f"got shape {np.shape(row)}"
            )
        return tuple(name for name, value in zip(self.names, row, strict=True) if value >= 0.5)

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.names)}


@dataclass(frozen=True)
class LabelCode:
    """One line of `labels.csv`: in `vocabulary`, `code` means `label`."""

    label: str
    vocabulary: str
    code: str
    description: str


@dataclass(frozen=True)
class Vocabulary:
    """Every code that is known, and the canonical label (a PTB-XL statement) that it means.

    Raises:
        CorpusError: an unknown vocabulary, or a code that means two labels.
    """

    codes: tuple[LabelCode, ...]

    def __post_init__(self) -> None:
        for entry in self.codes:
            _check_vocabulary(entry.vocabulary)
        for known in self._labels.values():
            for code, labels in known.items():
                if len(labels) > 1:
                    raise CorpusError(
                        f"code {code!r} means {' and '.join(labels)} in one vocabulary; "
                        "state one label for each code"
                    )

    def resolve(self, code: str, vocabularies: Sequence[str] = VOCABULARIES) -> str | None:
        """Canonical label of a code, or None where none of the vocabularies has it.

        Upper and lower case and surrounding blanks do not matter.

        Raises:
            CorpusError: an unknown vocabulary, or a code that two of them read differently.
        """
        spelling = code.strip().casefold()
        meant: dict[str, str] = {}
        for vocabulary in vocabularies:
            _check_vocabulary(vocabulary)
            for label in self._labels.get(vocabulary, {}).get(spelling, ()):
                meant[label] = vocabulary
        if len(meant) > 1:
            readings = " and ".join(f"{label} ({where})" for label, where in meant.items())
            raise CorpusError(f"code {code!r} is ambiguous: {readings}; name one vocabulary")
        return next(iter(meant), None)

    def codes_of(self, label: str, vocabulary: str) -> tuple[str, ...]:
        """Codes that a vocabulary has for a canonical label, in the order of the table."""
        _check_vocabulary(vocabulary)
        return tuple(
            entry.code
            for entry in self.codes
            if entry.label == label and entry.vocabulary == vocabulary
        )

    def description(self, label: str) -> str:
        """What a canonical label means, in words.

        Raises:
            CorpusError: a label that the table does not have.
        """
        for entry in self.codes:
            if entry.label == label:
                return entry.description
        raise CorpusError(
            f"unknown label {label!r}; data_manifests/labels.csv lists the known ones"
        )

    @cached_property
    def _labels(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """By vocabulary and casefolded code the labels: one, once checked."""
        table: dict[str, dict[str, tuple[str, ...]]] = {}
        for entry in self.codes:
            known = table.setdefault(entry.vocabulary, {})
            spelling = entry.code.casefold()
            labels = known.get(spelling, ())
            if entry.label not in labels:
                known[spelling] = (*labels, entry.label)
        return table


@lru_cache(maxsize=1)
def load_vocabulary() -> Vocabulary:
    """The vocabulary of `data_manifests/labels.csv` (its README states the sources).

    Raises:
        ManifestError: the table is missing or lacks a column.
        CorpusError: a code that means two labels.
    """
    reader = csv.DictReader(manifest_text("labels.csv").splitlines())
    missing = [name for name in LABEL_COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ManifestError(
            f"labels.csv lacks the column {', '.join(missing)}; expected {', '.join(LABEL_COLUMNS)}"
        )
    return Vocabulary(
        tuple(LabelCode(**{name: row[name] for name in LABEL_COLUMNS}) for row in reader)
    )


def label_space(name: str = "icbeb9") -> LabelSpace:
    """A label space by name.

    `icbeb9`: the nine classes of ICBEB2018 in the order of their numbers, 1 to 9 (the default).
    `scp71`: the 71 statements of PTB-XL in the order of its `scp_statements.csv`.

    Raises:
        CorpusError: another name.
    """
    vocabulary = load_vocabulary()
    if name == "icbeb9":
        numbered = [entry for entry in vocabulary.codes if entry.vocabulary == "icbeb_number"]
        return LabelSpace(
            tuple(entry.label for entry in sorted(numbered, key=lambda entry: int(entry.code)))
        )
    if name == "scp71":
        return LabelSpace(
            tuple(entry.label for entry in vocabulary.codes if entry.vocabulary == "scp")
        )
    raise CorpusError(f"unknown label space {name!r}; expected icbeb9 or scp71")


def resolve(code: str, vocabularies: Sequence[str] = VOCABULARIES) -> str | None:
    """Canonical label of a code in `load_vocabulary()`, or None; see `Vocabulary.resolve`."""
    return load_vocabulary().resolve(code, vocabularies)


def snomed_code(label: str) -> str:
    """SNOMED CT code of a canonical label.

    Raises:
        CorpusError: a label for which the table has no SNOMED CT code.
    """
    codes = load_vocabulary().codes_of(label, "snomed")
    if not codes:
        known = [entry.label for entry in load_vocabulary().codes if entry.vocabulary == "snomed"]
        raise CorpusError(
            f"no SNOMED CT code is known for label {label!r}; there is one for {', '.join(known)}"
        )
    return codes[0]


def _check_vocabulary(name: str) -> None:
    if name not in VOCABULARIES:
        raise CorpusError(f"unknown vocabulary {name!r}; expected one of {', '.join(VOCABULARIES)}")
