"""How well a rhythm model describes the beats of patients that it never met.

    python benchmarks/rhythm_scores.py --run RUN [--fold 9] [--to JSON]

RUN holds a finished factorised source model of the prepared PTB-XL. Fold 9 stops the training and
chose the form of the model, fold 10 is for the end. Asked of the records of a fold:

- log-likelihood of their trains, per beat and per record, beside a gamma renewal process and
  resampled training trains, each fitted to the training records with the same rarest statement;
- features of one drawn train for each record beside those of the records, by class, and their
  Kolmogorov-Smirnov distance on halves of the patients beside that of real against real;
- the AUC of a boosted two-sample test on these features, beside real against real;
- novelty: how often a drawn train lies within the jitter of a training train, beside how often a
  train of another patient does;
- seconds to draw 1,000 trains in batches of 16.

Intervals are over bootstrapped patients. One thread; adds to `benchmarks/rhythm_scores.json`.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from ecgtransfer.corpus import ECGSet
from ecgtransfer.evaluation import two_sample_test
from ecgtransfer.pipeline import Run, load_source
from ecgtransfer.pipeline.conditioned import ages, sexes
from ecgtransfer.rhythm import (
    RHYTHM_FEATURES,
    GammaRenewal,
    ResampledTrains,
    RhythmModel,
    in_window,
    is_regular,
    rhythm_features,
)
from ecgtransfer.signals import Beats
from ecgtransfer.statistics import Estimate, estimate

RESULTS = Path(__file__).resolve().parent / "rhythm_scores.json"
#: The classes of ICBEB2018, which other sets are labelled with.
CORE = ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "PAC", "PVC", "STD_", "STE_")
#: Other statements with a rhythm of their own, for the tables.
RHYTHMS = ("SR", "SBRAD", "STACH", "SARRH", "PACE", "SVARR")
#: Fewest records of a class in a table.
FEWEST_TOLD = 10
#: Trains that the baseline of resampled trains draws from, at most, for each class.
MOST_RESAMPLED = 500
RESAMPLES = 1000
HALVES = 20
#: Trains of each side of the novelty check.
NOVELTY_TRAINS = 500
#: Intervals that two trains are compared over, at least, and beats by which either may be late.
FEWEST_INTERVALS, LATE_BEATS = 5, 2
#: Smallest jitter of a training train, seconds: the error of an RR interval.
SMALLEST_JITTER_S = 0.005


class Records(NamedTuple):
    """Beats of all records and what is known of them."""

    beats: list[Beats]
    label: NDArray[np.float32]
    names: tuple[str, ...]
    age: NDArray[np.float64]
    sex: NDArray[np.float64]
    fold: NDArray[np.int64]
    patient: NDArray[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = load_source(Run.open(options.run))
    if source.cascade is None:
        raise SystemExit(f"expected a factorised source model in {options.run}, got a plain one")
    model = source.cascade.rhythm
    ecgset, training, _ = source.records()
    records = read_records(ecgset, model.config.label_names)
    held_out = np.flatnonzero(records.fold == options.fold)
    if np.isin(held_out, training).any():
        raise SystemExit(f"expected a fold that the model did not learn from, got {options.fold}")
    rng = np.random.default_rng([options.seed, options.fold])
    seeds = [[options.seed, options.fold, int(i)] for i in held_out]
    drawn = model.sample(
        *conditions(records, held_out), [np.random.default_rng(seed) for seed in seeds]
    )
    found: dict[str, Any] = {"records": len(held_out)}
    found["log_likelihood"] = likelihoods(model, records, training, held_out, rng)
    told("log-likelihood", found["log_likelihood"])
    found["classes"] = class_table(records, held_out, drawn, rng)
    found["two_sample_auc"] = two_sample(records, held_out, drawn, rng)
    told("two-sample AUC", found["two_sample_auc"])
    found["novelty"] = novelty(records, training, held_out, drawn, rng)
    told("novelty", found["novelty"])
    found["seconds_for_1000_trains"] = sampling_seconds(model, records, held_out)
    told("seconds for 1,000 trains", found["seconds_for_1000_trains"])
    held = json.loads(options.to.read_text()) if options.to.exists() else {}
    training_facts = asdict(source.summary.stages["rhythm"]) | {"model": source.fingerprint}
    held[f"fold {options.fold}"] = found | {"training": training_facts, "seed": options.seed}
    options.to.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")


def told(name: str, value: object) -> None:
    print(name, json.dumps(value), flush=True)


def read_records(ecgset: ECGSet, names: tuple[str, ...]) -> Records:
    """Beats and conditions of the records of a set, in the label space of the model."""
    columns = [ecgset.label_space.names.index(name) for name in names]
    return Records(
        list(ecgset.beats),
        ecgset.labels[:, columns].astype(np.float32),
        names,
        ages(ecgset),
        sexes(ecgset),
        ecgset.records["fold"].to_numpy(np.int64),
        ecgset.records["patient"].to_numpy(),
    )


def conditions(
    records: Records, index: NDArray[np.int64], shown: Sequence[str] | None = None
) -> tuple[torch.Tensor, ...]:
    """Label, known, age and sex of records; with `shown` those statements alone, no age or sex."""
    label = torch.from_numpy(records.label[index])
    if shown is None:
        known = torch.ones_like(label, dtype=torch.bool)
        return label, known, torch.tensor(records.age[index]), torch.tensor(records.sex[index])
    known = torch.tensor([name in shown for name in records.names]).expand(label.shape)
    nothing = torch.full((len(index),), math.nan)
    return label, known, nothing, nothing


def patient_mean(
    values: NDArray[np.float64],
    patients: NDArray[Any],
    rng: np.random.Generator,
    weights: NDArray[np.float64] | None = None,
) -> Estimate:
    """Sum of values over sum of weights (records, by default), with its interval."""
    number = np.unique(patients, return_inverse=True)[1].reshape(-1)
    n = int(number.max()) + 1
    weights = np.ones(len(values)) if weights is None else weights
    top, bottom = (np.bincount(number, part, n) for part in (values, weights))
    times = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return estimate(float(top.sum() / bottom.sum()), (times @ top) / np.maximum(times @ bottom, 1))


def likelihoods(
    model: RhythmModel,
    records: Records,
    training: NDArray[np.int64],
    held_out: NDArray[np.int64],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Mean log-likelihood of the model and of the baselines, and what the model gains."""
    window_s = model.config.window_s
    seen = [in_window(records.beats[i], window_s) for i in held_out]
    patients = records.patient[held_out]
    beats = np.array([len(each.times_s) for each in seen], dtype=np.float64)
    scores = {
        "all conditions": score(model, records, held_out, None),
        "core statements": score(model, records, held_out, CORE),
        "no condition": score(model, records, held_out, ()),
    }
    scores |= baselines(records, training, held_out, seen, window_s, rng)
    best = scores["all conditions"]
    some = rng.permutation(training)[: len(held_out)]
    return {
        "per_record": {k: patient_mean(v, patients, rng).to_dict() for k, v in scores.items()},
        "per_beat": {k: patient_mean(v, patients, rng, beats).to_dict() for k, v in scores.items()},
        "gain_per_record": {
            k: patient_mean(best - v, patients, rng).to_dict()
            for k, v in scores.items()
            if v is not best
        },
        "training_records": patient_mean(
            score(model, records, some, None), records.patient[some], rng
        ).to_dict(),
    }


