"""Select records by expressions over the columns of their table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import CorpusError

if TYPE_CHECKING:
    import pandas as pd

#: `column=value|value` or `column!=value|value`.
_EXPRESSION = re.compile(r"^\s*(?P<column>\w+)\s*(?P<sign>!?=)\s*(?P<values>\S.*?)\s*$")

#: `3` or `1-8`, in a numeric column.
_RANGE = re.compile(r"^(?P<low>-?\d+(?:\.\d+)?)(?:-(?P<high>-?\d+(?:\.\d+)?))?$")


def select_records(records: pd.DataFrame, expressions: Sequence[str]) -> NDArray[np.int64]:
    """Indices, ascending, of the records that satisfy every expression.

    An expression is `column=value`, `column=value|value` (one of them) or `column!=value|value`
    (none of them). In a numeric column a value may be a range that includes both ends: `fold=1-8`,
    `age=40-60|75`. A missing value equals nothing.

    Raises:
        CorpusError: an expression is malformed, a column is unknown, no record has a given word, a
            value in a numeric column is not a number, or nothing is selected.
    """
    if isinstance(expressions, str):
        raise CorpusError(
            f"expected a list of expressions, got the bare string {expressions!r}; "
            f"give [{expressions!r}]"
        )
    chosen = np.ones(len(records), dtype=bool)
    for expression in expressions:
        chosen &= _holds(records, expression)
    if not chosen.any():
        raise CorpusError(
            f"no record satisfies {' and '.join(expressions) or 'an empty table'}; "
            "widen the selection"
        )
    return np.flatnonzero(chosen)


def _holds(records: pd.DataFrame, expression: str) -> NDArray[np.bool_]:
    match = _EXPRESSION.match(expression)
    if match is None:
        raise CorpusError(
            f"cannot read the selection {expression!r}; "
            "expected column=value, column!=value, column=value|value or column=1-8"
        )
    column = match["column"]
    if column not in records.columns:
        raise CorpusError(
            f"unknown column {column!r}; expected one of {', '.join(map(str, records.columns))}"
        )
    values = [value.strip() for value in match["values"].split("|")]
    if records[column].dtype.kind in "iuf":
        numbers = records[column].to_numpy(dtype=np.float64, na_value=np.nan)
        found = _in_ranges(numbers, values, expression)
    else:
        found = _is_one_of(records, column, values)
    return ~found if match["sign"] == "!=" else found


def _in_ranges(
    numbers: NDArray[np.float64], values: Sequence[str], expression: str
) -> NDArray[np.bool_]:
    found = np.zeros(len(numbers), dtype=bool)
    for value in values:
        match = _RANGE.match(value)
        if match is None:
            raise CorpusError(
                f"cannot read {value!r} in {expression!r}; "
                "the column is numeric, expected a number such as 3 or a range such as 1-8"
            )
        low = float(match["low"])
        high = low if match["high"] is None else float(match["high"])
        if low > high:
            raise CorpusError(
                f"the range {value!r} in {expression!r} runs backwards; swap its ends"
            )
        found |= (numbers >= low) & (numbers <= high)
    return found


def _is_one_of(records: pd.DataFrame, column: str, values: Sequence[str]) -> NDArray[np.bool_]:
    texts = records[column].map(str, na_action="ignore")
    known = sorted(texts.dropna().unique())
    for value in values:
        if value not in known:
            shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
            raise CorpusError(
                f"no record has {column} {value!r}; there is {shown or 'none stated'}"
            )
    found: NDArray[np.bool_] = texts.isin(values).to_numpy(dtype=bool)
    return found
