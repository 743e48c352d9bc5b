"""A whole set for other programs: WFDB records with their labels in SNOMED CT, and a table."""

import csv
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from ecgtransfer.corpus import ECGSet
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.pipeline.run import read_json, write_json
from ecgtransfer.signals import LEADS, write_recording
from ecgtransfer.synthesis import header_comments
from ecgtransfer.synthesis.export import FILE_BYTES
from ecgtransfer.synthesis.folders import claim, disk_errors, require_space, sole_writer

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
    partial = folder.with_name(f".{folder.name}.partial")
    with sole_writer(folder):
        if folder.exists():
            _check_finished(folder, plan)
        else:
            claim(partial, plan)
            _write_files(ecgset, partial / "files", folder, progress)
            with disk_errors(folder):
                write_json(partial / "files" / "export.json", {**plan, "card": ecgset.card})
                (partial / "files").rename(folder)
        shutil.rmtree(partial, ignore_errors=True)
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


def _write_files(
    ecgset: ECGSet, files: Path, folder: Path, progress: Callable[[int, int], None] | None
) -> None:
    """Write the records that are missing below `files`, then the tables."""
    sample_bytes = len(LEADS) * ecgset.n_samples * 2
    names = list(_record_names(ecgset))
    with disk_errors(folder):
        for parent in dict.fromkeys((files / name).parent for name in names):
            parent.mkdir(parents=True, exist_ok=True)
        for leftover in files.rglob(".*.partial"):
            shutil.rmtree(leftover)
        # A header comes last: where it is, the record is whole.
        missing = [
            index for index, name in enumerate(names) if not (files / f"{name}.hea").exists()
        ]
    require_space(folder, len(missing) * (sample_bytes + FILE_BYTES))
    done = len(ecgset) - len(missing)
    for index in missing:
        write_recording(
            files / names[index], ecgset.recording(index), record_comments(ecgset, index)
        )
        done += 1
        if progress is not None:
            progress(done, len(ecgset))
    with disk_errors(folder):
        (files / "RECORDS").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        with (files / "labels.csv").open("w", newline="", encoding="utf-8") as table:
            writer = csv.writer(table, lineterminator="\n")
            writer.writerow(TABLE_COLUMNS)
            writer.writerows(_table_rows(ecgset, names))


def _record_names(ecgset: ECGSet) -> Iterator[str]:
    """Paths of the records below the export: their names, as far as WFDB takes them."""
    taken: set[str] = set()
    for number, name in enumerate(ecgset.records["name"].astype(str)):
        allowed = re.sub(r"[^-A-Za-z0-9_]", "_", name) or "_"
        # Some file systems do not tell upper from lower case.
        if allowed.casefold() in taken:
            allowed = f"{allowed}_{number}"
        taken.add(allowed.casefold())
        yield f"{number // FOLDER_RECORDS * FOLDER_RECORDS:05d}/{allowed}"


def _table_rows(ecgset: ECGSet, names: list[str]) -> Iterator[list[object]]:
    rows = ecgset.records.astype(object).where(ecgset.records.notna(), "")
    for name, row, states in zip(names, rows.to_dict("records"), ecgset.labels, strict=True):
        fold = "" if row["fold"] == "" else int(row["fold"])
        labels = LABEL_SEPARATOR.join(ecgset.label_space.decode(states))
        others = (row["patient"], row["age"], row["sex"], fold, row["device"], row["site"])
        yield [name, labels, *others]


def _check_finished(folder: Path, plan: dict[str, str]) -> None:
    """Raise `RunError` unless `folder` is the export that the plan describes."""
    try:
        found = read_json(folder / "export.json")
    except (RunError, OSError, ValueError):
        found = {}
    if any(found.get(key) != value for key, value in plan.items()):
        raise RunError(
            f"{folder} exists and is no export of this set; choose another folder or remove it"
        )
