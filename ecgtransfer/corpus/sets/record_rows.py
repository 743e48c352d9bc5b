"""Rows of the table of a set: standard columns, types, parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ecgtransfer.errors import CorpusError

if TYPE_CHECKING:
    import pyarrow

#: Standard columns, in order, with their types in the file; missing values are null.
RECORD_COLUMNS = {
    "name": "string",
    "patient": "string",
    "fold": "int64",
    "age": "double",
    "sex": "string",
    "device": "string",
    "site": "string",
}


def complete_rows(records: pd.DataFrame) -> pd.DataFrame:
    """Put the standard columns first; missing values become null, a missing patient the name."""
    table = records.reset_index(drop=True).copy()
    table["name"] = table["name"].astype(str)
    if "patient" not in table.columns:
        table["patient"] = table["name"]
    for column in RECORD_COLUMNS:
        if column not in table.columns:
            table[column] = None
    others = [column for column in table.columns if column not in RECORD_COLUMNS]
    return table[[*RECORD_COLUMNS, *others]]


def typed_table(rows: pd.DataFrame) -> pyarrow.Table:
    """Convert rows to the types of a set.

    Raises:
        CorpusError: a value does not fit its type.
    """
    import pyarrow

    types = {column: pyarrow.type_for_alias(kind) for column, kind in RECORD_COLUMNS.items()}
    try:
        arrays = [
            pyarrow.array(rows[column], type=types.get(column), from_pandas=True)
            for column in rows.columns
        ]
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise CorpusError(f"the table of an ECG set cannot hold these values: {error}") from None
    return pyarrow.Table.from_arrays(arrays, names=[str(column) for column in rows.columns])


def read_table(path: Path) -> pyarrow.Table:
    """Read the table of a parquet file."""
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path)


def read_names(path: Path) -> list[str]:
    """Read the record names in a parquet file."""
    import pyarrow.parquet

    names: list[str] = pyarrow.parquet.read_table(path, columns=["name"])["name"].to_pylist()
    return names
