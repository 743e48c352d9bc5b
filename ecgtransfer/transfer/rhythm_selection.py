"""Transfer of rhythm: resample trains of beats of the source's rhythm model by a density ratio.

The rhythm model is not a diffusion model, so TGDP applies at sigma = 0 only: the target
distribution of trains of beats is q(b | y) = p(b | y) r(b) / E_p[r]. To sample from it, draw
several candidates from p and select one with probability proportional to r
(sampling-importance-resampling, Rubin 1987). The ratio depends on a few label-free features only,
because a target has about a hundred trains.
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

#: Features that the ratio depends on, in the order of its weights.
SELECTION_FEATURES = (
    "log_rate",
    "log_sdnn",
    "log_rmssd",
    "irregularity",
    "early_share",
    "ventricular_share",
    "supraventricular_share",
)
#: Lower limit of SDNN and RMSSD, milliseconds: smaller values reflect the resolution of R peaks.
SMALLEST_VARIABILITY_MS = 5.0
#: Standardised features are clipped to [-LARGEST_FEATURE, LARGEST_FEATURE].
LARGEST_FEATURE = 4.0
#: Candidates of the inverse ridge strength (C of scikit-learn), strongest first.
RIDGES = (0.003, 0.03, 0.3, 3.0)
#: Minimum number of target records, and of patients per fold, for fitting a ratio.
FEWEST_RECORDS, FEWEST_PATIENTS_A_FOLD = 20, 2
#: Number of patient folds.
FOLDS = 5
#: Number of candidates per record, of which one is selected.
CANDIDATES = 8


@dataclass(frozen=True)
class RhythmSelection:
    """Density ratio r = q/p of trains of beats, and selection of trains by it.

    log r = slope * (weights . z + intercept) + offset, with z the standardised
    `selection_features`. If the ratio is no better than chance on held-out trains
    (`is_constant`), log r = 0 and the selection is uniform.

    Attributes:
        centre, scale: mean and standard deviation of each feature over both domains.
        weights: weights of the standardised features.
        intercept: intercept of the logistic regression.
        slope, offset: slope and offset of its Platt calibration (Platt 1999).
        ridge: inverse strength of the ridge, C of scikit-learn.
        log_loss: calibrated logistic loss on held-out trains, both domains weighted equally; log 2
            for a constant ratio.
        standard_error: standard error of `log_loss`, over patients.
        candidates: number of candidate trains per record.
        features: names of the features, `SELECTION_FEATURES`.

    Raises:
        ConfigError: features, sizes or number of candidates are invalid.
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
                f"{', '.join(self.features) or 'none'}; run the transfer again"
            )
        sizes = {len(each) for each in (self.centre, self.scale, self.weights)}
        if sizes != {len(SELECTION_FEATURES)}:
            raise ConfigError(
                f"expected a centre, a scale and a weight for each of {len(SELECTION_FEATURES)} "
                f"rhythm features, got {len(self.centre)}, {len(self.scale)} and "
                f"{len(self.weights)}; run the transfer again"
            )
        if self.candidates < 1:
            raise ConfigError(
                f"expected at least 1 candidate per record, got {self.candidates}; use {CANDIDATES}"
            )

    @property
    def is_constant(self) -> bool:
        """Whether the ratio is not used: the loss is not below log 2 by one standard error."""
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
        """Fit a ridge logistic regression of target trains against trains of the source model.

        Cross-validation over folds of patients selects the ridge from `RIDGES`. Platt calibration
        is fitted on the out-of-fold predictions of all folds. For `log_loss`, the calibration of
        each fold is fitted on the other folds.

        Args:
            target: one train per target training record.
            source: for each of these records, trains sampled from the source's rhythm model given
                its label, age and sex.
            patient: patient of each record.
            candidates: number of candidate trains per record in `select`.
            seed: seed of the folds.

        Raises:
            ConfigError: the numbers of records differ, or a record has no source train.
            CorpusError: there are too few records or patients.
        """
        if not len(target) == len(source) == len(patient) or not all(map(len, source)):
            raise ConfigError(
                f"expected trains of the source model and a patient for each of {len(target)} "
                f"records, got {sum(1 for each in source if len(each))} and {len(patient)}; "
                "pass both for every record"
            )
        patients = len(set(patient))
        if len(target) < FEWEST_RECORDS or patients < FOLDS * FEWEST_PATIENTS_A_FOLD:
            raise CorpusError(
                f"expected at least {FEWEST_RECORDS} target records of "
                f"{FOLDS * FEWEST_PATIENTS_A_FOLD} patients to fit the rhythm selection, got "
                f"{len(target)} of {patients}; use the source's rhythm without selection"
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
        final = trains.regression(RIDGES[best], np.ones(len(owner), bool))
        slope, offset = trains.platt(logits[best], np.ones(len(owner), bool))
        return cls(
            centre=tuple(final.centre.tolist()),
            scale=tuple(final.scale.tolist()),
            weights=tuple(final.weights.tolist()),
            intercept=final.intercept,
            slope=slope,
            offset=offset,
            ridge=RIDGES[best],
            log_loss=math.log(2) - float(gain.mean()),
            standard_error=error_of_mean(gain, patient),
            candidates=candidates,
        )

    def log_ratio(self, trains: Sequence[Beats]) -> FloatArray:
        """Return log r of each train: (N,)."""
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
        """Select one train per record, with probability proportional to r.

        Args:
            candidates: for each record, at least one train of the source's rhythm model.
            generators: one per record; each draws one number.

        Raises:
            ConfigError: the numbers of records differ, or a record has no candidate.
        """
        if len(candidates) != len(generators) or not all(map(len, candidates)):
            raise ConfigError(
                f"expected candidates for each of {len(generators)} records, got "
                f"{sum(1 for each in candidates if len(each))} records with candidates; sample at "
                "least one train per record"
            )
        selected = []
        for trains, generator in zip(candidates, generators, strict=True):
            log_r = self.log_ratio(trains)
            cumulative = np.cumsum(np.exp(log_r - log_r.max()))
            index = np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right")
            selected.append(trains[min(int(index), len(trains) - 1)])
        return selected


def selection_features(trains: Sequence[Beats]) -> FloatArray:
    """Compute `SELECTION_FEATURES` of trains: (N, 7), NaN for trains with too few beats.

    Logarithms of heart rate, SDNN and RMSSD (at least 5 ms); SDNN divided by the mean RR interval;
    fractions of early intervals and of ventricular and supraventricular beats; see
    `rhythm_features`.
    """
    features = rhythm_features(trains)
    column = {name: features[:, k] for k, name in enumerate(RHYTHM_FEATURES)}
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
    """Logistic regression of standardised features; NaN is replaced by the centre."""

    centre: FloatArray
    scale: FloatArray
    weights: FloatArray
    intercept: float

    def logit(self, features: FloatArray) -> FloatArray:
        """Logit of each row of features: (N, F) -> (N,)."""
        return _standardised(features, self.centre, self.scale) @ self.weights + self.intercept


@dataclass(frozen=True, eq=False)
class _Trains:
    """Features of the trains of both domains.

    Attributes:
        features: (N, F).
        is_target: (N,) bool.
        owner: (N,) index of the record that each train belongs to.
        fold: (N,) fold index of that record.
    """

    features: FloatArray
    is_target: NDArray[np.bool_]
    owner: NDArray[np.int64]
    fold: NDArray[np.int64]

    def regression(self, ridge: float, rows: NDArray[np.bool_]) -> _Regression:
        """Fit a regression on some trains, with equal total weight of both domains."""
        features, is_target = self.features[rows], self.is_target[rows]
        centre = np.nanmean(features, axis=0)
        scale = np.maximum(np.nanstd(features, axis=0), 1e-3)
        mass = np.where(is_target, 1.0, is_target.sum() / (~is_target).sum())
        fitted = LogisticRegression(C=ridge, max_iter=1000).fit(
            _standardised(features, centre, scale), is_target, sample_weight=mass
        )
        return _Regression(centre, scale, fitted.coef_[0], float(fitted.intercept_[0]))

    def out_of_fold(self, ridge: float) -> FloatArray:
        """Out-of-fold logits, each by a regression fitted on the other folds: (N,)."""
        logit = np.zeros(len(self.owner))
        for fold in range(FOLDS):
            held_out = self.fold == fold
            logit[held_out] = self.regression(ridge, ~held_out).logit(self.features[held_out])
        return logit

    def platt(self, logit: FloatArray, rows: NDArray[np.bool_]) -> tuple[float, float]:
        """Fit slope and offset of a Platt calibration to the logits of some trains."""
        parts = (logit[rows & ~self.is_target], logit[rows & self.is_target])
        slope, offset = platt(torch.from_numpy(parts[0]), torch.from_numpy(parts[1]))
        return slope, offset

    def calibrated_out_of_fold(self, logit: FloatArray) -> FloatArray:
        """Calibrated logits, the calibration of each fold fitted on the other folds: (N,)."""
        calibrated = np.zeros(len(logit))
        for fold in range(FOLDS):
            held_out = self.fold == fold
            slope, offset = self.platt(logit, ~held_out)
            calibrated[held_out] = slope * logit[held_out] + offset
        return calibrated

    def loss(self, logit: FloatArray) -> FloatArray:
        """Logistic loss per record, both domains weighted equally: (n,).

        The mean of the loss of its own train and the mean loss of its source trains.
        """
        each = np.logaddexp(0, np.where(self.is_target, -logit, logit))
        source_sum = np.bincount(self.owner, each * ~self.is_target)
        source_count = np.bincount(self.owner, ~self.is_target)
        loss: FloatArray = (each[self.is_target] + source_sum / source_count) / 2
        return loss


def _standardised(features: FloatArray, centre: FloatArray, scale: FloatArray) -> FloatArray:
    """Standardise and clip features (N, F); NaN becomes 0."""
    z = (features - centre) / scale
    return np.clip(np.where(np.isnan(z), 0.0, z), -LARGEST_FEATURE, LARGEST_FEATURE)


def error_of_mean(values: FloatArray, patient: Sequence[str]) -> float:
    """Standard error of a mean over records (N,), clustered by patient."""
    _, cluster = np.unique(np.array(patient), return_inverse=True)
    sums = np.bincount(cluster, values - values.mean())
    return float(np.sqrt(np.sum(np.square(sums))) / len(values))
