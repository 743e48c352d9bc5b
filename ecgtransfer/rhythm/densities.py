"""Distributions of the kind and time of one beat: of the first beat and of each next one.

Both have a closed-form survival function, so that a train that ends between two beats has an exact
likelihood.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgtransfer.signals import BeatKind
from ecgtransfer.signals.beats import SHORTEST_RR_MS

#: Shortest interval between two beats, seconds; `Beats` rejects shorter ones.
SHORTEST_RR_S = SHORTEST_RR_MS / 1000
#: Kinds that a model distinguishes; a beat of kind UNKNOWN may be any of them.
MODELLED_KINDS = tuple(kind for kind in BeatKind if kind != BeatKind.UNKNOWN)


class NextBeat(NamedTuple):
    """Kind of the next beat and RR interval before it: a mixture of log-logistic components.

    In each component ln RR is logistic, truncated to RR of at least 0.15 s:
    S(rr) = s(rr) / s(0.15 s), s(rr) = 1 / (1 + exp((ln rr - location) / scale)).

    Attributes:
        log_weight: (..., kinds, C) log probability of kind and component, normalised over both.
        location: (..., kinds, C) median of ln(RR / 1 s) before truncation.
        log_scale: (..., kinds, C) ln of the scale of ln RR.
    """

    log_weight: Tensor
    location: Tensor
    log_scale: Tensor

    def log_density(self, rr_s: Tensor, kind: Tensor) -> Tensor:
        """Log of p(kind, RR), RR in seconds: (...) and (...) -> (...); -inf below 0.15 s."""
        log_rr = rr_s.log()
        z = self._standardised(log_rr)
        log_pdf = F.logsigmoid(z) + F.logsigmoid(-z) - self.log_scale - self._log_left()
        density = torch.logsumexp(_of_kind(self.log_weight + log_pdf, kind), (-2, -1)) - log_rr
        return density.masked_fill(rr_s < SHORTEST_RR_S, -math.inf)

    def log_survival(self, rr_s: Tensor) -> Tensor:
        """Log of P(next RR > rr), rr in seconds: (...) -> (...); 0 up to 0.15 s."""
        z = self._standardised(rr_s.clamp_min(SHORTEST_RR_S).log())
        return torch.logsumexp(self.log_weight + F.logsigmoid(-z) - self._log_left(), (-2, -1))

    def draw(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Sample kind and RR in seconds from independent uniforms on (0, 1].

        Exact, by inversion of the component's distribution function.

        Args:
            uniform: (..., 2 or more).

        Returns:
            Kinds (...) and RR intervals (...).
        """
        index = _draw_component(self.log_weight, uniform[..., 0])
        location, log_scale = _pick(self.location, index), _pick(self.log_scale, index)
        left = torch.sigmoid((location - math.log(SHORTEST_RR_S)) / log_scale.exp())
        survival = uniform[..., 1] * left
        log_odds = torch.log1p(-survival) - survival.log()
        rr_s = (location + log_scale.exp() * log_odds).exp().clamp_min(SHORTEST_RR_S)
        return _kind_of(index, self.log_weight.shape[-1]), rr_s

    def _standardised(self, log_rr: Tensor) -> Tensor:
        return (log_rr[..., None, None] - self.location) / self.log_scale.exp()

    def _log_left(self) -> Tensor:
        """Log probability that a component exceeds 0.15 s."""
        below = (math.log(SHORTEST_RR_S) - self.location) / self.log_scale.exp()
        return F.logsigmoid(-below)


class FirstBeat(NamedTuple):
    """Kind and time of the first beat after a random time that is independent of the beats.

    In a renewal process with survival function S and mean mu, the waiting time (forward recurrence
    time) has density S(t) / mu (Cox 1962, Renewal Theory, section 5.2). Here S is log-normal in
    each component; for a regular rhythm the density is almost uniform.

    Attributes:
        log_weight: (..., kinds, C) log probability of kind and component, normalised over both.
        location: (..., kinds, C) median of ln(RR / 1 s).
        log_scale: (..., kinds, C) ln of the standard deviation of ln RR.
    """

    log_weight: Tensor
    location: Tensor
    log_scale: Tensor

    def log_density(self, time_s: Tensor, kind: Tensor) -> Tensor:
        """Log of p(kind, time), time in seconds: (...) and (...) -> (...)."""
        z = self._standardised(time_s)
        log_pdf = torch.special.log_ndtr(-z) - self._log_mean()
        density = torch.logsumexp(_of_kind(self.log_weight + log_pdf, kind), (-2, -1))
        return density.masked_fill(time_s < 0, -math.inf)

    def log_survival(self, time_s: Tensor) -> Tensor:
        """Log of P(no beat up to a time in seconds): (...) -> (...).

        1 - integral of S / mu = s(z - scale) - (t / mu) s(z), with the normal survival function s
        and z = (ln t - location) / scale.
        """
        z, scale = self._standardised(time_s), self.log_scale.exp()
        gone = torch.special.log_ndtr(scale - z)  # length-biased interval
        at_risk = _log(time_s)[..., None, None] - self._log_mean() + torch.special.log_ndtr(-z)
        ratio = (at_risk - gone).clamp_max(-torch.finfo(gone.dtype).eps)
        return torch.logsumexp(self.log_weight + gone + torch.log(-torch.expm1(ratio)), (-2, -1))

    def draw(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Sample kind and time in seconds from independent uniforms on (0, 1].

        Exact: a uniform fraction of an interval that is sampled in proportion to its length.

        Args:
            uniform: (..., 3).

        Returns:
            Kinds (...) and times (...).
        """
        index = _draw_component(self.log_weight, uniform[..., 0])
        scale = _pick(self.log_scale, index).exp()
        z = torch.special.ndtri(uniform[..., 1].clamp_max(1 - torch.finfo(uniform.dtype).eps))
        interval_s = (_pick(self.location, index) + scale**2 + scale * z).exp()
        return _kind_of(index, self.log_weight.shape[-1]), uniform[..., 2] * interval_s

    def _standardised(self, time_s: Tensor) -> Tensor:
        return (_log(time_s)[..., None, None] - self.location) / self.log_scale.exp()

    def _log_mean(self) -> Tensor:
        return self.location + (2 * self.log_scale).exp() / 2


def _log(time_s: Tensor) -> Tensor:
    """Log of a time, bounded below so that value and gradient are finite at 0."""
    return time_s.clamp_min(torch.finfo(time_s.dtype).tiny).log()


def _of_kind(log_joint: Tensor, kind: Tensor) -> Tensor:
    """Set components of other kinds to -inf: (..., kinds, C), (...) -> (..., kinds, C)."""
    modelled = torch.tensor(MODELLED_KINDS, device=kind.device)
    other = (kind[..., None] != modelled) & (kind[..., None] != BeatKind.UNKNOWN)
    return log_joint.masked_fill(other[..., None], -math.inf)


def _draw_component(log_weight: Tensor, uniform: Tensor) -> Tensor:
    """Sample a flat index over kinds and components: (..., kinds, C) -> (...)."""
    edges = log_weight.flatten(-2).exp().cumsum(-1)
    below = (edges < uniform[..., None] * edges[..., -1:]).sum(-1)
    return below.clamp_max(edges.shape[-1] - 1)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """Values at flat indices: (..., kinds, C), (...) -> (...)."""
    return values.flatten(-2).gather(-1, index[..., None])[..., 0]


def _kind_of(index: Tensor, components: int) -> Tensor:
    """Kind (`BeatKind`) of a flat index."""
    return torch.tensor(MODELLED_KINDS, device=index.device)[index // components]
