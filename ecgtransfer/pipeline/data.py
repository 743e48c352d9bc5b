"""Preparing sets of recordings; needs no run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecgtransfer.corpus import (
    Corpus,
    PreparationReport,
    label_space,
    prepare,
    rate_to_read,
    read_arrays,
    read_icbeb,
    read_ptbxl,
    read_wfdb_folder,
)
from ecgtransfer.errors import CorpusError
from ecgtransfer.signals import LEADS

#: Published corpora that `prepare_set` reads, by the name of their manifest: from their folder, for
#: a set of that sampling rate.
READERS: dict[str, Callable[[Path, int], Corpus]] = {
    "ptbxl": lambda folder, rate_hz: read_ptbxl(folder, rate_to_read(folder, rate_hz)),
    "icbeb2018": lambda folder, rate_hz: read_icbeb(folder),
}

#: Recordings that nobody published, which a description says more about.
WFDB, ARRAYS = "wfdb", "arrays"


@dataclass(frozen=True)
class Description:
    """What the user states of recordings that nobody published; None is what is not stated.

    `table` is a csv that maps records to labels, patient, age, ...; `vocabulary` that of the
    labels. Numpy and csv files need `sampling_rate_hz` and `unit` too, and `leads` where they have
    another order.
    """

    table: Path | None = None
    vocabulary: str | None = None
    sampling_rate_hz: float | None = None
    unit: str | None = None
    leads: Sequence[str] | None = None


def prepare_set(
    corpus: str,
    folder: Path,
    to: Path,
    *,
    labels: str = "icbeb9",
    description: Description | None = None,
    sampling_rate_hz: int = 100,
    seconds: float = 10.0,
    keep_unlabelled: bool = False,
    drop_duplicates: bool = False,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PreparationReport:
    """Read recordings from `folder` and write them as a set to `to`; see `corpus.prepare`.

    Args:
        corpus: `ptbxl`, `icbeb2018`, `wfdb` for any folder of WFDB records, or `arrays` for numpy
            and csv files.
        folder: where they lie; for arrays a file will do.
        to: the set to make.
        labels: label space.
        description: of recordings that nobody published.
        sampling_rate_hz: of the set.
        seconds: length of each record.
        keep_unlabelled: keep records without a label of the space, too.
        drop_duplicates: keep only the first of the records that have one signal.
        workers: processes that read.
        overwrite: replace a set that is there.
        progress: called with (records done, records in all).

    Raises:
        CorpusError: an unknown corpus, a description that is not for it, and what its reader and
            `prepare` raise.
        SignalError: arrays of a rate, unit or lead that cannot be.
    """
    return prepare(
        _read(corpus, folder, description or Description(), sampling_rate_hz),
        to,
        label_space(labels),
        sampling_rate_hz=sampling_rate_hz,
        seconds=seconds,
        keep_unlabelled=keep_unlabelled,
        drop_duplicates=drop_duplicates,
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )


def _read(corpus: str, folder: Path, description: Description, sampling_rate_hz: int) -> Corpus:
    known = (*READERS, WFDB, ARRAYS)
    if corpus not in known:
        raise CorpusError(f"expected a corpus of {', '.join(known)}, got {corpus!r}")
    stated = [name for name, value in vars(description).items() if value is not None]
    takes = {WFDB: {"table", "vocabulary"}, ARRAYS: set(vars(description))}.get(corpus, set())
    foreign = [name for name in stated if name not in takes]
    if foreign:
        raise CorpusError(
            f"{corpus} states its {' and '.join(foreign).replace('_', ' ')} itself; leave it out"
        )
    if corpus == WFDB:
        return read_wfdb_folder(folder, description.table, description.vocabulary)
    if corpus == ARRAYS:
        if description.sampling_rate_hz is None or description.unit is None:
            raise CorpusError(
                "arrays do not state their sampling rate and unit; state both, such as 500 and mV"
            )
        return read_arrays(
            folder,
            description.sampling_rate_hz,
            description.unit,
            description.leads or LEADS,
            description.table,
            description.vocabulary,
        )
    return READERS[corpus](folder, sampling_rate_hz)
