"""Quality against cost of drawing from a source model: solver, schedule, steps, label scale.

    python benchmarks/sampling_curve.py --run RUN --work WORK

RUN holds a source model with its records. Records are drawn with the labels of its held-out
records, which nothing was trained on, every time of the same noise, on the schedule of Karras et
al. between the ends of the model's noise or on ours (`sampling_sigmas`). Beside the cost (calls of
the network a record, records a second): how far they are from the exact solution of their equation
(root mean square over that of the signal; 200 steps of Heun's method, same label scale), Frechet
distance to the held-out records in features of a classifier of the training records, beside that of
two halves of the real ones, share of regular NORM records, and power. Writes
`benchmarks/sampling_curve.json`.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from source_search import REGULAR, rr_variation
from torch import Tensor

from ecgtransfer.corpus import ECGSet
from ecgtransfer.diffusion import classifier_free, karras_sigmas, sample, sampling_sigmas
from ecgtransfer.evaluation import (
    ClassifierConfig,
    FeatureScale,
    LabelledRecords,
    band_power_error,
    frechet_distance,
    train_classifier,
)
from ecgtransfer.pipeline import Run, Source, load_source
from ecgtransfer.signals import expand_leads

HERE = Path(__file__).resolve().parent
#: Solver, schedule, steps, label scale.
SETTINGS = (
    *(("dpmpp2m", "karras", steps, 1.0) for steps in (12, 20, 30)),
    ("heun", "karras", 10, 1.0),
    *(("dpmpp2m", "ours", steps, 1.0) for steps in (12, 20)),
    *(("adams", "ours", steps, 1.0) for steps in (10, 12, 16, 20, 30)),
    *(("adams", "ours", steps, 2.0) for steps in (12, 16, 20)),
)
EXACT = ("heun", "karras", 200)
RECORDS, AT_ONCE, CLASSIFIER_STEPS = 512, 32, 600
#: Records that the exact solution is drawn of.
FOLLOWED = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    source = load_source(Run.open(options.run))
    real, train, held_out = source.records()
    rng = np.random.default_rng(0)
    chosen, other = np.split(rng.permutation(held_out)[: 2 * RECORDS], 2)
    label = torch.from_numpy(np.asarray(real.labels[chosen], np.float32))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((len(chosen), *source.model.units.shape), generator=generator)
    features = embedding(real, train, options.work)
    held_mv = real.independent_mv(chosen)
    found: dict[str, Any] = {
        "command": "python benchmarks/sampling_curve.py --run RUN --work WORK",
        "model": source.fingerprint,
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "threads": torch.get_num_threads(),
        "records": len(chosen),
        "real": {
            "frechet_of_two_halves": round(
                frechet_distance(features(held_mv), features(real.independent_mv(other))), 2
            ),
            "regular_norm": regular(source, held_mv, label),
        },
        "settings": [],
    }
    exact: dict[float, Tensor] = {}
    for solver, schedule, steps, scale in SETTINGS:
        if scale not in exact:
            few = slice(0, FOLLOWED)
            exact[scale] = drawn(source, noise[few], label[few], *EXACT, scale)
        began = time.perf_counter()
        x0 = drawn(source, noise, label, solver, schedule, steps, scale)
        seconds = time.perf_counter() - began
        signals_mv = source.model.units.to_mv(x0).numpy()
        away = (x0[:FOLLOWED] - exact[scale]).square().mean() / exact[scale].square().mean()
        power = band_power_error(
            expand_leads(held_mv), expand_leads(signals_mv), sampling_rate_hz=100
        )
        found["settings"].append(
            {
                "solver": solver,
                "schedule": schedule,
                "steps": steps,
                "label_scale": scale,
                "calls_a_record": (2 * steps - 1 if solver == "heun" else steps)
                * (1 if scale == 1 else 2),
                "records_per_s": round(len(x0) / seconds, 2),
                "distance_to_exact": round(float(away.sqrt()), 4),
                "frechet": round(frechet_distance(features(held_mv), features(signals_mv)), 2),
                "regular_norm": regular(source, signals_mv, label),
                "log10_power_error": {band: round(error, 3) for band, error in power.items()},
            }
        )
        print(json.dumps(found["settings"][-1]), flush=True)
    (HERE / "sampling_curve.json").write_text(json.dumps(found, indent=1) + "\n")


def embedding(real: ECGSet, train: np.ndarray, work: Path) -> Any:
    """Features of signals (n, 8, T), of a classifier of the real training records."""
    records = LabelledRecords(
        real.independent_mv(train),
        real.labels[train],
        real.records.patient.astype(str).to_numpy()[train],
    )
    config = ClassifierConfig(steps=CLASSIFIER_STEPS)
    classifier = train_classifier(
        records, real.label_space.names, config, work / "embedding", seed=0
    )
    scale = FeatureScale.fitted(classifier.features(records.signals_mv[:2000]))
    return lambda signals_mv: scale(classifier.features(signals_mv))


@torch.no_grad()
def drawn(
    source: Source,
    noise: Tensor,
    label: Tensor,
    solver: str,
    schedule: str,
    steps: int,
    scale: float,
) -> Tensor:
    """Records of the source model in model units."""
    levels = source.model.config.noise
    if schedule == "karras":
        sigmas = karras_sigmas(steps, levels.sigma_min, levels.sigma_max)
    else:
        sigmas = sampling_sigmas(steps, levels)
    denoise = classifier_free(source.model, scale)
    parts = [
        sample(denoise, n, y, sigmas, solver)
        for n, y in zip(noise.split(AT_ONCE), label.split(AT_ONCE), strict=True)
    ]
    return torch.cat(parts)


def regular(source: Source, signals_mv: np.ndarray, label: Tensor) -> float:
    """Share of the records with NORM alone whose RR intervals hardly vary."""
    column = source.label_space.index("NORM")
    alone = (label[:, column] == 1) & (label.sum(dim=1) == 1)
    variation = rr_variation(expand_leads(signals_mv[alone.numpy()]))
    return round(float((variation < REGULAR).mean()), 3)


if __name__ == "__main__":
    main()
