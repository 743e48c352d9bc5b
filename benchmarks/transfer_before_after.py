"""Transfer of `ptbxl-nine` to a recorder, from 80 of its records, before and after the repairs.

    python benchmarks/transfer_before_after.py --set SET --source MODEL [--entry before]

SET is PTB-XL prepared with the nine labels and its columns `fold` and `device`. The source model
learned from folds 1 to 8, this recorder's records among them; 64 records of fold 9 are the target,
16 of other patients stop the training and weigh the guidance, and fold 10 judges. 2000 records of
folds 1 to 8, with the target's labels, are the source. Judged are

- the denoising loss of at most 200 records of fold 10, all methods with the same noise, less that
  of the unchanged source model;
- 100 generated records with labels of fold 10 against as many recorded ones: AUC of a linear
  two-sample classifier and Frechet distance, both of band powers and lead correlations in units of
  the recorded ones' spread. Beside them stand recorded ones of fold 9, as far as they reach.

`--entry before` files the guidance of the code of another commit, whose checkout comes first in
PYTHONPATH; results in the repository: f0108a4. Trainings are shorter than the defaults and of one
split (see `short`), before and after alike. What is in `benchmarks/transfer_before_after.json` is
not done again. Some five minutes of one
core for each recorder and seed.
"""

import argparse
import copy
import json
import tempfile
import time
from dataclasses import dataclass, fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ratio import by_patient, domain_records, matched, over_seeds
from torch import Tensor

from ecgtransfer.corpus import ECGSet, patient_split
from ecgtransfer.diffusion import (
    DiffusionModel,
    denoising_loss,
    draw_sigma,
    sample,
    sampling_sigmas,
)
from ecgtransfer.evaluation.distances import frechet_distance
from ecgtransfer.pipeline.pretrained import find_source
from ecgtransfer.pipeline.source import read_source
from ecgtransfer.training import record_noise, seeded_initialisation
from ecgtransfer.transfer import (
    DomainClassifierConfig,
    DomainRecords,
    FinetuneConfig,
    GuidanceConfig,
    GuidanceNetwork,
    TgdpConfig,
    finetune,
    fit_domain_classifier,
    fit_guidance,
    guided,
    measure_guidance,
    noise_level_edges,
)

try:
    from ecgtransfer.evaluation.fidelity.two_sample import two_sample_test
    from ecgtransfer.evaluation.signal_distances import lead_correlations, log_band_power
except ModuleNotFoundError:  # their places at f0108a4
    from ecgtransfer.evaluation.two_sample import two_sample_test

    from ecgtransfer.evaluation.distances import lead_correlations, log_band_power

RESULTS = Path(__file__).resolve().with_suffix(".json")
RECORDERS = ("AT-6 C 5.5", "CS100 3")
FIT, HELD_OUT, SOURCE, TEST, GENERATED = 64, 16, 2000, 200, 100
DRAWS, SOLVER_STEPS, AT_ONCE = 2, 12, 50
#: A transfer in a few minutes of one core.
STEPS, BATCH_SIZE, EMA_DECAY = 100, 16, 0.97


@dataclass(frozen=True)
class Study:
    """Records of one recorder and seed in model units, and their numbers in the set."""

    source: DomainRecords
    source_numbers: np.ndarray
    fit: DomainRecords
    held_out: DomainRecords
    test: DomainRecords
    test_numbers: np.ndarray
    others: np.ndarray


def study(
    ecgset: ECGSet, labels: np.ndarray, model: DiffusionModel, recorder: str, seed: int
) -> Study:
    """Draw the records; no patient is in two parts."""
    rng = np.random.default_rng([seed, 22])
    table = ecgset.records
    patients = table.patient.astype(str).to_numpy()
    fold = table.fold.astype(int).to_numpy()
    ours = (table.device == recorder).to_numpy()
    fit, left = by_patient(np.flatnonzero(ours & (fold == 9)), patients, FIT, rng)
    held_out, others = by_patient(left, patients, HELD_OUT, rng)
    test, _ = by_patient(np.flatnonzero(ours & (fold == 10)), patients, TEST, rng)
    wanted = labels[np.concatenate([fit, held_out])]
    source = matched(np.flatnonzero(fold <= 8), labels, wanted, SOURCE, rng)

    def records(numbers: np.ndarray) -> DomainRecords:
        return domain_records(ecgset, labels, numbers, model.units)

    parts = (records(source), source, records(fit), records(held_out), records(test), test)
    return Study(*parts, others)


def short(train: Any, seed: int) -> Any:
    """That training with fewer steps of smaller batches."""
    return replace(
        train,
        steps=STEPS,
        batch_size=BATCH_SIZE,
        ema_decay=EMA_DECAY,
        warmup_steps=20,
        validate_every=25,
        seed=seed,
    )


