"""A table of a report and its printed form: decimals, numeric columns, width."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

from ecgtransfer.drawing.numbers import EstimateLike, decimals_for, number_text
from ecgtransfer.drawing.plain import plain
from ecgtransfer.errors import ConfigError

#: Characters that fit on a line of A4, by CSS class: in a table of normal size; in a smaller one
#: with intervals below their numbers; in the smallest, which breaks intervals too. A table with
#: more is crowded and breaks words. A screen of 1,400 pixels fits about as much.
SHEET_LETTERS = {"": 94.0, "wide": 106.0, "widest": 124.0}
#: Characters between columns; characters of a word before it may be broken.
COLUMN_GAP, KEPT_LETTERS = 1.5, 22

#: On a screen, row names wrap after this many characters.
LONG_NAME = 18

#: A column uses common decimals unless one of its numbers is larger than another by this factor.
LARGEST_RATIO = 100.0


@dataclass(frozen=True)
class Formatted:
    """A number in the form in which its author prints it, such as "78 %" or "+0.012".

    Attributes:
        value: by which a column is sorted.
        text: as printed.
        interval: printed behind it, with its brackets and what follows them.
    """

    value: float
    text: str
    interval: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.interval}".rstrip()

    @classmethod
    def of(cls, estimate: EstimateLike, form: str = ".3f", after: str = "") -> "Formatted":
        """An estimate whose three numbers have one format, with words `after` the interval."""
        low, high = format(estimate.low, form), format(estimate.high, form)
        text = format(estimate.value, form)
        return cls(estimate.value, text, f"[{low}, {high}] {after}".rstrip())


#: A cell of a table; None and numbers that are not finite are printed as missing.
Cell = str | int | float | None | EstimateLike | Formatted


@dataclass(frozen=True)
class Table:
    """Rows of cells below a header; the first column names the row.

    Numbers of a column have the same decimals. A column of numbers, estimates and `Formatted` cells
    is sorted by their values, any other one as text.

    Attributes:
        title: title of the table.
        header: names of the columns.
        rows: cells of each row.
        note: text below the table.
        sortable: whether the page lets readers sort it.

    Raises:
        ConfigError: there are no columns, a row has another length, or a cell has another type.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    sortable: bool = True

    def __post_init__(self) -> None:
        if not self.header:
            raise ConfigError(f"expected columns in table {self.title!r}, got none; name them")
        for index, row in enumerate(self.rows):
            if len(row) != len(self.header):
                raise ConfigError(
                    f"expected {len(self.header)} cells in row {index} of table {self.title!r}, "
                    f"got {len(row)}; give None for a missing value"
                )
            for cell in row:
                if cell is not None and not isinstance(
                    cell, str | Real | np.bool_ | EstimateLike | Formatted
                ):
                    raise ConfigError(
                        f"expected text, a number or an estimate in table {self.title!r}, got "
                        f"{type(cell).__name__}; write it as one of them"
                    )

    def texts(self) -> tuple[tuple[str, ...], ...]:
        """The header and every row as text, for a terminal."""
        return (self.header, *(tuple("" if c is None else str(c) for c in r) for r in self.rows))

    def to_dict(self) -> dict[str, object]:
        """Convert to plain values for JSON."""
        return {
            "title": self.title,
            "header": list(self.header),
            "rows": [
                [str(cell) if isinstance(cell, Formatted) else plain(cell) for cell in row]
                for row in self.rows
            ],
            "note": self.note,
        }


class CellView(NamedTuple):
    """Printed form of a cell: text, interval, and the number to sort by."""

    text: str
    interval: str = ""
    key: float | None = None
    missing: bool = False


class TableView(NamedTuple):
    """Printed form of a table: which columns are numeric, its cells, CSS classes for its width."""

    numeric: tuple[bool, ...]
    rows: tuple[tuple[CellView, ...], ...]
    shape: str


