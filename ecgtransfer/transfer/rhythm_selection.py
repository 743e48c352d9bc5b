"""Transfer of rhythm: trains of beats drawn from the source's rhythm model, selected by a ratio.

A rhythm has no diffusion, so that the theorem of TGDP is used at sigma = 0: the target's law of
trains is q(b | y) = p(b | y) r(b) / E_p[r]. A draw from it is one of several draws from p, taken
with probability in proportion to r (sampling-importance-resampling, Rubin 1987). The ratio is one
of a few features that need no label, for a hundred trains cannot tell more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from ecgtransfer.corpus.splits import dealt_folds
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.rhythm import RHYTHM_FEATURES, rhythm_features
from ecgtransfer.signals import Beats
from ecgtransfer.statistics import streams
from ecgtransfer.transfer.calibration import platt

FloatArray = NDArray[np.float64]

#: What the ratio is a function of, in the order of its weights.
SELECTION_FEATURES = (
    "log_rate",
    "log_sdnn",
    "log_rmssd",
    "irregularity",
    "early_share",
    "ventricular_share",
    "supraventricular_share",
)
#: SDNN and RMSSD below this say nothing but how finely R peaks are located, milliseconds.
SMALLEST_VARIABILITY_MS = 5.0
#: Standardised features are held within this size.
LARGEST_FEATURE = 4.0
#: Inverse strengths of the ridge that are tried, from the strongest.
RIDGES = (0.003, 0.03, 0.3, 3.0)
#: The fewest target records, and patients a fold, from which a ratio is learned.
FEWEST_RECORDS, FEWEST_PATIENTS_A_FOLD = 20, 2
#: Folds of patients.
FOLDS = 5
#: Candidates a record of which one is selected.
CANDIDATES = 8


@dataclass(frozen=True)
class RhythmSelection:
    """A density ratio r of trains of beats, target over source, and the selection by it.

    log r = slope * (weights . z + intercept) + offset, with z the standardised
    `selection_features`. Where it told no train apart that it was not fitted on, it is constant:
    log r = 0, and nothing is selected.

    Attributes:
        centre, scale: of the features, over both domains.
        weights: of the standardised features.
        intercept: of the logistic regression.
        slope, offset: of its calibration (Platt 1999).
        ridge: inverse strength of the ridge, C of scikit-learn.
        log_loss: calibrated logistic loss of trains that were not fitted on, both domains weighing
            the same; log 2 for a constant ratio.
        standard_error: of log_loss, over patients.
        candidates: trains a record of which one is selected.
        features: names of the features, `SELECTION_FEATURES`.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    slope: float
    offset: float
    ridge: float
    log_loss: float
    standard_error: float
    candidates: int = CANDIDATES
    features: tuple[str, ...] = SELECTION_FEATURES

    def __post_init__(self) -> None:
        if self.features != SELECTION_FEATURES:
            raise ConfigError(
                f"expected a rhythm selection by {', '.join(SELECTION_FEATURES)}, got one by "
                f"{', '.join(self.features) or 'none'}; transfer anew"
            )
        sizes = {len(each) for each in (self.centre, self.scale, self.weights)}
        if sizes != {len(SELECTION_FEATURES)}:
            raise ConfigError(
                f"expected a centre, a scale and a weight for each of {len(SELECTION_FEATURES)} "
                f"rhythm features, got {len(self.centre)}, {len(self.scale)} and "
                f"{len(self.weights)}"
            )
        if self.candidates < 1:
            raise ConfigError(f"expected at least 1 candidate a record, got {self.candidates}")

    @property
    def is_constant(self) -> bool:
        """Whether nothing is selected: the loss is not below log 2 by a standard error."""
        return not self.log_loss + self.standard_error < math.log(2)

    @classmethod
    def fitted(
        cls,
        target: Sequence[Beats],
        source: Sequence[Sequence[Beats]],
        patient: Sequence[str],
        *,
        candidates: int = CANDIDATES,
        seed: int = 0,
    ) -> RhythmSelection:
        """Ridge logistic regression of the target's trains against the source model's.

        Its strength is the best of `RIDGES` on folds of patients. The predictions of all folds,
        each by a regression without it, are calibrated together. The loss is that of predictions
        whose calibration has not seen their fold either.

        Args:
            target: a train of each training record of the target.
            source: for each of them, trains that the source's rhythm model draws for its label,
                age and sex.
            patient: whose each record is.
            candidates: trains a record of which one is selected.
            seed: of the folds.

        Raises:
            ConfigError: other numbers of records.
            CorpusError: too few records or patients.
        """
        if not len(target) == len(source) == len(patient) or not all(map(len, source)):
            raise ConfigError(
                f"expected trains of the source model and a patient for each of {len(target)} "
                f"records, got {sum(1 for each in source if len(each))} and {len(patient)}"
            )
        people = len(set(patient))
        if len(target) < FEWEST_RECORDS or people < FOLDS * FEWEST_PATIENTS_A_FOLD:
            raise CorpusError(
                f"expected at least {FEWEST_RECORDS} target records of "
                f"{FOLDS * FEWEST_PATIENTS_A_FOLD} patients to learn rhythm from, got "
                f"{len(target)} of {people}; take the source's rhythm as it is"
            )
        owner = np.repeat(np.arange(len(target)), [len(each) for each in source])
        features = selection_features([*target, *(train for each in source for train in each)])
        owner = np.concatenate([np.arange(len(target)), owner])
        trains = _Trains(
            features=features,
            is_target=np.arange(len(owner)) < len(target),
            owner=owner,
            fold=dealt_folds(patient, FOLDS, streams.generator(seed, streams.RHYTHM_FOLDS))[owner],
        )
        losses, logits = [], []
        for ridge in RIDGES:
            logit = trains.out_of_fold(ridge)
            losses.append(float(trains.loss(logit).mean()))
            logits.append(logit)
        best = int(np.argmin(losses))
        gain = math.log(2) - trains.loss(trains.calibrated_out_of_fold(logits[best]))
        whole = trains.regression(RIDGES[best], np.ones(len(owner), bool))
        slope, offset = trains.platt(logits[best], np.ones(len(owner), bool))
        return cls(
            centre=tuple(whole.centre.tolist()),
            scale=tuple(whole.scale.tolist()),
            weights=tuple(whole.weights.tolist()),
            intercept=whole.intercept,
            slope=slope,
            offset=offset,
            ridge=RIDGES[best],
            log_loss=math.log(2) - float(gain.mean()),
            standard_error=error_of_mean(gain, patient),
            candidates=candidates,
        )

    def log_ratio(self, trains: Sequence[Beats]) -> FloatArray:
        """Log r of each train: (N,)."""
        if self.is_constant:
            return np.zeros(len(trains))
        regression = _Regression(
            np.array(self.centre), np.array(self.scale), np.array(self.weights), self.intercept
        )
        return self.slope * regression.logit(selection_features(trains)) + self.offset

    def select(
        self,
        candidates: Sequence[Sequence[Beats]],
        generators: Sequence[np.random.Generator],
    ) -> list[Beats]:
        """One train for each record, taken with probability in proportion to r.

        Args:
            candidates: trains of the source's rhythm model for each record, at least one.
            generators: one for each record, from which a single number is drawn.

        Raises:
            ConfigError: other numbers of records, or one without a candidate.
        """
        if len(candidates) != len(generators) or not all(map(len, candidates)):
            raise ConfigError(
                f"expected candidates for each of {len(generators)} records, got "
                f"{sum(1 for each in candidates if len(each))} records with some"
            )
        chosen = []
        for trains, generator in zip(candidates, generators, strict=True):
            log_r = self.log_ratio(trains)
            share = np.cumsum(np.exp(log_r - log_r.max()))
            place = np.searchsorted(share, generator.random() * share[-1], side="right")
            chosen.append(trains[min(int(place), len(trains) - 1)])
        return chosen


