"""Rhythm and patient that a user requests for generated records."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ecgtransfer.corpus import ECGSet
from ecgtransfer.corpus.sets.ecgset import is_ecgset
from ecgtransfer.diffusion import CascadeConditions
from ecgtransfer.errors import ConfigError, CorpusError, RunError
from ecgtransfer.pipeline.cascade_transfer import CascadeChanges
from ecgtransfer.pipeline.source import Source
from ecgtransfer.signals import Beats, read_annotation, read_beats_csv
from ecgtransfer.storage import to_card

#: Range of heart rates that can be requested, in beats per minute.
HEART_RATES_BPM = (15.0, 300.0)
#: Range of ages that can be requested, in years.
AGES = (0.0, 120.0)


@dataclass(frozen=True)
class Steering:
    """Rhythm and patient of generated records; the model chooses each value that is None.

    Attributes:
        heart_rate_bpm: lowest and highest heart rate, in beats per minute.
        beats: file of rhythms that are used in turn: a set, a WFDB annotation or a CSV file
            (`read_beats`).
        age: age in years.
        sex: male or female.

    Raises:
        ConfigError: a value is out of range, or both heart rate and beats are given.
    """

    heart_rate_bpm: tuple[float, float] | None = None
    beats: Path | None = None
    age: float | None = None
    sex: Literal["male", "female"] | None = None

    def __post_init__(self) -> None:
        if self.heart_rate_bpm is not None:
            low, high = self.heart_rate_bpm
            if not HEART_RATES_BPM[0] <= low <= high <= HEART_RATES_BPM[1]:
                raise ConfigError(
                    f"expected heart rates from {HEART_RATES_BPM[0]:g} to {HEART_RATES_BPM[1]:g} "
                    f"per minute, the lower first, got {low:g} to {high:g}; use a range such as "
                    "45-60"
                )
            if self.beats is not None:
                raise ConfigError(
                    "expected either a heart rate or given beats, got both; omit one of them"
                )
        if self.age is not None and not AGES[0] <= self.age <= AGES[1]:
            raise ConfigError(
                f"expected an age of 0 to 120 years, got {self.age:g}; change or omit it"
            )
        if self.sex not in (None, "male", "female"):
            raise ConfigError(
                f"expected a sex of male or female, got {self.sex!r}; change or omit it"
            )

    @property
    def is_free(self) -> bool:
        """Whether the model chooses everything."""
        return self == Steering()

    def inputs(self) -> dict[str, object]:
        """Return the fingerprint of the file of beats, on which the records depend too.

        Raises:
            ConfigError: the file cannot be read.
        """
        if self.beats is None:
            return {}
        if is_ecgset(self.beats):
            return {"beats": ECGSet.open(self.beats).fingerprint}
        try:
            return {"beats": hashlib.sha256(self.beats.read_bytes()).hexdigest()}
        except OSError as error:
            raise ConfigError(
                f"expected beats in {self.beats}, which cannot be read ({error.strerror}); name a "
                "set, a WFDB annotation such as 100.atr, or a CSV file"
            ) from None


def parse_heart_rate(text: str) -> tuple[float, float]:
    """Parse a heart rate of the command line: "45-60", or "60" for 59.5 to 60.5.

    Raises:
        ConfigError: the text has another form.
    """
    parts = text.split("-")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return numbers[0] - 0.5, numbers[0] + 0.5
    if len(numbers) != 2:
        raise ConfigError(f"expected a heart rate such as 45-60 or 60, got {text!r}; change it")
    return numbers[0], numbers[1]


def read_beats(path: Path, duration_s: float) -> list[Beats]:
    """Read the rhythms of a set, a WFDB annotation or a CSV file.

    Args:
        path: folder of the set, or the file.
        duration_s: length of the rhythms in seconds; later beats are ignored.

    Raises:
        ConfigError: no rhythm has a beat in the first `duration_s` seconds.
        CorpusError: the records of the set are shorter than that.
        SignalError: the file cannot be read.
    """
    if is_ecgset(path):
        ecgset = ECGSet.open(path)
        length = ecgset.n_samples / ecgset.sampling_rate_hz
        if length < duration_s:
            raise CorpusError(
                f"expected records of at least {duration_s:g} s in {path}, got {length:g} s; "
                "prepare it with longer ones"
            )
        rhythms = [_first_seconds(each, duration_s) for each in ecgset.beats]
    elif path.suffix.lower() == ".csv":
        rhythms = read_beats_csv(path, duration_s)
    else:
        rhythms = [read_annotation(path, duration_s)]
    rhythms = [each for each in rhythms if len(each)]
    if not rhythms:
        raise ConfigError(
            f"expected beats in the first {duration_s:g} s of {path}, found none; name another file"
        )
    return rhythms


def cascade_conditions(
    source: Source,
    names: tuple[str, ...],
    steering: Steering,
    label_scale: float,
    changes: CascadeChanges | None = None,
) -> CascadeConditions | None:
    """Return the conditions of generated records; None for a source conditioned on labels only.

    Args:
        source: source of the run.
        names: names of the run's label space.
        steering: requested rhythm and patient.
        label_scale: scale of classifier-free guidance for the source's beat shapes; 1 for none.
        changes: rhythm and beat shapes of the target; None for the source's.

    Raises:
        RunError: `steering` requests something of a source conditioned on labels only.
    """
    if source.cascade is None:
        if not steering.is_free:
            raise RunError(
                "expected a source model with a rhythm model to steer heart rate, beats, age or "
                "sex, got one that is conditioned on labels only; train another, or omit these "
                "options"
            )
        return None
    changes = changes or CascadeChanges()
    config = source.model.config
    duration_s = config.samples / config.sampling_rate_hz
    return CascadeConditions(
        source.cascade,
        names,
        # A changed denoiser includes the label scale already.
        label_scale=1.0 if changes.shape_denoiser is not None else label_scale,
        heart_rate_bpm=steering.heart_rate_bpm,
        beats=None if steering.beats is None else read_beats(steering.beats, duration_s),
        age=steering.age,
        sex=None if steering.sex is None else float(steering.sex == "female"),
        shape_denoiser=changes.shape_denoiser,
        select_rhythm=changes.select_rhythm,
    )


def steering_card(steering: Steering) -> dict[str, object]:
    """Return the steering as an entry of a generated set's card; nothing if it is free."""
    if steering.is_free:
        return {}
    return {"steering": to_card(steering) | steering.inputs()}


def patient_columns(steering: Steering) -> dict[str, str | float]:
    """Return the columns age and sex of the generated set's table, if they were requested."""
    stated: dict[str, str | float | None] = {"age": steering.age, "sex": steering.sex}
    return {name: value for name, value in stated.items() if value is not None}


def _first_seconds(beats: Beats, duration_s: float) -> Beats:
    inside = beats.times_s < duration_s
    return Beats(beats.times_s[inside], beats.kinds[inside], duration_s)