def table_view(table: Table) -> TableView:
    """Printed form of a table; a column is numeric if each of its values is."""
    columns = [_column([row[index] for row in table.rows]) for index in range(len(table.header))]
    numeric = tuple(
        any(cell.key is not None for cell in column)
        and all(cell.key is not None or cell.missing for cell in column)
        for column in columns
    )
    named = max((len(cell.text) for cell in columns[0]), default=0)
    shape = [_breadth(table.header, columns, numeric), "long-names" if named > LONG_NAME else ""]
    return TableView(numeric, tuple(zip(*columns, strict=True)), " ".join(filter(None, shape)))


def _breadth(
    header: Sequence[str], columns: Sequence[Sequence[CellView]], numeric: Sequence[bool]
) -> str:
    """CSS class that makes a table small enough for a sheet of paper."""
    needed = dict.fromkeys(SHEET_LETTERS, COLUMN_GAP * len(header))
    for name, column, is_numeric in zip(header, columns, numeric, strict=True):
        word = _longest_word(name)
        if is_numeric:
            pairs = [(len(cell.text), len(cell.interval)) for cell in column]
            abreast = max(text + interval + (interval > 0) for text, interval in pairs)
            below = max(max(pair) for pair in pairs)
            broken = max(max(text, (interval + 1) // 2) for text, interval in pairs)
        else:
            abreast = min(max((len(cell.text) for cell in column), default=0), KEPT_LETTERS)
            below = broken = max((_longest_word(cell.text) for cell in column), default=0)
        for breadth, letters in zip(SHEET_LETTERS, (abreast, below, broken), strict=True):
            needed[breadth] += max(word, letters)
    fitting = (breadth for breadth, most in SHEET_LETTERS.items() if needed[breadth] <= most)
    return next(fitting, "widest crowded")


def _longest_word(text: str) -> int:
    return min(max(map(len, text.split()), default=0), KEPT_LETTERS)


def _column(cells: Sequence[Cell]) -> list[CellView]:
    """Cells of a column, with common decimals unless their magnitudes differ too much."""
    numbers = [_fractions(cell) for cell in cells]
    sizes = [size for each in numbers if (size := max(map(abs, each), default=0.0))]
    shared = decimals_for(sizes)
    if sizes and max(sizes) > LARGEST_RATIO * min(sizes):
        decimals = [decimals_for(each) for each in numbers]
    else:
        decimals = [shared] * len(cells)
    views = [_cell(cell, digits) for cell, digits in zip(cells, decimals, strict=True)]
    if all(view.key is not None or view.missing for view in views):
        return views
    texts = [isinstance(cell, str | Formatted) for cell in cells]
    return [
        view._replace(key=None) if text else view for view, text in zip(views, texts, strict=True)
    ]


def _fractions(cell: Cell) -> list[float]:
    """Numbers of a cell that determine its decimals: not counts, not text."""
    if isinstance(cell, Formatted):
        return []
    if isinstance(cell, EstimateLike):
        numbers = [float(cell.value), float(cell.low), float(cell.high)]
    else:
        fraction = isinstance(cell, Real) and not isinstance(cell, Integral)
        numbers = [float(cell)] if fraction and not isinstance(cell, str) and cell else []
    return [number for number in numbers if math.isfinite(number)]


def _cell(cell: Cell, decimals: int | None) -> CellView:
    if isinstance(cell, Formatted):
        return CellView(cell.text, cell.interval, cell.value)
    if isinstance(cell, EstimateLike):
        whole = _cell(float(cell.value), decimals)
        ends = ", ".join(number_text(float(end), decimals) for end in (cell.low, cell.high))
        return whole if whole.missing else whole._replace(interval=f"[{ends}]")
    if isinstance(cell, bool | np.bool_):
        return CellView("yes" if cell else "no")
    if cell is None or cell == "" or (isinstance(cell, Real) and math.isnan(cell)):
        return CellView("–", missing=True)
    if isinstance(cell, str):
        return CellView(cell)
    digits = 0 if isinstance(cell, Integral) else decimals
    return CellView(number_text(cell, digits), key=float(cell))
