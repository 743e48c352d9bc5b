"""Preparing sets of recordings; needs no run."""

from collections.abc import Callable
from pathlib import Path

from ecgtransfer.corpus import (
    Corpus,
    PreparationReport,
    label_space,
    prepare,
    read_icbeb,
    read_ptbxl,
)
from ecgtransfer.errors import CorpusError

#: Corpora that `prepare_set` reads, by the name of their manifest.
READERS: dict[str, Callable[[Path], Corpus]] = {"ptbxl": read_ptbxl, "icbeb2018": read_icbeb}


def prepare_set(
    corpus: str,
    folder: Path,
    to: Path,
    *,
    labels: str = "icbeb9",
    sampling_rate_hz: int = 100,
    seconds: float = 10.0,
    keep_unlabelled: bool = False,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PreparationReport:
    """Read a published corpus from `folder` and write it as a set to `to`; see `corpus.prepare`.

    Raises:
        CorpusError: an unknown corpus, and what its reader and `prepare` raise.
    """
    if corpus not in READERS:
        raise CorpusError(f"expected a corpus of {', '.join(READERS)}, got {corpus!r}")
    return prepare(
        READERS[corpus](folder),
        to,
        label_space(labels),
        sampling_rate_hz=sampling_rate_hz,
        seconds=seconds,
        keep_unlabelled=keep_unlabelled,
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )
