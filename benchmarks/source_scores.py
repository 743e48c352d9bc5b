"""What a source model is worth on patients that it never met: PTB-XL's fold 10.

    python benchmarks/source_scores.py --run RUN --work WORK [--records 4000] [--to JSON]

RUN holds a source model trained on folds of the prepared PTB-XL other than 10. Records are drawn
from the model in the mix of labels of its training records and asked the four questions: a
classifier trained on them alone against one trained on as many, and on all, of the real ones (macro
AUROC on fold 10, means over seeds, intervals over patients), fidelity against fold 10, rules of the
classes, and privacy of the training patients with fold 10 as strangers. What is done is not done
again. Prints one JSON object, for `ecgtransfer models export --scores`.
"""

import argparse
import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ecgtransfer.corpus import ECGSet, select_records
from ecgtransfer.diffusion import classifier_free, sampling_sigmas
from ecgtransfer.evaluation import (
    ClassifierConfig,
    FeatureScale,
    LabelledRecords,
    PrivacySide,
    draw_resamples,
    estimate,
    measure_fidelity,
    measure_intervals,
    measure_physiology,
    measure_privacy,
    train_classifier,
    weighted_macro_auroc,
)
from ecgtransfer.pipeline import Run, SamplerSettings, Source, load_source
from ecgtransfer.synthesis import generate, parse_counts
from ecgtransfer.training import available_cores

TEST = ("fold=10",)
#: Records of a side of fidelity, physiology and privacy.
LARGEST_SIDE = 2000
#: Records that are generated between two lines of progress.
TOLD_EVERY = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--classifier-steps", type=int, default=1000)
    parser.add_argument("--label-scale", type=float, default=1.0)
    parser.add_argument("--to", type=Path, help="file for the JSON")
    options = parser.parse_args()
    source = load_source(Run.open(options.run))
    real, train, _ = source.records()
    test = select_records(real.records, TEST)
    sampler = SamplerSettings(classifier_free_scale=options.label_scale)
    drawn = drawn_set(source, real, train, sampler, options)
    sides = {
        "real": labelled(real, train),
        "synthetic": LabelledRecords(drawn.independent_mv(), np.asarray(drawn.labels)),
        "test": labelled(real, test),
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
        "test": {"selection": TEST[0], "records": len(test)},
    }
    found["utility"], classifier = utility(sides, real.label_space.names, options)
    found["fidelity"] = fidelity(sides, classifier, real.label_space.names)
    found["physiology"] = physiology(sides, real.label_space.names)
    found["privacy"] = privacy(sides)
    text = json.dumps(found, indent=2)
    print(text)
    if options.to is not None:
        options.to.write_text(text + "\n")


def drawn_set(
    source: Source,
    real: ECGSet,
    train: np.ndarray,
    sampler: SamplerSettings,
    options: argparse.Namespace,
) -> ECGSet:
    """Records of the model in the mix of labels of its training records."""
    rows = Counter("+".join(real.label_space.decode(row)) for row in real.labels[train])
    share = options.records / len(train)
    counts = [f"{names}={math.ceil(share * n)}" for names, n in sorted(rows.items())]
    config = source.model.config

    def told(done: int, total: int) -> None:
        if done % TOLD_EVERY == 0 or done == total:
            print(f"generated {done} of {total}", file=sys.stderr, flush=True)

    return generate(
        classifier_free(source.model, sampler.classifier_free_scale),
        source.model.units,
        parse_counts(counts, source.label_space),
        options.work / f"set-{source.fingerprint}-{options.records}-{options.label_scale:g}",
        label_space=source.label_space,
        sigmas=sampling_sigmas(sampler.steps, config.noise),
        solver=sampler.solver,
        card_extra={"model_fingerprint": source.fingerprint, "method": "source"},
        samples=config.samples,
        sampling_rate_hz=config.sampling_rate_hz,
        progress=told,
    )


def labelled(ecgset: ECGSet, numbers: np.ndarray) -> LabelledRecords:
    """Records of a set with labels and patients."""
    patients = ecgset.records.patient.astype(str).to_numpy()[numbers]
    return LabelledRecords(ecgset.independent_mv(numbers), ecgset.labels[numbers], patients)


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
        "measures": [list(row) for row in result.rows()],
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
        "rules": [list(row) for row in result.rule_rows()],
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
        "tests": [list(row) for row in result.rows()],
        "verdicts": [verdict.sentence for verdict in result.verdicts()],
    }


def some(records: LabelledRecords, rng: np.random.Generator) -> LabelledRecords:
    """At most as many records as a side has, drawn at random."""
    return records.select(np.sort(rng.permutation(len(records))[:LARGEST_SIDE]))


if __name__ == "__main__":
    main()
