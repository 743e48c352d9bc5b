"""How well a beat-shape model describes the beat shapes of patients that it never met.

    python benchmarks/beat_shape_scores.py --run RUN [--fold 9] [--records 2000] [--to JSON]

RUN holds a finished factorised source model. One shape and level is drawn for each record of a
fold, given that record's own beats, statements, age and sex. Asked of them:

- denoising loss on the fold at several noise levels, mean and median over records;
- two-sample AUC of boosted trees on the model's components and log levels, by patients, beside
  real against real (one half of the patients against the other);
- rules of the classes on the layout of the drawn shapes alone, without a residual, beside the
  layout of the records' own shapes;
- novelty: the distance from each training record's shape to the nearest drawn one, beside the
  nearest of the fold's own records (other patients under the same conditions).

Fold 9 stops the training and chose the form of the model; fold 10 is for the end. One thread; adds
to `benchmarks/beat_shape_scores.json`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ecgtransfer.corpus import ECGSet, select_records
from ecgtransfer.corpus.labels import label_space
from ecgtransfer.diffusion import BeatShapeModel, Condition, ConditionedRecords
from ecgtransfer.diffusion.beat_shape_training import encode_records, shape_loss
from ecgtransfer.evaluation import measure_intervals, measure_physiology, two_sample_test
from ecgtransfer.evaluation.physiology.figures import rule_table
from ecgtransfer.pipeline import Run, load_source
from ecgtransfer.pipeline.conditioned import conditioned_records
from ecgtransfer.pipeline.source_training import residual_levels, with_beats
from ecgtransfer.signals.beat_shape import ORDINARY_ROW, layout
from ecgtransfer.statistics import estimate

RESULTS = Path(__file__).resolve().with_suffix(".json")
#: Noise levels of the loss, in the model's units.
SIGMAS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
#: Training records whose nearest drawn shape is looked for, at most.
NOVELTY_RECORDS = 4000
#: Strongest components that shapes are compared in.
NOVELTY_COMPONENTS = 64
RESAMPLES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=9)
    parser.add_argument("--records", type=int, default=2000, help="records of the fold, at most")
    parser.add_argument("--label-scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = load_source(Run.open(options.run))
    if source.cascade is None:
        raise SystemExit(f"expected a factorised source model in {options.run}, got a plain one")
    model = source.cascade.beat_shapes
    ecgset, train, _ = source.records()
    records = conditioned_records(ecgset, model.config.label_names)
    level = residual_levels(source.model, records)
    rng = np.random.default_rng([options.seed, options.fold])
    train = with_shapes(records, train)
    fold = with_shapes(records, select_records(ecgset.records, (f"fold={options.fold}",)))
    fold = np.sort(rng.permutation(fold)[: options.records])
    patients = ecgset.records.patient.astype(str).to_numpy()

    x0, condition = encode_records(model, records, level, fold)
    seeds = [int(options.seed * 1_000_003 + number) for number in fold]
    shapes, levels = model.draw(condition, seeds, label_scale=options.label_scale)
    drawn = model.encode(torch.from_numpy(shapes), torch.from_numpy(levels))

    found: dict[str, Any] = {
        "model": source.fingerprint,
        "training_steps": source.summary.stages["beat_shapes"].steps,
        "records": len(fold),
        "label_scale": options.label_scale,
    }
    found["loss"] = losses(model, x0, condition, options.seed)
    show("loss", found["loss"])
    parts = {
        "ordinary beat and level": slice(0, model.parts[0] + model.parts[1]),
        "ventricular beat": slice(model.parts[0] + model.parts[1], None),
    }
    ventricular = model.present(condition, x0)[:, -1].numpy() > 0
    found["two_sample_auc"] = {
        name: two_sample(
            x0[rows][:, part].numpy(), drawn[rows][:, part].numpy(), patients[fold][rows], rng
        )
        for (name, part), rows in zip(
            parts.items(), (np.ones(len(fold), bool), ventricular), strict=True
        )
    }
    show("two-sample AUC", found["two_sample_auc"])
    found["novelty"] = novelty(model, records, level, train, x0, drawn, patients, rng)
    show("novelty", found["novelty"])
    found["rules_of_the_layout"] = rules(ecgset, records, model.config.label_names, fold, shapes)
    show("rules", found["rules_of_the_layout"])
    held = json.loads(options.to.read_text()) if options.to.exists() else {}
    held[f"fold {options.fold}, label scale {options.label_scale:g}"] = found
    options.to.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")


def show(name: str, value: object) -> None:
    """Print one part of the result."""
    print(name, json.dumps(value), flush=True)


def with_shapes(records: ConditionedRecords, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of some records that have beats and an ordinary beat shape."""
    kept = with_beats(records, numbers)
    return kept[np.asarray(records.shapes_mv[kept, ORDINARY_ROW].any(axis=(1, 2)))]


