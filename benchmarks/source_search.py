"""Which shape of the record model learns most in the same CPU time.

    python benchmarks/source_search.py --set SET --work WORK --seconds 480 [--candidate NAME ...]

SET is the prepared PTB-XL with all its statements. Each candidate, a residual model given beats and
beat shapes, trains on folds 1-8 for as many steps as fit into `--seconds` of CPU time on one thread
(measured on its first steps, so that other work beside it matters little), and is scored on fold 9:
denoising loss at fixed noise levels, and records generated with the beats and beat shapes of
held-out NORM and AFIB records, by their regularity, the likeness of their beats and their spectrum.
No intervals: results that are near each other are alike. Adds to `benchmarks/source_search.json`,
by candidate and seed.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecgtransfer.corpus import ECGSet, select_records
from ecgtransfer.diffusion import (
    RECORD_SOLVER,
    RECORD_STEPS,
    Condition,
    ConditionedRecords,
    DiffusionConfig,
    DiffusionModel,
    NoiseConfig,
    condition_inputs,
    denoising_loss,
    fastest_precision,
    fit_diffusion,
    sample,
    sampling_sigmas,
    true_condition,
)
from ecgtransfer.evaluation import band_power_error
from ecgtransfer.evaluation.beat_to_beat import REGULAR_RR, beat_likeness, rr_variation
from ecgtransfer.models import UNetConfig
from ecgtransfer.pipeline import SourceSettings
from ecgtransfer.pipeline.conditioned import conditioned_records
from ecgtransfer.pipeline.source_training import learned_labels, with_beats
from ecgtransfer.signals import Recording, expand_leads, find_beats
from ecgtransfer.training import TrainConfig, seeded_initialisation

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "source_search.json"
#: Fewest training records of a statement.
LEAST_RECORDS = 100
#: Noise levels at which the denoising loss is told.
LEVELS = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0)
#: Steps of the sampler.
#: Held-out records behind each loss, and records generated for each label.
SCORED, GENERATED = 256, 64
#: Steps that are timed before a training.
TIMED_STEPS = 12


MODEL_NOISE = NoiseConfig()


@dataclass(frozen=True)
class Candidate:
    """A shape of the network and what else differs from the rest."""

    unet: dict[str, Any]
    noise: NoiseConfig = MODEL_NOISE
    learning_rate: float = 1e-3
    batch_size: int = 32
    ema_decay: float = 0.995


FOLD_8 = {"widths": (128, 192, 256), "fold": 8, "conditioning": 256}
CANDIDATES = {
    "attention at two levels, spectral gates": Candidate(FOLD_8 | {"attention": 2, "spectral": 1}),
    "attention at the deepest level": Candidate(FOLD_8 | {"attention": 1}),
    "the same, narrower": Candidate(
        {"widths": (128, 160, 224), "fold": 8, "conditioning": 192, "attention": 1}
    ),
    "folded by 4": Candidate(
        {"widths": (96, 128, 160, 224), "fold": 4, "conditioning": 192, "attention": 1}
    ),
    "less noise": Candidate(
        FOLD_8 | {"attention": 1}, noise=NoiseConfig(log_mean=0.0, log_std=1.3)
    ),
}


def main() -> None:
    """Train and score the candidates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=480, help="CPU time of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--candidate", choices=CANDIDATES, action="append", help="none given: all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ecgset = ECGSet.open(options.set)
    train = select_records(ecgset.records, ("fold=1-8",))
    settings = SourceSettings(options.set, factorised=True, least_records=LEAST_RECORDS)
    names = learned_labels(ecgset, train, settings)
    records = conditioned_records(ecgset, names)
    held_out = select_records(ecgset.records, ("fold=9",))
    parts = with_beats(records, train), with_beats(records, held_out)
    for name in options.candidate or CANDIDATES:
        found = scores(name, names, records, parts, options)
        held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        held.setdefault(name, {})[f"seed {options.seed}"] = found
        RESULTS.write_text(json.dumps(held, indent=2) + "\n")
        print(name, json.dumps(found), flush=True)


