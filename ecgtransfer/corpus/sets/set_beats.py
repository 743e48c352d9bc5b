"""Beats of a set's records: from its table, or detected on first use and cached next to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecgtransfer.errors import CorpusError, SignalError, StorageError
from ecgtransfer.signals import Beats, Recording, find_beats
from ecgtransfer.storage import atomic_file

if TYPE_CHECKING:
    from ecgtransfer.corpus.sets.ecgset import ECGSet

#: Column of the table with the beats, see `Beats.to_text`.
BEATS_COLUMN = "beats"
#: Cache of the detected beats of a set whose table has none.
BEATS = "beats.parquet"


def set_beats(ecgset: ECGSet, progress: Callable[[int, int], None] | None = None) -> list[Beats]:
    """Beats of each record of a set.

    They are read from the table if it has them. Otherwise they are detected, and cached in the
    set's folder if it is writable.

    Args:
        ecgset: the set.
        progress: called with (records done, records in total) while beats are detected.

    Raises:
        CorpusError: the table has beats that cannot be parsed.
    """
    table = ecgset.records
    duration_s = ecgset.n_samples / ecgset.sampling_rate_hz
    if BEATS_COLUMN in table.columns and table[BEATS_COLUMN].notna().all():
        return _parsed(ecgset.folder, table[BEATS_COLUMN].tolist(), duration_s)
    kept = _read_kept(ecgset)
    if kept is not None:
        return _parsed(ecgset.folder, kept, duration_s)
    found = []
    for number in range(len(ecgset)):
        found.append(find_beats_or_none(ecgset.recording(number)))
        if progress is not None:
            progress(number + 1, len(ecgset))
    _keep(ecgset, [each.to_text() for each in found])
    return found


def find_beats_or_none(recording: Recording) -> Beats:
    """Detect the beats of a recording; return no beats if it is too short."""
    try:
        return find_beats(recording)
    except SignalError:
        return Beats(np.zeros(0), np.zeros(0, np.int8), recording.duration_s)


def _parsed(folder: Path, texts: Sequence[str], duration_s: float) -> list[Beats]:
    found = []
    for number, text in enumerate(texts):
        try:
            found.append(Beats.from_text(text, duration_s))
        except SignalError as error:
            raise CorpusError(
                f"{folder} has beats of the record with index {number} that cannot be read "
                f"({error}); "
                "write the set again"
            ) from None
    return found


def _read_kept(ecgset: ECGSet) -> list[str] | None:
    """Read the beats that an earlier call cached for this set; None if there are none."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(ecgset.folder / BEATS)
    except (OSError, pyarrow.ArrowInvalid):
        return None
    stated = (table.schema.metadata or {}).get(b"set", b"").decode()
    if stated != ecgset.fingerprint or len(table) != len(ecgset):
        return None
    texts: list[str] = table[BEATS_COLUMN].to_pylist()
    return texts


def _keep(ecgset: ECGSet, texts: Sequence[str]) -> None:
    """Cache the beats in the set's folder, unless it is not writable."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema(
        [(BEATS_COLUMN, pyarrow.string())], metadata={"set": ecgset.fingerprint}
    )
    table = pyarrow.table({BEATS_COLUMN: list(texts)}, schema=schema)
    with (
        contextlib.suppress(StorageError),
        atomic_file(ecgset.folder / BEATS, shared=True) as partial,
    ):
        pyarrow.parquet.write_table(table, partial)
