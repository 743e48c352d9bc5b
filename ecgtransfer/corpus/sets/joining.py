"""Join records of several sets as one set; the origin of each record stays stated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus.labels import LabelSpace
from ecgtransfer.corpus.sets.ecgset import MIXED, ORIGIN_COLUMN, ECGSet, microvolts
from ecgtransfer.corpus.sets.ecgset_writer import ECGSetWriter
from ecgtransfer.corpus.sets.set_beats import BEATS_COLUMN
from ecgtransfer.errors import CorpusError

if TYPE_CHECKING:
    import pandas as pd

#: Records that are copied at a time: 16 MB at 100 Hz and 10 s.
COPIED_RECORDS = 1024


@dataclass(frozen=True, eq=False)
class SetPart:
    """Some records of a set, and what their table is to state in the joined set.

    Attributes:
        ecgset: the set.
        indices: indices of the records, in the order of the joined set.
        columns: values of table columns, one for all records or one per record; they replace
            columns of the set.
    """

    ecgset: ECGSet
    indices: NDArray[np.integer]
    columns: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def origins(self) -> tuple[str, ...]:
        """Origin of each record."""
        return tuple(self.ecgset.record_origins[index] for index in self.indices)

    def table(self) -> pd.DataFrame:
        """Rows of the joined table."""
        rows = self.ecgset.records.iloc[self.indices].reset_index(drop=True)
        return rows.assign(**self.columns)


def join_sets(
    folder: str | Path,
    parts: Sequence[SetPart],
    label_space: LabelSpace,
    *,
    card_extra: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ECGSet:
    """Write records of several sets as one set, atomically; signals are copied bit by bit.

    The origin follows from the records and cannot be chosen: records of one origin give a set of
    that origin, records of several give a mixed set with a column `origin`. If a part states beats,
    those of the other parts are added, detected if necessary. Seeds become text, which keeps all of
    their digits where other records have none.

    Args:
        folder: destination; an existing folder is an error.
        parts: records, in order; sets of one sampling rate and length.
        label_space: columns of the labels, matched by name.
        card_extra: further JSON values for the card.
        progress: called with (records copied, records in total).

    Raises:
        CorpusError: no parts, parts of different rate or length, a record with a label that is not
            in the label space, one name twice, or the folder exists.
        StorageError: the disk is full or refuses to write.
    """
    if not parts:
        raise CorpusError("expected one or more sets to join, got none; give their records")
    shapes = {(part.ecgset.sampling_rate_hz, part.ecgset.n_samples) for part in parts}
    if len(shapes) > 1:
        found = " and ".join(f"{samples} at {rate} Hz" for rate, samples in sorted(shapes))
        raise CorpusError(
            f"expected sets of one sampling rate and length to join, got {found} samples; prepare "
            "them alike"
        )
    origins = {origin for part in parts for origin in part.origins}
    origin = MIXED if len(origins) > 1 else next(iter(origins), parts[0].ecgset.origin)
    with_beats = any(BEATS_COLUMN in part.ecgset.records for part in parts if len(part))
    total, done = sum(map(len, parts)), 0
    first = parts[0].ecgset
    with ECGSetWriter(
        folder, label_space, first.sampling_rate_hz, origin, card_extra=card_extra
    ) as writer:
        for part in parts:
            labels = joined_labels(part.ecgset, label_space, part.indices)
            table = part.table()
            if origin == MIXED:
                table[ORIGIN_COLUMN] = part.origins
            if with_beats:
                table[BEATS_COLUMN] = [part.ecgset.beats[i].to_text() for i in part.indices]
            if "seed" in table:
                table["seed"] = [None if seed is None else str(seed) for seed in table["seed"]]
            for start in range(0, len(part), COPIED_RECORDS):
                rows = slice(start, start + COPIED_RECORDS)
                signals_uv = microvolts(part.ecgset.independent_mv(part.indices[rows]))
                writer.append(signals_uv, labels[rows], table.iloc[rows])
                done += len(signals_uv)
                if progress is not None:
                    progress(done, total)
            # A shard per part: pandas would turn whole numbers into floats where others lack them.
            writer.checkpoint()
        return writer.finish()


def joined_labels(
    ecgset: ECGSet, label_space: LabelSpace, indices: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Labels of some records in another label space, matched by name: (n, K) float32.

    Raises:
        CorpusError: a record has a label that the space lacks.
    """
    joined = np.zeros((len(indices), len(label_space)), np.float32)
    for column, name in enumerate(ecgset.label_space.names):
        stated = ecgset.labels[indices, column]
        if name in label_space.names:
            joined[:, label_space.index(name)] = stated
        elif stated.any():
            raise CorpusError(
                f"expected labels of the joined set ({', '.join(label_space.names)}), "
                f"{ecgset.folder} also has {name}; join in a label space that has it"
            )
    return joined
