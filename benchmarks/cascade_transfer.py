"""Transfer of rhythm and beat shapes from one ECG recorder to another, at 80 target records.

Small models of rhythm and beat shapes learn from 3,000 PTB-XL records of other recorders than the
two that are targets (leave-recorder-out, other patients, a few CPU minutes). Each target gives 80
records to learn from, of a patient each, and at least 300 of other patients to test on.

Rhythm: paired difference of the log score of a test record's train, per beat,

    (log r(b) - log E_p[r | label, age, sex]) / beats,

the log-likelihood ratio of p r / E_p[r] over the source's p itself, with the mean over `DRAWS`
trains of the source's model (less the bias of its logarithm, by the delta method). Where nothing is
selected it is 0; `forced` is what the fitted ratio would score if it were used all the same.

Beat shapes: denoising loss of test records under the source's model, the guided one (`always`: at
its calibrated weight even where held-out patients did not show it to help), the guided one whose
training has the guidance loss too (`two_losses`) and the fine-tuned one, with the same noise.
"whitened" weighs every component alike, so that the best linear denoiser scores 1 on what the
units fit; "plain" weighs each by its size in model units, which is what both train on. As a control
with a shift that is there, the second target is measured once more with all amplitudes times 1.2.

    python benchmarks/cascade_transfer.py --set PTBXL --folder WORK --out cascade_transfer.json
"""

import argparse
import json
import math
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ecgtransfer.corpus import ECGSet
from ecgtransfer.diffusion import (
    BeatShapeConfig,
    BeatShapeModel,
    Cascade,
    Condition,
    ConditionedRecords,
    Denoiser,
    DiffusionConfig,
    DiffusionModel,
    denoising_loss,
    encode_records,
    fit_beat_shapes,
    measure_units,
    shape_loss,
)
from ecgtransfer.pipeline.beat_shape_transfer import (
    ShapeWork,
    guide_beat_shapes,
    tune_beat_shapes,
)
from ecgtransfer.pipeline.cascade_settings import CascadeSettings
from ecgtransfer.pipeline.cascade_transfer import source_trains
from ecgtransfer.pipeline.conditioned import (
    CORE_LABELS,
    FEWEST_BEATS,
    ages,
    record_shapes,
    sexes,
)
from ecgtransfer.pipeline.config import preset
from ecgtransfer.pipeline.source_training import residual_levels
from ecgtransfer.rhythm import RhythmConfig, RhythmModel, fit_rhythm, in_window
from ecgtransfer.signals import Beats
from ecgtransfer.training import WEIGHTS, TrainConfig, load_weights, seeded_initialisation
from ecgtransfer.transfer import (
    SELECTION_FEATURES,
    BeatShapeGuidance,
    DomainRecords,
    MeanLogH,
    NoiseLevelWeight,
    RhythmSelection,
    guided,
)
from ecgtransfer.transfer.records import HeldOutDraws

RECORDERS = ("AT-6 C 5.5", "CS100 3")
#: Gains at which the beat shapes of each target are measured.
GAINS = {RECORDERS[0]: (1.0,), RECORDERS[1]: (1.0, 1.2)}
#: Records of each target, of its training, and of the source, to train and to validate on.
OF_TARGET, OF_TRAINING, OF_SOURCE, VALIDATING = 500, 80, 3000, 300
#: Trains of the source's model behind E_p[r] of a test record, and noise draws a test record.
DRAWS, NOISE_DRAWS = 16, 4
#: One-sided 95 % of a normal variable.
Z_95 = 1.645
RHYTHM_TRAINING = TrainConfig(
    steps=500,
    batch_size=128,
    learning_rate=3e-3,
    ema_decay=0.98,
    warmup_steps=30,
    validate_every=250,
)
SHAPE_TRAINING = TrainConfig(
    steps=1000,
    batch_size=128,
    learning_rate=1.5e-3,
    ema_decay=0.99,
    warmup_steps=50,
    validate_every=500,
)


