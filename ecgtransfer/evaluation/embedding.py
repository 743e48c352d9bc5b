"""The feature space of an `Encoder1d`, in which fidelity is measured."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.models import Encoder1d
from ecgtransfer.statistics import (
    FloatArray,
)

#: Records that pass through the network at once, unless told otherwise.
BATCH_SIZE = 256


@dataclass(frozen=True, eq=False)
class FeatureScale:
    """Standardisation of features: (features − mean) / deviation, both (F,).

    A Frechet distance of raw features is ruled by the few with the largest spread; fit the scale
    on real target records once and use it for every set that is compared.
    """

    mean: FloatArray
    deviation: FloatArray

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.deviation.shape:
            raise ConfigError(
                f"expected mean and deviation (F,), got {self.mean.shape} and "
                f"{self.deviation.shape}"
            )
        if not (np.isfinite(self.mean).all() and (self.deviation > 0).all()):
            raise ConfigError("expected finite means and positive deviations")

    @classmethod
    def fitted(cls, features: npt.ArrayLike) -> "FeatureScale":
        """Mean and standard deviation of (n, F) features; a constant feature keeps deviation 1.

        CorpusError for fewer than 2 records, another shape or values that are not finite.
        """
        values = np.asarray(features, dtype=np.float64)
        if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all():
            raise CorpusError(
                f"expected finite features of at least 2 records, (n, F), got {values.shape}"
            )
        deviation = values.std(axis=0)
        constant = deviation <= 1e-6 * np.maximum(np.abs(values).max(axis=0), 1e-6)
        return cls(values.mean(axis=0), np.where(constant, 1.0, deviation))

    def __call__(self, features: npt.ArrayLike) -> FloatArray:
        """(n, F) -> (n, F) float64; CorpusError for another number of features."""
        values = np.asarray(features, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(self.mean):
            raise CorpusError(
                f"expected features (records, {len(self.mean)}), got {values.shape}; use the "
                "encoder that the scale was fitted with"
            )
        return np.asarray((values - self.mean) / self.deviation)


def embed(
    encoder: Encoder1d, signals: npt.ArrayLike, *, batch_size: int = BATCH_SIZE
) -> npt.NDArray[np.float32]:
    """Features of signals (n, leads, T), in the unit the encoder was trained on: (n, F) float32.

    Without gradients, in batches, on the encoder's own device; its training mode is left as found.
    CorpusError for another shape or number of leads, ConfigError for a batch size below 1.
    """
    return in_batches(encoder, encoder.features, signals, encoder.config.leads, batch_size)


def in_batches(
    network: nn.Module,
    call: Callable[[Tensor], Tensor],
    signals: npt.ArrayLike,
    leads: int,
    batch_size: int = BATCH_SIZE,
) -> npt.NDArray[np.float32]:
    """`call` on batches of signals (n, leads, T) on the device of `network`: (n, outputs)."""
    values = np.asarray(signals)
    if values.ndim != 3 or values.shape[1] != leads or len(values) == 0:
        raise CorpusError(
            f"expected signals (records, {leads} leads, samples), got shape {values.shape}"
        )
    if batch_size < 1:
        raise ConfigError(f"expected a batch size of at least 1, got {batch_size}")
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    results = []
    try:
        with torch.no_grad():
            for start in range(0, len(values), batch_size):
                batch = np.ascontiguousarray(values[start : start + batch_size], dtype=np.float32)
                results.append(call(torch.tensor(batch, device=device)).float().cpu().numpy())
    finally:
        network.train(training)
    return np.concatenate(results)
