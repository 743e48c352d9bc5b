"""Network of the rhythm model: from conditions and past beats to the next beat.

ln RR is predicted relative to the mean of the previous ln RR, so that the network need not
represent the heart rate precisely.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.rhythm.densities import MODELLED_KINDS, FirstBeat, NextBeat
from ecgtransfer.rhythm.trains import Trains
from ecgtransfer.signals import BeatKind

#: Mean and standard deviation of ln(RR / 1 s) in PTB-XL, which scale the network's inputs.
LOG_RR_MEAN, LOG_RR_STD = math.log(0.8), 0.25
#: Lower bound of the scale of ln RR for the next beat: about 1 ms, the accuracy of R peaks.
SMALLEST_SCALE = 1e-3
#: Mean and standard deviation of age in PTB-XL, years.
AGE_MEAN, AGE_STD = 60.0, 17.0
#: Standard deviation of the initial weights of present labels. Labels such as premature beats
#: change the rhythm a lot, and weights of the usual size take many steps to grow.
PRESENT_DEVIATION = 0.5
#: Number of features per beat in `History.features`.
HISTORY_FEATURES = 10 + len(BeatKind)
#: Typical number of beats in ten seconds, which scales the beat count.
TYPICAL_BEATS = 10.0


class History(NamedTuple):
    """Features of the past after each beat of each record.

    Attributes:
        features: (B, L, HISTORY_FEATURES).
        mean_log_rr: (B, L) mean of ln(RR / 1 s) so far, 0 before the second beat.
        has_rr: (B, L) bool, True from the second beat on.
    """

    features: Tensor
    mean_log_rr: Tensor
    has_rr: Tensor


def describe_history(trains: Trains, dtype: torch.dtype) -> History:
    """Compute last interval, last kind and running statistics of all intervals after each beat."""
    present = trains.present
    has_rr = present.clone()
    has_rr[:, :1] = False
    first_s = trains.times_s[:, :1]
    rr_s = torch.where(has_rr, trains.times_s.diff(dim=1, prepend=first_s), 1.0).to(dtype)
    z = torch.where(has_rr, (rr_s.log() - LOG_RR_MEAN) / LOG_RR_STD, 0.0)
    has_step = has_rr & F.pad(has_rr, (1, 0))[:, :-1]
    step = torch.where(has_step, z.diff(dim=1, prepend=z[:, :1]), 0.0)
    intervals = has_rr.cumsum(1).to(dtype)
    divisor = intervals.clamp_min(1)
    mean = z.cumsum(1) / divisor
    variance = (z.square().cumsum(1) / divisor - mean.square()).clamp_min(1e-6)
    mean_log_rr = LOG_RR_MEAN + LOG_RR_STD * mean
    # The interval that would complete a full compensatory pause after the last one.
    made_up_s = (2 * mean_log_rr.exp() - rr_s).clamp_min(0.2)
    made_up = torch.where(has_rr, (made_up_s.log() - LOG_RR_MEAN) / LOG_RR_STD, 0.0)
    unusual = (present & (trains.kinds > BeatKind.ORDINARY)).cumsum(1)
    numbers = [
        z,
        step,
        made_up,
        has_rr.to(dtype),
        mean,
        torch.where(intervals > 1, variance.log() / 4, 0.0),
        step.abs().cumsum(1) / divisor,
        unusual / present.cumsum(1).clamp_min(1),
        intervals / TYPICAL_BEATS,
        first_s.to(dtype).expand_as(z),
    ]
    kinds = F.one_hot(trains.kinds, len(BeatKind)).to(dtype)
    features = torch.cat([torch.stack(numbers, -1), kinds], -1) * present[..., None]
    return History(features, torch.where(has_rr, mean_log_rr, 0.0), has_rr)


class RhythmNetwork(nn.Module):
    """Gated recurrent network over beats with mixture outputs for the first and the next beat.

    Args:
        labels: number of statements K.
        width: width of all hidden layers.
        components, first_components: mixture components of `NextBeat` and `FirstBeat`, per kind.
    """

    def __init__(self, labels: int, width: int, components: int, first_components: int) -> None:
        super().__init__()
        kinds = len(MODELLED_KINDS)
        self.shape = (kinds, components)
        self.first_shape = (kinds, first_components)
        told = nn.Linear(2 * labels + 4, width)
        nn.init.normal_(told.weight.data[:, :labels], 0.0, PRESENT_DEVIATION)
        self.condition = nn.Sequential(told, nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Sequential(
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 3 * kinds * first_components),
        )
        self.history = nn.Linear(HISTORY_FEATURES, width)
        self.initial = nn.Linear(width, width)
        self.recurrent = nn.GRU(width, width, batch_first=True)
        self.next = nn.Sequential(
            nn.Linear(2 * width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 3 * kinds * components + 1),
        )
        _spread(self.first[-1], self.first_shape, (-1.5, -1.5))
        _spread(self.next[-1], self.shape, (-4.0, -2.0))

    def embed(self, label: Tensor, known: Tensor, age: Tensor, sex: Tensor) -> Tensor:
        """Embed the conditions: (B, K), (B, K) bool, (B,) years, (B,) -> (B, width)."""
        dtype = self.initial.weight.dtype
        age_sex = torch.stack([(age - AGE_MEAN) / AGE_STD, sex - 0.5], 1).to(dtype)
        known_age_sex = ~age_sex.isnan()
        visible = torch.where(known, label.to(dtype), 0.0)
        parts = [
            visible,
            known.to(dtype),
            torch.where(known_age_sex, age_sex, 0.0),
            known_age_sex.to(dtype),
        ]
        embedding: Tensor = self.condition(torch.cat(parts, 1))
        return embedding

    def first_beat(self, condition: Tensor) -> FirstBeat:
        """Distribution of the first beat: (B, width) -> (B,)."""
        weight, location, log_scale = _mixture(self.first(condition), self.first_shape)
        return FirstBeat(weight, LOG_RR_MEAN + location, log_scale)

    def states(self, history: History, condition: Tensor, before: Tensor | None = None) -> Tensor:
        """State after each beat, (B, L, width), starting from state `before` (B, width)."""
        inputs = F.silu(self.history(history.features) + condition[:, None])
        start = self.initial(condition) if before is None else before
        states: Tensor = self.recurrent(inputs, start[None])[0]
        return states

    def next_beat(self, state: Tensor, condition: Tensor, history: History) -> NextBeat:
        """Distribution of the next beat: (E, width), (E, width), history of E beats -> (E,)."""
        output = self.next(torch.cat([state, condition], -1))
        weight, shift, log_scale = _mixture(output[..., :-1], self.shape)
        guess = LOG_RR_MEAN + LOG_RR_STD * output[..., -1]
        around = torch.where(history.has_rr, history.mean_log_rr, guess)
        floor = torch.full_like(log_scale, 2 * math.log(SMALLEST_SCALE))
        log_scale = torch.logaddexp(2 * log_scale, floor) / 2
        return NextBeat(weight, around[..., None, None] + shift, log_scale)


def _mixture(output: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Joint log weight, location and log scale: (..., 3 * kinds * C) -> 3 x (..., kinds, C)."""
    parts = output.reshape(*output.shape[:-1], 3, *shape)
    weight, location, log_scale = parts.unbind(-3)
    weight = weight.flatten(-2).log_softmax(-1).reshape(location.shape)
    return weight, location, log_scale.clamp(-8.0, 1.0)


@torch.no_grad()
def _spread(layer: nn.Module, shape: tuple[int, int], log_scales: tuple[float, float]) -> None:
    """Initialise to ordinary beats and evenly spaced components, for any input."""
    assert isinstance(layer, nn.Linear)
    kinds, components = shape
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    weight, location, log_scale = layer.bias[: 3 * kinds * components].view(3, *shape)
    weight[MODELLED_KINDS.index(BeatKind.ORDINARY)] = 3.0
    location.copy_(torch.linspace(-0.3, 0.3, components))
    log_scale.copy_(torch.linspace(*log_scales, components))