def score(
    model: RhythmModel,
    records: Records,
    index: NDArray[np.int64],
    shown: Sequence[str] | None,
) -> NDArray[np.float64]:
    """Log-likelihood of records under the model: (n,)."""
    with torch.no_grad():
        found = model.log_likelihood(
            [records.beats[i] for i in index], *conditions(records, index, shown)
        )
    return found.double().numpy()


def rarest_statement(records: Records, training: NDArray[np.int64]) -> NDArray[np.int64]:
    """Column of each record's rarest statement, -1 for none: (N,)."""
    counts = records.label[training].sum(0)
    rarity = np.where(records.label > 0, counts, np.inf)
    return np.where(records.label.any(1), rarity.argmin(1), -1)


def baselines(
    records: Records,
    training: NDArray[np.int64],
    held_out: NDArray[np.int64],
    seen: Sequence[Beats],
    window_s: tuple[float, float],
    rng: np.random.Generator,
) -> dict[str, NDArray[np.float64]]:
    """Log-likelihood under a gamma renewal process and resampled trains for each class."""
    kind = rarest_statement(records, training)
    gamma, resampled = np.empty(len(held_out)), np.empty(len(held_out))
    for each in np.unique(kind[held_out]):
        own = [in_window(records.beats[i], window_s) for i in training[kind[training] == each]]
        rows = np.flatnonzero(kind[held_out] == each)
        asked = [seen[row] for row in rows]
        gamma[rows] = GammaRenewal.fitted(own).log_likelihood(asked)
        some = [own[i] for i in rng.permutation(len(own))[:MOST_RESAMPLED]]
        resampled[rows] = ResampledTrains.fitted(some, rng).log_likelihood(asked)
    return {"gamma renewal": gamma, "resampled trains": resampled}