def selection_features(trains: Sequence[Beats]) -> FloatArray:
    """`SELECTION_FEATURES` of trains: (N, 7), NaN where a train has too few beats.

    Logarithms of heart rate, SDNN and RMSSD (of at least 5 ms); SDNN over the mean RR; shares of
    early intervals and of ventricular and supraventricular beats; see `rhythm_features`.
    """
    held = rhythm_features(trains)
    column = {name: held[:, place] for place, name in enumerate(RHYTHM_FEATURES)}
    return np.stack(
        [
            np.log(column["rate_bpm"]),
            np.log(np.maximum(column["sdnn_ms"], SMALLEST_VARIABILITY_MS)),
            np.log(np.maximum(column["rmssd_ms"], SMALLEST_VARIABILITY_MS)),
            column["irregularity"],
            column["early_share"],
            column["ventricular_share"],
            column["supraventricular_share"],
        ],
        axis=1,
    )


@dataclass(frozen=True, eq=False)
class _Regression:
    """Weights of standardised features; a feature that is NaN counts as at its centre."""

    centre: FloatArray
    scale: FloatArray
    weights: FloatArray
    intercept: float

    def logit(self, features: FloatArray) -> FloatArray:
        """(N, F) -> (N,)."""
        return _standardised(features, self.centre, self.scale) @ self.weights + self.intercept


