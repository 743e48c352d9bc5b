"""Which shape of the source model learns most in the same CPU time.

    python benchmarks/source_search.py --set SET --work WORK --seconds 480 [--candidate NAME ...]

SET is the prepared PTB-XL. Each candidate trains on folds 1-8 for as many steps as fit into
`--seconds` of CPU time on one thread (measured on its first steps, so that other work beside it
matters little), with seed 0, and is scored on fold 9: denoising loss at fixed noise levels, and
generated NORM and AFIB records against real ones by their R peaks and their spectrum, and held-out
NORM records that are noised to some level and denoised again, by the share that is still regular.
One seed, no intervals: what is near is alike. Adds its results to `benchmarks/source_search.json`.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ecgtransfer.corpus import ECGSet, select_records
from ecgtransfer.diffusion import (
    DiffusionConfig,
    DiffusionModel,
    NoiseConfig,
    denoising_loss,
    fastest_precision,
    fit_diffusion,
    karras_sigmas,
    sample,
)
from ecgtransfer.errors import SignalError
from ecgtransfer.evaluation import band_power_error
from ecgtransfer.models import Rotation, UNetConfig
from ecgtransfer.signals import Recording, expand_leads, r_peaks
from ecgtransfer.training import TrainConfig, seeded_initialisation

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "source_search.json"
LABELS = 9
#: Noise levels at which the denoising loss is told.
LEVELS = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 12.0)
#: Noise levels from which held-out records are denoised again.
BEGINNINGS = (2.0, 4.0, 6.0, 8.0, 12.0)
#: RR intervals of a regular rhythm vary by less than this share of their mean.
REGULAR = 0.08
#: Steps of the sampler.
SAMPLER_STEPS = 25
#: Held-out records behind each loss, and records generated for each label.
SCORED, GENERATED = 256, 64
#: Steps that are timed before a training.
TIMED_STEPS = 12
MORE_NOISE = NoiseConfig(log_mean=0.7, log_std=1.3)


@dataclass(frozen=True)
class Candidate:
    """A shape of the network and what else differs from the rest."""

    unet: UNetConfig
    noise: NoiseConfig = MORE_NOISE
    learning_rate: float = 1e-3
    batch_size: int = 32
    ema_decay: float = 0.995
    positions: Literal["none", "looking", "carried"] = "carried"


def unet(widths: tuple[int, ...], **changes: Any) -> UNetConfig:
    return UNetConfig(labels=LABELS, widths=widths, **{"blocks": 1, "conditioning": 256} | changes)


LEVELS_3, LEVELS_4 = (128, 192, 256), (64, 128, 192, 256)
LESS_NOISE = NoiseConfig(log_mean=0.0, log_std=1.2)
CANDIDATES = {
    "attention that knows no distance": Candidate(
        unet(LEVELS_4, attention=2), LESS_NOISE, positions="none"
    ),
    "rotary attention": Candidate(unet(LEVELS_4, attention=2), LESS_NOISE, positions="looking"),
    "rotary, more noise": Candidate(unet(LEVELS_4, attention=2), positions="looking"),
    "four layers at 63 moments": Candidate(
        unet((64, 128, 256), attention=1, middle=4), positions="looking"
    ),
    "six layers at 125 moments": Candidate(
        unet((96, 192), attention=1, middle=6), positions="looking"
    ),
    "rotary, folded by 8": Candidate(unet(LEVELS_3, attention=2, fold=8), positions="looking"),
    "rotary, folded by 8, attention everywhere": Candidate(
        unet(LEVELS_3, attention=3, fold=8), positions="looking"
    ),
    "values carry distance, folded by 8": Candidate(unet(LEVELS_3, attention=2, fold=8)),
    "values carry distance, folded by 8, still more noise": Candidate(
        unet(LEVELS_3, attention=2, fold=8), NoiseConfig(log_mean=1.2, log_std=1.3)
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=480, help="CPU time of each training")
    parser.add_argument("--candidate", choices=CANDIDATES, action="append", help="none given: all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = ECGSet.open(options.set)
    for name in options.candidate or CANDIDATES:
        found = scores(name, CANDIDATES[name], records, options.seconds, options.work)
        held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(held | {name: found}, indent=2) + "\n")
        print(name, json.dumps(found), flush=True)


def scores(
    name: str, candidate: Candidate, records: ECGSet, seconds: float, work: Path
) -> dict[str, Any]:
    """Train a candidate for so much CPU time and score it."""
    with without_positions(candidate.positions):
        return _scores(name, candidate, records, seconds, work)


@contextmanager
def without_positions(left: str) -> Iterator[None]:
    """Attention that knows less of distances than ours: nothing, or only where it looks."""
    turned = Rotation.forward

    def turn(self: Rotation, x: Tensor, *, back: bool = False) -> Tensor:
        looking = len(self.speed) == 1 and left == "looking"
        return turned(self, x, back=back) if looking or left == "carried" else x

    Rotation.forward = turn  # type: ignore[method-assign]
    try:
        yield
    finally:
        Rotation.forward = turned  # type: ignore[method-assign]


def _scores(
    name: str, candidate: Candidate, records: ECGSet, seconds: float, work: Path
) -> dict[str, Any]:
    train = select_records(records.records, ("fold=1-8",))
    held_out = select_records(records.records, ("fold=9",))
    config = TrainConfig(
        steps=TIMED_STEPS,
        batch_size=candidate.batch_size,
        learning_rate=candidate.learning_rate,
        ema_decay=candidate.ema_decay,
    )

    def trained(config: TrainConfig, folder: Path) -> tuple[DiffusionModel, float]:
        with seeded_initialisation(0):
            model = DiffusionModel(
                DiffusionConfig(
                    label_names=records.label_space.names,
                    samples=records.n_samples,
                    sampling_rate_hz=int(records.sampling_rate_hz),
                    unet=candidate.unet,
                    noise=candidate.noise,
                    precision=fastest_precision(),
                )
            )
        marks: list[float] = []
        fit_diffusion(
            model,
            records,
            train,
            np.array([], np.int64),
            config,
            folder,
            progress=lambda _: marks.append(time.process_time()),
        )
        return model, (marks[-1] - marks[1]) / (len(marks) - 2)

    folder = work / name.replace(" ", "-").replace(",", "")
    _, a_step = trained(config, folder / "timed")
    steps = round(seconds / a_step)
    model, a_step = trained(replace(config, steps=steps), folder / f"{seconds:g}s")
    model.eval()
    found: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": steps,
        "cpu_seconds": round(steps * a_step),
        "denoising_loss": losses(model, records, held_out),
    }
    for label in ("NORM", "AFIB"):
        found[label] = generated(model, records, held_out, label)
    found["regular_when_denoised_from"] = kept_rhythm(model, records, held_out)
    return found


@torch.no_grad()
def losses(model: DiffusionModel, records: ECGSet, held_out: np.ndarray) -> dict[str, float]:
    """Denoising loss of the same held-out records with the same noise at each level."""
    chosen = np.random.default_rng(0).permutation(held_out)[:SCORED]
    x0 = model.units.to_model(torch.from_numpy(records.independent_mv(chosen)))
    label = torch.from_numpy(np.asarray(records.labels[chosen], np.float32))
    generator = torch.Generator().manual_seed(1)
    found = {}
    for level in LEVELS:
        noise = torch.randn(x0.shape, generator=generator)
        parts = [
            denoising_loss(model, *part, torch.full((len(part[0]),), level), drawn)
            for *part, drawn in zip(x0.split(64), label.split(64), noise.split(64), strict=True)
        ]
        found[f"{level:g}"] = round(float(torch.cat(parts).mean()), 4)
    return found


def generated(
    model: DiffusionModel, records: ECGSet, held_out: np.ndarray, label: str
) -> dict[str, Any]:
    """Rhythm and spectrum of records drawn with one label, beside held-out ones with it alone."""
    alone, wanted = with_label_alone(records, held_out, label)
    noise = torch.randn((GENERATED, *model.units.shape), generator=torch.Generator().manual_seed(5))
    sides = {
        "real": records.signals_mv(alone),
        "generated": drawn_mv(model, noise, wanted, sigmas_of(model)),
    }
    irregular = {side: rr_variation(signals) for side, signals in sides.items()}
    return {
        "rr_variation": {side: round(float(np.median(v)), 3) for side, v in irregular.items()},
        "regular": {side: round(float((v < REGULAR).mean()), 3) for side, v in irregular.items()},
        "log10_power_error": {
            band: round(error, 2)
            for band, error in band_power_error(*sides.values(), sampling_rate_hz=100).items()
        },
    }


def kept_rhythm(model: DiffusionModel, records: ECGSet, held_out: np.ndarray) -> dict[str, float]:
    """Share of held-out NORM records, noised and denoised from each level, that is regular."""
    alone, wanted = with_label_alone(records, held_out, "NORM")
    x0 = model.units.to_model(torch.from_numpy(records.independent_mv(alone)))
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(6))
    every = sigmas_of(model)
    found = {}
    for level in BEGINNINGS:
        sigmas = torch.cat([every.new_tensor([level]), every[every < level]])
        variation = rr_variation(drawn_mv(model, (x0 + level * noise) / level, wanted, sigmas))
        found[f"{level:g}"] = round(float((variation < REGULAR).mean()), 3)
    return found


def with_label_alone(
    records: ECGSet, held_out: np.ndarray, label: str
) -> tuple[np.ndarray, Tensor]:
    """Numbers of held-out records that state one label alone, and that label for as many."""
    column = records.label_space.names.index(label)
    labels = records.labels[held_out]
    alone = held_out[(labels[:, column] == 1) & (labels.sum(axis=1) == 1)][:GENERATED]
    wanted = torch.zeros(len(alone), LABELS)
    wanted[:, column] = 1
    return alone, wanted


def sigmas_of(model: DiffusionModel) -> Tensor:
    """The sampler's noise levels."""
    return karras_sigmas(SAMPLER_STEPS, model.config.noise.sigma_min, model.config.noise.sigma_max)


def drawn_mv(model: DiffusionModel, noise: Tensor, label: Tensor, sigmas: Tensor) -> np.ndarray:
    """Twelve leads in millivolts that the model makes of noise in units of the first level."""
    parts = [
        model.units.to_mv(sample(model, n, y, sigmas))
        for n, y in zip(noise.split(32), label.split(32), strict=True)
    ]
    return expand_leads(torch.cat(parts).numpy())


def rr_variation(signals_mv: np.ndarray) -> np.ndarray:
    """Standard deviation of the RR intervals over their mean, of records with three or more."""
    found = []
    for signal in signals_mv:
        try:
            rr = np.diff(r_peaks(Recording(signal, 100)))
        except SignalError:
            continue
        if len(rr) > 2:
            found.append(rr.std() / rr.mean())
    return np.array(found)


if __name__ == "__main__":
    main()
