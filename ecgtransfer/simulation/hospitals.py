"""Two hospitals with a known domain shift, and simulated sets of their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
from scipy import fft

from ecgtransfer.corpus import ECGSet, ECGSetWriter, LabelSpace, microvolts
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.signals import Recording, expand_leads
from ecgtransfer.simulation.rhythm import CONTRADICTIONS, DIAGNOSES, MARGIN_S, check_diagnoses
from ecgtransfer.simulation.vectorcardiogram import Array, Truth, heart_signal
from ecgtransfer.statistics import streams

if TYPE_CHECKING:
    import pandas as pd

#: Shortest record that can contain a premature beat and its neighbours.
SHORTEST_S = 6.0
#: Lowest sampling rate at which simulated QRS complexes do not alias.
LOWEST_RATE_HZ = 100.0
#: Lower end of the band of muscle noise.
MUSCLE_LOW_HZ = 12.0
#: Relative half-width of the anti-alias filter around half the sampling rate.
ANTI_ALIAS_HALF_WIDTH = 0.08
#: Records simulated between two writes to disk.
CHUNK_RECORDS = 256
#: Cross-validation folds of a simulated set, as in public sets.
FOLDS = 10

#: Independent leads as differences between nine electrodes RA, LA, LL, V1-V6; the chest leads refer
#: to Wilson's central terminal. Noise is added at electrodes, so that Einthoven's law holds.
_ELECTRODES = np.vstack(
    [
        [[-1, 1, 0] + [0] * 6, [-1, 0, 1] + [0] * 6],
        np.hstack([np.full((6, 3), -1 / 3), np.eye(6)]),
    ]
)


@dataclass(frozen=True)
class Hospital:
    """A patient population and the recorder to which its electrodes are connected.

    Attributes:
        name: name of the hospital.
        class_mix: pairs (diagnosis, share of records).
        second_diagnosis: probability that a record with a diagnosis has another one.
        heart_rate_bpm, heart_rate_sd_bpm: mean and standard deviation of the heart rate.
        gain: factor of the recorder.
        lowpass_hz, lowpass_order: corner and order of its zero-phase Butterworth low-pass.
        mains_hz, mains_mv: frequency and amplitude of mains hum at an electrode, in mV.
        wander_mv: standard deviation of baseline wander (breathing, sweat) at an electrode, in mV.
        muscle_mv: standard deviation of muscle noise at an electrode, in mV.
    """

    name: str
    class_mix: tuple[tuple[str, float], ...]
    second_diagnosis: float
    heart_rate_bpm: float
    heart_rate_sd_bpm: float
    gain: float
    lowpass_hz: float
    lowpass_order: int
    mains_hz: float
    mains_mv: float
    wander_mv: float
    muscle_mv: float

    def __post_init__(self) -> None:
        """Reject impossible values.

        Raises:
            ConfigError: an unknown diagnosis, or a value out of range.
        """
        unknown = sorted({label for label, _ in self.class_mix} - set(DIAGNOSES))
        if unknown:
            raise ConfigError(
                f"hospital {self.name!r}: the simulation has no diagnosis {', '.join(unknown)}; it "
                f"knows {', '.join(DIAGNOSES)}"
            )
        shares = [share for _, share in self.class_mix]
        if not shares or min(shares) < 0 or sum(shares) <= 0:
            raise ConfigError(
                f"hospital {self.name!r}: class_mix needs shares that are not negative and not all "
                f"zero, got {shares}"
            )
        if not 0 <= self.second_diagnosis <= 1:
            raise ConfigError(
                f"hospital {self.name!r}: second_diagnosis is a chance between 0 and 1, got "
                f"{self.second_diagnosis}"
            )
        for field in ("heart_rate_bpm", "gain", "lowpass_hz", "lowpass_order", "mains_hz"):
            if getattr(self, field) <= 0:
                raise ConfigError(
                    f"hospital {self.name!r}: {field} must be above 0, got {getattr(self, field)}"
                )
        for field in ("heart_rate_sd_bpm", "mains_mv", "wander_mv", "muscle_mv"):
            if getattr(self, field) < 0:
                raise ConfigError(
                    f"hospital {self.name!r}: {field} must not be negative, got "
                    f"{getattr(self, field)}"
                )


#: A large archive: half of its records are normal; 40 Hz diagnostic filter, 50 Hz mains.
SOURCE_HOSPITAL = Hospital(
    name="source",
    class_mix=(
        ("NORM", 0.46), ("AFIB", 0.10), ("1AVB", 0.07), ("CLBBB", 0.06), ("CRBBB", 0.06),
        ("PAC", 0.06), ("PVC", 0.08), ("STD_", 0.07), ("STE_", 0.04),
    ),
    second_diagnosis=0.10,
    heart_rate_bpm=70.0,
    heart_rate_sd_bpm=11.0,
    gain=1.0,
    lowpass_hz=40.0,
    lowpass_order=2,
    mains_hz=50.0,
    mains_mv=0.006,
    wander_mv=0.03,
    muscle_mv=0.008,
)  # fmt: skip

#: A small clinic: sicker patients, faster hearts, larger gain, 25 Hz monitor filter, more noise.
TARGET_HOSPITAL = Hospital(
    name="target",
    class_mix=(
        ("NORM", 0.14), ("AFIB", 0.17), ("1AVB", 0.10), ("CLBBB", 0.07), ("CRBBB", 0.20),
        ("PAC", 0.09), ("PVC", 0.10), ("STD_", 0.09), ("STE_", 0.04),
    ),
    second_diagnosis=0.07,
    heart_rate_bpm=80.0,
    heart_rate_sd_bpm=13.0,
    gain=1.2,
    lowpass_hz=25.0,
    lowpass_order=2,
    mains_hz=60.0,
    mains_mv=0.015,
    wander_mv=0.07,
    muscle_mv=0.010,
)  # fmt: skip


def simulate(
    label_names: Sequence[Sequence[str]],
    hospital: Hospital,
    seed: int,
    sampling_rate_hz: float = 100,
    seconds: float = 10.0,
) -> tuple[list[Recording], list[Truth]]:
    """Simulate one recording for each entry of `label_names`.

    Record i depends only on `seed`, i, its own diagnoses and the hospital. No diagnosis gives a
    normal heart, as NORM does.

    Args:
        label_names: diagnoses of each record.
        hospital: population and recorder.
        seed: seed of the simulation.
        sampling_rate_hz: at least 100.
        seconds: at least 6.

    Returns:
        The recordings, and the ground truth of each.

    Raises:
        CorpusError: a diagnosis that the simulation does not support.
        ConfigError: two diagnoses that exclude each other, or a record that is too short or too
            slowly sampled.
    """
    _check_grid(sampling_rate_hz, seconds)
    diagnoses = [check_diagnoses(names) for names in label_names]
    recordings, truths = [], []
    for i, names in enumerate(diagnoses):
        eight, truth = _record(names, hospital, seed, i, sampling_rate_hz, seconds)
        recordings.append(Recording(expand_leads(eight.astype(np.float32)), sampling_rate_hz))
        truths.append(truth)
    return recordings, truths


def draw_label_names(hospital: Hospital, n: int, seed: int) -> list[tuple[str, ...]]:
    """Draw the diagnoses of `n` records, as close to the hospital's class mix as possible.

    Every class with a share above zero occurs at least once if `n` is large enough.
    """
    rng = np.random.default_rng([seed, n])
    mix = [(label, share) for label, share in hospital.class_mix if share > 0]
    shares = np.array([share for _, share in mix])
    exact = n * shares / shares.sum()
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: n - counts.sum()]] += 1
    if n >= len(mix):
        for missing in np.flatnonzero(counts == 0):
            counts[counts.argmax()] -= 1
            counts[missing] = 1
    firsts = np.repeat([label for label, _ in mix], counts)
    names = []
    for first in rng.permutation(firsts):
        others = [other for other, _ in mix if _may_join(str(first), other)]
        second = rng.uniform() < hospital.second_diagnosis and others
        names.append((str(first), *([str(rng.choice(others))] if second else [])))
    return names


def simulate_ecgset(
    folder: Path,
    hospital: Hospital,
    n: int,
    seed: int,
    label_space: LabelSpace,
    *,
    sampling_rate_hz: float = 100,
    seconds: float = 10.0,
    overwrite: bool = False,
) -> ECGSet:
    """Simulate `n` records of a hospital and write them as an ECGSet; each record is a patient.

    Classes outside `label_space` are removed from the mix. The table has name, patient, fold (1 to
    10, stratified by class), age, sex, device, site, and of the ground truth heart_rate_bpm, pr_ms,
    qrs_ms and qt_ms (medians of the conducted beats; PR is empty in AFIB). If the label space has
    every class, `simulate(draw_label_names(...), hospital, seed)` returns the full ground truth.

    Raises:
        CorpusError: the label space has none of the hospital's classes, or the folder exists (see
            `ECGSetWriter`).
        ConfigError: a count below 1.
        StorageError: the disk is full or refuses to write.
    """
    import pandas as pd

    _check_grid(sampling_rate_hz, seconds)
    if n < 1:
        raise ConfigError(f"a simulated set needs at least 1 record, got {n}")
    mix = tuple(pair for pair in hospital.class_mix if pair[0] in label_space.names)
    if not any(share > 0 for _, share in mix):
        raise CorpusError(
            f"hospital {hospital.name!r} has none of the labels {', '.join(label_space.names)}; "
            f"it has {', '.join(label for label, _ in hospital.class_mix)}"
        )
    population = replace(hospital, class_mix=mix)
    label_names = draw_label_names(population, n, seed)
    people = _people(population, label_names, seed)
    with ECGSetWriter(
        folder,
        label_space,
        sampling_rate_hz,
        "simulated",
        card_extra={"hospital": asdict(population), "seed": seed},
        overwrite=overwrite,
    ) as writer:
        for start in range(0, n, CHUNK_RECORDS):
            indices = range(start, min(start + CHUNK_RECORDS, n))
            pairs = [
                _record(frozenset(label_names[i]), population, seed, i, sampling_rate_hz, seconds)
                for i in indices
            ]
            truths = pd.DataFrame([_summary(truth) for _, truth in pairs], index=indices)
            writer.append(
                microvolts(np.stack([eight for eight, _ in pairs])),
                np.stack([label_space.encode(label_names[i]) for i in indices]),
                people.loc[list(indices)].join(truths),
            )
        return writer.finish()


def _record(
    diagnoses: frozenset[str],
    hospital: Hospital,
    seed: int,
    number: int,
    sampling_rate_hz: float,
    seconds: float,
) -> tuple[Array, Truth]:
    """Simulate one record: (8, n) millivolts as recorded, and its ground truth."""
    rng = np.random.default_rng([seed, crc32(hospital.name.encode()), number])
    rate_bpm = rng.normal(hospital.heart_rate_bpm, hospital.heart_rate_sd_bpm)
    heart, truth = heart_signal(diagnoses, rate_bpm, seconds, sampling_rate_hz, rng)
    n = heart.shape[1]
    noise, hum = _noise(hospital, n, sampling_rate_hz, rng)
    frequency = fft.rfftfreq(n, 1 / sampling_rate_hz)
    response = _lowpass(hospital, frequency)
    response[0] = 0.0  # the recorder is AC coupled
    recorded = fft.irfft(fft.rfft(heart + noise, axis=1) * response, n, axis=1)
    first = round(MARGIN_S * sampling_rate_hz)
    kept = slice(first, first + round(seconds * sampling_rate_hz))
    return hospital.gain * (recorded + hum)[:, kept], truth


def _lowpass(hospital: Hospital, frequency_hz: Array) -> Array:
    """Magnitude of a Butterworth filter, 1 / sqrt(1 + (f / f_c)^(2 order))."""
    ratio = frequency_hz / hospital.lowpass_hz
    return np.asarray(1 / np.sqrt(1 + ratio ** (2 * hospital.lowpass_order)), dtype=np.float64)


def _noise(
    hospital: Hospital, n: int, sampling_rate_hz: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Noise before the recorder's filter, and mains hum after it, each (8, n) in mV.

    Hum is a pure tone, so that the recorder's filter and the anti-alias filter only scale its
    amplitude: by one half at half the sampling rate, by 0 well above it.
    """
    time = np.arange(n) / sampling_rate_hz
    electrodes = _ELECTRODES.shape[1]
    # Wander: a few slow tones, weaker at higher frequencies, with own phases at each electrode.
    tones = rng.uniform(0.05, 0.5, 6)
    angle = 2 * np.pi * tones[:, None] * time
    weight = rng.normal(size=(electrodes, 12)) / np.tile(np.sqrt(tones), 2)
    weight *= hospital.wander_mv * rng.gamma(2.0, 0.5) / np.sqrt((1 / tones).sum())
    wander = weight @ np.concatenate([np.sin(angle), np.cos(angle)])
    # Muscle noise: white above MUSCLE_LOW_HZ, with varying amplitude.
    frequency = fft.rfftfreq(n, 1 / sampling_rate_hz)
    shape = frequency / np.hypot(frequency, MUSCLE_LOW_HZ)
    white = fft.rfft(rng.standard_normal((electrodes, n), dtype=np.float32), axis=1)
    tension = 1 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.05, 0.3) * time + rng.uniform()))
    muscle = fft.irfft(white * shape.astype(np.float32), n, axis=1) * tension
    muscle *= hospital.muscle_mv * rng.gamma(3.0, 1 / 3)
    # Hum: the mains frequency varies by a few hundredths of a hertz.
    mains_hz = hospital.mains_hz * (1 + rng.normal(0, 3e-4))
    above = mains_hz / (sampling_rate_hz / 2) - 1
    passed = float(np.clip(0.5 - above / (2 * ANTI_ALIAS_HALF_WIDTH), 0, 1))
    passed *= float(_lowpass(hospital, np.array([mains_hz]))[0])
    size = passed * hospital.mains_mv * rng.gamma(2.0, 0.5, (electrodes, 1))
    phase = rng.uniform(0, 2 * np.pi, (electrodes, 1))
    turning = 2 * np.pi * mains_hz * time
    hum = (
        _ELECTRODES
        @ np.hstack([size * np.cos(phase), size * np.sin(phase)])
        @ np.stack([np.sin(turning), np.cos(turning)])
    )
    return _ELECTRODES @ (wander + muscle), hum


