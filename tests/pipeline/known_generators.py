"""Generators whose worth is known beforehand, and their records as finished sets of a run."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from ecgtransfer.corpus import LabelSpace, microvolts, write_ecgset
from ecgtransfer.evaluation import LabelledRecords
from ecgtransfer.pipeline import Run
from ecgtransfer.pipeline.synthetic import SET, synthetic_stage
from ecgtransfer.simulation import SOURCE_HOSPITAL, TARGET_HOSPITAL

#: Few diagnoses, each as often as the others and alone in its record, leave no rare class, so that
#: few records settle every question.
SPACE = LabelSpace(("NORM", "AFIB", "CLBBB", "CRBBB"))
ARCHIVE, CLINIC = (
    replace(hospital, class_mix=tuple((name, 1.0) for name in SPACE.names), second_diagnosis=0.0)
    for hospital in (SOURCE_HOSPITAL, TARGET_HOSPITAL)
)

#: (training records of the clinic, records of hold-out patients, draws) -> as many as of the latter
Generator = Callable[[LabelledRecords, LabelledRecords, np.random.Generator], LabelledRecords]


def hold_out_patients(training, others, rng):
    """What a perfect generator makes: records of patients of the clinic whom nobody has seen."""
    return others


def copies(training, others, rng):
    """The training records over and over, every other one 5 % larger and a little noisy."""
    records = training.select(np.arange(len(others)) % len(training))
    signals_mv = records.signals_mv.copy()
    noisy = signals_mv[1::2]
    noisy[:] = 1.05 * noisy + rng.normal(0, 0.005, noisy.shape)
    return replace(records, signals_mv=signals_mv)


def noise(training, others, rng):
    """No heart at all: noise with the lead covariance of the training records, as slow as a T wave.

    Its amplitude falls with frequency, as 1 / f above 1 Hz.
    """
    records = copies(training, others, rng)
    white = np.fft.rfft(rng.normal(size=records.signals_mv.shape), axis=-1)
    coloured = np.fft.irfft(white / np.maximum(np.arange(white.shape[-1]) / 10, 1), axis=-1)
    coloured /= coloured.std()
    leads = training.signals_mv.swapaxes(0, 1).reshape(coloured.shape[1], -1)
    return _with_signals(records, np.linalg.cholesky(np.cov(leads)) @ coloured)


def shuffled_labels(training, others, rng):
    """Hold-out patients, each with the diagnoses of some other one."""
    return replace(others, labels=rng.permutation(others.labels))


def class_means(training, others, rng):
    """For each diagnosis the mean of its training records, always, and a microvolt of noise."""
    records = copies(training, others, rng)
    means = np.stack([training.signals_mv[own].mean(axis=0) for own in (training.labels > 0).T])
    always = means[records.labels.argmax(axis=1)]
    return _with_signals(records, always + rng.normal(0, 0.001, always.shape))


#: A run knows its sets by the method that made them, so that each generator takes a method's place.
PLACES: dict[Generator, str] = {
    hold_out_patients: "tgdp",
    copies: "stack",
    noise: "lora",
    shuffled_labels: "finetune",
    class_means: "source",
}


def finished_set(run: Run, name: str, generator: Generator, records: LabelledRecords) -> None:
    """What a generator made, left in a run as `synthesise` leaves a set."""
    method = PLACES[generator]
    stage = run.stage(synthetic_stage(name, method))
    stage.begin({"generator": generator.__name__})
    names = [f"synthetic{number + 1:05d}" for number in range(len(records))]
    ecgset = write_ecgset(
        stage.folder / SET,
        microvolts(records.signals_mv),
        records.labels,
        pd.DataFrame({"name": names, "patient": None}),
        SPACE,
        100,
        "generated",
        {"method": method},
    )
    stage.finish({"records": len(ecgset), "fingerprint": ecgset.fingerprint})


def _with_signals(records, signals_mv):
    return replace(records, signals_mv=signals_mv.astype(np.float32))
