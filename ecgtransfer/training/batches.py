"""Which records make up the batch of a step, and with which randomness.

Everything is a pure function of (seed, step): a training that is killed and resumed draws what
it would have drawn, with no state of a random generator on disk.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ecgtransfer.errors import ConfigError
from ecgtransfer.statistics import streams

BatchIndices = Callable[[int], np.ndarray]

#: Record numbers that are shuffled at a time, at least: one call of the generator for many epochs
#: of few records.
SHUFFLED_AT_ONCE = 4096


def shuffled_batches(
    n: int, batch_size: int, seed: int, weights: np.ndarray | None = None
) -> BatchIndices:
    """Record numbers of each step: step -> (batch_size,) int64.

    Without weights the records are dealt in a new random order each epoch, batches running over
    its end; with weights (n,) they are drawn with replacement in proportion.

    The orders of many epochs are drawn at once where the records are few, from a generator of
    (seed, number of the draw): an order depends on seed, n and, where that is above
    `SHUFFLED_AT_ONCE`, on batch_size. The last two draws are kept in memory.
    """
    if n < 1 or batch_size < 1:
        raise ConfigError(
            f"expected at least one record and a batch size of at least 1, got {n} records and "
            f"batch size {batch_size}"
        )
    if weights is None:
        epochs = -(-max(SHUFFLED_AT_ONCE, batch_size) // n)
        length = epochs * n

        @lru_cache(maxsize=2)  # a batch is no longer than a draw, so it touches two at most
        def shuffled(draw: int) -> np.ndarray:
            """One order after the other: (epochs * n,)."""
            in_order = np.tile(np.arange(n, dtype=np.int64), (epochs, 1))
            rng = streams.generator(seed, streams.EPOCH_ORDERS, draw)
            return rng.permuted(in_order, axis=1).ravel()

        def dealt(step: int) -> np.ndarray:
            draw, start = divmod(step * batch_size, length)
            end = start + batch_size
            if end <= length:
                return shuffled(draw)[start:end].copy()
            return np.concatenate([shuffled(draw)[start:], shuffled(draw + 1)[: end - length]])

        return dealt
    usable = weights.shape == (n,) and np.isfinite(weights).all() and np.all(weights >= 0)
    if not usable or not weights.sum() > 0:
        raise ConfigError(
            f"expected one finite weight of at least 0 for each of {n} records and not all of "
            f"them 0, got an array of shape {weights.shape}"
        )
    edges = np.cumsum(weights / weights.sum())
    edges[edges == edges[-1]] = 1.0  # of the last record that weighs anything

    def drawn(step: int) -> np.ndarray:
        u = streams.generator(seed, streams.WEIGHTED_RECORDS, step).random(batch_size)
        return np.searchsorted(edges, u, side="right").astype(np.int64)

    return drawn


def label_weights(labels: np.ndarray, power: float = 0.5) -> np.ndarray:
    """Drawing weights that favour rare diagnoses: (N, K) multi-hot -> (N,).

    A record weighs (1 / count)^power of its rarest diagnosis; 0 leaves the records as they come,
    1 balances the classes. A weight that depends on the label alone leaves the law of a record
    *given* its label, all that a conditional model learns, as it is.
    """
    counts = np.maximum(labels.sum(0), 1.0)
    rarity = (labels * counts**-power).max(1, initial=0.0)
    unlabelled = labels.sum(1) == 0
    rarity[unlabelled] = max(float(unlabelled.sum()), 1.0) ** -power
    weights: np.ndarray = rarity / rarity.sum()
    return weights


def step_generator(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """The generator of one training step in one process, on the CPU.

    What is no step of a process has a rank of its own, far above theirs (`streams.STEP_HELD_OUT`).

    torch's generator takes 32 bits of a seed: two of many thousand steps may share their noise,
    on other records, which does no harm.
    """
    state = np.random.SeedSequence([seed, step, rank]).generate_state(2)
    return torch.Generator().manual_seed((int(state[0]) << 31) ^ int(state[1]))


def record_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal noise with one seed a record: (len(seeds), *shape) float32, on the CPU.

    From numpy's generator, for which seeds that differ in any bit are different. torch's takes the
    lowest 32: among 100,000 records with 63-bit seeds about one pair would be the same record.
    """
    noise = [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(noise))


@contextmanager
def seeded_initialisation(seed: int) -> Iterator[None]:
    """Networks built inside start from weights that `seed` alone decides.

    They are built on the CPU; its global generator is as before afterwards, and those of other
    devices are not touched.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
