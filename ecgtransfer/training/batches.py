"""Deterministic batches and noise: which records a training step uses, and its generator.

Everything is a pure function of (seed, step). A killed training therefore resumes with the same
batches and noise, and no generator state is stored on disk.
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

#: Minimum number of record indices that are shuffled at a time: with few records, one call of the
#: generator serves many epochs.
SHUFFLED_AT_ONCE = 4096


def shuffled_batches(
    n: int, batch_size: int, seed: int, weights: np.ndarray | None = None
) -> BatchIndices:
    """Make a function that returns the record indices of a step: step -> (batch_size,) int64.

    Without weights, each epoch is a new random permutation; a batch may span two epochs. With
    weights, records are drawn with replacement.

    With few records, the permutations of many epochs are drawn in one call from a generator of
    (seed, index of the call). They depend on `seed`, on `n` and, if it exceeds `SHUFFLED_AT_ONCE`,
    on `batch_size`. The last two calls are cached.

    Args:
        n: number of records.
        batch_size: records per batch.
        seed: seed of the order.
        weights: (n,) sampling weights, not normalised; None for permutations.

    Raises:
        ConfigError: no record, an empty batch, or invalid weights.
    """
    if n < 1 or batch_size < 1:
        raise ConfigError(
            f"expected at least one record and a batch size of at least 1, got {n} records and "
            f"batch size {batch_size}"
        )
    if weights is None:
        epochs = -(-max(SHUFFLED_AT_ONCE, batch_size) // n)
        length = epochs * n

        @lru_cache(maxsize=2)  # a batch is at most as long as a call, so it spans two at most
        def shuffled(draw: int) -> np.ndarray:
            """Permutations of several epochs, concatenated: (epochs * n,)."""
            in_order = np.tile(np.arange(n, dtype=np.int64), (epochs, 1))
            rng = streams.generator(seed, streams.EPOCH_ORDERS, draw)
            return rng.permuted(in_order, axis=1).ravel()

        def permuted(step: int) -> np.ndarray:
            draw, start = divmod(step * batch_size, length)
            end = start + batch_size
            if end <= length:
                return shuffled(draw)[start:end].copy()
            return np.concatenate([shuffled(draw)[start:], shuffled(draw + 1)[: end - length]])

        return permuted
    usable = weights.shape == (n,) and np.isfinite(weights).all() and np.all(weights >= 0)
    if not usable or not weights.sum() > 0:
        raise ConfigError(
            f"expected one finite weight of at least 0 for each of {n} records and not all of "
            f"them 0, got an array of shape {weights.shape}"
        )
    edges = np.cumsum(weights / weights.sum())
    edges[edges == edges[-1]] = 1.0  # guard against rounding at the last record with weight > 0

    def drawn(step: int) -> np.ndarray:
        u = streams.generator(seed, streams.WEIGHTED_RECORDS, step).random(batch_size)
        return np.searchsorted(edges, u, side="right").astype(np.int64)

    return drawn


def label_weights(labels: np.ndarray, power: float = 0.5) -> np.ndarray:
    """Sampling weights that favour rare diagnoses: (N, K) multi-hot -> (N,).

    The weight is (1 / count)^power of the record's rarest diagnosis: power 0 samples uniformly, 1
    balances the classes. A weight that depends only on the label does not change p(x | label),
    which is all that a conditional model learns.
    """
    counts = np.maximum(labels.sum(0), 1.0)
    rarity = (labels * counts**-power).max(1, initial=0.0)
    unlabelled = labels.sum(1) == 0
    rarity[unlabelled] = max(float(unlabelled.sum()), 1.0) ** -power
    weights: np.ndarray = rarity / rarity.sum()
    return weights


def step_generator(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """Generator of one training step in one process, on the CPU.

    Draws that belong to no training step use ranks far above those of processes
    (`streams.STEP_HELD_OUT`).

    torch's generator uses 32 bits of a seed, so that two of many thousand steps may share their
    noise, on different records; this is harmless.
    """
    state = np.random.SeedSequence([seed, step, rank]).generate_state(2)
    return torch.Generator().manual_seed((int(state[0]) << 31) ^ int(state[1]))


def record_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal noise with one seed per record: (len(seeds), *shape) float32, on the CPU.

    Uses NumPy's generator, which depends on every bit of a seed. torch's generator uses only the
    lowest 32 bits: among 100,000 records with 63-bit seeds, about one pair would be identical.
    """
    noise = [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(noise))


@contextmanager
def seeded_initialisation(seed: int) -> Iterator[None]:
    """Initialise networks that are built inside the block from `seed`.

    Build them on the CPU. Its global generator is restored afterwards; generators of other devices
    are not touched.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
