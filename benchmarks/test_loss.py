"""Denoising loss on test records, which no training and no choice has seen, of each transfer.

    python benchmarks/test_loss.py --work WORK

WORK is what `benchmarks/real_run.py` left. Every method denoises the same records with the same
noise; intervals of the difference to the source model resample patients. The loss that `transfer`
prints is of records that also stop the training and calibrate the guidance weight, and flatters.
Writes `benchmarks/test_loss.json`.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ecgtransfer.diffusion import denoising_loss, draw_sigma
from ecgtransfer.pipeline import Run, load_source, load_target, load_target_model
from ecgtransfer.pipeline.target import target_records

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
def losses(transfers: Mapping[str, tuple[Path, str]], seed: int) -> dict:
    """Loss of each transfer, by name its run folder and method, and how far it is off the source's.

    The runs must share source and target: the test records are those of the first.
    """
    first = Run.open(next(folder for folder, _ in transfers.values()))
    source = load_source(first)
    target = load_target(first, source)
    rng = np.random.default_rng(seed)
    numbers = np.sort(rng.permutation(target.test)[:RECORDS])
    records = target_records(source, target, numbers)
    generator = torch.Generator().manual_seed(seed)
    index = torch.arange(len(numbers)).repeat(DRAWS)
    sigma = draw_sigma(len(index), source.model.config.noise, generator)
    noise = torch.randn(len(index), *records.x0.shape[1:], generator=generator)
    found: dict[str, np.ndarray] = {}
    for name, (folder, method) in transfers.items():
        run = Run.open(folder)
        theirs = load_source(run)
        assert theirs.fingerprint == source.fingerprint
        assert load_target(run, theirs).fingerprint == target.fingerprint
        denoise = load_target_model(run, theirs, method).denoise
        parts = []
        for start in range(0, len(index), BATCH):
            part = slice(start, start + BATCH)
            x0, label = records.take(index[part])
            parts.append(denoising_loss(denoise, x0, label, sigma[part], noise[part]))
        found[name] = torch.cat(parts).reshape(DRAWS, -1).mean(0).numpy().astype(np.float64)
    patients = np.array(records.patient)
    return {
        "records": len(numbers),
        "patients": len(set(records.patient)),
        "loss": {name: interval(values, patients, rng) for name, values in found.items()},
        "difference_to_source": {
            name: interval(values - found["source"], patients, rng)
            for name, values in found.items()
            if name != "source"
        },
    }


def of_run(folder: Path) -> dict[str, tuple[Path, str]]:
    """Every method of one run."""
    return {method: (folder, method) for method in METHODS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results = {
        "command": f"python benchmarks/test_loss.py --work WORK --seed {options.seed}",
        "noise_draws_a_record": DRAWS,
        "icbeb2018": losses(of_run(options.work / "icbeb"), options.seed),
        "device": losses(of_run(options.work / "device"), options.seed),
    }
    text = json.dumps(results, indent=1, sort_keys=True)
    (HERE / "test_loss.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
