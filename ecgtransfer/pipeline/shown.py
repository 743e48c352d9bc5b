"""A set's record in words and on ECG paper."""

from dataclasses import dataclass
from pathlib import Path

from ecgtransfer.corpus import ECGSet
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import Recording, draw_recording, heart_rate_bpm


@dataclass(frozen=True)
class ShownRecord:
    """One record in words, and where its drawing is."""

    name: str
    labels: tuple[str, ...]
    sampling_rate_hz: float
    seconds: float
    heart_rate_bpm: float | None
    drawing: Path | None


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
