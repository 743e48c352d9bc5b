"""Denoising loss on test records, which no training and no choice has seen, of each transfer.

    python benchmarks/test_loss.py --work WORK

WORK is what `benchmarks/real_run.py` left. Every method denoises the same records with the same
noise; intervals of the difference to the source model resample patients. The loss that `transfer`
prints is of records that also stop the training and calibrate the guidance weight, and flatters.
Writes `benchmarks/test_loss.json`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from ecgtransfer.diffusion import denoising_loss, draw_sigma
from ecgtransfer.pipeline import Run, load_source, load_target, load_target_model
from ecgtransfer.pipeline.target import domain_records

HERE = Path(__file__).resolve().parent
METHODS = ("source", "finetune", "tgdp")
RECORDS, DRAWS, BATCH, RESAMPLES = 384, 4, 64, 2000


def interval(values: np.ndarray, patients: np.ndarray, rng: np.random.Generator) -> list[float]:
    """Mean, and 2.5 and 97.5 % of the means over resampled patients."""
    names, of_record = np.unique(patients, return_inverse=True)
    sums, counts = np.bincount(of_record, weights=values), np.bincount(of_record)
    picks = rng.integers(len(names), size=(RESAMPLES, len(names)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    return [float(values.mean()), *(float(end) for end in np.quantile(means, (0.025, 0.975)))]


@torch.no_grad()
def losses(folder: Path, seed: int) -> dict:
    """Loss of each method, and its difference to the source model, on one target."""
    run = Run.open(folder)
    source = load_source(run)
    target = load_target(run, source)
    rng = np.random.default_rng(seed)
    numbers = np.sort(rng.permutation(target.test)[:RECORDS])
    records = domain_records(target.ecgset, target.labels, numbers, source.model.units)
    generator = torch.Generator().manual_seed(seed)
    index = torch.arange(len(numbers)).repeat(DRAWS)
    sigma = draw_sigma(len(index), source.model.config.noise, generator)
    noise = torch.randn(len(index), *records.x0.shape[1:], generator=generator)
    found: dict[str, np.ndarray] = {}
    for method in METHODS:
        denoise = load_target_model(run, source, method).denoise
        parts = []
        for start in range(0, len(index), BATCH):
            part = slice(start, start + BATCH)
            x0, label = records.take(index[part])
            parts.append(denoising_loss(denoise, x0, label, sigma[part], noise[part]))
        found[method] = torch.cat(parts).reshape(DRAWS, -1).mean(0).numpy().astype(np.float64)
    patients = np.array(records.patient)
    return {
        "records": len(numbers),
        "patients": len(set(records.patient)),
        "loss": {method: interval(values, patients, rng) for method, values in found.items()},
        "difference_to_source": {
            method: interval(found[method] - found["source"], patients, rng)
            for method in METHODS[1:]
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results = {
        "command": f"python benchmarks/test_loss.py --work WORK --seed {options.seed}",
        "noise_draws_a_record": DRAWS,
        "icbeb2018": losses(options.work / "icbeb", options.seed),
        "device": losses(options.work / "device", options.seed),
    }
    text = json.dumps(results, indent=1, sort_keys=True)
    (HERE / "test_loss.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
