"""Result of preparing a corpus: records kept and excluded, and findings, as text and JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeVar

T = TypeVar("T")

#: Limb leads that deviate from Einthoven's and Goldberger's laws by more than this are reported;
#: rounding to whole microvolts explains 2.
DISAGREEMENT_UV = 5.0

#: Reasons for excluding a record.
UNSTATED = "no label stated"
OUTSIDE = "no label of this space"
SHORT = "shorter than the window"
UNREADABLE = "unreadable"
DUPLICATE = "the signal of another record"

#: Number of items of a list that the text report shows; the JSON has all.
SHOWN = 8


@dataclass(frozen=True)
class LeftOut:
    """An excluded record, with the kind of reason and its details."""

    record: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Findings:
    """Findings in records that were read; `digests` are the hashes of the signals to keep."""

    left_out: tuple[LeftOut, ...]
    disagreements_uv: dict[str, float]
    clipped_samples: dict[str, int]
    flat_leads: dict[str, tuple[str, ...]]
    saturated_leads: dict[str, tuple[str, ...]]
    sampling_rates_hz: dict[str, int]
    lengths_s: dict[str, int]
    digests: dict[str, str]


@dataclass(eq=False)
class FindingsTally:
    """All findings so far."""

    drop_duplicates: bool
    left_out: list[LeftOut]
    disagreements_uv: dict[str, float] = field(default_factory=dict)
    clipped_samples: dict[str, int] = field(default_factory=dict)
    flat_leads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    saturated_leads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sampling_rates_hz: Counter[str] = field(default_factory=Counter)
    lengths_s: Counter[str] = field(default_factory=Counter)
    same_signal: dict[str, list[str]] = field(default_factory=dict)
    first_of: dict[bytes, str] = field(default_factory=dict)

    def add(self, findings: Findings) -> list[str]:
        """Add the findings of some records; return the names of those to keep, in order."""
        self.left_out += findings.left_out
        kept = []
        for name, digest in findings.digests.items():
            first = self.first_of.setdefault(bytes.fromhex(digest), name)
            if first != name:
                self.same_signal.setdefault(first, [first]).append(name)
            if first != name and self.drop_duplicates:
                detail = f"{name} has the signal of {first}"
                self.left_out.append(LeftOut(name, DUPLICATE, detail))
            else:
                kept.append(name)
        chosen = set(kept)
        self.disagreements_uv |= _of(findings.disagreements_uv, chosen)
        self.clipped_samples |= _of(findings.clipped_samples, chosen)
        self.flat_leads |= _of(findings.flat_leads, chosen)
        self.saturated_leads |= _of(findings.saturated_leads, chosen)
        self.sampling_rates_hz.update(findings.sampling_rates_hz)
        self.lengths_s.update(findings.lengths_s)
        return kept


@dataclass(frozen=True)
class PreparationReport:
    """Result of `prepare`, also stored as `report.json` in the folder of the set.

    Attributes:
        corpus, version: name and version of the corpus.
        sampling_rate_hz, seconds: sampling rate and length of the set.
        records: number of records in the corpus.
        kept: number of records in the set.
        left_out: excluded records with reasons.
        labels_before, labels_after: number of records of each label in corpus and set.
        unknown_codes: number of records with each code that no vocabulary has.
        codes_outside: number of records with each known code outside the label space.
        disagreements_uv: records whose limb leads deviate from Einthoven's and Goldberger's laws
            by more than 5 microvolts.
        clipped_samples: number of samples beyond +-32.767 mV by record.
        flat_leads, saturated_leads: names of the leads by record.
        sampling_rates_hz, lengths_s: number of records with each sampling rate and length.
        missing_ages, missing_sexes: number of kept records without age, without sex.
        patients_not_stated: number of kept records whose patient is unknown.
        duplicates: groups of names with identical signals.
        headers_mended: flaws of headers that were repaired, by record.
        warnings: sentences on the labels of the corpus in the label space.
        notes: sentences of the corpus reader.
    """

    corpus: str
    version: str
    sampling_rate_hz: int
    seconds: float
    records: int
    kept: int
    left_out: tuple[LeftOut, ...]
    labels_before: dict[str, int]
    labels_after: dict[str, int]
    unknown_codes: dict[str, int]
    codes_outside: dict[str, int]
    disagreements_uv: dict[str, float]
    clipped_samples: dict[str, int]
    flat_leads: dict[str, tuple[str, ...]]
    saturated_leads: dict[str, tuple[str, ...]]
    sampling_rates_hz: dict[str, int]
    lengths_s: dict[str, int]
    missing_ages: int
    missing_sexes: int
    patients_not_stated: int
    duplicates: tuple[tuple[str, ...], ...]
    headers_mended: dict[str, tuple[str, ...]]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """Report as JSON text."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        title = f"{self.corpus} {self.version}".strip()
        yield (
            f"{title}: kept {self.kept} of {self.records} records "
            f"({self.seconds:g} s at {self.sampling_rate_hz} Hz)"
        )
        for reason, count in Counter(entry.reason for entry in self.left_out).most_common():
            yield f"  left out, {reason}: {count}"
        yield from [f"  {entry.detail}" for entry in self.left_out if entry.reason == UNREADABLE][
            :5
        ]
        width = max(5, *(len(name) for name in self.labels_before))
        yield f"  {'label':<{width}}  in corpus  in set"
        for name, count in self.labels_before.items():
            yield f"  {name:<{width}}  {count:>9}  {self.labels_after[name]:>6}"
        yield f"  codes that no vocabulary has: {_counts(self.unknown_codes)}"
        yield f"  codes outside the label space: {_counts(self.codes_outside)}"
        yield f"  recorded at: {_counts(self.sampling_rates_hz, ' Hz:')}"
        yield f"  lengths: {_counts(self.lengths_s, ' s:')}"
        yield (
            f"  not stated: age {self.missing_ages}, sex {self.missing_sexes}, "
            f"patient {self.patients_not_stated}"
        )
        worst = max(self.disagreements_uv.values(), default=0.0)
        yield (
            f"  limb leads off by more than {DISAGREEMENT_UV:g} uV: {len(self.disagreements_uv)} "
            f"records (worst {worst:.0f} uV)"
        )
        yield (
            f"  samples clipped at 32.767 mV: {sum(self.clipped_samples.values())} "
            f"in {len(self.clipped_samples)} records"
        )
        yield f"  flat leads: {_names(self.flat_leads)}"
        yield f"  saturated leads: {_names(self.saturated_leads)}"
        groups = [" = ".join(names) for names in self.duplicates]
        yield f"  one signal under several names: {_names(groups)}"
        yield f"  headers repaired: {_names(self.headers_mended)}"
        for record, repairs in list(self.headers_mended.items())[:3]:
            yield f"    {record}: {', '.join(repairs)}"
        yield from (f"  {note}" for note in self.notes)
        yield from (f"  warning: {sentence}" for sentence in self.warnings)


def _of(values: dict[str, T], names: set[str]) -> dict[str, T]:
    return {name: value for name, value in values.items() if name in names}


def _counts(counts: Mapping[str, int], unit: str = "") -> str:
    """The most frequent codes with their counts."""
    if not counts:
        return "none"
    ordered = sorted(counts.items(), key=lambda entry: -entry[1])
    first = ", ".join(f"{code}{unit} {count}" for code, count in ordered[:SHOWN])
    return first if len(counts) <= SHOWN else f"{first} and {len(counts) - SHOWN} more"


def _names(names: Collection[str]) -> str:
    """Number of names, and the first of them."""
    if not names:
        return "none"
    shown = ", ".join(list(names)[:SHOWN])
    return f"{len(names)} ({shown}{', ...' if len(names) > SHOWN else ''})"
