"""What a classifier is trained on: the arms of a utility study, and the records of each."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import ConfigError
from ecgtransfer.statistics import streams

#: Name of the arm that is trained on the target's records as they are.
TARGET_ONLY = "target only"

#: Synthetic records for each target record, in the arms that are made by default.
RATIOS = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Arm:
    """What a classifier is trained on.

    Attributes:
        name: in results; every arm of a study has its own.
        target: whether it sees the target's training records.
        balance: power of `training.label_weights`, 1 draws every class as often; none leaves it
            to the classifier's settings.
        augmented: classic augmentation of all records, anew each time one is drawn.
        source: "pooled" with the target, in batches shared as `added_share` says, or "pretrained"
            on before training goes on without it (or, where there is nothing else, ends).
        synthetic: name of the synthetic set, none for an arm without.
        ratio: synthetic records for each target record, in the target's class mix and drawn by
            number with them; none takes the whole set as it is, drawn with `added_share`.
        shuffled: the synthetic records have their labels permuted among them: a control, whose
            gain has nothing to do with what the records show.
        tested_on: name of the synthetic set that it is tested on; none for the test records.

    Raises:
        ConfigError: an arm without any records or that contradicts itself.
    """

    name: str
    target: bool = True
    balance: float | None = None
    augmented: bool = False
    source: Literal["pooled", "pretrained"] | None = None
    synthetic: str | None = None
    ratio: float | None = None
    shuffled: bool = False
    tested_on: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("an arm needs a name, got an empty one")
        if self.balance is not None and not 0 <= self.balance <= 1:
            raise ConfigError(f"expected balance in [0, 1] for {self.name!r}, got {self.balance}")
        if self.source not in (None, "pooled", "pretrained"):
            raise ConfigError(
                f'expected source "pooled", "pretrained" or none for {self.name!r}, got '
                f"{self.source!r}"
            )
        if self.ratio is not None and not 0 < self.ratio < float("inf"):
            raise ConfigError(f"expected a positive ratio for {self.name!r}, got {self.ratio}")
        if self.synthetic is None and (self.ratio is not None or self.shuffled):
            raise ConfigError(
                f"{self.name!r} has a ratio or shuffled labels, and no synthetic set; name the set"
            )
        if not self.target and self.synthetic is None and self.source != "pretrained":
            raise ConfigError(
                f"{self.name!r} has nothing to be trained on; give it target records, a synthetic "
                "set or pre-training on the source"
            )
        if self.synthetic is not None and self.tested_on is not None:
            raise ConfigError(
                f"{self.name!r} is trained and tested on synthetic records; test it on real ones"
            )
        if self.source == "pooled" and self.synthetic and (self.ratio is None or not self.target):
            raise ConfigError(
                f"{self.name!r} pools the source with a synthetic set; give target records and a "
                "ratio"
            )

    @property
    def compared(self) -> bool:
        """Whether it has synthetic records and is tested on real ones."""
        return self.synthetic is not None

    @property
    def baseline(self) -> bool:
        """Whether it has no synthetic records and is tested on real ones."""
        return self.synthetic is None and self.tested_on is None

    @property
    def source_only(self) -> bool:
        """Whether pre-training on the source is all the training that it gets."""
        return not self.target and self.synthetic is None

    @property
    def has_recipe_without(self) -> bool:
        """Whether anything is left to be trained on without the synthetic records."""
        return self.target or self.source == "pretrained"

    def without(self, arms: Sequence["Arm"]) -> str | None:
        """Name of the arm that has the same recipe without synthetic records; None for no such."""
        for arm in arms:
            if arm.baseline and all(
                getattr(arm, part) == getattr(self, part)
                for part in ("target", "balance", "augmented", "source")
            ):
                return arm.name
        return None

    @property
    def recipe(self) -> "Arm":
        """The arm but for name and test: arms with equal recipes share their trainings."""
        return dataclasses.replace(self, name="recipe", tested_on=None)


def default_arms(
    synthetic: Sequence[str] = (),
    *,
    ratios: Sequence[float] = RATIOS,
    oversampled: bool = True,
    augmented: bool = True,
    source: bool = True,
    every_baseline: bool = True,
    synthetic_only: bool = True,
    control: bool = True,
) -> tuple[Arm, ...]:
    """The arms of a whole study; fewer switches, fewer trainings (`count_trainings`).

    Without synthetic records: target only, oversampled (every class as often), augmented, source
    pooled with the target, pre-trained on the source and then trained on the target, and source
    only. With each of the `synthetic` sets: all of these but the last (`every_baseline`, else
    target only) at each of `ratios`; the set alone and its reverse, target only tested on the set
    (`synthetic_only`); target only with the labels of the set shuffled, at ratio 1 or, where it is
    not asked for, the first of `ratios` (`control`).
    """
    baselines = [Arm(TARGET_ONLY)]
    if oversampled:
        baselines.append(Arm("oversampled", balance=1.0))
    if augmented:
        baselines.append(Arm("augmented", augmented=True))
    if source:
        baselines.append(Arm("source pooled", source="pooled"))
        baselines.append(Arm("pre-trained", source="pretrained"))
    arms = [*baselines, *([Arm("source only", False, source="pretrained")] if source else [])]
    for name in synthetic:
        for arm in baselines if every_baseline else baselines[:1]:
            arms += [
                dataclasses.replace(
                    arm, name=f"{arm.name} + {name} x{ratio:g}", synthetic=name, ratio=ratio
                )
                for ratio in ratios
            ]
        if synthetic_only:
            arms.append(Arm(f"{name} only", target=False, synthetic=name))
            arms.append(Arm(f"{TARGET_ONLY}, tested on {name}", tested_on=name))
        if control and ratios:
            ratio = 1.0 if 1.0 in ratios else ratios[0]
            arms.append(
                Arm(
                    f"{TARGET_ONLY} + shuffled {name} x{ratio:g}",
                    synthetic=name,
                    ratio=ratio,
                    shuffled=True,
                )
            )
    return tuple(arms)


def matched_records(
    pool: npt.ArrayLike,
    target: npt.ArrayLike,
    ratio: float,
    seed: int,
    label_names: Sequence[str],
) -> npt.NDArray[np.int64]:
    """Numbers of round(ratio · n) records of a set, in the class mix of n target records: (m,).

    pool (M, K) and target (n, K) are multi-hot labels. Every combination of labels comes as often
    as `ratio` times in the target, rounded so that the sum holds (largest remainder, the rarer
    first), drawn without repeats. Where the set has too few of a combination (AFIB+CRBBB, say), the
    records of its rarest label that are nearest to it stand in. ConfigError where the set has too
    few of these as well.
    """
    held, wanted = np.asarray(pool, dtype=bool), np.asarray(target, dtype=bool)
    rows, counts = np.unique(wanted, axis=0, return_counts=True)
    exact = ratio * counts
    quota = np.floor(exact).astype(np.int64)
    short = int(np.floor(ratio * len(wanted) + 0.5)) - int(quota.sum())
    quota[np.lexsort((counts, -np.round(exact - quota, 9)))[:short]] += 1
    order = streams.generator(seed, streams.ARM_RECORDS).permutation(len(held))
    distance = (held[order, None, :] != rows).sum(axis=2)
    taken = np.zeros(len(order), dtype=bool)
    for j, count in enumerate(quota):
        taken[np.flatnonzero(distance[:, j] == 0)[:count]] = True
    frequency = np.where(rows, wanted.sum(axis=0), len(wanted) + 1)
    for j, count in enumerate(quota - np.minimum(quota, (distance == 0).sum(axis=0))):
        fits = held[order, frequency[j].argmin()] & rows[j].any() & ~taken
        places = np.flatnonzero(fits)
        places = places[np.argsort(distance[places, j], kind="stable")][:count]
        if len(places) < count:
            name = "+".join(np.asarray(label_names)[rows[j]]) or "no label"
            raise ConfigError(
                f"a ratio of {ratio:g} needs {quota[j]} synthetic records of {name}, and the set "
                f"lacks {count - len(places)} of them; generate more or lower the ratio"
            )
        taken[places] = True
    return np.sort(order[taken])
