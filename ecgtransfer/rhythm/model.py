"""Generative model of the beats of a record given its label: p(beats | label, age, sex).

A train in a window [0, T) consists of a first beat, the following beats, and no further beat
before T:

p(beats) = p(k_1, t_1) * prod_i p(k_i+1, RR_i | history) * P(next RR > T - t_n | history),

a normalised density over trains with any number of beats. Trains are sampled in the same order.
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
from ecgtransfer.training import (
    FitResult,
    Progress,
    TrainConfig,
    fit,
    label_weights,
    shuffled_batches,
)

#: Fractions of training records without any statement, and with the core statements only. In each
#: other record, every statement is hidden with a probability drawn uniformly for the record.
HIDE_ALL, SHOW_CORE = 0.1, 0.45
#: Fraction of training records with hidden age; the same, independently, for sex.
HIDE_PERSON = 0.2
#: Times are rounded to this, seconds: sums in batches of different sizes round differently, and a
#: train must not depend on that.
TIME_STEP_S = 1e-6
#: Trains that are sampled for a record before a requested heart rate counts as impossible.
MOST_TRIES = 2000
#: Trains that are sampled together once many have been rejected.
TRIES_AT_ONCE = 512


@dataclass(frozen=True)
class RhythmConfig:
    """Settings that fix a rhythm model before training.

    Attributes:
        label_names: the label space, in the order of the label's columns.
        duration_s: length of the records.
        window_s: part of a record in which beats are modelled. A QRS complex that is cut off by the
            start or end of a record cannot be detected, so that the window excludes both edges.
        width: width of the network's layers.
        components: mixture components of the RR interval, for each kind of beat.
        first_components: mixture components of the first beat's time, for each kind.
        label_balance: exponent of 1 / count with which records of rare labels are drawn more often
            in training.
    """

    label_names: tuple[str, ...]
    duration_s: float = 10.0
    window_s: tuple[float, float] = (0.03, 9.96)
    width: int = 64
    components: int = 6
    first_components: int = 4
    label_balance: float = 0.5

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
        if not 0 <= self.label_balance <= 1:
            raise ConfigError(f"expected 0 <= label_balance <= 1, got {self.label_balance}")

    @classmethod
    def of_records(cls, label_names: tuple[str, ...], duration_s: float) -> "RhythmConfig":
        """Default settings for records of any length, with the same margins of the window."""
        start, end = cls.window_s
        window_s = (start, round(duration_s - (cls.duration_s - end), 6))
        return cls(label_names, duration_s, window_s)


class RhythmModel(nn.Module):
    """p(beats | label, age, sex), with exact likelihood and sampling.

    All methods take the same conditions: label (B, K) multi-hot; known (B, K) bool, whether it is
    known if the statement holds; age (B,) years; sex (B,), 0 male and 1 female; NaN is unknown.
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

        Beats outside `window_s` are ignored. Times are in seconds; the density of a beat of unknown
        kind is summed over kinds.

        Raises:
            ConfigError: a record is shorter than the window, or a condition has another shape.
        """
        trains = stack_trains(beats, self.config.window_s)
        self._check(len(beats), label, known, age, sex)
        log_p: Tensor = self(trains, label, known, age, sex)
        return log_p

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
        # Each beat is followed by another one or by the end of the window.
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
        """Sample a train for each record, on [0, duration_s) with beats within `window_s`.

        A train depends only on its own seed (or generator) and conditions. With `heart_rate_bpm`,
        trains are sampled until the median RR interval lies in the range: exactly the distribution
        conditional on that event.

        Args:
            label: (B, K).
            known: (B, K) bool.
            age: (B,).
            sex: (B,).
            seeds: one seed or generator per record.
            heart_rate_bpm: (B, 2) lowest and highest heart rate, NaN for any; None for any.

        Raises:
            ConfigError: a condition or range has another shape, or none of 2,000 trains has the
                requested heart rate.
        """
        self._check(len(seeds), label, known, age, sex)
        ranges = _rate_ranges(heart_rate_bpm, len(seeds))
        network = copy.deepcopy(self.network).double().eval()
        conditions = network.embed(label, known, age, sex)
        generators = [np.random.default_rng(seed) for seed in seeds]
        drawn: list[Beats | None] = [None] * len(seeds)
        tries = 0
        while waiting := [i for i, train in enumerate(drawn) if train is None]:
            if tries >= MOST_TRIES:
                raise ConfigError(self._no_such_rate(tries, ranges, label, known, waiting[0]))
            again = 1 if not tries else max(1, TRIES_AT_ONCE // len(waiting))
            rows = np.repeat(waiting, again)
            uniform = np.concatenate([self._uniforms(generators[i], again) for i in waiting])
            trains = self._draw(network, conditions[rows], uniform)
            for row, train in zip(rows, trains, strict=True):
                if drawn[row] is None and _has_rate(train, ranges[row]):
                    drawn[row] = train
            tries += again
        return [train for train in drawn if train is not None]

    def _uniforms(self, generator: np.random.Generator, trains: int) -> NDArray[np.float64]:
        """Uniforms on (0, 1] for all beats of this many trains: (trains, events, 3)."""
        window_s = self.config.window_s[1] - self.config.window_s[0]
        return 1 - generator.random((trains, math.ceil(window_s / SHORTEST_RR_S) + 2, 3))

    def _draw(
        self, network: RhythmNetwork, condition: Tensor, uniform: NDArray[np.float64]
    ) -> list[Beats]:
        start_s, end_s = self.config.window_s
        uniforms = torch.from_numpy(uniform)
        kind, time_s = network.first_beat(condition).draw(uniforms[:, 0])
        times, kinds = [time_s], [kind]
        state = None
        while bool((times[-1] < end_s - start_s).any()):
            so_far = Trains(
                torch.stack(times, 1), torch.stack(kinds, 1), torch.full((len(kind),), len(times))
            )
            history = describe_history(so_far, torch.float64)
            latest = History(*(part[:, -1:] for part in history))
            state = network.states(latest, condition, state)[:, 0]
            after = network.next_beat(state, condition, History(*(part[:, 0] for part in latest)))
            kind, rr_s = after.draw(uniforms[:, len(times)])
            # Avoid an interval that rounding would move below the minimum of `Beats`.
            rr_s = rr_s.clamp(SHORTEST_RR_S + 2 * TIME_STEP_S, 2 * end_s)
            times.append(times[-1] + rr_s)
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

    def _no_such_rate(
        self, tries: int, ranges: NDArray[np.float64], label: Tensor, known: Tensor, record: int
    ) -> str:
        present = ((label[record] > 0) & known[record]).tolist()
        named = [name for name, on in zip(self.config.label_names, present, strict=True) if on]
        low, high = ranges[record]
        return (
            f"none of {tries} trains of beats for {' + '.join(named) or 'no statement'} has a "
            f"heart rate of {low:g} to {high:g} bpm; request a rate that such records have"
        )


def hidden_statements(
    known: Tensor, core: Tensor, generator: torch.Generator, *, hide_all: float, show_core: float
) -> Tensor:
    """Hide statements of training records at random.

    A record shows no statement with probability `hide_all`, only the core ones with probability
    `show_core`, and otherwise hides each with a probability that is drawn uniformly for the record.

    Args:
        known: (B, K) bool, statements that are known.
        core: (K,) bool, core statements.
        generator: random generator.
        hide_all: see above.
        show_core: see above.

    Returns:
        (B, K) bool, statements that remain visible.
    """
    way = torch.rand(len(known), generator=generator)
    share = torch.rand(len(known), 1, generator=generator)
    shown = torch.rand(known.shape, generator=generator) >= share
    shown[way < hide_all + show_core] = core
    shown[way < hide_all] = False
    return known & shown


def fit_rhythm(
    model: RhythmModel,
    beats: Sequence[Beats],
    label: ArrayLike,
    known: ArrayLike,
    age: ArrayLike,
    sex: ArrayLike,
    train: NDArray[np.int64],
    held_out: NDArray[np.int64],
    config: TrainConfig,
    folder: Path,
    *,
    core_labels: Sequence[str] = (),
    progress: Callable[[Progress], None] | None = None,
    keep_checkpoint: bool = False,
) -> FitResult:
    """Train `model` on the records with indices `train` by maximum likelihood.

    Conditions are hidden at random, so that the model accepts any subset of them: 10 % of the
    records have no label, 45 % only `core_labels` if there are any, and the others a random subset
    (`hidden_statements`); age and sex are hidden in 20 % each.

    Args:
        model: trained in place.
        beats: beats of N records.
        label: (N, K) multi-hot.
        known: (N, K) bool, where the label is known.
        age: (N,) years, NaN where unknown.
        sex: (N,) 0 male, 1 female, NaN where unknown.
        train: indices of the training records.
        held_out: indices of validation records; with all their known conditions, their mean
            negative log-likelihood is the validation score.
        config: training settings.
        folder: receives weights, log and checkpoint; see `fit`.
        core_labels: the statements that target sets are labelled with.
        progress: called after every step.
        keep_checkpoint: as in `fit`.

    Raises:
        ConfigError: no training record, a core label that is not in the label space, conditions of
            other shapes, or records shorter than the window.
        RunError: as in `fit`.
    """
    names = model.config.label_names
    if not len(train):
        raise ConfigError("expected at least 1 training record, got none; pass their indices")
    if missing := [name for name in core_labels if name not in names]:
        raise ConfigError(f"expected core labels among {', '.join(names)}, got {missing[0]!r}")
    trains = stack_trains(beats, model.config.window_s)
    conditions = (
        torch.as_tensor(np.asarray(label, np.float32)),
        torch.as_tensor(np.asarray(known, np.bool_)),
        torch.as_tensor(np.asarray(age, np.float32)),
        torch.as_tensor(np.asarray(sex, np.float32)),
    )
    model._check(len(beats), *conditions)
    core = torch.tensor([name in core_labels for name in names])
    show_core = SHOW_CORE if core.any() else 0.0
    # Weights depend on the core labels only. Given all core labels, such weights do not change
    # the distribution of beats that the model learns.
    weighed = np.asarray(label, np.float32)[train]
    weighed = weighed[:, core.numpy()] if core.any() else weighed
    weights = label_weights(weighed, model.config.label_balance)
    order = shuffled_batches(len(train), config.batch_size, config.seed, weights)
    indices = torch.from_numpy(np.asarray(train, np.int64))

    def batch_of(index: Tensor) -> tuple[Trains, tuple[Tensor, ...]]:
        return trains.select(index), tuple(part[index] for part in conditions)

    def loss(
        network: nn.Module,
        batch: tuple[Trains, tuple[Tensor, ...]],
        generator: torch.Generator,
    ) -> Tensor:
        seen, (shown_label, shown, years, gender) = batch
        shown = hidden_statements(shown, core, generator, hide_all=HIDE_ALL, show_core=show_core)
        person = torch.rand(2, len(years), generator=generator) < HIDE_PERSON
        log_p: Tensor = network(
            seen,
            shown_label,
            shown,
            years.masked_fill(person[0], math.nan),
            gender.masked_fill(person[1], math.nan),
        )
        return -log_p

    def validate(network: nn.Module) -> float:
        with torch.no_grad():
            held_out_trains, given = batch_of(torch.from_numpy(np.asarray(held_out, np.int64)))
            return -float(network(held_out_trains, *given).mean())

    return fit(
        model,
        loss,
        lambda step: batch_of(indices[torch.from_numpy(order(step))]),
        config,
        folder,
        validate=validate if len(held_out) else None,
        progress=progress,
        keep_checkpoint=keep_checkpoint,
    )


def _rate_ranges(heart_rate_bpm: ArrayLike | None, records: int) -> NDArray[np.float64]:
    """Check ranges of the heart rate: (records, 2), NaN for any rate.

    Raises:
        ConfigError: another shape, or a lowest rate above the highest.
    """
    if heart_rate_bpm is None:
        return np.full((records, 2), np.nan)
    ranges = np.asarray(heart_rate_bpm, dtype=np.float64)
    if ranges.shape != (records, 2):
        raise ConfigError(
            f"expected a lowest and a highest heart rate for each of {records} records, got an "
            f"array of shape {ranges.shape}"
        )
    asked = ~np.isnan(ranges).all(1)
    if not np.all((ranges[asked, 0] >= 0) & (ranges[asked, 0] < ranges[asked, 1])):
        raise ConfigError(f"expected a lowest heart rate below the highest, got {ranges.tolist()}")
    return ranges


def _has_rate(beats: Beats, range_bpm: NDArray[np.float64]) -> bool:
    """Whether the heart rate lies in the range; True for a range of NaN."""
    if np.isnan(range_bpm).all():
        return True
    rr_s = beats.rr_s
    return bool(len(rr_s)) and bool(range_bpm[0] <= 60 / np.median(rr_s) <= range_bpm[1])


def _rows(after: NextBeat, chosen: Tensor) -> NextBeat:
    """Distributions of a subset of the beats."""
    return NextBeat(*(part[chosen] for part in after))
