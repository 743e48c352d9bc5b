"""Scores of a source model on patients that it never met: PTB-XL's fold 10.

    python benchmarks/source_scores.py --run RUN --work WORK [--records 4000] [--to JSON]

Fold 10 is for the end; `--fold 9` scores on the fold that chose the model and its label scale.

RUN holds a source model trained on folds of the prepared PTB-XL other than 10. Records of the nine
ICBEB classes are generated in the mix of labels of its training records, with the model's own
rhythms and beat shapes, and compared with fold 10:

- utility: a classifier trained on them alone, next to one trained on as many, and on all, of the
  real ones (macro AUROC on fold 10, means over seeds, intervals over patients);
- fidelity, rules of the classes, and privacy of the training patients with fold 10 as hold-out;
- rhythm: beats found next to those requested, regular NORM records, likeness of the beats of one
  record, and the P window of the mean beat next to the beat shape requested.

Finished parts are not repeated. Prints one JSON object, for `ecgtransfer models export --scores`.
"""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecgtransfer.corpus import ECGSet, LabelSpace, select_records
from ecgtransfer.corpus.labels import label_space
from ecgtransfer.diffusion import CascadeConditions, classifier_free, sampling_sigmas
from ecgtransfer.evaluation import (
    ClassifierConfig,
    FeatureScale,
    LabelledRecords,
    PrivacySide,
    measure_fidelity,
    measure_intervals,
    measure_physiology,
    measure_privacy,
    train_classifier,
    weighted_macro_auroc,
)
from ecgtransfer.evaluation.beat_to_beat import (
    REGULAR_RR,
    beat_agreement,
    beat_likeness,
    rr_variation,
)
from ecgtransfer.evaluation.fidelity.figures import distance_table
from ecgtransfer.evaluation.physiology.figures import rule_table
from ecgtransfer.evaluation.privacy.figures import privacy_table
from ecgtransfer.pipeline import Run, SamplerSettings, Source, load_source
from ecgtransfer.pipeline.target import project_labels
from ecgtransfer.signals import Beats, beat_shapes, find_beats
from ecgtransfer.signals.beat_shape import BEFORE_S
from ecgtransfer.statistics import (
    draw_resamples,
    estimate,
)
from ecgtransfer.synthesis import generate, parse_counts
from ecgtransfer.synthesis.generation import NETWORK_BATCH_CPU
from ecgtransfer.training import available_cores

#: Records of a side of fidelity, physiology and privacy.
LARGEST_SIDE = 2000
#: Records that are generated between two lines of progress.
TOLD_EVERY = 256
#: Records whose requested beat shapes are drawn again and compared.
SHAPES_COMPARED = 512
#: Where the P wave is looked for, seconds from R.
P_WINDOW_S = (-0.25, -0.07)
#: Bootstrap resamples of the shares and medians of `rhythm`.
RESAMPLES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--classifier-steps", type=int, default=1000)
    parser.add_argument("--label-scale", type=float, default=1.0)
    parser.add_argument("--fold", type=int, default=10, help="fold that is compared with")
    parser.add_argument(
        "--quick", action="store_true", help="rhythm and physiology alone, in minutes"
    )
    parser.add_argument("--to", type=Path, help="file for the JSON")
    options = parser.parse_args()
    source = load_source(Run.open(options.run))
    real, train, _ = source.records()
    space = label_space("icbeb9")
    labels = project_labels(space, real, drop_others=True)
    train, test = (
        numbers[labels[numbers].any(axis=1)]
        for numbers in (train, select_records(real.records, (f"fold={options.fold}",)))
    )
    sampler = SamplerSettings(classifier_free_scale=options.label_scale)
    drawn = drawn_set(source, space, labels[train], sampler, options)
    sides = {
        "real": labelled(real, labels, train),
        "synthetic": LabelledRecords(drawn.independent_mv(), np.asarray(drawn.labels)),
        "test": labelled(real, labels, test),
    }
    rng = np.random.default_rng(0)
    as_many = rng.permutation(len(train))[: len(drawn)]
    sides["real, as many"] = sides["real"].select(np.sort(as_many))
    found = {
        "model": source.fingerprint,
        "training_steps": source.summary.steps,
        "generated_records": len(drawn),
        "sampler": f"{sampler.solver}, {sampler.steps} steps",
        "label_scale": options.label_scale,
        "test": {"selection": f"fold={options.fold}", "records": len(test)},
    }
    found["rhythm"] = rhythm(source, drawn, real, labels, test, options.label_scale)
    print(json.dumps(found["rhythm"], indent=1), file=sys.stderr, flush=True)
    found["physiology"] = physiology(sides, space.names)
    print(json.dumps(found["physiology"], indent=1), file=sys.stderr, flush=True)
    if not options.quick:
        found["utility"], classifier = utility(sides, space.names, options)
        found["fidelity"] = fidelity(sides, classifier, space.names)
        found["privacy"] = privacy(sides)
    text = json.dumps(found, indent=2)
    print(text)
    if options.to is not None:
        options.to.write_text(text + "\n")


