"""Write an ECGSet in chunks: in bounded memory, atomically, and resumable.

Until it is finished, a set `NAME` is stored next to its destination as `.NAME.partial`: its files
in `set/`, the table in shards, and the state of the last checkpoint in `progress.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus.labels import LabelSpace
from ecgtransfer.corpus.sets.ecgset import (
    CARD,
    FORMAT,
    FORMAT_VERSION,
    LABELS,
    ORIGINS,
    RECORDS,
    SIGNALS,
    ECGSet,
    fingerprint,
    origins_of,
)
from ecgtransfer.corpus.sets.known_names import KnownNames
from ecgtransfer.corpus.sets.record_rows import (
    complete_rows,
    read_names,
    read_table,
    typed_table,
)
from ecgtransfer.corpus.sets.set_folder import folders_beside, refuse_folder
from ecgtransfer.errors import CorpusError, StorageError
from ecgtransfer.signals import INDEPENDENT_LEADS
from ecgtransfer.storage import atomic_file, disk_errors, fsync, publish, read_json, write_json

if TYPE_CHECKING:
    import pandas as pd

#: Keys of the card that the writer sets itself.
RESERVED_KEYS = frozenset(
    {
        "fingerprint",
        "format",
        "format_version",
        "labels",
        "leads",
        "origin",
        "records",
        "samples",
        "sampling_rate_hz",
        "unit",
    }
)

#: Length of the header of an .npy file: long enough for any shape, so that the number of records
#: can be filled in at the end (NumPy's format 1.0 requires a multiple of 64).
_NPY_HEADER_BYTES = 128

#: Rows per row group of the table.
_GROUP_ROWS = 16384


class ECGSetWriter:
    """Writes an ECGSet chunk by chunk; the folder appears only after `finish`.

    Use it as a context manager. An exception removes what was written, unless `checkpoint` was
    called: then the work up to the last checkpoint is kept, and `resume=True` continues from there;
    `len(writer)` is the number of records written so far. Memory holds one chunk, the table rows
    since the last checkpoint, and 8 bytes for each record.

    Args:
        folder: destination. An existing folder is an error, unless `overwrite` is set and it is an
            ECGSet.
        label_space: columns of the labels.
        sampling_rate_hz: sampling rate of all signals.
        origin: `recorded`, `simulated`, `generated`, or `mixed`; the table of a mixed set states
            the origin of each record in a column `origin`.
        card_extra: further JSON values for `card.json`.
        overwrite: replace an existing ECGSet.
        resume: continue unfinished work on the same set (same labels, rate, origin and
            `card_extra`); without it, unfinished work is removed.

    Raises:
        CorpusError: the folder exists, an argument is invalid, or the unfinished work belongs to
            another set.
        StorageError: the disk is full or refuses to write.
    """

    def __init__(
        self,
        folder: str | Path,
        label_space: LabelSpace,
        sampling_rate_hz: int | float,
        origin: str,
        *,
        card_extra: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.label_space = label_space
        self._overwrite = overwrite
        self._partial, self._replaced = folders_beside(self.folder)
        self._set = self._partial / "set"
        self._rows: list[pd.DataFrame] = []
        self._names = KnownNames()
        self._files: dict[str, BinaryIO] = {}
        self._count = self._shards = 0
        self._samples: int | None = None
        self._checkpointed = False
        if origin not in ORIGINS:
            raise CorpusError(f"unknown origin {origin!r}; expected one of {', '.join(ORIGINS)}")
        if not sampling_rate_hz > 0:
            raise CorpusError(f"expected a positive sampling rate, got {sampling_rate_hz} Hz")
        self._facts: dict[str, Any] = {
            **_json_card(card_extra or {}),
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "labels": list(label_space.names),
            "leads": list(INDEPENDENT_LEADS),
            "origin": origin,
            "sampling_rate_hz": sampling_rate_hz,
            "unit": "microvolt",
        }
        refuse_folder(self.folder, overwrite)
        with self._disk_errors():
            if not (resume and self._continue()):
                self._begin()

    def __len__(self) -> int:
        """Number of records appended so far, including earlier runs."""
        return self._count

    def __enter__(self) -> ECGSetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        if not self._checkpointed:
            shutil.rmtree(self._partial, ignore_errors=True)

    def append(
        self, signals_uv: NDArray[np.int16], labels: NDArray[Any], records: pd.DataFrame
    ) -> None:
        """Append a chunk of records.

        Args:
            signals_uv: microvolts, (n, 8, T) int16, leads I, II, V1-V6.
            labels: multi-hot, (n, K), between 0 and 1.
            records: n rows with at least the column `name`; a missing `patient` becomes the name.

        Raises:
            CorpusError: shapes, types or values differ from these, or a name was used before.
        """
        labels = np.asarray(labels)
        self._check_chunk(signals_uv, labels, records)
        table = complete_rows(records)
        names = table["name"].tolist()
        if doubled := self._given_twice(names):
            raise CorpusError(
                f"record {doubled[0]} comes twice in {self.folder}; give each record its own name"
            )
        with self._disk_errors():
            self._files[SIGNALS].write(np.ascontiguousarray(signals_uv, dtype="<i2").data)
            self._files[LABELS].write(np.ascontiguousarray(labels, dtype="<f4").data)
        self._samples = signals_uv.shape[2]
        self._count += len(signals_uv)
        self._names.add(names)
        self._rows.append(table)

    def checkpoint(self) -> None:
        """Flush everything appended so far to disk, so that `resume` finds it.

        Raises:
            StorageError: the disk is full or refuses to write.
        """
        with self._disk_errors():
            self._write_shard()
            for file in self._files.values():
                file.flush()
            for name in self._files:
                fsync(self._set / name)
            progress = {
                "facts": self._facts,
                "records": self._count,
                "samples": self._samples,
                "shards": self._shards,
            }
            write_json(self._partial / "progress.json", progress)
        self._checkpointed = True

    def attach(self, name: str, text: str) -> None:
        """Add a text file, such as a report, to the set.

        Raises:
            CorpusError: the name is used by the set itself or is not a plain file name.
        """
        reserved = name in (SIGNALS, LABELS, RECORDS, CARD)
        if reserved or name.startswith(".") or Path(name).name != name:
            raise CorpusError(
                f"{name!r} cannot be attached to an ECG set; choose another plain file name"
            )
        with self._disk_errors(), atomic_file(self._set / name) as partial:
            partial.write_text(text, encoding="utf-8")

    def finish(self) -> ECGSet:
        """Complete the set and move it to its destination.

        Raises:
            CorpusError: there are no records.
            StorageError: the disk is full or refuses to write.
        """
        if not self._count or self._samples is None:
            raise CorpusError(f"no records to write to {self.folder}; check what was selected")
        with self._disk_errors():
            self._write_shard()
            self._fill_in_headers(self._samples)
            self._close()
            self._merge_shards()
            card = {
                **self._facts,
                "records": self._count,
                "samples": self._samples,
                "fingerprint": fingerprint(
                    self._set,
                    self.label_space.names,
                    self._facts["sampling_rate_hz"],
                    self._facts["origin"],
                ),
            }
            write_json(self._set / CARD, card)
            self._put_in_place()
        return ECGSet.open(self.folder)

    def _begin(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._set.mkdir(parents=True)
        for name in (SIGNALS, LABELS):
            self._files[name] = (self._set / name).open("w+b")
            self._files[name].write(b" " * _NPY_HEADER_BYTES)

    def _continue(self) -> bool:
        """Restore the last checkpoint; return False if there is none."""
        try:
            if not (self._partial / "progress.json").exists():
                return False
            progress = read_json(self._partial / "progress.json")
        except StorageError:
            raise self._has_lost("progress.json") from None
        if progress["facts"] != self._facts:
            other = sorted(
                key
                for key in {*progress["facts"], *self._facts}
                if progress["facts"].get(key) != self._facts.get(key)
            )
            raise CorpusError(
                f"the unfinished {self._partial} was started with another {', '.join(other)}; "
                "delete it, or request the same set again"
            )
        self._count, self._samples = progress["records"], progress["samples"]
        self._shards, self._checkpointed = progress["shards"], True
        sizes = {
            SIGNALS: self._count * len(INDEPENDENT_LEADS) * (self._samples or 0) * 2,
            LABELS: self._count * len(self.label_space) * 4,
        }
        for name, size in sizes.items():
            path, kept = self._set / name, _NPY_HEADER_BYTES + size
            if not path.is_file() or path.stat().st_size < kept:
                raise self._has_lost(name)
            self._files[name] = path.open("r+b")
            self._files[name].truncate(kept)
            self._files[name].seek(0, os.SEEK_END)
        import pyarrow

        for shard in self._shard_paths():
            try:
                self._names.add(read_names(shard))
            except (FileNotFoundError, pyarrow.ArrowInvalid):
                raise self._has_lost(shard.name) from None
        return True

    def _has_lost(self, name: str) -> CorpusError:
        self._close()
        return CorpusError(
            f"the unfinished {self._partial} has lost a part of {name}; delete it and run the same "
            "command again"
        )

    def _given_twice(self, names: list[str]) -> list[str]:
        """Names that occur twice, within a chunk or in it and in an earlier one."""
        suspects = self._names.may_hold(names)
        repeated: list[str] = []
        if suspects:
            # Different names may share a hash, so compare with the names in the tables.
            known = {name for rows in self._rows for name in rows["name"]}
            for shard in self._shard_paths():
                known.update(suspects.intersection(read_names(shard)))
            repeated = [name for name in names if name in suspects & known]
        if not repeated and len(set(names)) < len(names):
            repeated = sorted({name for name in names if names.count(name) > 1})
        return repeated

    def _check_chunk(
        self, signals_uv: NDArray[np.int16], labels: NDArray[Any], records: pd.DataFrame
    ) -> None:
        samples = self._samples if self._samples is not None else "T"
        n, leads = len(records), len(INDEPENDENT_LEADS)
        if (
            signals_uv.dtype != np.int16
            or signals_uv.ndim != 3
            or signals_uv.shape[:2] != (n, leads)
            or signals_uv.shape[2] == 0
            or (self._samples is not None and signals_uv.shape[2] != self._samples)
        ):
            raise CorpusError(
                f"expected signals of shape ({n}, {leads}, {samples}) in int16 microvolts for {n} "
                f"records, got {signals_uv.shape} of {signals_uv.dtype}"
            )
        if labels.shape != (n, len(self.label_space)):
            raise CorpusError(
                f"expected labels of shape ({n}, {len(self.label_space)}), got {labels.shape}"
            )
        if not np.all((labels >= 0) & (labels <= 1)):
            raise CorpusError("expected labels between 0 and 1; encode them with a LabelSpace")
        if "name" not in records.columns:
            raise CorpusError(
                f"the table of an ECG set needs a column name, got {', '.join(records.columns)}"
            )
        origins_of(self.folder, self._facts["origin"], records)

    def _shard_paths(self) -> list[Path]:
        return [self._partial / f"records-{number:06d}.parquet" for number in range(self._shards)]

    def _write_shard(self) -> None:
        if not self._rows:
            return
        import pandas as pd
        import pyarrow.parquet

        rows = pd.concat(self._rows, ignore_index=True) if len(self._rows) > 1 else self._rows[0]
        path = self._partial / f"records-{self._shards:06d}.parquet"
        pyarrow.parquet.write_table(typed_table(rows), path)
        fsync(path)
        self._rows = []
        self._shards += 1

    def _merge_shards(self) -> None:
        import pyarrow
        import pyarrow.parquet

        shards = self._shard_paths()
        schema = pyarrow.schema([])
        for shard in shards:
            schema = pyarrow.unify_schemas(
                [schema, pyarrow.parquet.read_schema(shard)], promote_options="permissive"
            )
        waiting = schema.empty_table()
        with pyarrow.parquet.ParquetWriter(self._set / RECORDS, schema) as merged:
            for shard in shards:
                table = read_table(shard)
                for field in schema:
                    if field.name not in table.column_names:
                        table = table.append_column(field, pyarrow.nulls(len(table), field.type))
                waiting = pyarrow.concat_tables([waiting, table.select(schema.names).cast(schema)])
                # Fixed row groups make the file independent of where the checkpoints were.
                while len(waiting) > _GROUP_ROWS:
                    merged.write_table(waiting.slice(0, _GROUP_ROWS).combine_chunks())
                    waiting = waiting.slice(_GROUP_ROWS)
            merged.write_table(waiting.combine_chunks())

    def _fill_in_headers(self, samples: int) -> None:
        shapes = {
            SIGNALS: ("<i2", (self._count, len(INDEPENDENT_LEADS), samples)),
            LABELS: ("<f4", (self._count, len(self.label_space))),
        }
        for name, (kind, shape) in shapes.items():
            self._files[name].seek(0)
            self._files[name].write(_npy_header(kind, shape))
            self._files[name].flush()

    def _put_in_place(self) -> None:
        refuse_folder(self.folder, self._overwrite)
        shutil.rmtree(self._replaced, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(self._replaced)
        publish(self._set, self.folder)
        shutil.rmtree(self._replaced, ignore_errors=True)
        shutil.rmtree(self._partial, ignore_errors=True)

    def _close(self) -> None:
        while self._files:
            _, file = self._files.popitem()
            # A buffer that a full disk rejected before is rejected again on closing.
            with contextlib.suppress(OSError):
                file.close()

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Turn disk errors into one sentence, and close open files."""
        try:
            with disk_errors(self.folder):
                yield
        except StorageError:
            self._close()
            raise