def prepare(folder: Path, into: Path) -> None:
    """Choose records, measure beat shapes and levels, and train both models of the source."""
    ecgset = ECGSet.open(folder)
    table, beats = ecgset.records, ecgset.beats
    names = tuple(name for name in CORE_LABELS if name in ecgset.label_space.names)
    columns = [ecgset.label_space.names.index(name) for name in names]
    usable = np.array([len(each) >= FEWEST_BEATS for each in beats])
    rng = np.random.default_rng(0)
    patient = np.array(table.patient.astype(str).tolist())
    taken: set[str] = set()
    targets = {}
    for device in RECORDERS:
        numbers = rng.permutation(np.flatnonzero((table.device == device).to_numpy() & usable))
        _, first = np.unique(patient[numbers], return_index=True)
        new = [number for number in numbers[np.sort(first)] if patient[number] not in taken]
        targets[device] = np.array(new[:OF_TARGET])
        taken |= set(patient[targets[device]])
    others = (~table.device.isin(RECORDERS) & table.device.notna()).to_numpy() & usable
    source = [n for n in rng.permutation(np.flatnonzero(others)) if patient[n] not in taken]
    source = np.array(source[: OF_SOURCE + VALIDATING])
    numbers = np.concatenate([source, *targets.values()])

    class Signals:
        labels = ecgset.labels[numbers][:, columns].astype(np.float32)

        def independent_mv(self, index: np.ndarray) -> np.ndarray:
            return ecgset.independent_mv(numbers[index])

    records = ConditionedRecords(
        Signals(),
        Signals.labels,
        [beats[number] for number in numbers],
        record_shapes(ecgset, numbers),
        ages(ecgset)[numbers],
        sexes(ecgset)[numbers],
        core=tuple(range(len(names))),
    )
    train, held_out = np.arange(OF_SOURCE), np.arange(OF_SOURCE, len(source))
    rate = int(ecgset.sampling_rate_hz)
    unet = preset("tiny").unet(len(names), 8, factorised=True)
    units = DiffusionModel(
        DiffusionConfig(
            label_names=names,
            samples=ecgset.n_samples,
            sampling_rate_hz=rate,
            unet=unet,
            masked_labels=True,
            residual=True,
        )
    )
    measure_units(units, records, train[:1000], 0)
    level = residual_levels(units, records)
    into.mkdir(parents=True, exist_ok=True)
    np.savez(
        into / "data.npz",
        names=np.array(names),
        part=np.repeat(["source", *RECORDERS], [len(source), *map(len, targets.values())]),
        patient=patient[numbers],
        labels=records.labels,
        shapes=records.shapes_mv,
        level=level,
        age=records.age,
        sex=records.sex,
        times=np.concatenate([each.times_s for each in records.beats]),
        kinds=np.concatenate([each.kinds for each in records.beats]),
        counts=np.array([len(each) for each in records.beats]),
        dur=records.beats[0].duration_s,
    )
    with seeded_initialisation(0):
        rhythm = RhythmModel(RhythmConfig(names))
    known = np.ones(records.labels.shape, bool)
    conditions = (records.labels, known, records.age, records.sex)
    fit_rhythm(
        rhythm,
        records.beats,
        *conditions,
        train,
        held_out,
        RHYTHM_TRAINING,
        into / "rhythm",
        core_labels=names,
    )
    with seeded_initialisation(0):
        shapes = BeatShapeModel(BeatShapeConfig(names, rate))
    fit_beat_shapes(shapes, records, level, train, held_out, SHAPE_TRAINING, into / "beat_shapes")


