"""Tables and figures of the physiology evaluation."""

from collections.abc import Iterator, Mapping

from ecgtransfer.drawing import Figure, Formatted, Table, bars_svg, interval_plot_svg
from ecgtransfer.evaluation.cohorts import Cohorts
from ecgtransfer.evaluation.physiology.result import (
    PhysiologyEvaluation,
    PhysiologyResult,
    ShareComparison,
)
from ecgtransfer.statistics import (
    Estimate,
)

#: Measures whose distributions are plotted, with the limits of textbooks.
DRAWN_INTERVALS: Mapping[str, Mapping[str, float]] = {
    "heart rate": {},
    "PR": {"200 ms": 200.0},
    "QRS": {"120 ms": 120.0},
    "QTc": {},
}
#: Names of the two sides in plots.
SIDES = ("target", "generated")


def tables(evaluation: PhysiologyEvaluation) -> Iterator[Table]:
    """Yield the tables of rules and of distributions of each method."""
    for method, result in evaluation.methods.items():
        yield rule_table(result, f"Rules of the classes, {method}")
        yield interval_table(result, f"Intervals, {method}")


def figures(
    evaluation: PhysiologyEvaluation, cohorts: Cohorts, with_real: bool
) -> Iterator[Figure]:
    """Yield for each method how often class rules are met, and intervals by class."""
    for method, result in evaluation.methods.items():
        tested = [rule for rule in result.rules if rule.shares]
        if tested:
            yield bars_svg(
                [
                    (f"{rule.label}: {rule.sentence}", rule.shares.real, rule.shares.generated)
                    for rule in result.rules
                    if rule.shares
                ],
                title=f"Records that meet the rule of their class, {method}",
                axis="records that meet the rule",
                names=SIDES,
            )
        for measure, limits in DRAWN_INTERVALS.items():
            rows = [row for row in result.intervals if row.measure == measure]
            if rows:
                yield interval_plot_svg(
                    [(row.group, row.real, row.generated) for row in rows],
                    title=f"{measure} by class, {method}",
                    unit=rows[0].unit,
                    axis=measure,
                    limits=limits,
                    names=SIDES,
                )


def rule_table(result: PhysiologyResult, title: str = "Rules of the classes") -> Table:
    """Table of how often records meet a class rule: generated, real, and real of other classes.

    The difference has two intervals: the plain 95 % interval, and the one adjusted for the number
    of rules.
    """
    header = (
        "label",
        "rule",
        "generated",
        "target",
        "difference",
        "target, other classes",
        "verdict",
    )
    rows = tuple(
        (
            rule.label,
            rule.sentence,
            *_shares(rule.shares),
            None
            if rule.others is None
            else Formatted(100 * rule.others, f"{100 * rule.others:.0f} %"),
            rule.verdict,
        )
        for rule in result.rules
    )
    return Table(title, header, rows)


def interval_table(result: PhysiologyResult, title: str = "Intervals") -> Table:
    """Table of the distribution of each measure in each group, and of the distance between them."""
    header = (
        "measure",
        "group",
        "generated",
        "target",
        "shift of the median",
        "Wasserstein distance",
        "target against target",
    )
    rows = tuple(
        (
            f"{row.measure}, {row.unit}",
            row.group,
            Formatted(row.generated.p50, str(row.generated)),
            Formatted(row.real.p50, str(row.real)),
            Formatted.of(row.shift, ".3g"),
            Formatted.of(row.distance.score, ".3g"),
            Formatted.of(row.distance.reference, ".3g"),
        )
        for row in result.intervals
    )
    return Table(title, header, rows)


def _shares(shares: ShareComparison | None) -> tuple[Formatted | None, ...]:
    """Cells for generated, real, and their difference in percentage points with both intervals."""
    if shares is None:
        return (None, None, None)
    value = 100 * shares.difference.value
    both = f"{_points(shares.difference)}, adjusted {_points(shares.adjusted)}"
    return (
        _percent(shares.generated),
        _percent(shares.real),
        Formatted(value, f"{value:+.0f} points", both),
    )


def _percent(share: Estimate) -> Formatted:
    value, low, high = (100 * x for x in (share.value, share.low, share.high))
    return Formatted(value, f"{value:.0f} %", f"[{low:.0f}, {high:.0f}]")


def _points(difference: Estimate) -> str:
    return f"[{100 * difference.low:+.0f}, {100 * difference.high:+.0f}]"
