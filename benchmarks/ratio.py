"""How well the density ratio of a recorder against all others is estimated, from 80 records of it.

    python benchmarks/ratio.py --set SET --source MODEL --seeds 6

SET is PTB-XL prepared with the nine labels and its column `device`. For each recorder and seed, 80
records of it are the target and 2000 records of other recorders, with the target's labels, the
source. The ratio is judged on 600 records of other patients, half of each domain: log loss with
both domains counted alike, less log 2 (below 0 is better than r = 1), and the area under the ROC
curve. Compared are the package's classifier (networks stacked with a linear classifier of band
powers), its networks alone (`--networks-alone`) and, written apart from the package, a ridge
regression on band powers in millivolts. Noise-dependent ratios are judged at noise levels drawn as
in training. Adds to `benchmarks/ratio.json`.

`--entry before` files the results of the package as it was at another commit, whose checkout
comes first in PYTHONPATH; a fifth of its records then stop and calibrate it, as they did.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata
from scipy.stats import t as student

from ecgtransfer.corpus import ECGSet, patient_split
from ecgtransfer.diffusion import NoiseConfig, SignalUnits, draw_sigma
from ecgtransfer.pipeline.pretrained import find_source
from ecgtransfer.pipeline.source import read_source
from ecgtransfer.transfer import DomainClassifierConfig, DomainRecords, fit_domain_classifier

RESULTS = Path(__file__).resolve().with_suffix(".json")
RECORDERS = ("AT-6 C 5.5", "AT-6 6", "CS100 3")
TARGET, SOURCE, TEST = 80, 2000, 300
#: Hertz, of the whole spectrum: recorders differ in the drift that they let through, below 0.5 Hz,
#: more than in all other bands together.
BANDS = (0, 0.5, 2, 4, 7, 10, 15, 20, 25, 32, 40, 50.1)
#: Penalties on standardised coefficients that cross-validation decides between.
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
FOLDS = 5


@dataclass(frozen=True)
class Study:
    """Record numbers of one recorder and seed: to learn from, and to judge by."""

    source: np.ndarray
    target: np.ndarray
    test_source: np.ndarray
    test_target: np.ndarray


def study(table: pd.DataFrame, labels: np.ndarray, recorder: str, seed: int) -> Study:
    """Draw the records of one recorder and seed; no patient is in two parts."""
    rng = np.random.default_rng([seed, 20])
    ours = (table.device == recorder).to_numpy()
    patients = table.patient.astype(str).to_numpy()
    theirs = ~ours & ~np.isin(patients, patients[ours])
    target, left = by_patient(np.flatnonzero(ours), patients, TARGET, rng)
    test_target, _ = by_patient(left, patients, TEST, rng)
    apart, left = by_patient(np.flatnonzero(theirs), patients, np.sum(theirs) // 4, rng)
    return Study(
        matched(left, labels, labels[target], SOURCE, rng),
        target,
        matched(apart, labels, labels[target], TEST, rng),
        test_target,
    )


def by_patient(
    rows: np.ndarray, patients: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` records in a random order of patients, and those of the patients left."""
    rank = {name: place for place, name in enumerate(rng.permutation(np.unique(patients[rows])))}
    rows = rows[np.argsort([rank[name] for name in patients[rows]], kind="stable")]
    chosen = rows[:count]
    return chosen, rows[~np.isin(patients[rows], patients[chosen])]