def ratios(ecgset: ECGSet, labels: np.ndarray, parts: Study, noise: Any, seed: int) -> Any:
    """A fitted domain classifier, of clean records or (noise given) of noised ones."""
    config = replace(DomainClassifierConfig(), noise=noise)
    config = replace(config, train=replace(config.train, seed=seed))
    with tempfile.TemporaryDirectory() as folder:
        if "held_out_source" not in signature(fit_domain_classifier).parameters:
            return fit_domain_classifier(parts.source, parts.fit, config, Path(folder))
        numbers = parts.source_numbers
        split = patient_split(ecgset.records.iloc[numbers], labels[numbers], (0.75, 0.25), seed)
        kept, held = (parts.source.subset(part) for part in split)
        return fit_domain_classifier(kept, parts.fit, held, parts.held_out, config, Path(folder))


def guidance(
    model: DiffusionModel,
    parts: Study,
    config: TgdpConfig,
    clean: Any,
    noisy: Any,
    seed: int,
) -> tuple[GuidanceNetwork, Any, dict[str, Any]]:
    """Fit a guidance network; return it, its weight and the facts of the fit.

    Ratios that do not beat chance out of fold are not used.
    """
    if hasattr(config, "without_useless_ratios"):
        config = config.without_useless_ratios(
            clean is None or clean.diagnostics.beats_chance,
            noisy is None or noisy.diagnostics.beats_chance,
        )
    config = replace(config, noise=model.config.noise, train=short(config.train, seed))
    unet = model.config.unet
    with seeded_initialisation(seed):
        network = GuidanceNetwork(
            GuidanceConfig(labels=len(model.config.label_names), leads=unet.leads)
        )
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit_guidance(
            model,
            network,
            parts.source,
            parts.fit,
            parts.held_out,
            config,
            Path(folder),
            log_ratio=None if clean is None else clean.classifier.log_ratio(parts.source),
            noisy_log_ratio=noisy and noisy.classifier,
        )
    network.requires_grad_(False)
    measured = measure_guidance(
        model,
        network,
        parts.held_out.x0,
        parts.held_out.label,
        noise_level_edges(config.noise.sigma_min, config.noise.sigma_max),
        generator=torch.Generator().manual_seed(seed),
    )
    weight = measured.weight()
    facts = {
        "best_step": fitted.best_step,
        "target_positives": config.target_positives,
        "eta_cycle": config.eta_cycle,
        "weights": list(weight.values),
    }
    return network, weight, facts