def _check_grid(sampling_rate_hz: float, seconds: float) -> None:
    if seconds < SHORTEST_S:
        raise ConfigError(f"a simulated record lasts at least {SHORTEST_S:g} s, got {seconds:g} s")
    if sampling_rate_hz < LOWEST_RATE_HZ:
        raise ConfigError(
            f"records are simulated at {LOWEST_RATE_HZ:g} Hz or more, got {sampling_rate_hz:g} Hz; "
            "simulate faster and resample"
        )


def _may_join(first: str, second: str) -> bool:
    """Whether two different diagnoses can occur in one record."""
    pair = {first, second}
    return len(pair) == 2 and "NORM" not in pair and pair not in map(set, CONTRADICTIONS)


def _people(hospital: Hospital, label_names: list[tuple[str, ...]], seed: int) -> pd.DataFrame:
    """Table of patients, one row per record, with class-stratified folds."""
    import pandas as pd

    n = len(label_names)
    rng = np.random.default_rng([seed, n, streams.HOSPITAL_PEOPLE])
    by_class = np.argsort([DIAGNOSES.index(names[0]) for names in label_names], kind="stable")
    fold = np.empty(n, dtype=np.int64)
    fold[by_class] = np.arange(n) % FOLDS + 1
    names = [f"{hospital.name}-{i:06d}" for i in range(n)]
    return pd.DataFrame(
        {
            "name": names,
            "patient": names,
            "fold": fold,
            "age": np.clip(rng.normal(62, 15, n).round(), 18, 89),
            "sex": rng.choice(["male", "female"], n),
            "device": f"simulated {hospital.lowpass_hz:g} Hz",
            "site": hospital.name,
        }
    )


def _summary(truth: Truth) -> dict[str, float | None]:
    """Median of each interval over the conducted beats."""
    conducted = np.array(truth.beat_types) == "N"
    has_p = bool(np.isfinite(truth.pr_ms[conducted]).all())
    return {
        "heart_rate_bpm": truth.heart_rate_bpm,
        "pr_ms": float(np.median(truth.pr_ms[conducted])) if has_p else None,
        "qrs_ms": float(np.median(truth.qrs_ms[conducted])),
        "qt_ms": float(np.median(truth.qt_ms[conducted])),
    }
