"""Source records for the training of a transfer: recorded, or sampled from the source model."""

from collections.abc import Callable

import numpy as np
import torch

from ecgtransfer.corpus import LabelSpace
from ecgtransfer.diffusion import (
    RECORD_SOLVER,
    RECORD_STEPS,
    CascadeConditions,
    Condition,
    sample,
    sampling_sigmas,
)
from ecgtransfer.errors import CorpusError
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.target import domain_records, project_labels
from ecgtransfer.statistics import streams
from ecgtransfer.training import Progress, record_noise
from ecgtransfer.transfer import DomainRecords

#: Batch size when source records are sampled from the model.
AT_ONCE = 32


def matched_source(
    source: Source, space: LabelSpace, target_labels: np.ndarray, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Select source training records whose labels are distributed like the target's.

    For each of n draws from the target's label rows, it takes a source record with the same labels.
    If the source has too few records of a combination, they are repeated evenly. So the class mix
    is always the target's. Given its label, a record still has the source distribution, and nothing
    else matters: log h is used through its gradient in x, which does not depend on the distribution
    of the labels. The advantage is that the classifier cannot distinguish the domains by their
    class mix, and that the ratio varies less.

    Args:
        source: source with its training records.
        space: label space of the run.
        target_labels: labels (N, K) of the target's training records.
        n: number of records to select.
        seed: seed of the draw.

    Returns:
        Increasing indices of the selected records, and the labels of all records of the source set
        in `space`.

    Raises:
        CorpusError: no label combination of the target occurs in the source.
    """
    ecgset, train, _ = source.records()
    labels = project_labels(space, ecgset, drop_others=True)
    by_labels: dict[bytes, list[int]] = {}
    for index in train:
        by_labels.setdefault(labels[index].tobytes(), []).append(int(index))
    rows = [row.tobytes() for row in target_labels if row.tobytes() in by_labels]
    if not rows:
        raise CorpusError(
            "expected source records with the target's labels, found none of any combination of "
            "them; use --source-records model"
        )
    rng = streams.generator(seed, streams.SOURCE_RECORDS)
    wanted: dict[bytes, int] = {}
    for place in rng.integers(len(rows), size=n):
        wanted[rows[place]] = wanted.get(rows[place], 0) + 1
    parts = [_draw_evenly(by_labels[row], count, rng) for row, count in sorted(wanted.items())]
    return np.sort(np.concatenate(parts)), labels


def _draw_evenly(indices: list[int], count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` indices at random; each is drawn once before any is drawn again."""
    rounds = -(-count // len(indices))
    return np.concatenate([rng.permutation(indices) for _ in range(rounds)])[:count]


def recorded_source(
    source: Source, space: LabelSpace, target_labels: np.ndarray, n: int, seed: int
) -> DomainRecords:
    """Return recorded source records with the target's class mix; see `matched_source`.

    Args:
        source: source with its training records.
        space: label space of the run.
        target_labels: labels (N, K) of the target's training records.
        n: number of records.
        seed: seed of the draw.

    Raises:
        CorpusError: no label combination of the target occurs in the source.
    """
    indices, labels = matched_source(source, space, target_labels, n, seed)
    ecgset, _, _ = source.records()
    return domain_records(source, ecgset, space, labels, indices)


def drawn_source(
    source: Source,
    space: LabelSpace,
    target_labels: np.ndarray,
    n: int,
    seed: int,
    progress: Callable[[Progress], None],
) -> DomainRecords:
    """Sample records from the source model: exactly the distribution that the guidance corrects.

    Args:
        source: source; its records are not needed.
        space: label space of the run.
        target_labels: labels (N, K) of the target's training records; each sampled record gets one
            of these rows at random.
        n: number of records.
        seed: seed of labels and noise.
        progress: called after every batch.
    """
    model = source.model
    device = model.units.amplitude_mv.device
    rng = streams.generator(seed, streams.DRAWN_SOURCE_RECORDS)
    label = torch.from_numpy(target_labels[rng.integers(len(target_labels), size=n)])
    sigmas = sampling_sigmas(RECORD_STEPS, model.config.noise)
    seeds = rng.integers(2**62, size=n).tolist()
    conditions = None if source.cascade is None else CascadeConditions(source.cascade, space.names)
    x0, sampled = [], []
    for start in range(0, n, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        drawn = record_noise(seeds[part], model.units.shape).to(device)
        condition = Condition(label=label[part].to(device))
        if conditions is not None:
            condition, _ = conditions(label[part], seeds[part])
        x0.append(sample(model, drawn, condition, sigmas, RECORD_SOLVER).cpu())
        sampled.append(condition.to("cpu"))
        progress(Progress(min(start + AT_ONCE, n), n, 0.0, None))
    names = tuple(f"drawn {index}" for index in range(n))
    whole = Condition.cat(sampled)
    return DomainRecords(torch.cat(x0), whole.label if source.cascade is None else whole, names)
