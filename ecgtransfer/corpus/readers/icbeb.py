"""Reader of ICBEB2018 = CPSC2018 (Liu et al. 2018), in its original and its Challenge layout."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from ecgtransfer.corpus.manifest import load_manifest
from ecgtransfer.corpus.readers.icbeb_struct import load_icbeb_struct
from ecgtransfer.corpus.readers.records import Corpus, CorpusRecord
from ecgtransfer.corpus.readers.statements import parse_age, parse_sex, stated_in
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import read_header

#: Label columns of REFERENCE.csv; the first is always filled.
REFERENCE_COLUMNS = ("Recording", "First_label", "Second_label", "Third_label")


def read_icbeb(folder: str | Path) -> Corpus:
    """Find the records of ICBEB2018 anywhere below a folder, sorted by name.

    A `.mat` with a `.hea` next to it is a record of the Challenge layout (WFDB, labels in header
    comments as abbreviations or SNOMED CT codes). Any other `.mat` is one of the original layout
    (struct `ECG`, labels in a REFERENCE.csv). If a record exists in both layouts, the Challenge
    layout is used; the samples are the same. Patients are not identified, so each record counts as
    a patient, and there are no folds.

    Raises:
        CorpusError: the folder does not exist or has no records, a record has no labels in
            REFERENCE.csv, a header mixes two vocabularies, or a REFERENCE.csv lacks a column.
        SignalError: a header cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"no folder {folder}; give the folder with the ICBEB2018 records")
    signals = sorted(folder.rglob("*.mat"))
    challenge = {file.stem: file for file in signals if file.with_suffix(".hea").is_file()}
    original = {
        file.stem: file
        for file in signals
        if file.stem not in challenge and not file.with_suffix(".hea").is_file()
    }
    _refuse_copies(signals, challenge, original)
    if not challenge and not original:
        raise CorpusError(
            f"no ICBEB2018 records below {folder}: expected A0001.mat with A0001.hea (Challenge "
            "layout), or with REFERENCE.csv (original layout)"
        )
    reference = _read_references(folder) if original else {}
    records = [_challenge_record(name, file) for name, file in challenge.items()]
    records += [_original_record(name, file, reference) for name, file in original.items()]
    return Corpus(
        load_manifest("icbeb2018"), tuple(sorted(records, key=lambda record: record.name))
    )


def _refuse_copies(
    signals: list[Path], challenge: dict[str, Path], original: dict[str, Path]
) -> None:
    """Raise if two files of the same layout have the same record name."""
    for file in signals:
        kept = challenge if file.with_suffix(".hea").is_file() else original
        if file.stem in kept and kept[file.stem] != file:
            raise CorpusError(
                f"record {file.stem} is in {kept[file.stem].parent} and in {file.parent}; "
                "remove one of the copies"
            )


def _challenge_record(name: str, file: Path) -> CorpusRecord:
    header = read_header(file.with_suffix(""))
    stated = stated_in(header.comments)
    codes = tuple(code for code in re.split(r"[,\s]+", stated.get("dx", "")) if code)
    numeric = [code.isdigit() for code in codes]
    if any(numeric) and not all(numeric):
        raise CorpusError(
            f"{file.with_suffix('.hea')}: expected Dx with either SNOMED CT codes or "
            f"abbreviations, got {stated['dx']!r}"
        )
    return CorpusRecord(
        name=name,
        path=file.with_suffix(""),
        reader="wfdb",
        patient=name,
        codes=codes,
        vocabulary="snomed" if any(numeric) else "abbreviation",
        age=parse_age(stated.get("age")),
        sex=parse_sex(stated.get("sex")),
        patient_stated=False,
        repairs=header.repairs,
    )


def _original_record(name: str, file: Path, reference: dict[str, tuple[str, ...]]) -> CorpusRecord:
    if name not in reference:
        raise CorpusError(
            f"{file} has neither a header next to it nor a line in a REFERENCE.csv; "
            "add the labels or remove the file"
        )
    try:
        content = load_icbeb_struct(file)
        age, sex = content.age, content.sex
    except SignalError:
        # Listed nevertheless, so that reading its signal explains the problem in the report.
        age, sex = None, None
    return CorpusRecord(
        name=name,
        path=file,
        reader="icbeb_struct",
        patient=name,
        codes=reference[name],
        vocabulary="icbeb_number",
        age=age,
        sex=sex,
        patient_stated=False,
    )


def _read_references(folder: Path) -> dict[str, tuple[str, ...]]:
    """Record name -> ICBEB numbers, from every REFERENCE.csv below the folder."""
    labels: dict[str, tuple[str, ...]] = {}
    for path in sorted(folder.rglob("REFERENCE.csv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in REFERENCE_COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise CorpusError(
                    f"{path} lacks the column {', '.join(missing)}; "
                    f"expected {', '.join(REFERENCE_COLUMNS)}"
                )
            for row in reader:
                numbers = ((row[column] or "").strip() for column in REFERENCE_COLUMNS[1:])
                codes = tuple(number for number in numbers if number)
                if labels.setdefault(row["Recording"], codes) != codes:
                    raise CorpusError(
                        f"{path} and another REFERENCE.csv disagree on the labels of "
                        f"{row['Recording']}; remove the wrong one"
                    )
    return labels
