"""Preparing, checking and showing sets of recordings; the part of `data` that needs no run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ecgtransfer.corpus import (
    Corpus,
    ECGSet,
    PreparationReport,
    label_space,
    prepare,
    read_icbeb,
    read_ptbxl,
)
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import Recording, draw_recording, heart_rate_bpm

#: Corpora that `prepare_set` reads, by the name of their manifest.
READERS: dict[str, Callable[[Path], Corpus]] = {"ptbxl": read_ptbxl, "icbeb2018": read_icbeb}


@dataclass(frozen=True)
class ShownRecord:
    """One record in words, and where its drawing is."""

    name: str
    labels: tuple[str, ...]
    sampling_rate_hz: float
    seconds: float
    heart_rate_bpm: float | None
    drawing: Path | None


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


def show_record(ecgset: ECGSet, name: str, drawing: Path | None) -> ShownRecord:
    """Describe the record of that name and, with `drawing`, put it on ECG paper.

    Raises:
        CorpusError: no record of that name, or a drawing that cannot be written.
    """
    found = ecgset.records.index[ecgset.records.name.astype(str) == name]
    if len(found) == 0:
        some = ", ".join(ecgset.records.name.astype(str).head(3))
        raise CorpusError(f"{ecgset.folder} has no record {name!r}; it has {some} and others")
    number = int(found[0])
    recording = ecgset.recording(number)
    labels = ecgset.label_space.decode(ecgset.labels[number])
    if drawing is not None:
        kind = "SYNTHETIC, " if ecgset.origin != "recorded" else ""
        figure = draw_recording(recording, f"{name}: {kind}{', '.join(labels) or 'no label'}")
        try:
            figure.savefig(drawing)
        except (OSError, ValueError) as error:
            raise CorpusError(
                f"{drawing} could not be written ({error}); give a path that ends in .png, .svg "
                f"or .pdf"
            ) from None
    return ShownRecord(
        name=name,
        labels=labels,
        sampling_rate_hz=recording.sampling_rate_hz,
        seconds=recording.duration_s,
        heart_rate_bpm=_heart_rate(recording),
        drawing=drawing,
    )


def _heart_rate(recording: Recording) -> float | None:
    """Beats a minute, or None where no two beats can be told."""
    try:
        return heart_rate_bpm(recording)
    except SignalError:
        return None
