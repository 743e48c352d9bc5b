"""Logistic regression with both domains counted alike, and calibration by it (Platt 1999)."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from ecgtransfer.errors import ConfigError
from ecgtransfer.statistics import FloatArray


def log_density_ratio(logit: Tensor, n_source: int, n_target: int) -> Tensor:
    """Log q/p = logit - log(n_target / n_source), by Bayes' rule: (B,) -> (B,).

    The counts are those of the records that the classifier was trained on: the sizes of the sets
    if it saw every record once, equal counts if its batches were balanced.

    Args:
        logit: (B,) log P(target)/P(source) of the domain classifier.
        n_source: number of source records that it was fitted on.
        n_target: number of target records that it was fitted on.

    Raises:
        ConfigError: a count is below 1.
    """
    if n_source < 1 or n_target < 1:
        raise ConfigError(
            f"expected at least one record of each domain, got {n_source} source and {n_target} "
            "target records"
        )
    return logit - math.log(n_target / n_source)


def balanced_logistic_regression(
    features: FloatArray,
    is_target: np.ndarray,
    *,
    penalty: float = 0.0,
    fewest: int | None = None,
    nonnegative: bool = False,
) -> tuple[FloatArray, float]:
    """Coefficients (F,) and intercept of logistic regression with both domains counted alike.

    Platt's targets keep the coefficients finite if the domains can be separated (Platt 1999):
    1/(k + 2) and (k + 1)/(k + 2), with k the number of records of the smaller domain for both
    domains. With one k per domain the intercept would lean towards the domain with more records,
    and E_p[r] away from 1.

    Args:
        features: (N, F), of about unit size.
        is_target: (N,) bool.
        penalty: λ of the ridge penalty λ/2 |coefficients|², added to the mean loss.
        fewest: k if a record has several rows; None counts rows.
        nonnegative: whether coefficients are at least 0.
    """
    n_target = int(is_target.sum())
    n_source = len(is_target) - n_target
    off = 1 / ((min(n_source, n_target) if fewest is None else fewest) + 2)
    aim = np.where(is_target, 1 - off, off)
    mass = np.where(is_target, 0.5 / max(n_target, 1), 0.5 / max(n_source, 1))

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        w = parameters[:-1]
        f = features @ w + parameters[-1]
        residual = mass * (expit(f) - aim)
        value = float(np.sum(mass * (np.logaddexp(0, f) - aim * f)))
        gradient = np.append(features.T @ residual + penalty * w, residual.sum())
        return value + penalty / 2 * float(w @ w), gradient

    count = features.shape[1]
    found = minimize(
        loss,
        np.append(np.full(count, float(nonnegative)), 0.0),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0 if nonnegative else None, None)] * count + [(None, None)],
        options={"gtol": 1e-10, "ftol": 1e-14, "maxiter": 1000},
    )
    return found.x[:-1], float(found.x[-1])


def stacked_platt(
    source: Tensor, target: Tensor, fewest: int | None = None
) -> tuple[FloatArray, float]:
    """Slopes (C,), not below 0, and offset that turn C logits of unseen records into log r.

    Args:
        source: (N, C) logits of source records.
        target: (M, C) logits of target records.
        fewest: as in `balanced_logistic_regression`.
    """
    logits = torch.cat([source, target]).double().numpy(force=True)
    # In units of their own size the optimiser sees values of about 1.
    unit = np.maximum(np.abs(logits).max(axis=0), 1e-6)
    slopes, offset = balanced_logistic_regression(
        logits / unit, np.arange(len(logits)) >= len(source), fewest=fewest, nonnegative=True
    )
    return slopes / unit, offset


def platt(source: Tensor, target: Tensor, fewest: int | None = None) -> tuple[float, float]:
    """Slope, not below 0, and offset of one logit.

    Args:
        source: (N,) logits of unseen source records.
        target: (M,) logits of unseen target records.
        fewest: as in `balanced_logistic_regression`.
    """
    (slope,), offset = stacked_platt(source[:, None], target[:, None], fewest)
    return float(slope), offset


def cross_fitted_platt(
    source: Tensor,
    target: Tensor,
    fold_source: np.ndarray,
    fold_target: np.ndarray,
    fewest: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Calibrated logits, those of each fold by a calibration on the other folds: (N,), (M,).

    They rank records within a fold only: a calibration without a fold leans away from it, so that
    the AUC over all folds is too low.

    Args:
        source: (N, C) logits of source records.
        target: (M, C) logits of target records.
        fold_source: (N,) fold of each; every fold has logits of both domains.
        fold_target: (M,) the same for target records.
        fewest: as in `balanced_logistic_regression`, of all folds together.
    """
    calibrated_source, calibrated_target = (
        torch.empty_like(part[:, 0]) for part in (source, target)
    )
    for number in np.unique(fold_source):
        ours = torch.from_numpy(fold_source == number)
        theirs = torch.from_numpy(fold_target == number)
        slopes, offset = stacked_platt(source[~ours], target[~theirs], fewest)
        slope = torch.from_numpy(slopes)
        for logits, rows, calibrated in (
            (source, ours, calibrated_source),
            (target, theirs, calibrated_target),
        ):
            calibrated[rows] = logits[rows] @ slope.to(logits) + offset
    return calibrated_source, calibrated_target