@torch.no_grad()
def losses(
    model: BeatShapeModel, x0: torch.Tensor, condition: Condition, seed: int
) -> dict[str, dict[str, float]]:
    """Denoising loss at each noise level, over records; 1 is the best linear denoiser's."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for sigma in SIGMAS:
        noise = torch.randn(x0.shape, generator=generator)
        loss = shape_loss(model, model, x0, condition, torch.full((len(x0),), sigma), noise)
        found[f"{sigma:g}"] = {
            "mean": round(float(loss.mean()), 4),
            "median": round(float(loss.median()), 4),
        }
    return found


def two_sample(
    real: NDArray[np.floating],
    drawn: NDArray[np.floating],
    patients: NDArray[np.str_],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """AUC between halves of the patients, and of all records against their drawn counterparts."""
    known = np.unique(patients)
    first = np.isin(patients, rng.permutation(known)[: len(known) // 2])
    pairs = {
        "half against half, real": (real[~first], real[first], patients[~first], patients[first]),
        "half against half, drawn": (real[~first], drawn[first], patients[~first], patients[first]),
        "all against all, drawn": (real, drawn, patients, patients),
    }
    return {
        name: two_sample_test(*map(np.asarray, pair), kind="boosted", resamples=20).auc.to_dict()
        for name, pair in pairs.items()
    }


def novelty(
    model: BeatShapeModel,
    records: ConditionedRecords,
    level: NDArray[np.floating],
    train: NDArray[np.int64],
    held_out: torch.Tensor,
    drawn: torch.Tensor,
    patients: NDArray[np.str_],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Are training shapes nearer to drawn shapes than to those of other patients?

    Distances are between the strongest components of the ordinary beat, as the model scales them.
    """
    some = np.sort(rng.permutation(train)[:NOVELTY_RECORDS])
    stored = encode_records(model, records, level, some)[0][:, :NOVELTY_COMPONENTS]
    nearest = {
        name: torch.cdist(stored, side[:, :NOVELTY_COMPONENTS]).min(dim=1).values.numpy()
        for name, side in (("drawn", drawn), ("other patients", held_out))
    }
    closer = (nearest["drawn"] < nearest["other patients"]).astype(float)
    groups = np.unique(patients[some], return_inverse=True)[1]
    sums, counts = np.bincount(groups, closer), np.bincount(groups)
    picks = rng.integers(len(counts), size=(RESAMPLES, len(counts)))
    draws = sums[picks].sum(1) / counts[picks].sum(1)
    return {
        "training_records": len(some),
        "share_nearer_to_a_drawn_shape": estimate(float(closer.mean()), draws).to_dict(),
        "distance": {
            name: {
                str(q): round(float(np.quantile(value, q)), 3)
                for q in (0.0, 0.001, 0.01, 0.05, 0.5)
            }
            for name, value in nearest.items()
        },
    }


def rules(
    ecgset: ECGSet,
    records: ConditionedRecords,
    names: tuple[str, ...],
    numbers: NDArray[np.int64],
    shapes_mv: NDArray[np.floating],
) -> dict[str, Any]:
    """Rules of the nine ICBEB classes on layouts of the records' own and of the drawn shapes."""
    core = [name for name in label_space("icbeb9").names if name in names]
    labels = records.labels[numbers][:, [names.index(name) for name in core]]
    rate, samples = ecgset.sampling_rate_hz, ecgset.n_samples
    placed = [layout(records.beats[number], samples, rate) for number in numbers]
    measured = [
        measure_intervals(
            np.stack([lay(shape) for lay, shape in zip(placed, side, strict=True)]), rate
        )
        for side in (records.shapes_mv[numbers], shapes_mv)
    ]
    patients = ecgset.records.patient.astype(str).to_numpy()[numbers]
    result = measure_physiology(measured[0], labels, measured[1], labels, tuple(core), patients)
    return {"rules": rule_table(result).texts()}


if __name__ == "__main__":
    main()