def write_ecgset(
    folder: str | Path,
    signals: NDArray[np.int16] | Iterable[NDArray[np.int16]],
    labels: NDArray[Any],
    records: pd.DataFrame,
    label_space: LabelSpace,
    sampling_rate_hz: int | float,
    origin: str,
    card_extra: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> ECGSet:
    """Write an ECGSet in one call, atomically.

    Args:
        folder: destination; an existing folder is an error unless `overwrite` is set.
        signals: microvolts, (N, 8, T) int16, or chunks (n, 8, T) of it in order.
        labels: multi-hot, (N, K).
        records: N rows with at least the column `name`.
        label_space: the K columns of `labels`.
        sampling_rate_hz: sampling rate of all signals.
        origin: `recorded`, `simulated`, `generated` or `mixed`, see `ECGSetWriter`.
        card_extra: further JSON values for `card.json`.
        overwrite: replace an existing ECGSet.

    Raises:
        CorpusError: an argument is invalid (see `ECGSetWriter`), or the numbers of signals, labels
            and rows differ.
        StorageError: the disk is full or refuses to write.
    """
    labels = np.asarray(labels)
    chunks = [signals] if isinstance(signals, np.ndarray) else signals
    writer = ECGSetWriter(
        folder, label_space, sampling_rate_hz, origin, card_extra=card_extra, overwrite=overwrite
    )
    with writer:
        for chunk in chunks:
            start = len(writer)
            stop = start + len(chunk)
            writer.append(chunk, labels[start:stop], records.iloc[start:stop])
        if not len(writer) == len(labels) == len(records):
            raise CorpusError(
                f"expected as many signals as labels and table rows, "
                f"got {len(writer)}, {len(labels)} and {len(records)}"
            )
        return writer.finish()


def _json_card(extra: Mapping[str, Any]) -> dict[str, Any]:
    taken = sorted(RESERVED_KEYS & extra.keys())
    if taken:
        raise CorpusError(
            f"card_extra must not contain {', '.join(taken)}, which the writer sets; choose others"
        )
    try:
        card: dict[str, Any] = json.loads(json.dumps(dict(extra), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CorpusError(f"card_extra must be plain JSON values: {error}") from None
    return card


def _npy_header(kind: str, shape: tuple[int, ...]) -> bytes:
    """Header of NumPy's file format 1.0 for a C-ordered array, always of the same length."""
    described = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    room = _NPY_HEADER_BYTES - 10
    text = described.ljust(room - 1) + "\n"
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.encode("latin1")