def scores(
    name: str,
    names: tuple[str, ...],
    records: ConditionedRecords,
    parts: tuple[np.ndarray, np.ndarray],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Train a candidate for so much CPU time and score it."""
    candidate = CANDIDATES[name]
    channels, scalars = condition_inputs(8)
    config = DiffusionConfig(
        label_names=names,
        samples=1000,
        sampling_rate_hz=100,
        unet=UNetConfig(
            labels=2 * len(names),
            blocks=1,
            condition_channels=channels,
            scalars=scalars,
            **candidate.unet,
        ),
        noise=candidate.noise,
        precision=fastest_precision(),
        masked_labels=True,
        residual=True,
    )
    training = TrainConfig(
        steps=TIMED_STEPS,
        batch_size=candidate.batch_size,
        learning_rate=candidate.learning_rate,
        ema_decay=candidate.ema_decay,
        seed=options.seed,
    )

    def trained(training: TrainConfig, folder: Path) -> tuple[DiffusionModel, float]:
        with seeded_initialisation(options.seed):
            model = DiffusionModel(config)
        marks: list[float] = []
        fit_diffusion(
            model,
            records,
            parts[0],
            np.array([], np.int64),
            training,
            folder,
            progress=lambda _: marks.append(time.process_time()),
        )
        return model, (marks[-1] - marks[1]) / (len(marks) - 2)

    folder = options.work / f"{name.replace(' ', '-').replace(',', '')}-{options.seed}"
    _, a_step = trained(training, folder / "timed")
    steps = round(options.seconds / a_step)
    model, a_step = trained(replace(training, steps=steps), folder / f"{options.seconds:g}s")
    model.eval()
    found: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": steps,
        "cpu_seconds": round(steps * a_step),
        "denoising_loss": losses(model, records, parts[1]),
    }
    for label in ("NORM", "AFIB"):
        found[label] = generated(model, records, parts[1], names.index(label))
    return found


@torch.no_grad()
def losses(
    model: DiffusionModel, records: ConditionedRecords, held_out: np.ndarray
) -> dict[str, float]:
    """Denoising loss of the same held-out records with the same noise at each level."""
    chosen = np.random.default_rng(0).permutation(held_out)[:SCORED]
    x0, condition = true_condition(model, records, chosen)
    generator = torch.Generator().manual_seed(1)
    found = {}
    for level in LEVELS:
        noise = torch.randn(x0.shape, generator=generator)
        parts = [
            denoising_loss(model, x, told, torch.full((len(x),), level), drawn)
            for x, told, drawn in zip(
                x0.split(64), condition.split(64), noise.split(64), strict=True
            )
        ]
        found[f"{level:g}"] = round(float(torch.cat(parts).mean()), 4)
    return found


def generated(
    model: DiffusionModel, records: ConditionedRecords, held_out: np.ndarray, column: int
) -> dict[str, Any]:
    """Records drawn with the beats and shapes of held-out ones of a label, beside those."""
    chosen = held_out[records.labels[held_out][:, column] == 1][:GENERATED]
    _, condition = true_condition(model, records, chosen)
    noise = torch.randn(
        (len(chosen), *model.units.shape), generator=torch.Generator().manual_seed(5)
    )
    sides = {
        "real": records.independent_mv(chosen),
        "generated": drawn_mv(model, noise, condition),
    }
    beats = {
        side: [find_beats(Recording(expand_leads(signal), 100)) for signal in signals]
        for side, signals in sides.items()
    }
    return {
        "regular": {
            side: round(float((rr_variation(each) < REGULAR_RR).mean()), 3)
            for side, each in beats.items()
        },
        "likeness_of_beats": {
            side: round(mean_likeness(sides[side], each), 3) for side, each in beats.items()
        },
        "log10_power_error": {
            band: round(error, 2)
            for band, error in band_power_error(
                *(expand_leads(signals) for signals in sides.values()), sampling_rate_hz=100
            ).items()
        },
    }


def mean_likeness(signals: np.ndarray, beats: list[Any]) -> float:
    """Mean correlation of the ordinary beats with their record's median beat."""
    pairs = zip(signals, beats, strict=True)
    found = [beat_likeness(signal, each, 100) for signal, each in pairs]
    return float(np.mean([each.correlation for each in found if each is not None]))


@torch.no_grad()
def drawn_mv(model: DiffusionModel, noise: Tensor, condition: Condition) -> np.ndarray:
    """Eight leads in millivolts that the model makes of noise, (n, 8, T)."""
    sigmas = sampling_sigmas(RECORD_STEPS, model.config.noise)
    parts = [
        model.to_mv(sample(model, some, told, sigmas, RECORD_SOLVER), told).numpy()
        for some, told in zip(noise.split(32), condition.split(32), strict=True)
    ]
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
