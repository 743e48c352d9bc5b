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

#: Default number of records per forward pass.
BATCH_SIZE = 256


@dataclass(frozen=True, eq=False)
class FeatureScale:
    """Standardisation of features: (features − mean) / deviation, both (F,).

    The few features with the largest spread would dominate a Frechet distance of raw features. Fit
    the scale once, on real target records, and use it for all sets that are compared.

    Attributes:
        mean: mean of each feature, (F,).
        deviation: standard deviation of each feature, (F,), positive.

    Raises:
        ConfigError: the shapes differ, a mean is not finite, or a deviation is not positive.
    """

    mean: FloatArray
    deviation: FloatArray

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.deviation.shape:
            raise ConfigError(
                f"expected mean and deviation (F,), got {self.mean.shape} and "
                f"{self.deviation.shape}; fit the scale with FeatureScale.fitted"
            )
        if not (np.isfinite(self.mean).all() and (self.deviation > 0).all()):
            raise ConfigError(
                "expected finite means and positive deviations, got others; fit the scale with "
                "FeatureScale.fitted"
            )

    @classmethod
    def fitted(cls, features: npt.ArrayLike) -> "FeatureScale":
        """Fit the scale to features (n, F); a constant feature gets deviation 1.

        Raises:
            CorpusError: there are fewer than 2 records, the shape is not (n, F), or a value is not
                finite.
        """
        values = np.asarray(features, dtype=np.float64)
        if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all():
            raise CorpusError(
                f"expected finite features of at least 2 records, (n, F), got {values.shape}; pass "
                "more records, or check the encoder"
            )
        deviation = values.std(axis=0)
        constant = deviation <= 1e-6 * np.maximum(np.abs(values).max(axis=0), 1e-6)
        return cls(values.mean(axis=0), np.where(constant, 1.0, deviation))

    def __call__(self, features: npt.ArrayLike) -> FloatArray:
        """Standardise features (n, F); the result is float64.

        Raises:
            CorpusError: the number of features is another than that of the scale.
        """
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
    """Compute features of signals in batches, without gradients, on the device of the encoder.

    Args:
        encoder: network; its training mode is restored afterwards.
        signals: signals (n, leads, T) in the unit that the encoder was trained on.
        batch_size: records per forward pass.

    Returns:
        Features (n, F), float32.

    Raises:
        CorpusError: the signals have another shape or number of leads.
        ConfigError: the batch size is below 1.
    """
    return in_batches(encoder, encoder.features, signals, encoder.config.leads, batch_size)


def in_batches(
    network: nn.Module,
    call: Callable[[Tensor], Tensor],
    signals: npt.ArrayLike,
    leads: int,
    batch_size: int = BATCH_SIZE,
) -> npt.NDArray[np.float32]:
    """Apply `call` to batches of signals (n, leads, T) on the device of `network`: (n, outputs).

    Raises:
        CorpusError: the signals have another shape or number of leads.
        ConfigError: the batch size is below 1.
    """
    values = np.asarray(signals)
    if values.ndim != 3 or values.shape[1] != leads or len(values) == 0:
        raise CorpusError(
            f"expected signals (records, {leads} leads, samples), got shape {values.shape}; pass "
            "the leads that the network was trained on"
        )
    if batch_size < 1:
        raise ConfigError(f"expected a batch size of at least 1, got {batch_size}; raise it")
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
