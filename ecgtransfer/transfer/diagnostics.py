"""Identities of the density ratio: what every run prints before anybody believes its guidance."""

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

#: Below this share of effective source records, guidance from source records was seen to learn
#: nothing in the paper's own 2-D pair (12 of 10,000), and a source of ten thousand records has
#: fewer left than a small target set holds.
LEAST_EFFECTIVE_FRACTION = 0.01

#: Below this many effective records the mean of r over the source is uncertain by more than
#: 1 / sqrt(20) = 22 %, and a batch of importance-resampled records repeats a handful.
LEAST_EFFECTIVE_RECORDS = 20.0

#: E_p[r] over the source records is the part of the target's mass that they reach; below a half
#: most of the target lies where no source record does.
LEAST_MEAN_RATIO = 0.5

#: Bins of predicted probability behind the calibration error.
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class RatioDiagnostics:
    """What held-out records say about r = q/p.

    Attributes:
        n_source: held-out source records.
        n_target: held-out target records.
        mean_ratio: E_p[r], 1 for the true ratio.
        mean_ratio_error: its standard error.
        mean_inverse_ratio: E_q[1/r], 1 for the true ratio.
        mean_inverse_ratio_error: its standard error.
        effective_fraction: effective sample size of r over the source, (Σr)² / (n Σr²), 1/n to 1.
        auc: area under the ROC curve of source against target; 0.5 for equal domains.
        calibration_error: mean distance between predicted and observed share of target records,
            both domains counted alike.
        log_loss: mean logistic loss, both domains counted alike; log 2 = 0.693 for r = 1.
        log_loss_error: its standard error.
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
    def mean(cls, several: Sequence[RatioDiagnostics]) -> RatioDiagnostics:
        """The mean of each number over several ratios, such as those of the folds of a transfer.

        Standard errors are averaged too: the ratios share most of their records.
        """
        means = {
            each.name: sum(getattr(one, each.name) for one in several) / len(several)
            for each in fields(cls)
        }
        counts = {name: round(means[name]) for name in ("n_source", "n_target")}
        return cls(**means | counts)

    @property
    def beats_chance(self) -> bool:
        """Whether r tells the domains apart better than r = 1, by more than a standard error."""
        return self.log_loss + self.log_loss_error < math.log(2)

    @property
    def effective_records(self) -> float:
        """How many source records of equal weight would be as good as these with weight r."""
        return self.effective_fraction * self.n_source

    @property
    def warning(self) -> str | None:
        """One sentence where the domains hardly overlap, else None."""
        remedy = (
            "source records cannot teach the guidance where the target lies, so rely on target "
            "records (a larger share of target positives, more weight on the consistency loss)"
        )
        if (
            self.effective_fraction < LEAST_EFFECTIVE_FRACTION
            or self.effective_records < LEAST_EFFECTIVE_RECORDS
        ):
            return (
                f"the domains hardly overlap: weighted by the density ratio, {self.n_source} "
                f"source records are worth {self.effective_records:.1f}; {remedy}"
            )
        if self.mean_ratio < LEAST_MEAN_RATIO:
            return (
                f"the domains hardly overlap: the source records reach {self.mean_ratio:.0%} of "
                f"the target's mass (the mean density ratio, which should be 1); {remedy}"
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
    """Identities, overlap, separation and calibration of the density ratio.

    Args:
        log_ratio_source: (N,) log q/p of source records that the classifier was not fitted on.
        log_ratio_target: (M,) the same for target records.
        auc: where each fold has a calibration of its own, so that these values do not rank records
            of different folds; None ranks them.

    Raises:
        ConfigError: fewer than two records of a domain, or values that are not finite.
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
    """Effective sample size of the weights r as a fraction, (Σr)² / (n Σr²), in log space."""
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
    """Probability that a target record scores above a source record, ties counted half.

    Args:
        source: (N,) logits or log-ratios of source records.
        target: (M,) of target records.
        fold_source: (N,) the fold of each, where each fold has a network of its own, whose logits
            rank its own fold alone: only pairs of one fold are counted. None counts all pairs.
        fold_target: (M,) the same for target records.

    Raises:
        ConfigError: no fold with records of both domains.
    """
    if fold_source is None or fold_target is None:
        fold_source, fold_target = np.zeros(len(source), int), np.zeros(len(target), int)
    ours, theirs = (part.double().numpy(force=True) for part in (source, target))
    above = pairs = 0.0
    for number in np.unique(fold_target):
        low, high = ours[fold_source == number], theirs[fold_target == number]
        ranks = rankdata(np.concatenate([low, high]))
        above += ranks[len(low) :].sum() - len(high) * (len(high) + 1) / 2
        pairs += len(low) * len(high)
    if not pairs:
        raise ConfigError("expected a fold with records of both domains, got none")
    return float(above / pairs)


def balanced_log_loss(source: Tensor, target: Tensor) -> tuple[float, float]:
    """Mean logistic loss of log-ratios with its standard error, both domains counted alike.

    log 2 where every log-ratio is 0. The expectation is least for the true ratio.

    Args:
        source: (N,) log q/p of source records.
        target: (M,) log q/p of target records.
    """
    losses = F.softplus(source.double()), F.softplus(-target.double())
    variance = sum(float(loss.var()) / len(loss) for loss in losses if len(loss) > 1)
    return float(sum(loss.mean() for loss in losses)) / 2, math.sqrt(variance) / 2


def calibration_error(source: Tensor, target: Tensor, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error of P(target) = 1 / (1 + 1/r), both domains counted alike.

    Mean over bins of equal width, weighted by their records, of |predicted - observed| (Naeini,
    Cooper, Hauskrecht, AAAI 2015).

    Args:
        source: (N,) log q/p of source records.
        target: (M,) log q/p of target records.
        bins: bins of predicted probability.
    """
    predicted = torch.cat([source, target]).double().sigmoid().numpy(force=True)
    is_target = np.repeat([0.0, 1.0], [len(source), len(target)])
    mass = np.repeat([0.5 / len(source), 0.5 / len(target)], [len(source), len(target)])
    place = np.minimum((predicted * bins).astype(int), bins - 1)
    gap = np.bincount(place, mass * (predicted - is_target), minlength=bins)
    return float(np.abs(gap).sum())


def _mean_of_exponentials(logs: Tensor) -> tuple[float, float]:
    """Mean of exp(logs) and its standard error, in log space until the last step."""
    mean = float((logs.logsumexp(0) - math.log(len(logs))).exp())
    spread = max(1 / effective_fraction(logs) - 1, 0.0)
    return mean, mean * math.sqrt(spread / (len(logs) - 1))


def _one_dimensional(log_ratio: Tensor, domain: str) -> Tensor:
    if log_ratio.ndim != 1 or len(log_ratio) < 2 or not bool(log_ratio.isfinite().all()):
        raise ConfigError(
            f"expected at least two finite log-ratios of held-out {domain} records, shape (N,), "
            f"got shape {tuple(log_ratio.shape)}"
        )
    return log_ratio.detach().double().cpu()
