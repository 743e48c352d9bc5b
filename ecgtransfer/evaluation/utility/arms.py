"""The arms of a utility study: on which records each classifier is trained."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import ConfigError
from ecgtransfer.statistics import streams

#: Name of the arm that is trained on the target's records and nothing else.
TARGET_ONLY = "target only"

#: Synthetic records per target record in the default arms.
RATIOS = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Arm:
    """Training and test records of one classifier.

    Attributes:
        name: name in results, unique in a study.
        target: whether the classifier is trained on the target's training records.
        balance: power of `training.label_weights`, 1 for balanced classes; None for the power in
            the classifier's settings.
        augmented: whether all records get classic augmentation each time they are drawn.
        source: "pooled" to train on source and target records together, with the source share
            `added_share` in each batch; "pretrained" to train on the source first, then on the
            other records, if any; None to ignore the source.
        synthetic: name of the synthetic set; None for an arm without.
        ratio: synthetic records per target record, in the target's class mix and added to the
            target records; None for the whole set, drawn with the share `added_share`.
        shuffled: whether the labels of the synthetic records are permuted. Such an arm is a
            control: its gain cannot come from what the records show.
        tested_on: name of the synthetic set for the test; None for the test records.

    Raises:
        ConfigError: the arm has no records or contradicts itself.
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
            raise ConfigError("expected a name for each arm, got an empty one; name the arm")
        if self.balance is not None and not 0 <= self.balance <= 1:
            raise ConfigError(
                f"expected balance in [0, 1] for {self.name!r}, got {self.balance}; change it"
            )
        if self.source not in (None, "pooled", "pretrained"):
            raise ConfigError(
                f'expected source "pooled", "pretrained" or None for {self.name!r}, got '
                f"{self.source!r}; choose one of these"
            )
        if self.ratio is not None and not 0 < self.ratio < float("inf"):
            raise ConfigError(
                f"expected a positive ratio for {self.name!r}, got {self.ratio}; change it"
            )
        if self.synthetic is None and (self.ratio is not None or self.shuffled):
            raise ConfigError(
                f"{self.name!r} has a ratio or shuffled labels, but no synthetic set; name the set"
            )
        if not self.target and self.synthetic is None and self.source != "pretrained":
            raise ConfigError(
                f"{self.name!r} has no records to be trained on; give it target records, a "
                "synthetic set or pre-training on the source"
            )
        if self.synthetic is not None and self.tested_on is not None:
            raise ConfigError(
                f"{self.name!r} is trained and tested on synthetic records; test it on real ones"
            )
        if self.source == "pooled" and self.synthetic and (self.ratio is None or not self.target):
            raise ConfigError(
                f"{self.name!r} pools the source with a synthetic set, which needs target records "
                "and a ratio; give both"
            )

    @property
    def compared(self) -> bool:
        """Whether it is trained on synthetic records, and so compared with an arm without."""
        return self.synthetic is not None

    @property
    def baseline(self) -> bool:
        """Whether it is trained and tested without synthetic records."""
        return self.synthetic is None and self.tested_on is None

    @property
    def source_only(self) -> bool:
        """Whether it is trained on the source only."""
        return not self.target and self.synthetic is None

    @property
    def has_recipe_without(self) -> bool:
        """Whether it has other records to be trained on than the synthetic ones."""
        return self.target or self.source == "pretrained"

    def without(self, arms: Sequence["Arm"]) -> str | None:
        """Name of the arm with the same recipe without synthetic records, or None."""
        for arm in arms:
            if arm.baseline and all(
                getattr(arm, part) == getattr(self, part)
                for part in ("target", "balance", "augmented", "source")
            ):
                return arm.name
        return None

    @property
    def recipe(self) -> "Arm":
        """The arm without its name and test set; arms with equal recipes share their trainings."""
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
    """Arms of a study; each group that is switched off saves trainings (`count_trainings`).

    "Target only" is always part of the study.

    Args:
        synthetic: names of the synthetic sets.
        ratios: synthetic records per target record.
        oversampled: add an arm with balanced classes.
        augmented: add an arm with classic augmentation.
        source: add three arms: source pooled with the target, pre-trained on the source and
            fine-tuned on the target, and source only.
        every_baseline: combine each set at each ratio with all arms above but "source only",
            instead of with "target only" alone.
        synthetic_only: add, for each set, an arm that is trained on the set alone, and "target
            only" tested on the set.
        control: add, for each set, "target only" with the set's labels shuffled, at the ratio 1 if
            it is among `ratios`, else at the first.
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
    """Draw round(ratio · n) records of a set in the class mix of n target records.

    Each combination of labels occurs `ratio` times as often as in the target, rounded so that the
    sum is right (largest remainder, rarer combinations first). If the set has too few records of a
    combination, such as AFIB+CRBBB, they are replaced by records with its rarest label and the most
    similar other labels.

    Args:
        pool: labels (M, K) of the set.
        target: labels (n, K) of the target records.
        ratio: records per target record.
        seed: seed of the draw.
        label_names: names of the K labels, for errors.

    Returns:
        Increasing indices into `pool`, without repeats, (round(ratio · n),).

    Raises:
        ConfigError: the set has too few records for a combination, replacements included.
    """
    available, wanted = np.asarray(pool, dtype=bool), np.asarray(target, dtype=bool)
    rows, counts = np.unique(wanted, axis=0, return_counts=True)
    exact = ratio * counts
    quota = np.floor(exact).astype(np.int64)
    short = int(np.floor(ratio * len(wanted) + 0.5)) - int(quota.sum())
    quota[np.lexsort((counts, -np.round(exact - quota, 9)))[:short]] += 1
    order = streams.generator(seed, streams.ARM_RECORDS).permutation(len(available))
    distance = (available[order, None, :] != rows).sum(axis=2)
    taken = np.zeros(len(order), dtype=bool)
    for j, count in enumerate(quota):
        taken[np.flatnonzero(distance[:, j] == 0)[:count]] = True
    frequency = np.where(rows, wanted.sum(axis=0), len(wanted) + 1)
    for j, count in enumerate(quota - np.minimum(quota, (distance == 0).sum(axis=0))):
        fits = available[order, frequency[j].argmin()] & rows[j].any() & ~taken
        places = np.flatnonzero(fits)
        places = places[np.argsort(distance[places, j], kind="stable")][:count]
        if len(places) < count:
            name = "+".join(np.asarray(label_names)[rows[j]]) or "no label"
            raise ConfigError(
                f"a ratio of {ratio:g} needs {quota[j]} synthetic records of {name}, but the set "
                f"lacks {count - len(places)} of them; generate more or lower the ratio"
            )
        taken[places] = True
    return np.sort(order[taken])
