"""Diagnostics of a density ratio on held-out records: identities, overlap and calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from ecgtransfer.errors import ConfigError

#: Warn below this effective fraction of the source records. On the 2-D pair of the TGDP paper,
#: guidance from source records learned nothing at 12 effective of 10,000; and at 1 %, ten thousand
#: source records are worth fewer than a small target set has.
MIN_EFFECTIVE_FRACTION = 0.01

#: Warn below this effective number of source records: the standard error of E_p[r] then exceeds
#: 1 / sqrt(20) = 22 %, and batches of importance-resampled records repeat few records.
MIN_EFFECTIVE_RECORDS = 20.0

#: Warn below this E_p[r]: it estimates the probability of the target where source records lie, so
#: below one half most of the target lies where there are none.
MIN_MEAN_RATIO = 0.5

#: Number of probability bins of the calibration error.
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class RatioDiagnostics:
    """Diagnostics of a density ratio r = q/p on held-out records.

    Attributes:
        n_source: number of held-out source records.
        n_target: number of held-out target records.
        mean_ratio: E_p[r], 1 for the true ratio.
        mean_ratio_error: standard error of `mean_ratio`.
        mean_inverse_ratio: E_q[1/r], 1 for the true ratio.
        mean_inverse_ratio_error: standard error of `mean_inverse_ratio`.
        effective_fraction: effective sample size of r over the source, (Σr)² / (n Σr²), 1/n to 1.
        auc: area under the ROC curve of source against target; 0.5 for equal domains.
        calibration_error: expected calibration error of P(target), both domains weighted equally;
            see `calibration_error`.
        log_loss: mean logistic loss, both domains weighted equally; log 2 = 0.693 for r = 1.
        log_loss_error: standard error of `log_loss`.
    """

    n_source: int
    n_target: int
    mean_ratio: float
    mean_ratio_error: float
    mean_inverse_ratio: float
    mean_inverse_ratio_error: float
    effective_fraction: float
    auc: float
    calibration_error: float
    log_loss: float
    log_loss_error: float

    @classmethod
    def mean(cls, diagnostics: Sequence[RatioDiagnostics]) -> RatioDiagnostics:
        """Average each field over several ratios, such as those of the folds of a transfer.

        Standard errors are averaged too, because the ratios share most of their records.
        """
        means = {
            field.name: sum(getattr(each, field.name) for each in diagnostics) / len(diagnostics)
            for field in fields(cls)
        }
        counts = {name: round(means[name]) for name in ("n_source", "n_target")}
        return cls(**means | counts)

    @property
    def beats_chance(self) -> bool:
        """Whether the log loss is below that of r = 1, log 2, by more than one standard error."""
        return self.log_loss + self.log_loss_error < math.log(2)

    @property
    def effective_records(self) -> float:
        """Effective sample size: number of equally weighted records of the same precision."""
        return self.effective_fraction * self.n_source

    @property
    def warning(self) -> str | None:
        """A warning if the domains hardly overlap, else None."""
        remedy = (
            "source records give the guidance little information about the target; rely on target "
            "records (raise target_positives or eta_consistency)"
        )
        if (
            self.effective_fraction < MIN_EFFECTIVE_FRACTION
            or self.effective_records < MIN_EFFECTIVE_RECORDS
        ):
            return (
                f"the domains hardly overlap: the effective sample size of {self.n_source} source "
                f"records, weighted by the density ratio, is {self.effective_records:.1f}; {remedy}"
            )
        if self.mean_ratio < MIN_MEAN_RATIO:
            return (
                f"the domains hardly overlap: the source records cover {self.mean_ratio:.0%} of "
                f"the target (mean density ratio, 1 for full overlap); {remedy}"
            )
        return None

    def __str__(self) -> str:
        lines = [
            f"E_p[r] = {self.mean_ratio:.3g} ± {self.mean_ratio_error:.2g}, "
            f"E_q[1/r] = {self.mean_inverse_ratio:.3g} ± {self.mean_inverse_ratio_error:.2g} "
            f"(both 1 for the true ratio; {self.n_source} source and {self.n_target} target "
            "records held out)",
            f"effective sample size {self.effective_fraction:.1%} "
            f"({self.effective_records:.1f} of {self.n_source} source records), domain AUC "
            f"{self.auc:.3f}, calibration error {self.calibration_error:.3f}, log loss "
            f"{self.log_loss:.3f} ± {self.log_loss_error:.2g} (log 2 = 0.693 at chance)",
        ]
        if self.warning:
            lines.append(f"warning: {self.warning}")
        return "\n".join(lines)


def ratio_diagnostics(
    log_ratio_source: Tensor, log_ratio_target: Tensor, auc: float | None = None
) -> RatioDiagnostics:
    """Compute identities, overlap, separation and calibration of a density ratio.

    Args:
        log_ratio_source: (N,) log q/p of source records that the classifier was not fitted on.
        log_ratio_target: (M,) log q/p of target records that it was not fitted on.
        auc: AUC to report instead of that of these log-ratios; needed if each fold has its own
            calibration, because log-ratios of different folds are then not comparable.

    Raises:
        ConfigError: a domain has fewer than two records, or a value is not finite.
    """
    source = _one_dimensional(log_ratio_source, "source")
    target = _one_dimensional(log_ratio_target, "target")
    mean, error = _mean_of_exponentials(source)
    inverse, inverse_error = _mean_of_exponentials(-target)
    log_loss, log_loss_error = balanced_log_loss(source, target)
    return RatioDiagnostics(
        n_source=len(source),
        n_target=len(target),
        mean_ratio=mean,
        mean_ratio_error=error,
        mean_inverse_ratio=inverse,
        mean_inverse_ratio_error=inverse_error,
        effective_fraction=effective_fraction(source),
        auc=domain_auc(source, target) if auc is None else auc,
        calibration_error=calibration_error(source, target),
        log_loss=log_loss,
        log_loss_error=log_loss_error,
    )


def effective_fraction(log_ratio: Tensor) -> float:
    """Effective sample size of weights r as a fraction, (Σr)² / (n Σr²), from log r (N,)."""
    log_ratio = log_ratio.double()
    log_fraction = (
        2 * log_ratio.logsumexp(0) - (2 * log_ratio).logsumexp(0) - math.log(len(log_ratio))
    )
    return float(log_fraction.exp())


def domain_auc(
    source: Tensor,
    target: Tensor,
    fold_source: np.ndarray | None = None,
    fold_target: np.ndarray | None = None,
) -> float:
    """AUC: probability that a target record scores above a source record, ties counted half.

    Args:
        source: (N,) logits or log-ratios of source records.
        target: (M,) logits or log-ratios of target records.
        fold_source: (N,) fold index of each source record. If each fold has its own network, logits
            of different folds are not comparable, and only pairs within a fold are counted. None
            counts all pairs.
        fold_target: (M,) fold index of each target record.

    Raises:
        ConfigError: no fold has records of both domains.
    """
    if fold_source is None or fold_target is None:
        fold_source, fold_target = np.zeros(len(source), int), np.zeros(len(target), int)
    source_scores, target_scores = (part.double().numpy(force=True) for part in (source, target))
    above = pairs = 0.0
    for fold in np.unique(fold_target):
        negative = source_scores[fold_source == fold]
        positive = target_scores[fold_target == fold]
        ranks = rankdata(np.concatenate([negative, positive]))
        above += ranks[len(negative) :].sum() - len(positive) * (len(positive) + 1) / 2
        pairs += len(negative) * len(positive)
    if not pairs:
        raise ConfigError("expected a fold with records of both domains, got none; use fewer folds")
    return float(above / pairs)


def balanced_log_loss(source: Tensor, target: Tensor) -> tuple[float, float]:
    """Mean logistic loss of log-ratios and its standard error, both domains weighted equally.

    The loss is log 2 if every log-ratio is 0. The true ratio minimises its expectation.

    Args:
        source: (N,) log q/p of source records.
        target: (M,) log q/p of target records.
    """
    losses = F.softplus(source.double()), F.softplus(-target.double())
    variance = sum(float(loss.var()) / len(loss) for loss in losses if len(loss) > 1)
    return float(sum(loss.mean() for loss in losses)) / 2, math.sqrt(variance) / 2


def calibration_error(source: Tensor, target: Tensor, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error of P(target) = 1 / (1 + 1/r), both domains weighted equally.

    Mean of |predicted - observed| over bins of equal width, weighted by their records (Naeini,
    Cooper, Hauskrecht, AAAI 2015).

    Args:
        source: (N,) log q/p of source records.
        target: (M,) log q/p of target records.
        bins: number of bins of predicted probability.
    """
    predicted = torch.cat([source, target]).double().sigmoid().numpy(force=True)
    is_target = np.repeat([0.0, 1.0], [len(source), len(target)])
    mass = np.repeat([0.5 / len(source), 0.5 / len(target)], [len(source), len(target)])
    place = np.minimum((predicted * bins).astype(int), bins - 1)
    gap = np.bincount(place, mass * (predicted - is_target), minlength=bins)
    return float(np.abs(gap).sum())


def _mean_of_exponentials(logs: Tensor) -> tuple[float, float]:
    """Mean of exp(logs) and its standard error, computed in log space."""
    mean = float((logs.logsumexp(0) - math.log(len(logs))).exp())
    spread = max(1 / effective_fraction(logs) - 1, 0.0)
    return mean, mean * math.sqrt(spread / (len(logs) - 1))


def _one_dimensional(log_ratio: Tensor, domain: str) -> Tensor:
    """Check log-ratios of a domain and return them on the CPU in float64: (N,)."""
    if log_ratio.ndim != 1 or len(log_ratio) < 2 or not bool(log_ratio.isfinite().all()):
        raise ConfigError(
            f"expected at least two finite log-ratios of held-out {domain} records, shape (N,), "
            f"got shape {tuple(log_ratio.shape)}; hold out more records, or check the classifier"
        )
    return log_ratio.detach().double().cpu()
