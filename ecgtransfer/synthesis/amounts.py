"""How many synthetic records to add to recorded ones, per combination of labels."""

import math
from collections.abc import Collection, Mapping

from ecgtransfer.errors import ConfigError

#: Label names of a record, sorted as in its label space.
Combination = tuple[str, ...]


def records_to_add(
    recorded: Mapping[Combination, int],
    *,
    ratio: float | None = None,
    at_least: int | None = None,
    balance: bool = False,
    known: Collection[str] | None = None,
) -> dict[Combination, int]:
    """Number of synthetic records of each label combination that recorded ones have.

    First `ratio` times each combination is added, rounded up. Then the classes with too few
    records, the rarest first, are filled up to the larger of `at_least` and, with `balance`, of the
    most frequent class; recorded and synthetic records count. What a class lacks is distributed
    over its combinations as in the recorded ones, by largest remainder. Since a record of several
    labels counts for each of them, a frequent class may get more than it needs.

    Args:
        recorded: number of recorded records of each combination; the empty one is ignored.
        ratio: synthetic records per recorded one.
        at_least: fewest records of each class.
        balance: give each class as many records as the most frequent one has.
        known: labels that the model can generate; combinations with others get no records. Default:
            all.

    Returns:
        Counts above 0, in the order of `recorded`.

    Raises:
        ConfigError: no option is given, one is out of range, or there is nothing to add.
    """
    check_amounts(ratio, at_least, balance)
    possible = {
        names: count
        for names, count in recorded.items()
        if names and count and (known is None or set(names) <= set(known))
    }
    added = {
        names: math.ceil(round(ratio * count, 9)) if ratio is not None else 0
        for names, count in possible.items()
    }
    classes = list(dict.fromkeys(name for names in possible for name in names))
    totals = {
        name: sum(count + added.get(names, 0) for names, count in recorded.items() if name in names)
        for name in classes
    }
    fewest = max(at_least or 0, max(totals.values(), default=0) if balance else 0)
    for name in sorted(classes, key=lambda name: totals[name]):
        lacking = fewest - totals[name]
        if lacking <= 0:
            continue
        own = {names: count for names, count in possible.items() if name in names}
        for names, more in distributed(lacking, own).items():
            added[names] += more
            for label in names:
                totals[label] += more
    wanted = {names: count for names, count in added.items() if count}
    if not wanted:
        why = (
            f"every class has {fewest} records already"
            if possible
            else "no recorded combination of labels is known to the model"
        )
        raise ConfigError(f"expected records to add, but {why}; ask for more, or for a ratio")
    return wanted


def check_amounts(ratio: float | None, at_least: int | None, balance: bool) -> None:
    """Check the options of `records_to_add`.

    Raises:
        ConfigError: no option is given, or one is out of range.
    """
    if ratio is None and at_least is None and not balance:
        raise ConfigError(
            "expected a ratio, a number of records per class or balanced classes, got none of "
            "them; state how many records to add"
        )
    if ratio is not None and not 0 < ratio < math.inf:
        raise ConfigError(f"expected a ratio above 0, got {ratio}; 1 doubles the records")
    if at_least is not None and at_least < 1:
        raise ConfigError(f"expected at least 1 record per class, got {at_least}")


def distributed(number: int, like: Mapping[Combination, int]) -> dict[Combination, int]:
    """Distribute a number in proportion to some counts, by largest remainder; first ones win ties.

    The result sums to the number.
    """
    total = sum(like.values())
    exact = {names: number * count / total for names, count in like.items()}
    shares = {names: math.floor(value) for names, value in exact.items()}
    order = sorted(exact, key=lambda names: shares[names] - exact[names])
    for names in order[: number - sum(shares.values())]:
        shares[names] += 1
    return shares


def records_to_generate(
    lacking: Mapping[Combination, int],
    kept: Mapping[Combination, int],
    generated: Mapping[Combination, int],
    lowest_share: float,
) -> dict[Combination, int]:
    """Number of records to generate so that about as many as are lacking pass a quality gate.

    The share that passes is estimated by (kept + 1) / (generated + 2), Laplace's rule, and is not
    taken to be below `lowest_share`. Before the first round nothing is known, and what is lacking
    is generated.

    Args:
        lacking: records still wanted of each combination.
        kept: records of earlier rounds that passed.
        generated: records of earlier rounds.
        lowest_share: bounds a round to 1 / `lowest_share` times what is lacking.
    """
    numbers = {}
    for names, count in lacking.items():
        if count < 1:
            continue
        share = 1.0
        if generated.get(names):
            share = max((kept.get(names, 0) + 1) / (generated[names] + 2), lowest_share)
        numbers[names] = math.ceil(round(count / share, 9))
    return numbers
