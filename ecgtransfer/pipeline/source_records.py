"""Source records that a transfer learns from: recorded ones, or the source model's own."""

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
from ecgtransfer.pipeline.target import domain_records, labels_in
from ecgtransfer.statistics import streams
from ecgtransfer.training import Progress, record_noise
from ecgtransfer.transfer import DomainRecords

#: Source records drawn from the model at a time.
AT_ONCE = 32


def matched_source(
    source: Source, space: LabelSpace, target_labels: np.ndarray, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of source training records whose labels follow the target's, with their labels.

    For each of n draws from the target's label rows, a source record of the very same labels.
    Where the source has fewer of a combination than are drawn, its records are dealt again, each
    once before any a second time: the mix of labels is the target's in any case. Given its label
    a record is as the source has it, and only that matters: log h is used through its slope in x,
    which the law of the labels does not touch. What is gained is that the classifier cannot tell
    the domains by their class mix, and the ratio varies less.

    Raises:
        CorpusError: no label combination of the target occurs in the source.
    """
    ecgset, train, _ = source.records()
    labels = labels_in(space, ecgset, drop_others=True)
    by_labels: dict[bytes, list[int]] = {}
    for number in train:
        by_labels.setdefault(labels[number].tobytes(), []).append(int(number))
    rows = [row.tobytes() for row in target_labels if row.tobytes() in by_labels]
    if not rows:
        raise CorpusError(
            "expected source records with the labels of the target, found none of any combination "
            "of them; use --source-records model"
        )
    rng = streams.generator(seed, streams.SOURCE_RECORDS)
    wanted: dict[bytes, int] = {}
    for place in rng.integers(len(rows), size=n):
        wanted[rows[place]] = wanted.get(rows[place], 0) + 1
    parts = [_dealt(by_labels[row], count, rng) for row, count in sorted(wanted.items())]
    return np.sort(np.concatenate(parts)), labels


def _dealt(numbers: list[int], count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the numbers in random order, each once before any a second time."""
    rounds = -(-count // len(numbers))
    return np.concatenate([rng.permutation(numbers) for _ in range(rounds)])[:count]


def recorded_source(
    source: Source, space: LabelSpace, target_labels: np.ndarray, n: int, seed: int
) -> DomainRecords:
    """Recorded ones with the target's labels.

    Args:
        source: the source with its training records.
        space: label space of the run.
        target_labels: (N, K) of the target's training records.
        n: how many are drawn, see `matched_source`.
        seed: of the draw.

    Raises:
        CorpusError: no label combination of the target occurs in the source.
    """
    numbers, labels = matched_source(source, space, target_labels, n, seed)
    ecgset, _, _ = source.records()
    return domain_records(source, ecgset, space, labels, numbers)


def drawn_source(
    source: Source,
    space: LabelSpace,
    target_labels: np.ndarray,
    n: int,
    seed: int,
    progress: Callable[[Progress], None],
) -> DomainRecords:
    """Records of the very law that the guidance corrects, the source model's own.

    Args:
        source: the source; its records are not needed.
        space: label space of the run.
        target_labels: (N, K) of the target's training records, which give the labels.
        n: how many are drawn.
        seed: of labels and noise.
        progress: called after every batch.
    """
    model = source.model
    device = model.units.amplitude_mv.device
    rng = streams.generator(seed, streams.DRAWN_SOURCE_RECORDS)
    label = torch.from_numpy(target_labels[rng.integers(len(target_labels), size=n)])
    sigmas = sampling_sigmas(RECORD_STEPS, model.config.noise)
    seeds = rng.integers(2**62, size=n).tolist()
    conditions = None if source.cascade is None else CascadeConditions(source.cascade, space.names)
    x0, told = [], []
    for start in range(0, n, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        drawn = record_noise(seeds[part], model.units.shape).to(device)
        condition = Condition(label=label[part].to(device))
        if conditions is not None:
            condition, _ = conditions(label[part], seeds[part])
        x0.append(sample(model, drawn, condition, sigmas, RECORD_SOLVER).cpu())
        told.append(condition.to("cpu"))
        progress(Progress(min(start + AT_ONCE, n), n, 0.0, None))
    names = tuple(f"drawn {number}" for number in range(n))
    whole = Condition.cat(told)
    return DomainRecords(torch.cat(x0), whole.label if source.cascade is None else whole, names)
