"""A whole set for other programs: WFDB records with their labels in SNOMED CT, and a table."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pandas as pd

from ecgtransfer.corpus import ECGSet
from ecgtransfer.errors import ConfigError
from ecgtransfer.storage import disk_errors, write_resumable
from ecgtransfer.synthesis import header_comments
from ecgtransfer.synthesis.export import write_records

TABLE = "labels.csv"

#: Columns of `labels.csv`, as `data prepare wfdb --table` reads them.
TABLE_COLUMNS = ("record", "labels", "patient", "age", "sex", "fold", "device", "site")

#: What separates the labels of a record there.
LABEL_SEPARATOR = ";"

#: Records in one folder.
FOLDER_RECORDS = 1000


def export_set(
    ecgset: ECGSet,
    folder: Path | str,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write every record of a set as WFDB, with a table of labels beside.

    `00000/NAME.{hea,dat}`: 12 leads, 16 bit, 1000 units/mV, so that I, II and V1-V6 are the set's
    microvolts and the four others rounded to them. Header comments state age, sex, patient, labels
    by name and as SNOMED CT codes (`Dx`), and where the record comes from; of a synthetic set, that
    it is one (`synthesis.header_comments`). `labels.csv` is a table that `data prepare wfdb` reads
    (`--table`); `RECORDS` lists the records; `export.json` has the card of the set.

    The folder appears whole at the end; the same call after an interruption writes only what is
    missing, and returns at once when all is there.

    Args:
        ecgset: any set.
        folder: where the export goes.
        progress: called with (records finished, records in the set).

    Returns:
        The folder.

    Raises:
        ConfigError: a label whose name holds a semicolon or a bar.
        SignalError: a record that WFDB cannot hold.
        RunError: too little disk, a disk that refuses, unfinished work of another set or process,
            or a folder that holds something else.
    """
    folder = Path(folder)
    if broken := [name for name in ecgset.label_space.names if set(name) & {";", "|"}]:
        raise ConfigError(
            f"expected labels without ';' and '|', which separate them in a table, got "
            f"{broken[0]!r}; rename it in the label space and prepare the set again"
        )
    plan = {"layout": "wfdb", "set_fingerprint": ecgset.fingerprint}
    names = list(_record_paths(ecgset))

    def write(files: Path) -> None:
        write_records(ecgset, files, folder, names, record_comments, progress)
        with disk_errors(folder), (files / TABLE).open("w", newline="", encoding="utf-8") as table:
            writer = csv.writer(table, lineterminator="\n")
            writer.writerow(TABLE_COLUMNS)
            writer.writerows(_table_rows(ecgset, names))

    write_resumable(folder, plan, ecgset.card, write)
    return folder


def record_comments(ecgset: ECGSet, index: int) -> list[str]:
    """Comment lines of the header of record `index`, in the words of the PhysioNet Challenges."""
    row = ecgset.records.iloc[index]
    labels = ecgset.label_space.decode(ecgset.labels[index])
    stated = []
    if not pd.isna(row.age):
        stated.append(f"Age: {row.age:g}")
    if not pd.isna(row.sex):
        stated.append(f"Sex: {str(row.sex).capitalize()}")
    if str(row.patient) != str(row["name"]):
        stated.append(f"Patient: {row.patient}")
    if ecgset.origin != "recorded":
        return [*stated, *header_comments(ecgset, index)]
    codes = {label: ecgset.label_space.code_of(label, "snomed") for label in labels}
    known = [code for code in codes.values() if code is not None]
    without = [label for label, code in codes.items() if code is None]
    if known:
        stated.append(f"Dx: {','.join(known)}")
    stated.append(f"Labels: {', '.join(labels) or 'none'}")
    if without:
        stated.append(f"Labels without SNOMED CT code: {', '.join(without)}")
    corpus = ecgset.card.get("corpus")
    if isinstance(corpus, dict):
        parts = (str(corpus.get(key) or "") for key in ("name", "version", "licence", "url"))
        stated.append(f"Source: {', '.join(part for part in parts if part)}")
    return stated


def file_names(names: Iterable[str], first: int = 0) -> Iterator[str]:
    """Names of records as every file system and WFDB take them, each another one.

    first: number in its set of the first record, for names that would come twice.
    """
    taken: set[str] = set()
    for number, name in enumerate(names, start=first):
        allowed = re.sub(r"[^-A-Za-z0-9_]", "_", name) or "_"
        # Some file systems do not tell upper from lower case.
        if allowed.casefold() in taken:
            allowed = f"{allowed}_{number}"
        taken.add(allowed.casefold())
        yield allowed


def _record_paths(ecgset: ECGSet) -> Iterator[str]:
    """Paths of the records below the export."""
    for number, name in enumerate(file_names(ecgset.records["name"].astype(str))):
        yield f"{number // FOLDER_RECORDS * FOLDER_RECORDS:05d}/{name}"


def _table_rows(ecgset: ECGSet, names: list[str]) -> Iterator[list[object]]:
    rows = ecgset.records.astype(object).where(ecgset.records.notna(), "")
    for name, row, states in zip(names, rows.to_dict("records"), ecgset.labels, strict=True):
        fold = "" if row["fold"] == "" else int(row["fold"])
        labels = LABEL_SEPARATOR.join(ecgset.label_space.decode(states))
        others = (row["patient"], row["age"], row["sex"], fold, row["device"], row["site"])
        yield [name, labels, *others]
