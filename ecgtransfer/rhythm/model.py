"""A generative model of the beats of a record given its label: p(beats | label, age, sex).

A train of beats in a window [0, T) is the first beat, the following ones, and no more before T:

p(beats) = p(k_1, t_1) * prod_i p(k_i+1, RR_i | history) * P(next RR > T - t_n | history),

a proper density over trains of any number of beats, and the way in which they are sampled.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ecgtransfer.errors import ConfigError
from ecgtransfer.rhythm.densities import SHORTEST_RR_S, NextBeat
from ecgtransfer.rhythm.network import History, RhythmNetwork, describe_history
from ecgtransfer.rhythm.trains import Trains, stack_trains
from ecgtransfer.signals import Beats
from ecgtransfer.training import FitResult, Progress, TrainConfig, fit, shuffled_batches

#: Shares of training records that are shown no statement, and the core statements alone; of the
#: others, each record hides each statement with a probability drawn uniformly.
HIDE_ALL, SHOW_CORE = 0.1, 0.45
#: Share of training records whose age, and whose sex, is hidden.
HIDE_PERSON = 0.2
#: Times are rounded to this, seconds, so that a train does not depend on the rounding of sums in
#: batches of different sizes.
TIME_STEP_S = 1e-6
#: Trains drawn for a record until one has the heart rate asked for.
MOST_TRIES = 2000
#: Trains drawn at a time when many are rejected.
TRIES_AT_ONCE = 512


@dataclass(frozen=True)
class RhythmConfig:
    """Everything that fixes a rhythm model before it has seen a record.

    Attributes:
        label_names: the label space, in the order of the label's columns.
        duration_s: length of the records.
        window_s: part of a record in which beats are found. A QRS complex that is cut off by the
            start or end of a record is not detected, so that trains are modelled between the two.
        width: of the network's layers.
        components: of the mixture of RR intervals, for each kind of beat.
        first_components: of the mixture of the first beat's time, for each kind.
    """

    label_names: tuple[str, ...]
    duration_s: float = 10.0
    window_s: tuple[float, float] = (0.03, 9.96)
    width: int = 64
    components: int = 6
    first_components: int = 4

    def __post_init__(self) -> None:
        if not self.label_names or len(set(self.label_names)) < len(self.label_names):
            raise ConfigError(
                f"expected at least one label name and none twice, got {self.label_names}"
            )
        start, end = self.window_s
        if not 0 <= start < end <= self.duration_s or end - start < SHORTEST_RR_S:
            raise ConfigError(
                f"expected a window of at least {SHORTEST_RR_S} s within 0 to "
                f"{self.duration_s:g} s, got {start:g} to {end:g} s"
            )
        if min(self.width, self.components, self.first_components) < 1:
            raise ConfigError(
                f"expected width, components and first_components of at least 1, got "
                f"{self.width}, {self.components} and {self.first_components}"
            )


class RhythmModel(nn.Module):
    """p(beats | label, age, sex), with exact likelihood and sampling.

    Conditions, in all methods: label (B, K) multi-hot; known (B, K) bool, whether a statement's
    presence or absence is known; age (B,) years; sex (B,), 0 male and 1 female; NaN is unknown.
    """

    def __init__(self, config: RhythmConfig) -> None:
        super().__init__()
        self.config = config
        self.network = RhythmNetwork(
            len(config.label_names), config.width, config.components, config.first_components
        )

    def log_likelihood(
        self, beats: Sequence[Beats], label: Tensor, known: Tensor, age: Tensor, sex: Tensor
    ) -> Tensor:
        """Log-density of trains, in nats: (B,).

        The train is that within `window_s`. Times are in seconds; a beat of unknown kind has the
        density of its time, summed over kinds.

        ConfigError for a record shorter than the window, or conditions of other shapes.
        """
        trains = stack_trains(beats, self.config.window_s)
        self._check(len(beats), label, known, age, sex)
        return self(trains, label, known, age, sex)

    def forward(
        self, trains: Trains, label: Tensor, known: Tensor, age: Tensor, sex: Tensor
    ) -> Tensor:
        """Log-density of trains in the window: (B,)."""
        window_s = self.config.window_s[1] - self.config.window_s[0]
        condition = self.network.embed(label, known, age, sex)
        dtype = condition.dtype
        first, empty = self.network.first_beat(condition), trains.counts == 0
        if not trains.times_s.shape[1]:
            return first.log_survival(condition.new_full((len(empty),), window_s))
        none = first.log_survival(torch.full_like(condition[:, 0], window_s))
        begun = first.log_density(trains.times_s[:, 0].to(dtype), trains.kinds[:, 0])
        # After each beat, either another one follows or the window ends.
        history = describe_history(trains, dtype)
        states = self.network.states(history, condition)
        row, column = trains.present.nonzero(as_tuple=True)
        last = column == trains.counts[row] - 1
        following = (column + 1).clamp_max(trains.times_s.shape[1] - 1)
        end_s = torch.where(last, window_s, trains.times_s[row, following])
        gap_s = (end_s - trains.times_s[row, column]).to(dtype)
        after = self.network.next_beat(
            states[row, column], condition[row], History(*(part[row, column] for part in history))
        )
        more = ~last
        log_p = torch.cat(
            [
                _rows(after, more).log_density(gap_s[more], trains.kinds[row, following][more]),
                _rows(after, last).log_survival(gap_s[last]),
            ]
        )
        owner = torch.cat([row[more], row[last]])
        return torch.where(empty, none, begun).index_add(0, owner, log_p)

    @torch.no_grad()
    def sample(
        self,
        label: Tensor,
        known: Tensor,
        age: Tensor,
        sex: Tensor,
        seeds: Sequence[int | np.random.Generator],
        heart_rate_bpm: ArrayLike | None = None,
    ) -> list[Beats]:
        """Draw a train for each record, on [0, duration_s) with beats within `window_s`.

        A train depends on its own seed (or generator) and conditions alone. With a range
        `heart_rate_bpm` (B, 2), lowest and highest, trains are drawn until the median RR interval
        lies in it: exactly the law of a train given that event. NaN asks for no range.

        ConfigError for conditions or ranges of other shapes, or where none of 2,000 trains has
        the heart rate asked for.
        """
        self._check(len(seeds), label, known, age, sex)
        ranges = _rate_ranges(heart_rate_bpm, len(seeds))
        network = copy.deepcopy(self.network).double().eval()
        conditions = network.embed(label, known, age, sex)
        generators = [np.random.default_rng(seed) for seed in seeds]
        drawn: list[Beats | None] = [None] * len(seeds)
        tries = np.zeros(len(seeds), dtype=np.int64)
        while waiting := [i for i, train in enumerate(drawn) if train is None]:
            again = 1 if not tries[waiting[0]] else max(1, TRIES_AT_ONCE // len(waiting))
            rows = np.repeat(waiting, again)
            uniform = np.concatenate([self._uniforms(generators[i], again) for i in waiting])
            for row, train in zip(rows, self._draw(network, conditions[rows], uniform), strict=True):
                if drawn[row] is None and _has_rate(train, ranges[row]):
                    drawn[row] = train
            tries[waiting] += again
            for i in waiting:
                if drawn[i] is None and tries[i] >= MOST_TRIES:
                    raise ConfigError(
                        f"none of {tries[i]} trains of beats for {self._in_words(label[i], known[i])} "
                        f"has a heart rate of {ranges[i, 0]:g} to {ranges[i, 1]:g} bpm; ask for "
                        f"a rate that these records have"
                    )
        return [train for train in drawn if train is not None]

    def _uniforms(self, generator: np.random.Generator, trains: int) -> NDArray[np.float64]:
        """Uniforms on (0, 1] of all beats of so many trains: (trains, events, 3)."""
        window_s = self.config.window_s[1] - self.config.window_s[0]
        return 1 - generator.random((trains, math.ceil(window_s / SHORTEST_RR_S) + 2, 3))

    def _draw(
        self, network: RhythmNetwork, condition: Tensor, uniform: NDArray[np.float64]
    ) -> list[Beats]:
        start_s, end_s = self.config.window_s
        numbers = torch.from_numpy(uniform)
        kind, time_s = network.first_beat(condition).draw(numbers[:, 0])
        times, kinds = [time_s], [kind]
        state = None
        while bool((times[-1] < end_s - start_s).any()):
            so_far = Trains(
                torch.stack(times, 1), torch.stack(kinds, 1), torch.full((len(kind),), len(times))
            )
            history = describe_history(so_far, torch.float64)
            latest = History(*(part[:, -1:] for part in history))
            state = network.states(latest, condition, state)[:, 0]
            after = network.next_beat(
                state, condition, History(*(part[:, 0] for part in latest))
            )
            kind, rr_s = after.draw(numbers[:, len(times)])
            times.append(times[-1] + rr_s.clamp_max(2 * end_s))
            kinds.append(kind)
        all_times, all_kinds = torch.stack(times, 1).numpy(), torch.stack(kinds, 1).numpy()
        trains = []
        for row_times, row_kinds in zip(all_times, all_kinds, strict=True):
            rounded = np.round((start_s + row_times) / TIME_STEP_S) * TIME_STEP_S
            within = rounded < end_s
            trains.append(
                Beats(rounded[within], row_kinds[within].astype(np.int8), self.config.duration_s)
            )
        return trains

    def _check(self, records: int, label: Tensor, known: Tensor, age: Tensor, sex: Tensor) -> None:
        expected = (records, len(self.config.label_names))
        if label.shape != expected or known.shape != expected or known.dtype != torch.bool:
            raise ConfigError(
                f"expected label and known of shape {expected}, known bool, got "
                f"{tuple(label.shape)} and {tuple(known.shape)} of {known.dtype}"
            )
        if age.shape != (records,) or sex.shape != (records,):
            raise ConfigError(
                f"expected one age and one sex for each of {records} records, NaN where unknown, "
                f"got {tuple(age.shape)} and {tuple(sex.shape)}"
            )

    def _in_words(self, label: Tensor, known: Tensor) -> str:
        present = ((label > 0) & known).tolist()
        named = [name for name, on in zip(self.config.label_names, present, strict=True) if on]
        return " + ".join(named) or "no statement"
