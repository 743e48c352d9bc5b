"""ECGSet: many recordings of one length on disk, memory-mapped, with their table, labels and card.

A folder with `signals.npy` (int16, microvolts, N x 8 x T), `labels.npy` (float32, N x K),
`records.parquet` and `card.json`, written atomically by `ECGSetWriter`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus.labels import LabelCode, LabelSpace
from ecgtransfer.corpus.sets.ecg_record import ECGRecord
from ecgtransfer.corpus.sets.set_beats import BEATS_COLUMN, set_beats
from ecgtransfer.errors import CorpusError, SignalError, StorageError
from ecgtransfer.signals import INDEPENDENT_LEADS, LEADS, Beats, Recording, expand_leads
from ecgtransfer.storage import read_json

if TYPE_CHECKING:
    import pandas as pd

#: Format name in `card.json`, and the version of the layout that this module reads.
FORMAT, FORMAT_VERSION = "ecgtransfer.ecgset", 1

#: Possible origins of a record.
RECORD_ORIGINS = ("recorded", "simulated", "generated")

#: Origin of a set whose records have different origins, and the column that states each.
MIXED, ORIGIN_COLUMN = "mixed", "origin"

#: Possible origins of a set.
ORIGINS = (*RECORD_ORIGINS, MIXED)

SIGNALS, LABELS, RECORDS, CARD = "signals.npy", "labels.npy", "records.parquet", "card.json"

#: Microvolts per millivolt.
MICROVOLTS = 1000.0

#: Largest amplitude in microvolts that int16 holds on both sides of zero.
LARGEST_MICROVOLTS = 32767

#: Bytes and table rows that are read at a time when a set is hashed.
_HASH_BYTES, _HASH_ROWS = 1 << 22, 8192

#: One record, several, a boolean mask, or None for all.
Index = int | slice | Sequence[int] | NDArray[Any] | None


class Chunk(NamedTuple):
    """Consecutive records, in the form that `ECGSetWriter.append` takes.

    Attributes:
        signals_uv: (n, 8, T) int16 microvolts.
        labels: (n, K) float32.
        records: n rows of the table.
    """

    signals_uv: NDArray[np.int16]
    labels: NDArray[np.float32]
    records: pd.DataFrame


class ECGSet:
    """A set of recordings with one length, sampling rate and label space; see `ECGSet.open`.

    Attributes:
        folder: folder of the set.
        card: content of `card.json`: origin, label names, fingerprint, and the writer's additions.
        label_space: columns of `labels`.
        labels: multi-hot labels, (N, K) float32, memory-mapped; changes stay in memory.
        sampling_rate_hz: sampling rate of every recording.
    """

    def __init__(
        self,
        folder: Path,
        card: dict[str, Any],
        signals_uv: NDArray[np.int16],
        labels: NDArray[np.float32],
    ) -> None:
        self.folder = folder
        self.card = card
        self.label_space = LabelSpace(tuple(card["labels"]), _label_codes(folder, card))
        self.labels = labels
        rate = float(card["sampling_rate_hz"])
        self.sampling_rate_hz: int | float = int(rate) if rate.is_integer() else rate
        self._signals_uv = signals_uv

    @classmethod
    def open(cls, folder: str | Path) -> ECGSet:
        """Open a set; signals and labels stay on disk until they are read.

        Raises:
            CorpusError: there is no set in the folder, it has another format or version, or a file
                is missing, truncated or of another size than stated in the card.
        """
        folder = Path(folder)
        card = _read_card(folder)
        count, samples = card["records"], card["samples"]
        signals = _load(folder / SIGNALS, (count, len(INDEPENDENT_LEADS), samples), np.int16)
        labels = _load(folder / LABELS, (count, len(card["labels"])), np.float32, writable=True)
        if not (folder / RECORDS).is_file():
            raise CorpusError(f"{folder} lacks {RECORDS}; write the set again")
        return cls(folder, card, signals, labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return (
            f"<ECGSet {self.folder}: {len(self)} {self.origin} records, {len(self.label_space)} "
            f"labels, {self.n_samples} samples at {self.sampling_rate_hz} Hz>"
        )

    def __getitem__(self, index: int) -> ECGRecord:
        """One record with its name, labels and origin; negative indices count from the end.

        Raises:
            CorpusError: there is no record of this index.
        """
        row = self.records.iloc[int(self._rows([index])[0])]  # type: ignore[index]
        return ECGRecord(
            signal_mv=self.signals_mv(index)[0],
            sampling_rate_hz=self.sampling_rate_hz,
            name=str(row["name"]),
            labels=self.label_space.decode(self.labels[index]),
            origin=self.record_origins[index],
        )

    def __iter__(self) -> Iterator[ECGRecord]:
        return (self[index] for index in range(len(self)))

    @property
    def leads(self) -> tuple[str, ...]:
        """Names of the twelve leads of `signals_mv`, in order."""
        return LEADS

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of `labels`, in order; names of records are in `records`."""
        return self.label_space.names

    @property
    def n_samples(self) -> int:
        """Samples per lead, T."""
        return int(self._signals_uv.shape[2])

    @property
    def origin(self) -> str:
        """`recorded`, `simulated`, `generated`, or `mixed` for records of different origins."""
        return str(self.card["origin"])

    @cached_property
    def record_origins(self) -> tuple[str, ...]:
        """Origin of each record, (N,): `recorded`, `simulated` or `generated`.

        Raises:
            CorpusError: the table contradicts the card.
        """
        return origins_of(self.folder, self.origin, self.records)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over signals, labels and table, from the card; `verify` recomputes it."""
        return str(self.card["fingerprint"])

    @cached_property
    def records(self) -> pd.DataFrame:
        """One row per record: name, patient, fold, age, sex, device, site and further columns.

        Raises:
            CorpusError: the table cannot be read or has another number of rows than in the card.
        """
        import pandas as pd

        with self._table_errors():
            table = pd.read_parquet(self.folder / RECORDS)
        self._check_rows(len(table))
        return table

    def to_pandas(self) -> pd.DataFrame:
        """`records` with one more column per label: true or false, or numbers from 0 to 1.

        Raises:
            CorpusError: a label has the same name as a column of the table.
        """
        import pandas as pd

        hard = np.isin(self.labels, (0.0, 1.0)).all()
        labels = pd.DataFrame(
            self.labels.astype(bool) if hard else self.labels,
            columns=list(self.label_space.names),
            index=self.records.index,
        )
        if shared := [name for name in labels.columns if name in self.records.columns]:
            raise CorpusError(
                f"{self.folder} has a label and a column of its table called {shared[0]}; rename "
                "the label in the label space and prepare the set again, or use `records` and "
                "`labels`"
            )
        return pd.concat([self.records, labels], axis=1)

    def chunks(self, size: int, start: int = 0) -> Iterator[Chunk]:
        """Iterate over the records from index `start` on, at most `size` at a time.

        Records are read from the files, not memory-mapped: memory holds one chunk for any set.

        Raises:
            CorpusError: the table cannot be read or has another number of rows than in the card.
        """
        import pyarrow.parquet

        with self._table_errors():
            table = pyarrow.parquet.ParquetFile(self.folder / RECORDS)
        with table:
            self._check_rows(table.metadata.num_rows)
            stop = 0
            for batch in table.iter_batches(batch_size=size):
                first, stop = max(stop, start), stop + len(batch)
                if first < stop:
                    yield Chunk(
                        _read_rows(self._signals_uv, first, stop),
                        _read_rows(self.labels, first, stop),
                        batch.slice(len(batch) - (stop - first)).to_pandas(),
                    )

    @cached_property
    def beats(self) -> list[Beats]:
        """Beats of each record, see `set_beats`.

        Raises:
            CorpusError: the table has beats that cannot be parsed.
        """
        return set_beats(self)

    def independent_mv(self, index: Index = None) -> NDArray[np.float32]:
        """The eight independent leads I, II, V1-V6 in millivolts, (n, 8, T) float32."""
        return millivolts(self._signals_uv[self._rows(index)])

    def signals_mv(self, index: Index = None) -> NDArray[np.float32]:
        """All twelve leads in the order of LEADS in millivolts, (n, 12, T) float32."""
        leads: NDArray[np.float32] = expand_leads(self.independent_mv(index))
        return leads

    def recording(self, index: int) -> Recording:
        """One record as a `Recording`."""
        return Recording(
            signal_mv=self.signals_mv(index)[0], sampling_rate_hz=self.sampling_rate_hz
        )

    def verify(self) -> None:
        """Read the whole set and compare it with its fingerprint.

        Raises:
            CorpusError: the set has changed since it was written, or its table contradicts the
                origin on its card.
        """
        import pyarrow.parquet

        with self._table_errors():
            rows = pyarrow.parquet.read_metadata(self.folder / RECORDS).num_rows
        self._check_rows(rows)
        _ = self.record_origins
        found = fingerprint(
            self.folder, self.card["labels"], self.card["sampling_rate_hz"], self.origin
        )
        if found != self.fingerprint:
            raise CorpusError(
                f"{self.folder} has changed since it was written: fingerprint {found[:12]}, "
                f"its card says {self.fingerprint[:12]}; write the set again"
            )

    @contextlib.contextmanager
    def _table_errors(self) -> Iterator[None]:
        import pyarrow

        try:
            yield
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise CorpusError(
                f"{self.folder / RECORDS} cannot be read ({error}); write the set again"
            ) from None

    def _check_rows(self, rows: int) -> None:
        if rows != len(self):
            raise CorpusError(
                f"{self.folder / RECORDS} has {rows} rows, its card says {len(self)} "
                "records; write the set again"
            )

    def _rows(self, index: Index) -> slice | NDArray[Any]:
        """Convert an index so that selecting with it keeps the first axis."""
        if index is None:
            return slice(None)
        if isinstance(index, slice):
            return index
        rows = np.atleast_1d(np.asarray(index))
        if rows.size == 0:
            return np.zeros(0, dtype=np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iub":
            raise CorpusError(
                "expected record indices, a mask or a slice, "
                f"got shape {rows.shape} of {rows.dtype}"
            )
        if rows.dtype.kind == "b" and len(rows) != len(self):
            raise CorpusError(f"expected a mask of {len(self)} records, got {len(rows)}")
        if rows.dtype.kind != "b" and (rows.max() >= len(self) or rows.min() < -len(self)):
            raise CorpusError(
                f"{self.folder} has {len(self)} records, got index {rows.max()}; count from 0"
            )
        return rows


def millivolts(signals_uv: NDArray[np.int16]) -> NDArray[np.float32]:
    """Convert whole microvolts to millivolts, any shape, float32."""
    return np.multiply(signals_uv, np.float32(1 / MICROVOLTS), dtype=np.float32)


def microvolts(signal_mv: NDArray[Any]) -> NDArray[np.int16]:
    """Convert millivolts to whole microvolts, any shape.

    Raises:
        SignalError: a value is not finite, or beyond +-32.767 mV.
    """
    signal_uv = np.rint(np.asarray(signal_mv, dtype=np.float64) * MICROVOLTS)
    largest = float(np.max(np.abs(signal_uv), initial=0.0))
    if not largest <= LARGEST_MICROVOLTS:
        raise SignalError(
            f"expected finite values within +-{LARGEST_MICROVOLTS / MICROVOLTS} mV, "
            f"got {largest / MICROVOLTS} mV; check the unit and the gain"
        )
    return signal_uv.astype(np.int16)


def fingerprint(folder: Path, labels: Sequence[str], sampling_rate_hz: float, origin: str) -> str:
    """SHA-256 over label names, sampling rate, signals, labels and table rows, in hex.

    The table enters by its values, because parquet bytes depend on the library's version. Beats
    enter for generated sets, which are made from them, and for mixed ones; in others they follow
    from the signals. The origin enters for mixed sets, whose card then states no other one.
    """
    import pyarrow.parquet

    digest = hashlib.sha256()
    stated = [list(labels), float(sampling_rate_hz), *([MIXED] if origin == MIXED else [])]
    digest.update(json.dumps(stated).encode())
    for name in (SIGNALS, LABELS):
        with (folder / name).open("rb") as file:
            while block := file.read(_HASH_BYTES):
                digest.update(block)
    table = pyarrow.parquet.ParquetFile(folder / RECORDS)
    for batch in table.iter_batches(batch_size=_HASH_ROWS):
        for row in batch.to_pylist():
            if origin not in ("generated", MIXED):
                row.pop(BEATS_COLUMN, None)
            digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


def origins_of(folder: Path, origin: str, records: pd.DataFrame) -> tuple[str, ...]:
    """Origin of each record of a set, (N,).

    A mixed set states it in the column `origin`; the records of any other set have its origin, and
    such a column must agree.

    Args:
        folder: folder of the set, for messages.
        origin: origin on its card.
        records: its table.

    Raises:
        CorpusError: the column is missing in a mixed set, states an unknown origin, or contradicts
            the card.
    """
    if ORIGIN_COLUMN not in records.columns:
        if origin == MIXED:
            raise CorpusError(
                f"expected a column {ORIGIN_COLUMN} in the table of the mixed set {folder}, found "
                "none; write the set again"
            )
        return (origin,) * len(records)
    stated = tuple(map(str, records[ORIGIN_COLUMN]))
    allowed = RECORD_ORIGINS if origin == MIXED else (origin,)
    if others := sorted(set(stated) - set(allowed)):
        raise CorpusError(
            f"expected records of origin {' or '.join(allowed)} in {folder}, whose card says "
            f"{origin}, found {', '.join(others)} in its table; write the set again"
        )
    return stated


def is_ecgset(folder: Path) -> bool:
    """Whether a folder has the card of an ECGSet of any version."""
    try:
        return bool(read_json(folder / CARD).get("format") == FORMAT)
    except StorageError:
        return False


def _read_card(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise CorpusError(
            f"no ECG set at {folder}; give the folder of one, "
            "or create it with `ecgtransfer data prepare`"
        )
    if not is_ecgset(folder):
        raise CorpusError(
            f"{folder} is not an ECG set: expected a {CARD} of format {FORMAT}; "
            "give the folder of a prepared set"
        )
    card = read_json(folder / CARD)
    if card.get("format_version") != FORMAT_VERSION:
        raise CorpusError(
            f"{folder} is an ECG set of format version {card.get('format_version')}, this program "
            f"reads version {FORMAT_VERSION}; write the set again"
        )
    needed: Mapping[str, type | tuple[type, ...]] = {
        "records": int,
        "samples": int,
        "sampling_rate_hz": (int, float),
        "labels": list,
        "origin": str,
        "fingerprint": str,
    }
    wrong = [key for key, kind in needed.items() if not isinstance(card.get(key), kind)]
    if wrong:
        raise CorpusError(f"{folder / CARD} does not state {', '.join(wrong)}; write the set again")
    return card


def _label_codes(folder: Path, card: Mapping[str, Any]) -> tuple[LabelCode, ...]:
    """Table of a label space that has one, in the form of `LabelSpace.card_entry`."""
    lines = card.get("label_codes", [])
    if not isinstance(lines, list) or not all(
        isinstance(line, list) and len(line) == 3 and all(isinstance(word, str) for word in line)
        for line in lines
    ):
        raise CorpusError(
            f"{folder / CARD} states label_codes other than [label, vocabulary, code]; "
            "write the set again"
        )
    return tuple(LabelCode(label, kind, code, "") for label, kind, code in lines)


def _read_rows(mapped: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    """Rows of an array of `_load`, read from its file; mapped pages would count as memory."""
    assert isinstance(mapped, np.memmap)
    assert mapped.filename is not None
    row = mapped.shape[1:]
    length = int(np.prod(row))
    rows = np.fromfile(
        mapped.filename,
        mapped.dtype,
        (stop - start) * length,
        offset=mapped.offset + start * length * mapped.itemsize,
    )
    return rows.reshape(-1, *row)


def _load(
    path: Path, shape: tuple[int, ...], dtype: type[np.generic], *, writable: bool = False
) -> NDArray[Any]:
    """Memory-map an array and check its shape, type and size against the card.

    Changes to a writable array stay in memory and never reach the file.
    """
    mode: Literal["r", "c"] = "c" if writable else "r"
    try:
        array: NDArray[Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
    except FileNotFoundError:
        raise CorpusError(f"{path.parent} lacks {path.name}; write the set again") from None
    except (ValueError, OSError, EOFError):
        raise CorpusError(
            f"{path} is truncated or not a .npy file: expected {shape} of {np.dtype(dtype)}; "
            "write the set again"
        ) from None
    if array.shape != shape or array.dtype != dtype:
        raise CorpusError(
            f"{path} holds {array.shape} of {array.dtype}, its card says {shape} of "
            f"{np.dtype(dtype)}; write the set again"
        )
    return array