def drawn_set(
    source: Source,
    space: LabelSpace,
    labels: np.ndarray,
    sampler: SamplerSettings,
    options: argparse.Namespace,
) -> ECGSet:
    """Records of the model in the mix of labels (N, K) of its training records."""
    rows = Counter("+".join(space.decode(row)) for row in labels)
    share = options.records / len(labels)
    counts = [f"{names}={math.ceil(share * n)}" for names, n in sorted(rows.items())]
    config = source.model.config

    def told(done: int, total: int) -> None:
        if done % TOLD_EVERY == 0 or done == total:
            print(f"generated {done} of {total}", file=sys.stderr, flush=True)

    return generate(
        classifier_free(source.model, sampler.classifier_free_scale),
        source.model,
        parse_counts(counts, space),
        options.work / f"set-{source.fingerprint}-{options.records}-{options.label_scale:g}",
        label_space=space,
        sigmas=sampling_sigmas(sampler.steps, config.noise),
        solver=sampler.solver,
        conditions=conditions_of(source, space, options.label_scale),
        card_extra={"model_fingerprint": source.fingerprint, "method": "source"},
        samples=config.samples,
        sampling_rate_hz=config.sampling_rate_hz,
        progress=told,
    )


def conditions_of(source: Source, space: LabelSpace, scale: float) -> CascadeConditions | None:
    """The model's own rhythms and beat shapes; None for a model of labels alone."""
    if source.cascade is None:
        return None
    return CascadeConditions(source.cascade, space.names, label_scale=scale)


def labelled(ecgset: ECGSet, labels: np.ndarray, numbers: np.ndarray) -> LabelledRecords:
    """Records of a set with labels and patients."""
    patients = ecgset.records.patient.astype(str).to_numpy()[numbers]
    return LabelledRecords(ecgset.independent_mv(numbers), labels[numbers], patients)


def rhythm(
    source: Source,
    drawn: ECGSet,
    real: ECGSet,
    labels: np.ndarray,
    test: np.ndarray,
    scale: float,
) -> dict[str, Any]:
    """Beats of the drawn records, found in their signals, and those of fold 10."""
    rng = np.random.default_rng(4)
    found = [find_beats(drawn.recording(number)) for number in range(len(drawn))]
    test_beats = [real.beats[number] for number in test]
    norm = drawn.label_space.index("NORM")
    scores: dict[str, Any] = {
        "NORM regular": {
            side: share(rr_variation(norm_alone(beats, rows, norm)) < REGULAR_RR, rng)
            for side, beats, rows in (
                ("generated", found, np.asarray(drawn.labels)),
                ("real", test_beats, labels[test]),
            )
        },
        "likeness of beats": {
            "generated": likeness(drawn.independent_mv(), found, rng),
            "real": likeness(real.independent_mv(test), test_beats, rng),
        },
    }
    if source.cascade is None:
        return scores
    agreement = [
        beat_agreement(requested, each)
        for requested, each in zip(drawn.beats, found, strict=True)
        if len(requested)
    ]
    error = np.abs([each.heart_rate_error_bpm for each in agreement])
    scores |= {
        "heart rate found minus requested, absolute, bpm": median(error, rng),
        "requested beats found within 50 ms": mean([a.sensitivity for a in agreement], rng),
        "found beats that were requested": mean(
            [a.positive_predictive_value for a in agreement], rng
        ),
        "P window against the shape requested": requested_shapes(source, drawn, scale, rng),
    }
    return scores


