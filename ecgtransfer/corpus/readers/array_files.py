"""Recordings in NumPy and csv files: one per file, or many of the same length in one array."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import MILLIVOLTS, Recording, canonical_lead, reorder_leads

#: Names of csv columns that hold the time of a sample instead of a lead.
TIME_COLUMNS = frozenset({"time", "t", "seconds", "sample", "index", ""})


@dataclass(frozen=True)
class ArrayLayout:
    """Sampling rate, unit and lead order of array files, which the files do not state.

    Raises:
        SignalError: the unit is not mV, uV, µV or V, or the leads are not the twelve.
    """

    sampling_rate_hz: float
    unit: str
    leads: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.unit not in MILLIVOLTS:
            raise SignalError(
                f"expected a unit of mV, uV, V, got {self.unit!r}; state the unit of the samples"
            )
        Recording(reorder_leads(np.zeros((len(self.leads), 1)), self.leads), self.sampling_rate_hz)


@dataclass(frozen=True)
class ArrayPart:
    """One recording of a file: member of an .npz, or row of an array of many recordings."""

    layout: ArrayLayout
    member: str | None = None
    row: int | None = None


def array_shapes(path: Path) -> dict[str | None, tuple[int, ...]]:
    """Shape of the array in an .npy (key None), or of each member of an .npz.

    Raises:
        SignalError: the file cannot be read, or does not hold numbers.
    """
    if path.suffix.lower() == ".npy":
        return {None: _load(path, None).shape}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = list(archive.files)
    except Exception as error:  # numpy raises errors of any type for damaged files
        raise _unreadable(path, error) from None
    return {name: _load(path, name).shape for name in names}


def is_many(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether an array holds many recordings, (N, leads, T), or one, (leads, T).

    Raises:
        SignalError: another number of axes, or no recording.
    """
    if len(shape) not in (2, 3) or 0 in shape:
        raise SignalError(
            f"{path}: expected an array (leads, samples) or (records, leads, samples), got shape "
            f"{shape}; save it as one of these"
        )
    return len(shape) == 3


def read_array(path: Path, part: ArrayPart, at_most_s: float | None = None) -> Recording:
    """Read a recording from a file or a part of it, in millivolts and in the order of LEADS.

    Raises:
        SignalError: the file is missing, damaged or does not hold numbers; its orientation is
            ambiguous; leads are missing; or samples are missing (NaN).
    """
    layout = part.layout
    limit = None if at_most_s is None else max(1, round(at_most_s * layout.sampling_rate_hz))
    if path.suffix.lower() == ".csv":
        signal, leads = _read_csv(path, layout)
    else:
        array = _load(path, part.member)
        if part.row is not None:
            if array.ndim != 3 or part.row >= len(array):
                raise SignalError(f"{path} has changed: record {part.row} no longer exists")
            array = array[part.row]
        signal, leads = leads_first(array, layout.leads, path), layout.leads
    if limit is not None:
        signal = signal[:, :limit]
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.asarray(signal, dtype=np.float64) * MILLIVOLTS[layout.unit]
        return Recording(reorder_leads(scaled, leads), layout.sampling_rate_hz)
    except SignalError as error:
        raise SignalError(f"{path}: {error}") from None


def leads_first(array: NDArray[Any], leads: tuple[str, ...], path: Path) -> NDArray[Any]:
    """Transpose to (leads, samples) if the number of leads shows that the axes are swapped.

    Raises:
        SignalError: there are not two axes, or neither or both are as long as there are leads.
    """
    fits = [length == len(leads) for length in array.shape]
    if array.ndim != 2 or not any(fits):
        raise SignalError(
            f"{path}: expected {len(leads)} leads on one of two axes, got shape {array.shape}; "
            "name the leads that the file has"
        )
    if all(fits):
        raise SignalError(
            f"{path}: expected axes of different length, got shape {array.shape}, "
            f"which has {len(leads)} leads either way; use recordings of another length"
        )
    return array if fits[0] else array.T


@lru_cache(maxsize=1)
def _load(path: Path, member: str | None) -> NDArray[Any]:
    """Load real numbers: a memory-mapped .npy, or one member of an .npz, which is cached."""
    try:
        if member is None:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                array = archive[member]
    except Exception as error:  # numpy raises errors of any type for damaged files
        raise _unreadable(path, error) from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
        kind = getattr(array, "dtype", "an archive")
        raise SignalError(f"{path}: expected real numbers, got {kind}; save the samples as numbers")
    return array


def _unreadable(path: Path, error: Exception) -> SignalError:
    return SignalError(
        f"expected a numpy file {path}, got {type(error).__name__} ({str(error)[:120]}); "
        "save it again without Python objects"
    )


def _read_csv(path: Path, layout: ArrayLayout) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Lead columns of a csv: named in its first line, or as stated if it has no header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            delimiter = next((sign for sign in ",\t;" if sign in first), ",")
            cells = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
            headed = not all(_is_number(cell) for cell in cells)
            columns = _lead_columns(path, cells, layout) if headed else None
            if not headed:
                file.seek(0)
            rows = [line for line in file if line.strip()]
        if not rows:
            raise SignalError(f"{path}: expected samples, got none; exclude the file")
        table = np.loadtxt(rows, delimiter=delimiter, ndmin=2, usecols=columns, comments=None)
    except (OSError, ValueError, csv.Error, OverflowError) as error:
        raise SignalError(
            f"expected a csv {path} with a column of numbers for each lead, got "
            f"{str(error)[:120]}; export it again"
        ) from None
    if columns is not None:
        return table.T, tuple(cells[k] for k in columns)
    if table.shape[1] != len(layout.leads):
        raise SignalError(
            f"{path}: expected {len(layout.leads)} columns for the leads that are stated, got "
            f"{table.shape[1]}; name them in the first line of the file"
        )
    return table.T, layout.leads


def _lead_columns(path: Path, cells: list[str], layout: ArrayLayout) -> list[int]:
    columns = []
    for number, cell in enumerate(cells):
        if cell.casefold() in TIME_COLUMNS:
            continue
        try:
            canonical_lead(cell)
        except SignalError as error:
            raise SignalError(f"{path}: {error}") from None
        columns.append(number)
    return columns


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
