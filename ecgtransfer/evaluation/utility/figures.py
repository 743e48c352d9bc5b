"""Tables and figures of the utility evaluation."""

from collections.abc import Iterator

from ecgtransfer.drawing import Figure, Formatted, Table, forest_svg
from ecgtransfer.evaluation.cohorts import Cohorts
from ecgtransfer.evaluation.utility.result import (
    MEASURES,
    UtilityEvaluation,
    UtilityResult,
    span_text,
)


def tables(evaluation: UtilityEvaluation) -> Iterator[Table]:
    """Yield the table of scores of the arms."""
    yield arm_table(evaluation.result)


def figures(evaluation: UtilityEvaluation, cohorts: Cohorts, with_real: bool) -> Iterator[Figure]:
    """Yield the differences of each arm with synthetic records, and of the best arm of each set."""
    result = evaluation.result
    if result.differences:
        yield forest_svg(
            [(change.name, change.macro_auroc) for change in result.differences],
            title="Difference in macro AUROC to the same classifier without synthetic records",
            favours=("synthetic records harm", "synthetic records help"),
            caption=(
                "Differences are paired over resampled test patients and trainings. The 95 % "
                "intervals are not adjusted for the number of comparisons; the verdicts use "
                "adjusted intervals. A set alone is compared with target only."
            ),
        )
    for overall in result.overall:
        chosen = " / ".join(dict.fromkeys(overall.chosen))
        yield forest_svg(
            [(f"minus {change.against}", change.macro_auroc) for change in overall.differences],
            title=f"{chosen} against every classifier without synthetic records",
            favours=("it is worse", "it is better"),
            caption=(
                f"This is the best of {overall.candidates} arms with {overall.synthetic} records "
                "by its training score. Differences in macro AUROC with 95 % intervals, not "
                "adjusted."
            ),
        )


def arm_table(
    result: UtilityResult, title: str = "Classifiers of held-out target patients"
) -> Table:
    """Table of the arms: records, scores, difference to the same arm without, and verdict."""
    header = (
        "arm",
        "target",
        "source",
        "synthetic",
        *(heading for heading, _ in MEASURES),
        "difference",
        "adjusted",
        "verdict",
    )
    changes = {change.name: change for change in result.differences}
    rows = []
    for arm in result.arms:
        change = changes.get(arm.name)
        rows.append(
            (
                arm.name,
                arm.target_records,
                arm.source_records,
                arm.synthetic_records,
                *(Formatted.of(getattr(arm, measure)) for _, measure in MEASURES),
                None if change is None else Formatted.of(change.macro_auroc, "+.3f"),
                None if change is None else span_text(change.adjusted),
                None if change is None else change.verdict,
            )
        )
    note = (
        "The difference is to the same arm without synthetic records; for a set alone, to target "
        "only."
    )
    return Table(title, header, tuple(rows), note)
