"""Two baseline distributions of beat trains, to which a rhythm model is compared.

Both have an exact likelihood of a whole train and can be sampled exactly. Trains lie in
[0, duration_s) of their `Beats`; the window starts at a random time, independent of the beats (see
`densities.FirstBeat`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from ecgtransfer.errors import ConfigError
from ecgtransfer.rhythm.densities import MODELLED_KINDS, SHORTEST_RR_S
from ecgtransfer.signals import BeatKind, Beats

FloatArray = NDArray[np.float64]

#: Mixture weight of `GammaRenewal` in `ResampledTrains`, so that no train has probability 0.
DEFENSIVE_SHARE = 0.01
#: Probability that a resampled beat changes its kind.
KIND_ERROR = 0.01
#: Candidate jitters of `ResampledTrains.fitted` (scales of ln RR), and the number of training
#: trains on which they are scored.
JITTERS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)
TRIED_ON = 50


@dataclass(frozen=True)
class GammaRenewal:
    """Independent RR intervals, 0.15 s plus a gamma variable, and independent kinds of beats.

    Attributes:
        shape, scale_s: parameters of the gamma distribution.
        kind_probability: probability of each of `MODELLED_KINDS`.
    """

    shape: float
    scale_s: float
    kind_probability: tuple[float, ...]

    @classmethod
    def fitted(cls, beats: Sequence[Beats]) -> "GammaRenewal":
        """Fit RR intervals by maximum likelihood, and kinds by counts plus one.

        Raises:
            ConfigError: fewer than two different RR intervals.
        """
        rr_s = np.concatenate([each.rr_s for each in beats]) if beats else np.empty(0)
        if len(np.unique(rr_s)) < 2:
            raise ConfigError(
                f"expected at least 2 different RR intervals, got {len(np.unique(rr_s))} in "
                f"{len(beats)} trains; pass more trains"
            )
        above = np.maximum(rr_s - SHORTEST_RR_S, 1e-6)
        shape, _, scale = stats.gamma.fit(above, floc=0)
        kinds = np.concatenate([each.kinds for each in beats])
        counts = np.array([1.0 + np.sum(kinds == kind) for kind in MODELLED_KINDS])
        return cls(float(shape), float(scale), tuple((counts / counts.sum()).tolist()))

    @property
    def mean_rr_s(self) -> float:
        """Mean RR interval, seconds."""
        return SHORTEST_RR_S + self.shape * self.scale_s

    def log_likelihood(self, beats: Sequence[Beats]) -> FloatArray:
        """Log-density of each train, in nats: (N,)."""
        return np.array([self._log_likelihood(each) for each in beats])

    def sample(self, duration_s: float, rng: np.random.Generator) -> Beats:
        """Sample one train on [0, duration_s)."""
        # The interval at the window's start is sampled in proportion to its length: the gamma
        # variable has shape a + 1 with probability (its mean) / (mean RR), else shape a.
        own = self.shape * self.scale_s / self.mean_rr_s
        first = SHORTEST_RR_S + self.scale_s * rng.gamma(self.shape + (rng.random() < own))
        times = [first * rng.random()]
        while times[-1] < duration_s:
            times.append(times[-1] + SHORTEST_RR_S + self.scale_s * rng.gamma(self.shape))
        kinds = rng.choice(MODELLED_KINDS, size=len(times) - 1, p=self.kind_probability)
        return Beats(np.array(times[:-1]), kinds.astype(np.int8), duration_s)

    def _log_likelihood(self, beats: Beats) -> float:
        own = {"loc": SHORTEST_RR_S, "scale": self.scale_s}
        if not len(beats.times_s):
            # E[(RR - T) 1(RR > T)] / E[RR]: no beat up to T in a window with a random start.
            rest = (
                self.shape * self.scale_s * stats.gamma.sf(beats.duration_s, self.shape + 1, **own)
            )
            rest += (SHORTEST_RR_S - beats.duration_s) * stats.gamma.sf(
                beats.duration_s, self.shape, **own
            )
            return float(np.log(max(rest / self.mean_rr_s, 1e-300)))
        known = beats.kinds[beats.kinds != BeatKind.UNKNOWN]
        kinds = np.log(self.kind_probability)[np.searchsorted(MODELLED_KINDS, known)].sum()
        ends = np.array([beats.times_s[0], beats.duration_s - beats.times_s[-1]])
        unbroken = stats.gamma.logsf(ends, self.shape, **own).sum() - np.log(self.mean_rr_s)
        return float(kinds + unbroken + stats.gamma.logpdf(beats.rr_s, self.shape, **own).sum())


class ResampledTrains:
    """Resampled trains of a training set, with a random start and jittered RR intervals.

    A train and a position in it are sampled uniformly. Its RR intervals from there on, repeated
    cyclically, are multiplied by exp(jitter * logistic variable) and bounded below by 0.15 s. One
    beat in 100 gets a random kind; unknown kinds become ordinary. One train in 100 is sampled from
    `floor` instead.

    Args:
        beats: trains to resample; those without an RR interval are skipped.
        jitter: scale of the logistic variable.
        floor: distribution that is mixed in with weight `DEFENSIVE_SHARE`.

    Raises:
        ConfigError: no train has an RR interval.
    """

    def __init__(self, beats: Sequence[Beats], jitter: float, floor: GammaRenewal) -> None:
        usable = [each for each in beats if len(each.rr_s)]
        if not usable:
            raise ConfigError(
                f"expected a train with an RR interval, got none in {len(beats)}; pass more trains"
            )
        self.trains, self.jitter, self.floor = usable, jitter, floor
        # One row for each starting position: a train and one of its RR intervals.
        counts = np.array([len(each.rr_s) for each in usable])
        self._owner = np.repeat(np.arange(len(usable)), counts)
        self._count = counts[self._owner]
        self._first = (np.cumsum(counts) - counts)[self._owner]
        self._rr_s = np.concatenate([each.rr_s for each in usable])
        kinds = np.concatenate([each.kinds[1:] for each in usable])
        self._kinds = np.where(kinds == BeatKind.UNKNOWN, BeatKind.ORDINARY, kinds)
        self._total_s = np.array([each.rr_s.sum() for each in usable])[self._owner]
        self._log_rr = np.log(self._rr_s)
        self._log_left = special.log_expit((self._log_rr - np.log(SHORTEST_RR_S)) / jitter)

    @classmethod
    def fitted(cls, beats: Sequence[Beats], rng: np.random.Generator) -> "ResampledTrains":
        """Choose the jitter with the best leave-one-out likelihood on at most 50 trains."""
        floor = GammaRenewal.fitted(beats)
        usable = [each for each in beats if len(each.rr_s)]
        tried = rng.permutation(len(usable))[:TRIED_ON]

        def score(jitter: float) -> float:
            law = cls(usable, jitter, floor)
            return float(sum(law._log_likelihood(usable[i], leave_out=i) for i in tried))

        return cls(usable, max(JITTERS, key=score), floor)

    def log_likelihood(self, beats: Sequence[Beats]) -> FloatArray:
        """Log-density of each train, in nats: (N,)."""
        return np.array([self._log_likelihood(each) for each in beats])

    def sample(self, duration_s: float, rng: np.random.Generator) -> Beats:
        """Sample one train on [0, duration_s)."""
        if rng.random() < DEFENSIVE_SHARE:
            return self.floor.sample(duration_s, rng)
        rows = np.flatnonzero(self._owner == rng.integers(len(self.trains)))
        row = rng.choice(rows, p=self._rr_s[rows] / self._rr_s[rows].sum())
        times, kinds = [self._rr_s[row] * rng.random()], [self._kinds[row]]
        while times[-1] < duration_s:
            following = self._rows_after(row, len(kinds))
            times.append(times[-1] + self._jittered(float(self._rr_s[following]), rng))
            kinds.append(self._kinds[following])
        drawn = np.array(kinds[:-1], dtype=np.int8)
        anew = rng.random(len(drawn)) < KIND_ERROR
        drawn[anew] = rng.choice(MODELLED_KINDS, size=int(anew.sum()))
        return Beats(np.array(times[:-1]), drawn, duration_s)

    def _rows_after(self, rows: NDArray[np.intp], beats: ArrayLike) -> NDArray[np.intp]:
        """Rows of the RR intervals `beats` positions after those of `rows`, cyclically."""
        first, count = self._first[rows], self._count[rows]
        following: NDArray[np.intp] = first + (rows - first + np.asarray(beats)) % count
        return following

    def _jittered(self, rr_s: float, rng: np.random.Generator) -> float:
        lowest = special.expit(np.log(SHORTEST_RR_S / rr_s) / self.jitter)
        u = lowest + (1 - lowest) * rng.random()
        return float(max(rr_s * np.exp(self.jitter * special.logit(u)), SHORTEST_RR_S))

    def _log_likelihood(self, beats: Beats, leave_out: int = -1) -> float:
        floor = np.log(DEFENSIVE_SHARE) + self.floor.log_likelihood([beats])[0]
        if not len(beats.times_s):
            return float(floor)
        rows = np.flatnonzero((self._owner != leave_out) & (self._rr_s > beats.times_s[0]))
        if not len(rows):
            return float(floor)
        total = -np.log(self._total_s[rows] * (len(self.trains) - (leave_out >= 0)))
        known = np.flatnonzero(beats.kinds != BeatKind.UNKNOWN)
        kept = self._kinds[self._rows_after(rows[:, None], known)] == beats.kinds[known]
        same = kept.sum(1)
        other = KIND_ERROR / len(MODELLED_KINDS)
        total += same * np.log(1 - KIND_ERROR + other) + (len(known) - same) * np.log(other)
        # All intervals except the first, and the time from the last beat to the end.
        rest_s = max(beats.duration_s - beats.times_s[-1], SHORTEST_RR_S)
        lasting_s = np.append(beats.rr_s, rest_s)
        around = self._rows_after(rows[:, None], np.arange(1, 1 + len(lasting_s)))
        z = (np.log(lasting_s) - self._log_rr[around]) / self.jitter
        total += (special.log_expit(-z) - self._log_left[around]).sum(1)
        total += special.log_expit(z[:, :-1]).sum(1) - np.log(self.jitter * beats.rr_s).sum()
        return float(np.logaddexp(np.log(1 - DEFENSIVE_SHARE) + special.logsumexp(total), floor))