class Prepared:
    """What `prepare` left."""

    def __init__(self, folder: Path) -> None:
        held = np.load(folder / "data.npz")
        self.names = tuple(held["names"].tolist())
        self.part, self.patient, self.level = held["part"], held["patient"], held["level"]
        ends = np.cumsum(held["counts"])[:-1]
        self.records = ConditionedRecords(
            None,
            held["labels"],
            [
                Beats(times, kinds, float(held["dur"]))
                for times, kinds in zip(
                    np.split(held["times"], ends), np.split(held["kinds"], ends), strict=True
                )
            ],
            held["shapes"],
            held["age"],
            held["sex"],
        )
        rhythm = RhythmModel(RhythmConfig(self.names))
        load_weights(rhythm, folder / "rhythm" / WEIGHTS)
        self.cascade = Cascade(rhythm, BeatShapeModel(BeatShapeConfig(self.names, 100)), None)
        self.cascade.eval().requires_grad_(False)

    def split(self, device: str, repeat: int) -> tuple[np.ndarray, np.ndarray]:
        """Record numbers to learn from, disjoint between repeats, and to test on."""
        numbers = np.flatnonzero(self.part == device)
        chosen = slice(repeat * OF_TRAINING, (repeat + 1) * OF_TRAINING)
        return numbers[chosen], numbers[2 * OF_TRAINING :]

    def condition(self, numbers: np.ndarray) -> Condition:
        """Label, age and sex of some records."""
        label = torch.from_numpy(self.records.labels[numbers])
        return Condition(
            label,
            torch.ones_like(label, dtype=torch.bool),
            age=torch.from_numpy(self.records.age[numbers]),
            sex=torch.from_numpy(self.records.sex[numbers]),
        )

    def shapes(self, numbers: np.ndarray, gain: float) -> DomainRecords:
        """Vectors of beat shapes of some records, their amplitudes times a gain."""
        records = replace(self.records, shapes_mv=gain * self.records.shapes_mv)
        x0, given = encode_records(self.cascade.beat_shapes, records, gain * self.level, numbers)
        given = replace(given, known=torch.ones_like(given.label, dtype=torch.bool))
        return DomainRecords(x0, given, tuple(self.patient[numbers].tolist()))


def measure_rhythm(prepared: Prepared, device: str) -> list[dict[str, object]]:
    """Log score of test trains per beat, for each of two disjoint training sets."""
    window_s = prepared.cascade.rhythm.config.window_s
    _, test = prepared.split(device, 0)
    seen = [in_window(prepared.records.beats[number], window_s) for number in test]
    beats = np.array([len(each) for each in seen])
    drawn = source_trains(prepared.cascade, prepared.condition(test), DRAWS, 1)
    flat = [each for some in drawn for each in some]
    rows = []
    for repeat in (0, 1):
        began = time.process_time()
        train, _ = prepared.split(device, repeat)
        selection = RhythmSelection.fitted(
            [in_window(prepared.records.beats[number], window_s) for number in train],
            source_trains(prepared.cascade, prepared.condition(train), 8, 0),
            prepared.patient[train].tolist(),
        )
        seconds = time.process_time() - began
        forced = replace(selection, log_loss=0.0, standard_error=0.0)
        ratio = np.exp(forced.log_ratio(flat)).reshape(len(test), DRAWS)
        mean = ratio.mean(axis=1)
        bias = ratio.var(axis=1, ddof=1) / (2 * DRAWS * mean**2)
        gain = forced.log_ratio(seen) - np.log(mean) - bias
        scored = _per_beat(gain, beats)
        rows.append(
            {
                "training_set": repeat,
                "log_loss": selection.log_loss,
                "standard_error": selection.standard_error,
                "log_loss_of_chance": math.log(2),
                "selects": not selection.is_constant,
                "weights": dict(zip(SELECTION_FEATURES, selection.weights, strict=True)),
                "slope": selection.slope,
                "forced": scored,
                "as_decided": scored if not selection.is_constant else _per_beat(0 * gain, beats),
                "test_patients": len(test),
                "cpu_seconds_of_fit": seconds,
            }
        )
    return rows


def _per_beat(gain: np.ndarray, beats: np.ndarray) -> dict[str, float]:
    """Gain in nats a beat, its standard error over patients, and the upper bound of harm."""
    mean = gain.sum() / beats.sum()
    error = float(np.sqrt(np.sum((gain - mean * beats) ** 2)) / beats.sum())
    return {
        "nats_a_beat": float(mean),
        "standard_error": error,
        "harm_at_most": float(-mean + Z_95 * error),
    }