@torch.no_grad()
def test_loss(denoise: Any, model: DiffusionModel, test: DomainRecords, seed: int) -> np.ndarray:
    """Denoising loss of each test record, with noise that the seed decides: (N,)."""
    generator = torch.Generator().manual_seed(9000 + seed)
    index = np.tile(np.arange(len(test)), DRAWS)
    sigma = draw_sigma(len(index), model.config.noise, generator)
    noise = torch.randn(len(index), *test.x0.shape[1:], generator=generator)
    parts = []
    for start in range(0, len(index), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        x0, label = test.take(index[part])
        parts.append(denoising_loss(denoise, x0, label, sigma[part], noise[part]))
    return torch.cat(parts).reshape(DRAWS, -1).mean(0).double().numpy()


@torch.no_grad()
def generated(denoise: Any, model: DiffusionModel, label: Tensor, seed: int) -> np.ndarray:
    """Records drawn for these labels, in millivolts: (N, 8, T)."""
    sigmas = sampling_sigmas(SOLVER_STEPS, model.config.noise)
    seeds = np.random.default_rng([seed, 23]).integers(2**62, size=len(label)).tolist()
    parts = []
    for start in range(0, len(label), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        noise = record_noise(seeds[part], model.units.shape)
        x0 = sample(denoise, noise, label[part], sigmas, "adams")
        parts.append(model.units.to_mv(x0))
    return torch.cat(parts).numpy()


def features(signals_mv: np.ndarray, rate_hz: float) -> np.ndarray:
    """Log band powers and correlations of leads: (N, F)."""
    return np.concatenate([log_band_power(signals_mv, rate_hz), lead_correlations(signals_mv)], 1)


def against(
    ecgset: ECGSet, labels: np.ndarray, real: np.ndarray, made_mv: np.ndarray, made: np.ndarray
) -> dict[str, float]:
    """Two-sample AUC and Frechet distance of records with labels `made` from recorded ones."""
    rate, count = ecgset.sampling_rate_hz, min(len(real), len(made_mv))
    first = features(ecgset.independent_mv(real), rate)
    centre, spread = first.mean(0), first.std(0)
    first, second = ((values - centre) / spread for values in (first, features(made_mv, rate)))
    patients = ecgset.records.patient.iloc[real].astype(str).to_numpy()
    test = two_sample_test(first, second, patients, labels=labels[real], generated_labels=made)
    frechet = frechet_distance(first[:count], second[:count])
    return {"two_sample_auc": test.auc.value, "frechet": frechet, "records": count}


def scored(
    denoise: Any,
    ecgset: ECGSet,
    labels: np.ndarray,
    model: DiffusionModel,
    parts: Study,
    seed: int,
) -> dict[str, float]:
    """All that one denoiser of the target is judged by."""
    loss = test_loss(denoise, model, parts.test, seed)
    source = test_loss(model, model, parts.test, seed)
    label = labels[parts.test_numbers[:GENERATED]]
    made = generated(denoise, model, torch.from_numpy(label), seed)
    return {
        "loss": float(loss.mean()),
        "loss_less_source": float((loss - source).mean()),
        **against(ecgset, labels, parts.test_numbers[:GENERATED], made, label),
    }


def tuned(model: DiffusionModel, parts: Study, seed: int) -> tuple[DiffusionModel, dict[str, Any]]:
    """Fine-tuning, offered two rates, which keeps the source model where no step does better."""
    config = FinetuneConfig()
    train = replace(short(config.train, seed), patience=2)
    config = replace(config, noise=model.config.noise, train=train)
    start = copy.deepcopy(model).requires_grad_(True)
    with tempfile.TemporaryDirectory() as folder:
        found, fitted = finetune(start, parts.fit, parts.held_out, config, Path(folder))
    facts = {"best_step": fitted.best_step, "learning_rate": fitted.learning_rate}
    return found.requires_grad_(False), facts


def transfers(
    ecgset: ECGSet,
    labels: np.ndarray,
    model: DiffusionModel,
    parts: Study,
    seed: int,
    entry: str,
    held: dict[str, Any],
) -> None:
    """Add to `held` what is missing of one recorder and seed."""

    def judged(denoise: Any) -> dict[str, float]:
        return scored(denoise, ecgset, labels, model, parts, seed)

    if "source" not in held:
        held["source"] = judged(model)
        others = parts.others[:GENERATED]
        mv = ecgset.independent_mv(others)
        held["recorded, fold 9"] = against(
            ecgset, labels, parts.test_numbers[:GENERATED], mv, labels[others]
        )
    if f"tgdp, {entry}" not in held:
        config, began = TgdpConfig(), time.process_time()
        clean = noisy = None
        if config.needs_ratio:
            clean = ratios(ecgset, labels, parts, None, seed)
        if config.eta_cycle:
            noisy = ratios(ecgset, labels, parts, model.config.noise, seed)
        network, weight, facts = guidance(model, parts, config, clean, noisy, seed)
        facts["seconds"] = time.process_time() - began
        held[f"tgdp, {entry}"] = judged(guided(model, network, weight)) | facts
    judges_start = any(each.name == "rate_factors" for each in fields(FinetuneConfig))
    if judges_start and "fine-tuning" not in held:
        began = time.process_time()
        found, facts = tuned(model, parts, seed)
        facts["seconds"] = time.process_time() - began
        scores = judged(found) if facts["best_step"] else held["source"]
        held["fine-tuning"] = scores | facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", type=Path, required=True)
    parser.add_argument("--source", required=True, help="folder of `ptbxl-nine`, as of 9439e99")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recorder", action="append", help="none given: " + ", ".join(RECORDERS))
    parser.add_argument("--entry", default="after")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ecgset = ECGSet.open(options.set)
    labels = np.asarray(ecgset.labels, np.float32)
    model = read_source(find_source(options.source)).model.requires_grad_(False)
    for seed in range(options.seeds):
        for recorder in options.recorder or RECORDERS:
            held = json.loads(options.results.read_text()) if options.results.exists() else {}
            held["command"] = (
                "python benchmarks/transfer_before_after.py --set SET --source MODEL "
                "[--entry before]"
            )
            found = held.setdefault(recorder, {}).setdefault("each", {}).setdefault(str(seed), {})
            parts = study(ecgset, labels, model, recorder, seed)
            transfers(ecgset, labels, model, parts, seed, options.entry, found)
            each = held[recorder]["each"].values()
            held[recorder]["over seeds"] = {
                name: {
                    score: over_seeds([one[name][score] for one in each if name in one])
                    for score in ("loss", "loss_less_source", "two_sample_auc", "frechet")
                    if score in found[name]
                }
                for name in found
            }
            options.results.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
            print(recorder, seed, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
