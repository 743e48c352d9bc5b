"""Linear domain classifiers of log band powers, for filters and noise of a recorder.

Some 80 target records suffice for them; a network needs more, but also sees the waves.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ecgtransfer.diffusion.condition import Given
from ecgtransfer.statistics import FloatArray
from ecgtransfer.transfer.calibration import balanced_logistic_regression, stacked_platt
from ecgtransfer.transfer.diagnostics import balanced_log_loss
from ecgtransfer.transfer.domain_classifier import EncoderEnsemble
from ecgtransfer.transfer.records import DomainRecords

#: Edges of the bands, as fractions of the sampling rate; 0.5 to 40 Hz at 100 Hz. Recorders differ
#: most in the drift below 0.5 Hz.
BAND_EDGES = (0.005, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.25, 0.32, 0.4)

#: Smallest power, in squared model units: keeps the logarithm of a flat lead finite.
POWER_FLOOR = 1e-12

#: Ridge penalties on standardised coefficients; records out of fold choose one.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)

#: Records whose spectra are computed at a time.
AT_ONCE = 256

#: Smallest standard deviation that a feature is divided by: a lead may be flat in all records.
SMALLEST_SPREAD = 1e-3


def log_band_powers(x: Tensor) -> Tensor:
    """log10 of the mean power of each lead in each band: (B, leads, T) -> (B, leads * bands).

    Power of the periodogram with a Hann window. A band without a frequency, in a short record, is
    omitted.
    """
    window = torch.hann_window(x.shape[-1], dtype=x.dtype, device=x.device)
    power = torch.fft.rfft(x * window).abs().square()
    # In double precision, so that a frequency on an edge belongs to the band above.
    frequency = torch.arange(power.shape[-1], dtype=torch.float64) / x.shape[-1]
    edges = torch.tensor(BAND_EDGES, dtype=torch.float64)
    band = torch.bucketize(frequency, edges, right=True).to(x.device)
    numbers = [number for number in range(len(BAND_EDGES) + 1) if number in band]
    means = [power[..., band == number].mean(-1) for number in numbers]
    return torch.stack(means, -1).clamp(min=POWER_FLOOR).log10().flatten(1)


class BandPowerClassifier(nn.Module):
    """Linear logit of log band powers; the label is ignored.

    Args:
        weight: (leads * bands,) coefficients of `log_band_powers`.
        bias: intercept.
    """

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(weight.new_tensor(bias), requires_grad=False)

    def forward(self, x: Tensor, sigma: Tensor | None, label: Given) -> Tensor:
        """(B, leads, T), and two arguments that are ignored -> (B, 1)."""
        return (log_band_powers(x) @ self.weight + self.bias)[:, None]


def fit_band_powers(
    records: DomainRecords, is_target: np.ndarray, fold: np.ndarray
) -> EncoderEnsemble:
    """Ridge-penalised logistic regression on log band powers, one for each fold.

    Each is fitted to the records of all other folds. The penalty is the one of `PENALTIES` with
    the lowest calibrated loss of all records, each by the classifier that was not fitted to it.

    Args:
        records: (N, leads, T) of both domains, source records first.
        is_target: (N,) bool.
        fold: (N,) fold of each record, from 0.
    """
    index = np.arange(len(records))
    parts = [
        log_band_powers(records.take(index[start : start + AT_ONCE])[0])
        for start in range(0, len(index), AT_ONCE)
    ]
    features = torch.cat(parts).double().numpy(force=True)
    best, chosen = math.inf, []
    for penalty in PENALTIES:
        fitted = [
            _ridge(features[fold != number], is_target[fold != number], penalty)
            for number in range(int(fold.max()) + 1)
        ]
        logits = np.empty(len(features))
        for number, (weight, bias) in enumerate(fitted):
            logits[fold == number] = features[fold == number] @ weight + bias
        source, target = (
            torch.from_numpy(logits[rows])[:, None] for rows in (~is_target, is_target)
        )
        (slope,), offset = stacked_platt(source, target)
        loss, _ = balanced_log_loss(*(slope * part[:, 0] + offset for part in (source, target)))
        if loss < best:
            best, chosen = loss, fitted
    return EncoderEnsemble(
        [BandPowerClassifier(torch.from_numpy(w).to(records.x0), bias) for w, bias in chosen]
    )


def _ridge(features: FloatArray, is_target: np.ndarray, penalty: float) -> tuple[FloatArray, float]:
    """Coefficients (F,) and intercept for raw features (N, F), which are standardised inside."""
    centre = features.mean(axis=0)
    spread = np.maximum(features.std(axis=0), SMALLEST_SPREAD)
    weight, bias = balanced_logistic_regression(
        (features - centre) / spread, is_target, penalty=penalty
    )
    return weight / spread, bias - float(centre @ (weight / spread))
