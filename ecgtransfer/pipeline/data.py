"""Preparation of sets from recordings; it does not need a run."""

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

#: Readers of published corpora by the name of their manifest: (folder, sampling rate of the set in
#: hertz) -> corpus.
READERS: dict[str, Callable[[Path, int], Corpus]] = {
    "ptbxl": lambda folder, rate_hz: read_ptbxl(folder, rate_to_read(folder, rate_hz)),
    "icbeb2018": lambda folder, rate_hz: read_icbeb(folder),
}

#: Names of the readers of other recordings, which need a description.
WFDB, ARRAYS = "wfdb", "arrays"


@dataclass(frozen=True)
class Description:
    """User's description of recordings that are not a published corpus; None for not stated.

    Attributes:
        table: CSV file that maps records to labels, patient, age and other columns.
        vocabulary: vocabulary of the labels.
        sampling_rate_hz: sampling rate; NumPy and CSV files need it.
        unit: unit of the samples; NumPy and CSV files need it.
        leads: leads of NumPy and CSV files, if their order is not that of `LEADS`.
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
    """Read recordings and write them as a set; see `corpus.prepare`.

    Args:
        corpus: `ptbxl`, `icbeb2018`, `wfdb` for any folder of WFDB records, or `arrays` for NumPy
            and CSV files.
        folder: folder of the recordings; for arrays also a single file.
        to: folder of the set to write.
        labels: name of the label space.
        description: description of recordings that are not a published corpus.
        sampling_rate_hz: sampling rate of the set.
        seconds: length of each record.
        keep_unlabelled: whether to keep records without a label of the space.
        drop_duplicates: whether to keep only the first of the records with the same signal.
        workers: number of processes that read.
        overwrite: whether to replace an existing set.
        progress: called with (records done, records in total).

    Raises:
        CorpusError: the corpus is unknown, the description does not apply to it, or its reader or
            `prepare` refuses the recordings.
        SignalError: arrays have an invalid rate, unit or lead.
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
        raise CorpusError(
            f"expected a corpus of {', '.join(known)}, got {corpus!r}; choose one of these"
        )
    stated = [name for name, value in vars(description).items() if value is not None]
    takes = {WFDB: {"table", "vocabulary"}, ARRAYS: set(vars(description))}.get(corpus, set())
    redundant = [name for name in stated if name not in takes]
    if redundant:
        raise CorpusError(
            f"{corpus} states its {' and '.join(redundant).replace('_', ' ')} itself; omit this "
            "option"
        )
    if corpus == WFDB:
        return read_wfdb_folder(folder, description.table, description.vocabulary)
    if corpus == ARRAYS:
        if description.sampling_rate_hz is None or description.unit is None:
            raise CorpusError(
                "expected the sampling rate and the unit of the arrays, got at most one of them; "
                "state both, such as 500 and mV"
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