def patient_halves(patients: NDArray[Any], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Whether each record's patient is in the first of two random halves."""
    names, number = np.unique(patients, return_inverse=True)
    return (rng.permutation(len(names)) < len(names) // 2)[number.reshape(-1)]


#: How a feature of a class is told: of all records in one number.
SUMMARIES: dict[str, Callable[[NDArray[np.float64]], float]] = {
    "rate_bpm": np.nanmedian,
    "sdnn_ms": np.nanmedian,
    "rmssd_ms": np.nanmedian,
    "early_share": np.nanmean,
    "pause": np.nanmean,
    "ventricular_share": np.nanmean,
    "supraventricular_share": np.nanmean,
    "lag_correlation": np.nanmean,
    "first_beat_s": np.nanmean,
}


def class_table(
    records: Records,
    held_out: NDArray[np.int64],
    drawn: Sequence[Beats],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Features of real and of drawn trains for each class, and how far their laws are apart."""
    real_beats = [records.beats[i] for i in held_out]
    real, made = rhythm_features(real_beats), rhythm_features(drawn)
    regular, made_regular = is_regular(real_beats), is_regular(drawn)
    patients = records.patient[held_out]
    table = {}
    for name in ("all", *CORE, *RHYTHMS):
        rows = np.arange(len(held_out))
        if name != "all":
            rows = np.flatnonzero(records.label[held_out, records.names.index(name)])
        if len(rows) < FEWEST_TOLD:
            continue
        share = patient_mean(regular[rows].astype(np.float64), patients[rows], rng)
        line: dict[str, Any] = {
            "records": len(rows),
            "regular": {"real": share.to_dict(), "drawn": float(made_regular[rows].mean())},
        }
        for feature, summary in SUMMARIES.items():
            column = RHYTHM_FEATURES.index(feature)
            a, b = real[rows, column], made[rows, column]
            if np.isnan(a).all() or np.isnan(b).all():
                continue
            line[feature] = {
                "real": interval_of(summary, a, patients[rows], rng),
                "drawn": float(summary(b)),
            } | half_distances(a, b, patients[rows], rng)
        table[name] = line
        told(
            name,
            {k: v if k == "records" else [v["real"]["value"], v["drawn"]] for k, v in line.items()},
        )
    return table


def interval_of(
    summary: Callable[[NDArray[np.float64]], float],
    values: NDArray[np.float64],
    patients: NDArray[Any],
    rng: np.random.Generator,
) -> dict[str, float]:
    """A summary of real records with its interval over patients."""
    number = np.unique(patients, return_inverse=True)[1].reshape(-1)
    members = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    draws = []
    for _ in range(RESAMPLES // 5):
        some = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        if not np.isnan(values[some]).all():
            draws.append(summary(values[some]))
    return estimate(float(summary(values)), draws).to_dict()


def half_distances(
    real: NDArray[np.float64],
    made: NDArray[np.float64],
    patients: NDArray[Any],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Mean Kolmogorov-Smirnov distance of one half, drawn or real, to the other half, real."""
    distances = []
    for _ in range(HALVES):
        first = patient_halves(patients, rng)
        sides = [real[~first], real[first], made[first]]
        sides = [side[~np.isnan(side)] for side in sides]
        if min(map(len, sides)) >= FEWEST_TOLD // 2:
            distances.append(
                [
                    float(stats.ks_2samp(sides[0], side, method="asymp").statistic)
                    for side in sides[1:]
                ]
            )
    if not distances:
        return {}
    means = np.mean(distances, 0)
    return {"distance_real": float(means[0]), "distance_drawn": float(means[1])}


def two_sample(
    records: Records,
    held_out: NDArray[np.int64],
    drawn: Sequence[Beats],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """AUC of telling one half of the patients from the other, the first one drawn or real."""
    patients = records.patient[held_out]
    first = patient_halves(patients, rng)
    real = np.nan_to_num(rhythm_features([records.beats[i] for i in held_out]), nan=-1.0)
    made = np.nan_to_num(rhythm_features(drawn), nan=-1.0)

    def auc(side: NDArray[np.float64]) -> dict[str, float]:
        found = two_sample_test(
            real[~first],
            side[first],
            patients[~first],
            patients[first],
            kind="boosted",
            resamples=20,
        )
        return found.auc.to_dict()

    return {"real": auc(real), "drawn": auc(made)}


def novelty(
    records: Records,
    training: NDArray[np.int64],
    held_out: NDArray[np.int64],
    drawn: Sequence[Beats],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """How often a training train has a drawn one, or another patient's, within its jitter.

    Two trains differ by the root mean square of the differences of their RR intervals, at the best
    of five alignments; a train's jitter is the standard deviation of its own RR intervals. Trains
    are drawn for the conditions of the very records that they are compared with.
    """
    some = rng.permutation(len(held_out))[:NOVELTY_TRAINS]
    usable = [i for i in training if len(records.beats[i].rr_s) >= FEWEST_INTERVALS]
    jitter = np.array([max(records.beats[i].rr_s.std(), SMALLEST_JITTER_S) for i in usable])
    stored = padded([records.beats[i] for i in usable])
    sides = {
        "drawn": [drawn[i] for i in some],
        "other_patients": [records.beats[held_out[i]] for i in some],
    }
    nearest, hits = {}, {}
    for name, trains in sides.items():
        apart = np.stack([differences(padded([train])[0], stored) for train in trains])
        hits[name] = (apart < jitter).mean(0)
        nearest[name] = apart.min(0)
    patients = records.patient[usable]
    excess = hits["drawn"] - hits["other_patients"]
    ever = (hits["drawn"] > 0).astype(float) - (hits["other_patients"] > 0)
    closer = (nearest["drawn"] < nearest["other_patients"]).astype(float)
    return {
        "trains": len(some),
        "share_within_jitter": {name: float(share.mean()) for name, share in hits.items()},
        "excess": patient_mean(excess, patients, rng).to_dict(),
        "records_with_one_within_jitter": {
            name: float((share > 0).mean()) for name, share in hits.items()
        },
        "excess_of_records": patient_mean(ever, patients, rng).to_dict(),
        "records_nearer_to_a_drawn_train": patient_mean(closer, patients, rng).to_dict(),
    }


def padded(beats: Sequence[Beats]) -> NDArray[np.float64]:
    """RR intervals of several trains, NaN at the end: (n, longest)."""
    longest = max(len(each.rr_s) for each in beats)
    rows = np.full((len(beats), longest), np.nan)
    for row, each in zip(rows, beats, strict=True):
        row[: len(each.rr_s)] = each.rr_s
    return rows


def differences(rr_s: NDArray[np.float64], stored: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square difference of intervals to each stored train, at the best alignment."""
    best = np.full(len(stored), np.inf)
    for late in range(-LATE_BEATS, LATE_BEATS + 1):
        own, other = rr_s[max(late, 0) :], stored[:, max(-late, 0) :]
        width = min(len(own), other.shape[1])
        squares = np.square(other[:, :width] - own[:width])
        counted = (~np.isnan(squares)).sum(1)
        mean = np.nansum(squares, 1) / np.maximum(counted, 1)
        best = np.where(counted >= FEWEST_INTERVALS, np.minimum(best, np.sqrt(mean)), best)
    return best


def sampling_seconds(
    model: RhythmModel, records: Records, held_out: NDArray[np.int64]
) -> dict[str, float]:
    """Seconds to draw 1,000 trains, 16 at a time and all at once."""
    index = np.resize(held_out, 1000)
    found = {}
    for size in (16, 1000):
        began, cpu = time.monotonic(), time.process_time()
        for start in range(0, 1000, size):
            some = index[start : start + size]
            model.sample(*conditions(records, some), [int(i) for i in some])
        found[f"batches of {size}"] = round(time.monotonic() - began, 2)
        found[f"batches of {size}, of one core"] = round(time.process_time() - cpu, 2)
    return found


if __name__ == "__main__":
    main()
