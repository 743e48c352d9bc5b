"""Label vocabularies (SCP, SNOMED CT, ICBEB numbers, abbreviations) matched by name.

A label space is a list of classes. Without a table of its own, a class is the canonical label with
the same name (`icbeb9`, `scp71`). With a table (`superclasses`, `challenge`, a user's csv), the
table maps codes to classes; several codes may map to one class.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus.manifest import manifest_text
from ecgtransfer.errors import CorpusError, ManifestError

#: Supported code systems; `local` is for a hospital's own codes, which only a label space with a
#: table can map.
VOCABULARIES = ("scp", "snomed", "icbeb_number", "abbreviation", "local")

#: Columns of `data_manifests/labels.csv` and of the table of a label space, in which the
#: description is optional.
LABEL_COLUMNS = ("label", "vocabulary", "code", "description")

#: Built-in label spaces; any other name is the path of a csv.
LABEL_SPACES = ("icbeb9", "scp71", "superclasses", "challenge", "challenge2020")

#: Number of classes and codes that a message lists.
_NAMED = 8


@dataclass(frozen=True)
class LabelCode:
    """One row of a code table: in `vocabulary`, `code` means `label`."""

    label: str
    vocabulary: str
    code: str
    description: str


@dataclass(frozen=True)
class LabelSpace:
    """The labels of a run, in the order of the columns of every (N, K) label array.

    A code of a vocabulary that occurs in the space's own table is looked up only there; any other
    code is mapped through its canonical label. Without a table the names are canonical labels. Two
    spaces with the same names are equal.

    Attributes:
        names: names of the classes.
        codes: the space's own table, possibly empty.

    Raises:
        CorpusError: there are no names, an empty name or a repeated one; or the table has an
            unknown vocabulary, an unknown class, or one code for two classes.
    """

    names: tuple[str, ...]
    codes: tuple[LabelCode, ...] = field(default=(), compare=False, repr=False)

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
        object.__setattr__(self, "codes", tuple(self.codes))
        if unknown := sorted({entry.label for entry in self.codes} - set(self.names)):
            raise CorpusError(
                f"the table of a label space names {', '.join(unknown)}, which the space lacks; "
                f"expected {', '.join(self.names)}"
            )
        _ = self._table  # build the table once, to validate it

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Column of a label.

        Raises:
            CorpusError: the label is not in the space.
        """
        try:
            return self._columns[name]
        except KeyError:
            raise CorpusError(
                f"unknown label {name!r}; expected one of {', '.join(self.names)}"
            ) from None

    def encode(self, names: Iterable[str]) -> NDArray[np.float32]:
        """Encode label names as a multi-hot row, (K,) float32.

        Raises:
            CorpusError: a name is not in the space, or `names` is a single string.
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
        """Names of the labels in a multi-hot row (K,) with values of at least 0.5.

        Raises:
            CorpusError: the row has another length.
        """
        if np.shape(row) != (len(self),):
            raise CorpusError(
                f"expected a row of {len(self)} labels ({', '.join(self.names)}), "
                f"got shape {np.shape(row)}"
            )
        return tuple(name for name, value in zip(self.names, row, strict=True) if value >= 0.5)

    def label_of(self, code: str, vocabulary: str) -> str | None:
        """Class of a code; None if it has no class.

        If the space's table has rows of this vocabulary, only those count. A code of another
        vocabulary is mapped through its canonical label: by the table's entry for that label's own
        codes (the first of each vocabulary in `labels.csv`). An unknown code that equals the name
        of a class means that class.

        Raises:
            CorpusError: the vocabulary is unknown, or the table maps the code to two classes.
        """
        label = resolve(code, (vocabulary,))
        if self._table is None:
            return label if label in self._columns else None
        if vocabulary in self._table._labels:
            stated = self._table.resolve(code, (vocabulary,))
            if stated is not None or label is not None:
                return stated
        if label is None:
            return self._named(code)
        meant: dict[str, str] = {}
        for spoken in self._table._labels:
            for own in load_vocabulary().codes_of(label, spoken)[:1]:
                name = self._table.resolve(own, (spoken,))
                if name is not None:
                    meant.setdefault(name, f"{name} by {spoken} {own}")
        if len(meant) > 1:
            raise CorpusError(
                f"code {code!r} of the vocabulary {vocabulary} means {label}, which the label "
                f"space takes for {' and for '.join(meant.values())}; give its table a line for "
                f"{vocabulary} {code}"
            )
        return next(iter(meant), None)

    def encode_codes(self, codes: Iterable[str], vocabulary: str) -> NDArray[np.float32]:
        """Encode the codes of a record as a multi-hot row, (K,) float32; others are ignored.

        Raises:
            CorpusError: as in `label_of`.
        """
        found = (self.label_of(code, vocabulary) for code in codes)
        return self.encode(label for label in found if label is not None)

    def code_of(self, label: str, vocabulary: str) -> str | None:
        """A code of a class in a vocabulary: the table's first one, or the canonical one, or None.

        A class that merges several canonical labels has only codes of the table.

        Raises:
            CorpusError: the label is not in the space, or the vocabulary is unknown.
        """
        self.index(label)
        _check_vocabulary(vocabulary)
        own = [entry for entry in self.codes if entry.label == label]
        stated = [entry.code for entry in own if entry.vocabulary == vocabulary]
        if stated:
            return stated[0]
        canonical = {resolve(entry.code, (entry.vocabulary,)) for entry in own} if own else {label}
        if len(canonical) > 1:
            return None
        only = next(iter(canonical))
        known = load_vocabulary().codes_of(only, vocabulary) if only is not None else ()
        return known[0] if known else None

    def card_entry(self) -> dict[str, list[list[str]]]:
        """Table rows for the card of a set, so that the set does not depend on the csv."""
        lines = [[entry.label, entry.vocabulary, entry.code] for entry in self.codes]
        return {"label_codes": lines} if lines else {}

    def _named(self, code: str) -> str | None:
        """Class with this name, ignoring case."""
        spelling = code.strip().casefold()
        named = [name for name in self.names if name.casefold() == spelling]
        return named[0] if len(named) == 1 else None

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.names)}

    @cached_property
    def _table(self) -> Vocabulary | None:
        return Vocabulary(self.codes) if self.codes else None


@dataclass(frozen=True)
class Vocabulary:
    """All known codes with their canonical label (a PTB-XL statement).

    Attributes:
        codes: rows of the table.

    Raises:
        CorpusError: a vocabulary is unknown, or a code has two labels.
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
        """Canonical label of a code; None if no vocabulary has it.

        Case and surrounding spaces are ignored.

        Raises:
            CorpusError: a vocabulary is unknown, or two vocabularies map the code differently.
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
        """Codes of a canonical label in a vocabulary, in the order of the table."""
        _check_vocabulary(vocabulary)
        return tuple(
            entry.code
            for entry in self.codes
            if entry.label == label and entry.vocabulary == vocabulary
        )

    def description(self, label: str) -> str:
        """Description of a canonical label.

        Raises:
            CorpusError: the label is not in the table.
        """
        for entry in self.codes:
            if entry.label == label:
                return entry.description
        raise CorpusError(
            f"unknown label {label!r}; data_manifests/labels.csv lists the known ones"
        )

    @cached_property
    def _labels(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Labels by vocabulary and casefolded code; one each, after validation."""
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
    """Read the vocabulary of `data_manifests/labels.csv` (its README states the sources).

    Raises:
        ManifestError: the table is missing or lacks a column.
        CorpusError: a code has two labels.
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


def label_space(name: str | Path = "icbeb9") -> LabelSpace:
    """Load a built-in label space, or a user's csv table.

    `icbeb9`: the nine classes of ICBEB2018 in the order of their numbers, 1 to 9 (the default).
    `scp71`: the 71 statements of PTB-XL in the order of its `scp_statements.csv`.
    `superclasses`: the five diagnostic superclasses of PTB-XL: NORM, MI, STTC, CD, HYP.
    `challenge`: the 26 classes scored by the PhysioNet/CinC Challenge 2021; `challenge2020`: the 24
    of 2020. Codes that the Challenge scored as one (CRBBB = RBBB, ...) are one class.
    A path: a csv with the columns `label`, `vocabulary`, `code` and, optionally, `description`, one
    row per code; classes are ordered by first appearance.

    Raises:
        CorpusError: the name is unknown, the file does not exist, or the table is invalid.
    """
    if name == "icbeb9":
        numbered = [
            entry for entry in load_vocabulary().codes if entry.vocabulary == "icbeb_number"
        ]
        return LabelSpace(
            tuple(entry.label for entry in sorted(numbered, key=lambda entry: int(entry.code)))
        )
    if name == "scp71":
        statements = [entry for entry in load_vocabulary().codes if entry.vocabulary == "scp"]
        return LabelSpace(tuple(entry.label for entry in statements))
    if name == "superclasses":
        return _space(manifest_text("superclasses.csv"), "superclasses.csv")
    if name in ("challenge", "challenge2020"):
        return _challenge(scored_in=2021 if name == "challenge" else 2020)
    path = Path(name)
    if path.suffix.casefold() != ".csv" and not path.is_file():
        raise CorpusError(
            f"unknown label space {str(name)!r}; expected {', '.join(LABEL_SPACES)} or the path "
            "of a csv"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CorpusError(f"no such label space: {path}; check its path") from None
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"expected a csv table in UTF-8 at {path}, got {error}; export it again"
        ) from None
    return _space(text, str(path))


def label_warnings(
    before: Mapping[str, int],
    after: Mapping[str, int],
    codes_outside: Mapping[str, int],
    records_outside: int = 0,
) -> tuple[str, ...]:
    """Warnings about a corpus in a label space, for the report of its preparation.

    Args:
        before: number of records of each class in the corpus.
        after: number of records of each class in the set.
        codes_outside: number of records with each known code that has no class in the space.
        records_outside: number of records excluded because they have only such codes.
    """
    without = [name for name, count in before.items() if not count]
    lost = [name for name, count in before.items() if count and not after.get(name, 0)]
    sentences = []
    if without:
        sentences.append(
            f"no record of the corpus states {_some(without)}: a model cannot learn "
            f"{'it' if len(without) == 1 else 'them'}; add records, or use a label space without"
        )
    if lost:
        sentences.append(
            f"all records that state {_some(lost)} were excluded, see the reasons above; add "
            "records, or use a label space without"
        )
    if records_outside:
        sentences.append(
            f"the label space loses {records_outside} records, which state only "
            f"{_some(list(codes_outside))}; keep them with --keep-unlabelled, or use a wider space"
        )
    return tuple(sentences)


def resolve(code: str, vocabularies: Sequence[str] = VOCABULARIES) -> str | None:
    """Canonical label of a code in `load_vocabulary()`, or None; see `Vocabulary.resolve`."""
    return load_vocabulary().resolve(code, vocabularies)


def snomed_code(label: str) -> str:
    """SNOMED CT code of a canonical label.

    Raises:
        CorpusError: the table has no SNOMED CT code for the label.
    """
    codes = load_vocabulary().codes_of(label, "snomed")
    if not codes:
        known = [entry.label for entry in load_vocabulary().codes if entry.vocabulary == "snomed"]
        raise CorpusError(
            f"no SNOMED CT code is known for label {label!r}; codes exist for "
            f"{', '.join(dict.fromkeys(known))}"
        )
    return codes[0]


def _check_vocabulary(name: str) -> None:
    if name not in VOCABULARIES:
        raise CorpusError(f"unknown vocabulary {name!r}; expected one of {', '.join(VOCABULARIES)}")


def _space(text: str, source: str) -> LabelSpace:
    """Build the label space of a csv table."""
    return _from_rows([row for row, _ in _rows(text, source)], source)


def _challenge(scored_in: int) -> LabelSpace:
    """Classes scored by the Challenge of a year; column `since` holds the first such year."""
    source = "challenge.csv"
    rows = _rows(manifest_text(source), source)
    return _from_rows([row for row, line in rows if int(line["since"]) <= scored_in], source)


def _from_rows(rows: Sequence[LabelCode], source: str) -> LabelSpace:
    try:
        return LabelSpace(tuple(dict.fromkeys(row.label for row in rows)), tuple(rows))
    except CorpusError as error:
        raise CorpusError(f"{source}: {error}") from None


def _rows(text: str, source: str) -> list[tuple[LabelCode, dict[str, str]]]:
    """Parse a code table: the code of each row, and all its columns."""
    needed = LABEL_COLUMNS[:3]
    reader = csv.DictReader(text.splitlines(), strict=True)
    rows = []
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        if missing := [name for name in needed if name not in reader.fieldnames]:
            raise CorpusError(
                f"{source} lacks the column {', '.join(missing)}; expected "
                f"{', '.join(LABEL_COLUMNS)}, of which the last may be absent"
            )
        for number, stated in enumerate(reader, start=2):
            line = {name: (stated[name] or "").strip() for name in reader.fieldnames}
            if empty := [name for name in needed if not line[name]]:
                raise CorpusError(
                    f"{source}, line {number} has no {', '.join(empty)}; give each line a "
                    "label, a vocabulary and a code"
                )
            rows.append((LabelCode(*(line.get(name, "") for name in LABEL_COLUMNS)), line))
    except csv.Error as error:
        raise CorpusError(f"{source} is not a csv table: {error}; export it again") from None
    if not rows:
        raise CorpusError(f"{source} has no rows; give it one for each code")
    return rows


def _some(names: Sequence[str]) -> str:
    """The first names of a list, and the number of others."""
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
