"""Describe a record or a set, and draw it on ECG paper or as an overview."""

import glob
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ecgtransfer.corpus import ECGSet, resolve
from ecgtransfer.corpus.readers.statements import (
    found_vocabularies,
    parse_age,
    parse_sex,
    split_codes,
    stated_in,
)
from ecgtransfer.drawing.overview import draw_overview
from ecgtransfer.drawing.paper_png import draw_recording, save_drawing
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import (
    Recording,
    flat_leads,
    heart_rate_bpm,
    limb_lead_disagreement_mv,
    read_comments,
    read_recording,
    saturated_leads,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Printed below the grid of a synthetic record.
SYNTHETIC = "SYNTHETIC, not for diagnosis"

#: Longest part of a recording that is described and drawn, in seconds.
LONGEST_SHOWN_S = 300.0

#: Number of names in a message, and of label combinations in a summary.
NAMED, COMBINATIONS = 3, 20

#: Report of the preparation, in the folder of a set.
REPORT = "report.json"


@dataclass(frozen=True)
class ShownRecord:
    """Description of a record, and the path of its drawing.

    Attributes:
        name, labels, age, sex: as in the set or the header.
        origin: `recorded`, `simulated` or `generated`.
        sampling_rate_hz, seconds: sampling rate and length.
        heart_rate_bpm: None if fewer than two beats are found.
        lowest_mv, highest_mv: range of all leads.
        limb_lead_disagreement_uv: deviation of the recorded limb leads from Einthoven's and
            Goldberger's laws; None if it was not reported.
        flat_leads, saturated_leads: names of such leads.
        drawing: path of the drawing, if any.
    """

    name: str
    labels: tuple[str, ...]
    origin: str
    age: float | None
    sex: str | None
    sampling_rate_hz: float
    seconds: float
    heart_rate_bpm: float | None
    lowest_mv: float
    highest_mv: float
    limb_lead_disagreement_uv: float | None
    flat_leads: tuple[str, ...]
    saturated_leads: tuple[str, ...]
    drawing: Path | None


@dataclass(frozen=True)
class ShownSet:
    """Summary of a set, and the path of its drawing.

    Attributes:
        set: folder of the set.
        origin: `recorded`, `simulated`, `generated` or `mixed`.
        source: name of the corpus, if known.
        records, patients, unlabelled: numbers of records, patients and records without label.
        samples, seconds, sampling_rate_hz: length and sampling rate of the records.
        folds, sexes, devices: number of records of each value.
        ages: number of records of each decade of age.
        median_age: in years.
        labels: number of records of each label.
        combinations: number of records of each set of labels ("CRBBB+PAC"), most frequent first.
        fingerprint: fingerprint of the set.
        drawing: path of the drawing, if any.
    """

    set: Path
    origin: str
    source: str | None
    records: int
    patients: int
    unlabelled: int
    samples: int
    seconds: float
    sampling_rate_hz: float
    folds: dict[str, int]
    sexes: dict[str, int]
    ages: dict[str, int]
    median_age: float | None
    devices: dict[str, int]
    labels: dict[str, int]
    combinations: dict[str, int]
    fingerprint: str
    drawing: Path | None


def show_record(
    ecgset: ECGSet, name: str, drawing: Path | None, layout: str = "3x4"
) -> ShownRecord:
    """Describe the record with this name and, if `drawing` is given, draw it on ECG paper.

    Raises:
        CorpusError: there is no such record, or the drawing cannot be written.
    """
    found = ecgset.records.index[ecgset.records.name.astype(str) == name]
    if len(found) == 0:
        first = ", ".join(ecgset.records.name.astype(str).head(NAMED))
        raise CorpusError(f"{ecgset.folder} has no record {name!r}; it has {first} and others")
    index = int(found[0])
    row = ecgset.records.iloc[index]
    return _shown(
        name,
        ecgset.recording(index),
        ecgset.label_space.decode(ecgset.labels[index]),
        ecgset.record_origins[index],
        None if pd.isna(row.age) else float(row.age),
        None if pd.isna(row.sex) else str(row.sex),
        _recorded_disagreement_uv(ecgset, name),
        drawing,
        layout,
    )


def show_recording(
    folder: Path, name: str, drawing: Path | None, layout: str = "3x4"
) -> ShownRecord:
    """Describe a WFDB record below a folder, as `show_record` does for a record of a set.

    Only the first five minutes of a longer record are described.

    Args:
        folder: folder to search.
        name: the record's path below it without extension, or only the name of its files.
        drawing: path of the drawing, or None.
        layout: layout of the drawing.

    Raises:
        CorpusError: there is no such record, or several; or the drawing cannot be written.
        SignalError: the record cannot be read.
    """
    path = _record_path(folder, name)
    stated = stated_in(read_comments(path))
    codes = split_codes(stated.get("dx", ""))
    (vocabulary,) = found_vocabularies([codes], None)
    recording = read_recording(path, LONGEST_SHOWN_S)
    return _shown(
        name,
        recording,
        tuple(dict.fromkeys(resolve(code, (vocabulary,)) or code for code in codes)),
        "recorded",
        parse_age(stated.get("age")),
        parse_sex(stated.get("sex")),
        limb_lead_disagreement_mv(recording.signal_mv) * 1000,
        drawing,
        layout,
    )


def show_set(ecgset: ECGSet, drawing: Path | None = None) -> ShownSet:
    """Count the contents of a set and, if `drawing` is given, draw an overview on one page.

    Raises:
        CorpusError: the drawing cannot be written.
    """
    names, records = ecgset.label_space.names, ecgset.records
    totals = ecgset.labels.sum(axis=0)
    labels = {name: int(total) for name, total in zip(names, totals, strict=True)}
    combined = Counter("+".join(ecgset.label_space.decode(row)) for row in ecgset.labels)
    unlabelled = combined.pop("", 0)
    decades = (records.age.dropna() // 10 * 10).astype(int).value_counts().sort_index()
    ages = {f"{decade}-{int(str(decade)) + 9}": int(count) for decade, count in decades.items()}
    if missing := int(records.age.isna().sum()):
        ages["not stated"] = missing
    shown = ShownSet(
        set=ecgset.folder,
        origin=ecgset.origin,
        source=_source(ecgset),
        records=len(ecgset),
        patients=int(records.patient.nunique()),
        unlabelled=unlabelled,
        samples=ecgset.n_samples,
        seconds=ecgset.n_samples / ecgset.sampling_rate_hz,
        sampling_rate_hz=ecgset.sampling_rate_hz,
        folds=_counts(records.fold.astype("Int64")),
        sexes=_counts(records.sex),
        ages=ages,
        median_age=None if records.age.isna().all() else float(records.age.median()),
        devices=_counts(records.device),
        labels=labels,
        combinations=dict(combined.most_common(COMBINATIONS)),
        fingerprint=ecgset.fingerprint,
        drawing=drawing,
    )
    if drawing is not None:
        marks = {"recorded": "", "mixed": f"in part {SYNTHETIC}"}
        mark = marks.get(ecgset.origin, SYNTHETIC)
        _save(draw_overview(ecgset, shown.labels, shown.ages, mark), drawing)
    return shown


def _shown(
    name: str,
    recording: Recording,
    labels: tuple[str, ...],
    origin: str,
    age: float | None,
    sex: str | None,
    disagreement_uv: float | None,
    drawing: Path | None,
    layout: str,
) -> ShownRecord:
    shown = ShownRecord(
        name=name,
        labels=labels,
        origin=origin,
        age=age,
        sex=sex,
        sampling_rate_hz=recording.sampling_rate_hz,
        seconds=recording.duration_s,
        heart_rate_bpm=_heart_rate(recording),
        lowest_mv=float(recording.signal_mv.min()),
        highest_mv=float(recording.signal_mv.max()),
        limb_lead_disagreement_uv=None if disagreement_uv is None else round(disagreement_uv, 1),
        flat_leads=flat_leads(recording),
        saturated_leads=saturated_leads(recording),
        drawing=drawing,
    )
    if drawing is not None:
        mark = "" if origin == "recorded" else SYNTHETIC
        _save(draw_recording(recording, _title(shown), mark=mark, layout=layout), drawing)
    return shown


def _title(shown: ShownRecord) -> str:
    """Name, labels, heart rate, age and sex, for the line above the grid."""
    parts = [f"{shown.name}: {', '.join(shown.labels) or 'no label'}"]
    if shown.heart_rate_bpm is not None:
        parts.append(f"{shown.heart_rate_bpm:.0f}/min")
    if shown.age is not None:
        parts.append(f"{shown.age:g} years")
    if shown.sex is not None:
        parts.append(shown.sex)
    return "    ".join(parts)


def _save(figure: "Figure", drawing: Path) -> None:
    try:
        save_drawing(figure, drawing)
    except SignalError as error:
        raise CorpusError(str(error)) from None


def _record_path(folder: Path, name: str) -> Path:
    """Path of the record with this path or, below the folder, with this name."""
    if (folder / f"{name}.hea").is_file():
        return folder / name
    if not folder.is_dir():
        raise CorpusError(f"no folder {folder}; give a prepared set or a folder of WFDB records")
    found = sorted(folder.rglob(f"{glob.escape(name.strip('/'))}.hea"))
    if len(found) != 1:
        where = ", ".join(str(path.with_suffix("")) for path in found[:NAMED])
        raise CorpusError(
            f"expected one WFDB record {name!r} below {folder}, which is not a prepared set, got "
            f"{len(found)}{f' ({where})' if found else ''}; give its path below that folder, "
            "without extension"
        )
    return found[0].with_suffix("")


def _recorded_disagreement_uv(ecgset: ECGSet, name: str) -> float | None:
    """Deviation of the limb leads before derived leads were dropped, from the report."""
    try:
        report = json.loads((ecgset.folder / REPORT).read_text(encoding="utf-8"))
        found = report["disagreements_uv"].get(name)
        return None if found is None else float(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _source(ecgset: ECGSet) -> str | None:
    stated = ecgset.card.get("corpus")
    if not isinstance(stated, Mapping):
        return None
    parts = (str(stated.get(key) or "") for key in ("name", "version", "licence"))
    return ", ".join(part for part in parts if part) or None


def _counts(column: "pd.Series[str] | pd.Series[int]") -> dict[str, int]:
    """Number of records of each value, sorted by value; missing ones come last."""
    counts = column.dropna().value_counts().sort_index()
    found = {str(value): int(count) for value, count in counts.items()}
    missing = int(column.isna().sum())
    return found | ({"not stated": missing} if missing and found else {})


def _heart_rate(recording: Recording) -> float | None:
    """Heart rate in beats per minute; None if fewer than two beats are found."""
    try:
        return heart_rate_bpm(recording)
    except SignalError:
        return None