@dataclass(frozen=True, eq=False)
class _Trains:
    """Features of both domains' trains, the record that each belongs to, and its fold."""

    features: FloatArray
    is_target: NDArray[np.bool_]
    owner: NDArray[np.int64]
    fold: NDArray[np.int64]

    def regression(self, ridge: float, rows: NDArray[np.bool_]) -> _Regression:
        """Fitted on some trains; each domain has the mass of the records."""
        features, is_target = self.features[rows], self.is_target[rows]
        centre = np.nanmean(features, axis=0)
        scale = np.maximum(np.nanstd(features, axis=0), 1e-3)
        mass = np.where(is_target, 1.0, is_target.sum() / (~is_target).sum())
        fitted = LogisticRegression(C=ridge, max_iter=1000).fit(
            _standardised(features, centre, scale), is_target, sample_weight=mass
        )
        return _Regression(centre, scale, fitted.coef_[0], float(fitted.intercept_[0]))

    def out_of_fold(self, ridge: float) -> FloatArray:
        """Logit of each train by a regression on the other folds: (N,)."""
        logit = np.zeros(len(self.owner))
        for fold in range(FOLDS):
            ours = self.fold == fold
            logit[ours] = self.regression(ridge, ~ours).logit(self.features[ours])
        return logit

    def platt(self, logit: FloatArray, rows: NDArray[np.bool_]) -> tuple[float, float]:
        """Slope and offset of some trains' logits."""
        parts = (logit[rows & ~self.is_target], logit[rows & self.is_target])
        slope, offset = platt(torch.from_numpy(parts[0]), torch.from_numpy(parts[1]))
        return slope, offset

    def calibrated_out_of_fold(self, logit: FloatArray) -> FloatArray:
        """Logits calibrated on the other folds' each: (N,)."""
        calibrated = np.zeros(len(logit))
        for fold in range(FOLDS):
            ours = self.fold == fold
            slope, offset = self.platt(logit, ~ours)
            calibrated[ours] = slope * logit[ours] + offset
        return calibrated

    def loss(self, logit: FloatArray) -> FloatArray:
        """Logistic loss of each record, of its own train and the mean of the source's: (n,)."""
        each = np.logaddexp(0, np.where(self.is_target, -logit, logit))
        of_source = np.bincount(self.owner, each * ~self.is_target)
        trains = np.bincount(self.owner, ~self.is_target)
        loss: FloatArray = (each[self.is_target] + of_source / trains) / 2
        return loss


def _standardised(features: FloatArray, centre: FloatArray, scale: FloatArray) -> FloatArray:
    z = (features - centre) / scale
    return np.clip(np.where(np.isnan(z), 0.0, z), -LARGEST_FEATURE, LARGEST_FEATURE)


def error_of_mean(values: FloatArray, patient: Sequence[str]) -> float:
    """Standard error of a mean over records, records of one patient being dependent."""
    _, number = np.unique(np.array(patient), return_inverse=True)
    sums = np.bincount(number, values - values.mean())
    return float(np.sqrt(np.sum(np.square(sums))) / len(values))
