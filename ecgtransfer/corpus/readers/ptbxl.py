"""Reader of PTB-XL (Wagner et al., Scientific Data 7, 154, 2020): table and WFDB records."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any, Literal

from ecgtransfer.corpus.manifest import load_manifest
from ecgtransfer.corpus.readers.records import Corpus, CorpusRecord
from ecgtransfer.corpus.readers.statements import SYNTHETIC_DEVICES
from ecgtransfer.errors import CorpusError

#: The csv replaces ages over 89 by 300; they are read as 90, their lower bound.
HIDDEN_AGE, OLDEST_AGE = 300.0, 90.0

#: Origin that a device states in an export of synthetic records.
ORIGINS = {device: origin for origin, device in SYNTHETIC_DEVICES.items()}

#: Column of the record paths for each sampling rate in hertz.
FILE_COLUMNS = {100: "filename_lr", 500: "filename_hr"}

_COLUMNS = (
    "ecg_id",
    "patient_id",
    "age",
    "sex",
    "site",
    "device",
    "scp_codes",
    "strat_fold",
)


def read_ptbxl(folder: str | Path, sampling_rate_hz: int = 100) -> Corpus:
    """Read the table of PTB-XL in a folder; records are in the order of `ptbxl_database.csv`.

    All statements of a record are used, including those of likelihood 0, which means "stated
    without a likelihood". Repeated spaces in device names are merged. Signal files are opened only
    when they are read, so that part of the data set can be used with the whole table.

    Args:
        folder: folder with `ptbxl_database.csv` and `records100` or `records500`.
        sampling_rate_hz: 100 for the files of `records100`, 500 for those of `records500`.

    Raises:
        CorpusError: the folder or csv does not exist, the csv lacks a column or has an invalid
            value, or the sampling rate is another.
    """
    import pandas as pd

    if sampling_rate_hz not in FILE_COLUMNS:
        raise CorpusError(f"PTB-XL has 100 and 500 Hz, got {sampling_rate_hz}; choose one of them")
    folder = Path(folder)
    table_path = folder / "ptbxl_database.csv"
    if not table_path.is_file():
        raise CorpusError(
            f"no PTB-XL in {folder}: expected ptbxl_database.csv there; give its folder"
        )
    try:
        table = pd.read_csv(table_path)
    except (ValueError, UnicodeDecodeError) as error:
        raise CorpusError(f"{table_path} is not a csv table: {error}") from None
    needed = (*_COLUMNS, FILE_COLUMNS[sampling_rate_hz])
    missing = [column for column in needed if column not in table.columns]
    if missing:
        raise CorpusError(f"{table_path} lacks the column {', '.join(missing)}; download it again")
    if not len(table):
        raise CorpusError(f"{table_path} has no rows; download it again")
    rows = table[list(needed)].to_dict("records")
    files = FILE_COLUMNS[sampling_rate_hz]
    return Corpus(
        load_manifest("ptbxl"), tuple(_record(row, folder, files, table_path) for row in rows)
    )


def rate_to_read(folder: Path, wanted_hz: float) -> int:
    """Published sampling rate from which to make a set of `wanted_hz`.

    The lowest rate in the folder that is not below `wanted_hz`, so that no frequencies are missing;
    else the highest.
    """
    available = [rate for rate in FILE_COLUMNS if (folder / f"records{rate}").is_dir()]
    available = available or [min(FILE_COLUMNS)]
    return next((rate for rate in available if rate >= wanted_hz), available[-1])


def _record(row: dict[Any, Any], folder: Path, files: str, table_path: Path) -> CorpusRecord:
    where = f"{table_path}, ecg_id {row['ecg_id']}"
    return CorpusRecord(
        name=f"{_whole(row['ecg_id'], 'ecg_id', where):05d}",
        path=folder / _text(row[files], files, where),
        reader="wfdb",
        patient=str(_whole(row["patient_id"], "patient_id", where)),
        codes=_statements(row["scp_codes"], where),
        vocabulary="scp",
        fold=_whole(row["strat_fold"], "strat_fold", where),
        age=_age(row["age"], where),
        sex=_sex(row["sex"], where),
        device=None if _absent(row["device"]) else " ".join(str(row["device"]).split()),
        origin=ORIGINS.get(row["device"], "recorded"),
        site=None if _absent(row["site"]) else str(_whole(row["site"], "site", where)),
    )


def _statements(text: object, where: str) -> tuple[str, ...]:
    try:
        statements = ast.literal_eval(str(text))
    except (ValueError, SyntaxError):
        statements = None
    if not isinstance(statements, dict) or not all(isinstance(code, str) for code in statements):
        raise CorpusError(
            f"{where}: expected scp_codes such as {{'NORM': 100.0, 'SR': 0.0}}, got {text!r}"
        )
    return tuple(statements)


def _absent(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _number(value: object, column: str, where: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise CorpusError(f"{where}: expected a number in {column}, got {value!r}")
    return number


def _whole(value: object, column: str, where: str) -> int:
    number = _number(value, column, where)
    if number != int(number) or number < 0:
        raise CorpusError(f"{where}: expected a whole number in {column}, got {value!r}")
    return int(number)


def _text(value: object, column: str, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise CorpusError(f"{where}: expected a path in {column}, got {value!r}")
    return value


def _age(value: object, where: str) -> float | None:
    if _absent(value):
        return None
    age = _number(value, "age", where)
    return OLDEST_AGE if age == HIDDEN_AGE else age


def _sex(value: object, where: str) -> Literal["male", "female"] | None:
    if _absent(value):
        return None
    number = _number(value, "sex", where)
    if number not in (0, 1):
        raise CorpusError(f"{where}: expected sex 0 (male) or 1 (female), got {value!r}")
    return "male" if number == 0 else "female"
