"""ICBEB2018 = CPSC2018 (Liu et al. 2018) in its original and in its PhysioNet Challenge layout."""

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
    """The records of ICBEB2018 anywhere below a folder, in the order of their names.

    A `.mat` with a `.hea` beside it is a record of the Challenge layout (WFDB, labels in header
    comments, as abbreviations or SNOMED CT codes); any other `.mat` is one of the original layout
    (struct `ECG`, labels in a REFERENCE.csv). A record that lies there in both layouts is taken
    once, from the Challenge layout: the samples are the same. There is no identity of patients,
    so a record is a patient, and no folds.

    Raises:
        CorpusError: no such folder, no records below it, a record without labels in REFERENCE.csv,
            labels of two vocabularies in one header, or a REFERENCE.csv without a column.
        SignalError: a header that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"no folder {folder}; give the folder that holds the ICBEB2018 records")
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
    """Two files of one name in one layout cannot both be the record of that name."""
    for file in signals:
        kept = challenge if file.with_suffix(".hea").is_file() else original
        if file.stem in kept and kept[file.stem] != file:
            raise CorpusError(
                f"record {file.stem} lies in {kept[file.stem].parent} and in {file.parent}; "
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
        mended=header.mended,
    )


def _original_record(name: str, file: Path, reference: dict[str, tuple[str, ...]]) -> CorpusRecord:
    if name not in reference:
        raise CorpusError(
            f"{file} has neither a header beside it nor a line in a REFERENCE.csv; "
            "add the labels or remove the file"
        )
    try:
        content = load_icbeb_struct(file)
        age, sex = content.age, content.sex
    except SignalError:
        # Listed all the same: reading the signal says what is wrong, and preparation reports it.
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