def requested_shapes(
    source: Source, drawn: ECGSet, scale: float, rng: np.random.Generator
) -> dict[str, Any]:
    """Correlation, and QRS amplitude, of the mean beat with the beat shape requested."""
    conditions = conditions_of(source, drawn.label_space, scale)
    assert conditions is not None
    rate = drawn.sampling_rate_hz
    first, last = (round((BEFORE_S + edge) * rate) for edge in P_WINDOW_S)
    qrs = slice(round((BEFORE_S - 0.06) * rate), round((BEFORE_S + 0.08) * rate))
    correlation, amplitude = [], []
    labels = torch.from_numpy(np.asarray(drawn.labels))
    seeds = drawn.records.seed.tolist()
    # In the batches in which the records were drawn.
    batches = rng.permutation(len(drawn) // NETWORK_BATCH_CPU)
    for batch in batches[: SHAPES_COMPARED // NETWORK_BATCH_CPU]:
        rows = range(batch * NETWORK_BATCH_CPU, (batch + 1) * NETWORK_BATCH_CPU)
        part = slice(rows.start, rows.stop)
        shapes, _ = conditions.shapes(labels[part], seeds[part])
        for row, shape in zip(rows, shapes, strict=True):
            beats = drawn.beats[row]
            made, _ = beat_shapes(drawn.independent_mv(row)[0], beats, rate)
            for lead in range(len(shape[0])):
                wanted, got = shape[0, lead], made[0, lead]
                if np.ptp(wanted[first:last]) > 0:
                    both = np.corrcoef(wanted[first:last], got[first:last])
                    correlation.append(both[0, 1])
                amplitude.append(np.ptp(got[qrs]) / max(np.ptp(wanted[qrs]), 1e-6))
    return {
        "correlation, median over records and leads": median(correlation, rng),
        "QRS amplitude found over requested, median": median(amplitude, rng),
    }


def norm_alone(beats: list[Beats], rows: np.ndarray, norm: int) -> list[Beats]:
    """Beats of the records that are NORM and nothing else of the nine."""
    alone = (rows[:, norm] == 1) & (rows.sum(axis=1) == 1)
    return [each for each, wanted in zip(beats, alone, strict=True) if wanted]


def likeness(
    signals_mv: np.ndarray, beats: list[Beats], rng: np.random.Generator
) -> dict[str, Any]:
    """Correlation of ordinary beats with the record's median beat, and spread of R."""
    found = [
        each
        for signal, marked in zip(signals_mv, beats, strict=True)
        if (each := beat_likeness(signal, marked, 100)) is not None
    ]
    return {
        "correlation": mean([each.correlation for each in found], rng),
        "spread of R": median([each.r_spread for each in found], rng),
    }


def share(flags: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """A share of records with its interval."""
    return mean(np.asarray(flags, float), rng)


def mean(values: Any, rng: np.random.Generator) -> dict[str, float]:
    """Mean over records with its bootstrap interval."""
    return _bootstrapped(np.asarray(values, float), np.mean, rng)


def median(values: Any, rng: np.random.Generator) -> dict[str, float]:
    """Median over records with its bootstrap interval."""
    return _bootstrapped(np.asarray(values, float), np.median, rng)


def _bootstrapped(
    values: np.ndarray, statistic: Callable[[np.ndarray], float], rng: np.random.Generator
) -> dict[str, float]:
    known = values[np.isfinite(values)]
    draws = [statistic(known[rng.integers(len(known), size=len(known))]) for _ in range(RESAMPLES)]
    return {
        name: round(float(value), 4) + 0.0
        for name, value in zip(
            ("value", "low", "high"),
            (statistic(known), *np.quantile(draws, (0.025, 0.975))),
            strict=True,
        )
    }


def utility(
    sides: dict[str, LabelledRecords], names: tuple[str, ...], options: argparse.Namespace
) -> tuple[dict[str, Any], Any]:
    """Macro AUROC on the test patients, and the classifier of the real records."""
    test = sides["test"]
    config = ClassifierConfig(steps=options.classifier_steps)
    resamples = draw_resamples(test.labels, test.patients, seed=0)
    found: dict[str, Any] = {}
    draws, classifiers = {}, {}
    for side in ("real", "real, as many", "synthetic"):
        scores, drawn = [], []
        for seed in range(options.seeds):
            folder = options.work / "classifiers" / sides[side].fingerprint()[:12] / str(seed)
            print(f"classifier of {side}, seed {seed}", file=sys.stderr, flush=True)
            classifier = train_classifier(sides[side], names, config, folder, seed=seed)
            predicted = classifier(test.signals_mv)
            whole = np.ones((1, len(test)))
            scores.append(float(weighted_macro_auroc(test.labels, predicted, whole)[0]))
            drawn.append(weighted_macro_auroc(test.labels, predicted, resamples))
            classifiers.setdefault(side, classifier)
        draws[side] = np.mean(drawn, axis=0)
        found[side] = estimate(float(np.mean(scores)), draws[side]).to_dict() | {
            "seeds": [round(score, 4) for score in scores]
        }
    ratio = draws["synthetic"] / draws["real"]
    value = found["synthetic"]["value"] / found["real"]["value"]
    found["synthetic over real"] = estimate(value, ratio).to_dict()
    return found, classifiers["real"]


def fidelity(
    sides: dict[str, LabelledRecords], classifier: Any, names: tuple[str, ...]
) -> dict[str, Any]:
    """Distances to fold 10 beside those of two halves of it."""
    rng = np.random.default_rng(1)
    test = some(sides["test"], rng)
    drawn = some(sides["synthetic"], rng)
    scale = FeatureScale.fitted(classifier.features(sides["real"].signals_mv[:LARGEST_SIDE]))
    result = measure_fidelity(
        scale(classifier.features(test.signals_mv)),
        scale(classifier.features(drawn.signals_mv)),
        test.signals_mv,
        drawn.signals_mv,
        100,
        test.patients,
        labels=test.labels,
        generated_labels=drawn.labels,
        label_names=names,
        seed=0,
    )
    return {
        "measures": distance_table(result).texts(),
        "verdicts": [verdict.sentence for verdict in result.verdicts()],
    }


def physiology(sides: dict[str, LabelledRecords], names: tuple[str, ...]) -> dict[str, Any]:
    """Rules of the classes, of the drawn records and of fold 10."""
    rng = np.random.default_rng(2)
    test, drawn = some(sides["test"], rng), some(sides["synthetic"], rng)
    measured = [
        measure_intervals(side.signals_mv, 100, workers=available_cores()) for side in (test, drawn)
    ]
    result = measure_physiology(
        measured[0], test.labels, measured[1], drawn.labels, names, test.patients
    )
    return {
        "rules": rule_table(result).texts(),
        "verdicts": [verdict.sentence for verdict in result.verdicts()],
    }


def privacy(sides: dict[str, LabelledRecords]) -> dict[str, Any]:
    """Are the drawn records closer to the training patients than to fold 10? In signals alone.

    A classifier's features would know the training patients, of whom it learned.
    """
    rng = np.random.default_rng(3)
    hold_out = some(sides["test"], rng)
    train = some(sides["real"], rng)
    drawn = some(sides["synthetic"], rng)
    result = measure_privacy(
        *(
            PrivacySide(side.signals_mv, patients=side.patients)
            for side in (train, hold_out, drawn)
        ),
        sampling_rate_hz=100,
        workers=available_cores(),
    )
    return {
        "tests": privacy_table(result).texts(),
        "verdicts": [verdict.sentence for verdict in result.verdicts()],
    }


def some(records: LabelledRecords, rng: np.random.Generator) -> LabelledRecords:
    """At most as many records as a side has, drawn at random."""
    return records.select(np.sort(rng.permutation(len(records))[:LARGEST_SIDE]))


if __name__ == "__main__":
    main()