def measure_shapes(
    prepared: Prepared, device: str, folder: Path, gain: float = 1.0
) -> dict[str, object]:
    """Denoising loss of test records under each denoiser, and paired differences."""
    model = prepared.cascade.beat_shapes
    load_weights(model, folder / "beat_shapes" / WEIGHTS)
    train, test = prepared.split(device, 0)
    whole, tested = prepared.shapes(train, gain), prepared.shapes(test, gain)
    cut = OF_TRAINING * 4 // 5
    fit, held_out = whole.subset(np.arange(cut)), whole.subset(np.arange(cut, OF_TRAINING))
    settings = CascadeSettings()
    with_term = replace(settings, draws=4, tgdp=replace(settings.tgdp, eta_guidance=1.0))

    def work(name: str, chosen: CascadeSettings) -> ShapeWork:
        at = folder / f"transfer-{device.replace(' ', '-')}{_times(gain)}-{name}"
        return ShapeWork(model, chosen, at, 3, 0, _silent)

    results: dict[str, object] = {"test_patients": len(test)}
    denoisers = {"source": model}
    for name, made in {
        "guided": lambda: guide_beat_shapes(work("guided", settings), fit, held_out, whole),
        "finetuned": lambda: tune_beat_shapes(work("finetuned", settings), fit, held_out),
        "two_losses": lambda: guide_beat_shapes(
            work("two_losses", with_term), fit, held_out, whole
        ),
    }.items():
        began = time.process_time()
        denoisers[name], card = made()
        if "calibrated" in card:
            denoisers[f"{name}_always"] = _always(work(name, settings), card)
        results[name] = card | {"cpu_seconds": time.process_time() - began}
        print(device, gain, name, card, flush=True)
    draws = HeldOutDraws.of(tested, model.config.noise, draws=NOISE_DRAWS, seed=0)
    x0, given = tested.take(draws.index)
    losses: dict[str, dict[str, np.ndarray]] = {"whitened": {}, "plain": {}}
    with torch.no_grad():
        for name, denoise in denoisers.items():
            both = {
                "whitened": shape_loss(model, denoise, x0, given, draws.sigma, draws.noise),
                "plain": denoising_loss(denoise, x0, given, draws.sigma, draws.noise),
            }
            for kind, loss in both.items():
                losses[kind][name] = loss.numpy().reshape(NOISE_DRAWS, -1).mean(axis=0)
    for kind, by_name in losses.items():
        results[kind] = {
            name: {
                "loss": float(loss.mean()),
                "difference": float((loss - by_name["source"]).mean()),
                "standard_error": float(
                    (loss - by_name["source"]).std(ddof=1) / math.sqrt(len(loss))
                ),
            }
            for name, loss in by_name.items()
        }
    return results


def _times(gain: float) -> str:
    return "" if gain == 1.0 else f" x {gain:g}"


def _always(work: ShapeWork, card: dict) -> Denoiser:
    """The guided denoiser at its calibrated weight, whether or not that was found to help."""
    networks = []
    for number in range(work.folds):
        network = BeatShapeGuidance(work.model)
        load_weights(network, work.folder / f"fold-{number}" / WEIGHTS)
        networks.append(network)
    log_h = MeanLogH(networks).eval().requires_grad_(False)
    return guided(
        work.model,
        log_h,
        NoiseLevelWeight(tuple(card["calibrated"]["sigmas"]), tuple(card["calibrated"]["values"])),
    )


@contextmanager
def _silent(task: str):
    yield lambda now: None


def main() -> None:
    """Prepare what is missing, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", type=Path, help="prepared PTB-XL with its column device")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=["rhythm", "beat_shapes"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if not (asked.folder / "rhythm" / WEIGHTS).exists():
        prepare(asked.set, asked.folder)
    prepared = Prepared(asked.folder)
    results = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    for device in RECORDERS:
        if asked.only != "beat_shapes":
            results.setdefault("rhythm", {})[device] = measure_rhythm(prepared, device)
        if asked.only != "rhythm":
            for gain in GAINS[device]:
                shapes = measure_shapes(prepared, device, asked.folder, gain)
                results.setdefault("beat_shapes", {})[device + _times(gain)] = shapes
        asked.out.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