def matched(
    rows: np.ndarray, labels: np.ndarray, wanted: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """`count` of the records, with label combinations drawn from `wanted`, with replacement."""
    by_labels: dict[bytes, list[int]] = {}
    for row in rows:
        by_labels.setdefault(labels[row].tobytes(), []).append(int(row))
    known = [each.tobytes() for each in wanted if each.tobytes() in by_labels]
    return np.array([rng.choice(by_labels[known[i]]) for i in rng.integers(len(known), size=count)])


@torch.no_grad()
def domain_records(
    ecgset: ECGSet, labels: np.ndarray, numbers: np.ndarray, units: SignalUnits
) -> DomainRecords:
    """Records of a set in the units of a source model, with label and patient."""
    signals = torch.from_numpy(ecgset.independent_mv(numbers))
    patients = ecgset.records.patient.iloc[numbers].astype(str)
    return DomainRecords(
        units.to_model(signals), torch.from_numpy(labels[numbers]), tuple(patients)
    )


def judged(source: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Balanced log loss less log 2, and AUC, of log-ratios of test records."""
    loss = (np.logaddexp(0, source).mean() + np.logaddexp(0, -target).mean()) / 2
    ranks = rankdata(np.concatenate([source, target]))[len(source) :]
    auc = (ranks.mean() - (len(target) + 1) / 2) / len(source)
    return {"log_loss_less_log_2": float(loss) - math.log(2), "auc": float(auc)}


@torch.no_grad()
def by_network(
    ecgset: ECGSet,
    labels: np.ndarray,
    parts: Study,
    units: SignalUnits,
    noise: NoiseConfig | None,
    seed: int,
    **settings: Any,
) -> dict[str, float]:
    """The package's classifier, at its default settings but for those given."""

    def records(numbers: np.ndarray) -> DomainRecords:
        return domain_records(ecgset, labels, numbers, units)

    config = replace(DomainClassifierConfig(), noise=noise, **settings)
    config = replace(config, train=replace(config.train, seed=seed))
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        if "held_out_source" in signature(fit_domain_classifier).parameters:
            shares = {}
            for name, share in (("source", 0.25), ("target", 0.2)):
                rows = getattr(parts, name)
                split = patient_split(
                    ecgset.records.iloc[rows], labels[rows], (1 - share, share), seed
                )
                shares[name] = [records(rows[part]) for part in split]
            (source, held_source), (target, held_target) = shares["source"], shares["target"]
            fitted = fit_domain_classifier(
                source, target, held_source, held_target, config, Path(folder)
            )
        else:
            fitted = fit_domain_classifier(
                records(parts.source), records(parts.target), config, Path(folder)
            )
    seconds = time.process_time() - began
    classifier = fitted.classifier
    values = []
    for place, numbers in enumerate((parts.test_source, parts.test_target)):
        test = records(numbers)
        if noise is None:
            values.append(classifier.log_ratio(test).double().numpy())
            continue
        generator = torch.Generator().manual_seed(1000 + 2 * seed + place)
        sigma = draw_sigma(len(test), noise, generator)
        x = test.x0 + sigma[:, None, None] * torch.randn(test.x0.shape, generator=generator)
        values.append(classifier(x, sigma, test.label).double().numpy())
    out_of_fold = fitted.diagnostics
    return judged(*values) | {
        "seconds": seconds,
        "best_step": fitted.result.best_step,
        "steps": fitted.result.steps,
        "slope": float(np.ravel(classifier.slope)[0]),
        "slope of band powers": float(np.ravel(classifier.slope)[1:].sum()),
        "out_of_fold_auc": out_of_fold.auc,
        "out_of_fold_mean_ratio": out_of_fold.mean_ratio,
        "out_of_fold_log_loss": getattr(out_of_fold, "log_loss", fitted.result.validation),
    }


def band_powers(signals_mv: np.ndarray, rate_hz: float) -> np.ndarray:
    """log10 power of each lead in each band: (N, 8, T) -> (N, 8 * bands)."""
    power = np.abs(np.fft.rfft(signals_mv * np.hanning(signals_mv.shape[-1]))) ** 2
    hertz = np.fft.rfftfreq(signals_mv.shape[-1], 1 / rate_hz)
    place = np.digitize(hertz, BANDS)
    bands = [power[..., place == band].mean(-1) for band in range(1, len(BANDS))]
    return np.log10(np.stack(bands, -1) + 1e-12).reshape(len(signals_mv), -1)


def ridge(x: np.ndarray, is_target: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Coefficients and offset of balanced logistic regression with a squared penalty."""
    mass = np.where(is_target, 0.5 / is_target.sum(), 0.5 / (~is_target).sum())

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        f = x @ w[:-1] + w[-1]
        residual = mass * (expit(f) - is_target)
        value = np.sum(mass * (np.logaddexp(0, f) - is_target * f))
        gradient = np.append(x.T @ residual + penalty * w[:-1], residual.sum())
        return float(value + penalty / 2 * np.sum(w[:-1] ** 2)), gradient

    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return found[:-1], float(found[-1])


def by_band_powers(ecgset: ECGSet, parts: Study, seed: int) -> dict[str, float]:
    """Ridge regression on band powers, its penalty and calibration chosen out of fold."""
    x = {
        name: band_powers(ecgset.independent_mv(getattr(parts, name)), ecgset.sampling_rate_hz)
        for name in ("source", "target", "test_source", "test_target")
    }
    train = np.concatenate([x["source"], x["target"]])
    mean, spread = train.mean(0), train.std(0)
    train = (train - mean) / spread
    is_target = np.arange(len(train)) >= len(x["source"])
    patients = ecgset.records.patient.iloc[np.concatenate([parts.source, parts.target])]
    names = np.random.default_rng([seed, 21]).permutation(patients.unique())
    fold = patients.map({name: place % FOLDS for place, name in enumerate(names)}).to_numpy()
    best = (math.inf, 0.0, 1.0, 0.0)
    for penalty in RIDGES:
        logit = np.empty(len(train))
        for number in range(FOLDS):
            w, b = ridge(train[fold != number], is_target[fold != number], penalty)
            logit[fold == number] = train[fold == number] @ w + b
        (slope,), offset = ridge(logit[:, None], is_target, 1e-6)
        calibrated = slope * logit + offset
        loss = judged(calibrated[~is_target], calibrated[is_target])["log_loss_less_log_2"]
        best = min(best, (loss, penalty, float(slope), offset))
    _, penalty, slope, offset = best
    w, b = ridge(train, is_target, penalty)
    values = [
        slope * (((x[name] - mean) / spread) @ w + b) + offset
        for name in ("test_source", "test_target")
    ]
    return judged(*values) | {"penalty": penalty, "slope": slope}


def over_seeds(values: Sequence[float]) -> dict[str, float | list[float] | None]:
    """Mean, standard deviation and Student's 95 % interval of the mean.

    Seeds draw other records of the same recorder, so that the interval is of draws and trainings,
    not of recorders.
    """
    mean, sd = float(np.mean(values)), None
    interval = None
    if len(values) > 1:
        sd = float(np.std(values, ddof=1))
        half = float(student.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
        interval = [mean - half, mean + half]
    return {"mean": mean, "sd": sd, "interval": interval}


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Every number over seeds, and the numbers."""
    over = {key: over_seeds([row[key] for row in rows]) for key in rows[0]}
    return {"seeds": len(rows), "over seeds": over, "each": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", type=Path, required=True)
    parser.add_argument("--source", required=True, help="folder of `ptbxl-nine`, as of 9439e99")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--recorder", action="append", help="none given: " + ", ".join(RECORDERS))
    parser.add_argument("--noise", action="store_true", help="the noise-dependent ratio")
    parser.add_argument("--band-powers", action="store_true", help="nothing but these")
    parser.add_argument("--networks-alone", action="store_true", help="without band powers")
    parser.add_argument("--entry", default="after")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ecgset = ECGSet.open(options.set)
    labels = np.asarray(ecgset.labels, np.float32)
    model = read_source(find_source(options.source)).model
    noise = model.config.noise if options.noise else None
    for recorder in options.recorder or RECORDERS:
        rows: dict[str, list[dict[str, float]]] = {}
        for seed in range(options.seeds):
            parts = study(ecgset.records, labels, recorder, seed)
            entry = options.entry + (", noise-dependent" if noise else "")
            entry += ", networks alone" if options.networks_alone else ""
            settings = {"band_powers": False} if options.networks_alone else {}
            if not options.band_powers:
                rows.setdefault(entry, []).append(
                    by_network(ecgset, labels, parts, model.units, noise, seed, **settings)
                )
            if noise is None:
                rows.setdefault("band powers", []).append(by_band_powers(ecgset, parts, seed))
            print(recorder, seed, json.dumps({k: v[-1] for k, v in rows.items()}), flush=True)
            held = json.loads(options.results.read_text()) if options.results.exists() else {}
            for name, each in rows.items():
                held.setdefault(recorder, {})[name] = summary(each)
            held["command"] = (
                "python benchmarks/ratio.py --set SET --source MODEL [--noise] "
                "[--networks-alone] [--entry before]"
            )
            options.results.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
