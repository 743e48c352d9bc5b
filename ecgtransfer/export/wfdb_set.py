"""Export any set as WFDB records with labels in SNOMED CT, and a table of labels."""

import csv
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ecgtransfer.corpus import ECGSet, snomed_code
from ecgtransfer.corpus.sets.ecgset import millivolts
from ecgtransfer.corpus.sets.set_beats import BEATS_COLUMN
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.signals import LEADS, Recording, expand_leads, write_annotation, write_recording
from ecgtransfer.storage import disk_errors, require_space, write_resumable

TABLE = "labels.csv"

#: Columns of `labels.csv`, which `data prepare wfdb --table` reads.
TABLE_COLUMNS = ("record", "labels", "patient", "age", "sex", "fold", "device", "site")

#: Further columns of `labels.csv`, if the set has them: what each record is, and its weight in a
#: training.
TRAINING_COLUMNS = ("origin", "weight")

#: Separator between the labels of a record in `labels.csv`.
LABEL_SEPARATOR = ";"

#: Records per folder.
FOLDER_RECORDS = 1000

#: Records read at a time.
READ_RECORDS = 256

#: Upper bound of a record's header and of rounding its two files up to disk blocks, in bytes.
FILE_BYTES = 12_288


def export_set(
    ecgset: ECGSet,
    folder: Path | str,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write every record of a set as WFDB, together with a table of labels.

    The folder holds `00000/NAME.{hea,dat}` (12 leads, 16 bit, 1000 adu/mV: I, II and V1-V6 are the
    microvolts of the set, the other four are rounded), `labels.csv` (readable by `data prepare wfdb
    --table`; with `TRAINING_COLUMNS` if the set has them), `RECORDS`, and `export.json` with the
    card of the set. Header comments state age, sex, patient, labels by name and as SNOMED CT codes
    (`Dx`), and the source; a synthetic record has `header_comments`.

    The folder is renamed to its final name at the end. After an interruption the same call writes
    only missing records; a finished export is not changed.

    Args:
        ecgset: any set.
        folder: destination of the export.
        progress: called with (records finished, records in the set).

    Returns:
        The folder.

    Raises:
        ConfigError: the name of a label contains a semicolon or a bar.
        SignalError: a record cannot be stored in WFDB.
        RunError: there is too little disk space, the disk refuses to write, another process writes
            the folder, or it holds other files or unfinished work of another set.
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
            others = [name for name in TRAINING_COLUMNS if name in ecgset.records]
            writer.writerow([*TABLE_COLUMNS, *others])
            writer.writerows(_table_rows(ecgset, names, others))

    write_resumable(folder, plan, ecgset.card, write)
    return folder


def record_comments(ecgset: ECGSet, index: int) -> list[str]:
    """Comment lines of the header of record `index`, as in the PhysioNet Challenges."""
    row = ecgset.records.iloc[index]
    labels = ecgset.label_space.decode(ecgset.labels[index])
    stated = []
    if not pd.isna(row.age):
        stated.append(f"Age: {row.age:g}")
    if not pd.isna(row.sex):
        stated.append(f"Sex: {str(row.sex).capitalize()}")
    if not pd.isna(row.patient) and str(row.patient) != str(row["name"]):
        stated.append(f"Patient: {row.patient}")
    if ecgset.record_origins[index] != "recorded":
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


def synthetic_note(origin: str) -> str:
    """Sentence that marks every exported record of a synthetic origin."""
    return f"SYNTHETIC: {origin} by ecgtransfer, no patient's ECG, not for diagnosis"


def header_comments(ecgset: ECGSet, index: int) -> list[str]:
    """Comment lines of the WFDB header of synthetic record `index`.

    The lines are `SYNTHETIC...`, `Labels:` by name, `Dx:` in SNOMED CT as in the PhysioNet
    Challenges (with another line for labels without a code), `Seed:`, `Model fingerprint:` and
    `Method:`; an unknown value is `not stated`.
    """
    labels = ecgset.label_space.decode(ecgset.labels[index])
    codes = {label: _snomed(label) for label in labels}
    without = [label for label, code in codes.items() if code is None]
    row = ecgset.records.iloc[index]
    seed = row.get("seed")
    return [
        synthetic_note(ecgset.record_origins[index]),
        f"Labels: {', '.join(labels) or 'none'}",
        f"Dx: {','.join(code for code in codes.values() if code is not None) or 'none'}",
        *([f"Labels without SNOMED CT code: {', '.join(without)}"] if without else []),
        f"Seed: {'not stated' if seed is None or pd.isna(seed) else int(seed)}",
        f"Model fingerprint: {ecgset.card.get('model_fingerprint', 'not stated')}",
        f"Method: {row.get('method', ecgset.card.get('method', 'not stated'))}",
    ]


def write_records(
    ecgset: ECGSet,
    files: Path,
    folder: Path,
    names: Sequence[str],
    comments: Callable[[ECGSet, int], list[str]],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write missing records of a set below `files` as WFDB, and the list `RECORDS`.

    Args:
        ecgset: any set.
        files: folder of the partial export.
        folder: folder of the final export, named in errors.
        names: paths of the records below `files`, in the order of the set.
        comments: (set, index) -> comment lines of the header of a record.
        progress: called with (records finished, records in the set), first with the records that an
            earlier call finished.

    Raises:
        SignalError: a record cannot be stored in WFDB.
        RunError: there is too little disk space, or the disk refuses to write.
    """
    sample_bytes = len(LEADS) * ecgset.n_samples * 2
    with disk_errors(folder):
        for parent in dict.fromkeys((files / name).parent for name in names):
            parent.mkdir(parents=True, exist_ok=True)
        for leftover in files.rglob(".*.partial"):
            shutil.rmtree(leftover)
        missing = np.array([not _is_complete(files / name, sample_bytes) for name in names])
    require_space(folder, int(missing.sum()) * (sample_bytes + FILE_BYTES))
    done = len(names) - int(missing.sum())
    if progress is not None:
        progress(done, len(names))
    index = int(missing.argmax()) if missing.any() else len(names)
    for chunk in ecgset.chunks(READ_RECORDS, index):
        for signal_mv in expand_leads(millivolts(chunk.signals_uv)):
            if missing[index]:
                recording = Recording(signal_mv, ecgset.sampling_rate_hz)
                if BEATS_COLUMN in ecgset.records:
                    write_annotation(
                        files / names[index], ecgset.beats[index], ecgset.sampling_rate_hz
                    )
                write_recording(files / names[index], recording, comments(ecgset, index))
                done += 1
                if progress is not None:
                    progress(done, len(names))
            index += 1
    with disk_errors(folder):
        (files / "RECORDS").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def file_names(names: Iterable[str], first: int = 0) -> Iterator[str]:
    """Distinct names of records that every file system and WFDB accept.

    Args:
        names: names of consecutive records of a set.
        first: index of the first one, which distinguishes names that would be equal.
    """
    taken: set[str] = set()
    for index, name in enumerate(names, start=first):
        allowed = re.sub(r"[^-A-Za-z0-9_]", "_", name) or "_"
        # Some file systems ignore case.
        if allowed.casefold() in taken:
            allowed = f"{allowed}_{index}"
        taken.add(allowed.casefold())
        yield allowed


def _record_paths(ecgset: ECGSet) -> Iterator[str]:
    """Paths of the records within the export."""
    for index, name in enumerate(file_names(ecgset.records["name"].astype(str))):
        yield f"{index // FOLDER_RECORDS * FOLDER_RECORDS:05d}/{name}"


def _table_rows(ecgset: ECGSet, names: list[str], columns: Sequence[str]) -> Iterator[list[object]]:
    rows = ecgset.records.astype(object).where(ecgset.records.notna(), "")
    for name, row, states in zip(names, rows.to_dict("records"), ecgset.labels, strict=True):
        fold = "" if row["fold"] == "" else int(row["fold"])
        labels = LABEL_SEPARATOR.join(ecgset.label_space.decode(states))
        others = (row["patient"], row["age"], row["sex"], fold, row["device"], row["site"])
        yield [name, labels, *others, *(row[column] for column in columns)]


def _is_complete(record: Path, sample_bytes: int) -> bool:
    """Whether an earlier call finished a record, whose header is written last."""
    samples = record.with_name(record.name + ".dat")
    return (
        record.with_name(record.name + ".hea").exists()
        and samples.exists()
        and samples.stat().st_size == sample_bytes
    )


def _snomed(label: str) -> str | None:
    try:
        return snomed_code(label)
    except CorpusError:
        return None
