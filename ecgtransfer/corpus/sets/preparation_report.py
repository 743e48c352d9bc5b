"""Result of preparing a corpus: records kept and left out, and findings, as text and JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeVar

T = TypeVar("T")

#: Limb leads that contradict Einthoven and Goldberger by more than this are reported: rounding
#: to whole microvolts explains 2.
DISAGREEMENT_UV = 5.0

#: Why records are left out.
UNSTATED = "no label stated"
OUTSIDE = "no label of this space"
SHORT = "shorter than the window"
UNREADABLE = "unreadable"
DUPLICATE = "the signal of another record"

#: Items that the readable report shows of a list; the JSON has them all.
SHOWN = 8


@dataclass(frozen=True)
class LeftOut:
    """A record that is not in the set, with the kind of reason and its details."""

    record: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Findings:
    """Findings in records while they were read; `digests` of the signals kept."""

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
    """All findings so far; a few words a record."""

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
        """Add the findings of some records; returns the names of those to keep, in their order."""
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
    """Result of `prepare`; `report.json` in the folder of the set.

    `labels_before` and `labels_after` count the records of each label in the corpus and in the
    set; `unknown_codes` the codes that no vocabulary has, `codes_outside` those whose label is not
    in the space; `disagreements_uv` the kept records whose limb leads contradict each other by more
    than 5 microvolts; `clipped_samples` the samples beyond +-32.767 mV by record; `flat_leads` and
    `saturated_leads` name the leads by record. `sampling_rates_hz` and `lengths_s` count the
    records that were read; `duplicates` groups the names of one signal; `headers_mended` says by
    record what of a header was bad in form and read all the same; `missing_ages` and
    `missing_sexes` count kept records, `patients_not_stated` those whose name stands for the
    patient; `warnings` are sentences on what the label space makes of the corpus, `notes` those of
    the corpus's reader.
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
        """The report as JSON text."""
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
        yield f"  headers mended: {_names(self.headers_mended)}"
        for record, mends in list(self.headers_mended.items())[:3]:
            yield f"    {record}: {', '.join(mends)}"
        yield from (f"  {note}" for note in self.notes)
        yield from (f"  warning: {sentence}" for sentence in self.warnings)


def _of(values: dict[str, T], names: set[str]) -> dict[str, T]:
    return {name: value for name, value in values.items() if name in names}


def _counts(counts: Mapping[str, int], unit: str = "") -> str:
    """The most frequent of some counts, in words."""
    if not counts:
        return "none"
    ordered = sorted(counts.items(), key=lambda entry: -entry[1])
    first = ", ".join(f"{code}{unit} {count}" for code, count in ordered[:SHOWN])
    return first if len(counts) <= SHOWN else f"{first} and {len(counts) - SHOWN} more"


def _names(names: Collection[str]) -> str:
    """How many there are, and the first of them."""
    if not names:
        return "none"
    shown = ", ".join(list(names)[:SHOWN])
    return f"{len(names)} ({shown}{', ...' if len(names) > SHOWN else ''})"
