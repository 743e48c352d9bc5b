"""Tables and figures of the utility question."""

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
    """Scores of the arms."""
    yield arm_table(evaluation.result)


def figures(evaluation: UtilityEvaluation, cohorts: Cohorts, with_real: bool) -> Iterator[Figure]:
    """Differences of the arms with synthetic records to the same without, and of the best ones."""
    result = evaluation.result
    if result.differences:
        yield forest_svg(
            [(change.name, change.macro_auroc) for change in result.differences],
            title="Difference in macro AUROC to the same classifier without synthetic records",
            favours=("synthetic records harm", "they help"),
            caption=(
                "Paired over the same resamples of test patients and trainings; 95 % intervals, "
                "not adjusted for the number of comparisons. The verdicts go by adjusted ones. A "
                "set alone stands against the target only."
            ),
        )
    for overall in result.overall:
        chosen = " / ".join(dict.fromkeys(overall.chosen))
        yield forest_svg(
            [(f"minus {change.against}", change.macro_auroc) for change in overall.differences],
            title=f"{chosen} against every classifier without synthetic records",
            favours=("it is worse", "it is better"),
            caption=(
                f"The best of {overall.candidates} ways with {overall.synthetic} records by its "
                "training score; differences in macro AUROC, 95 % intervals, not adjusted."
            ),
        )


def arm_table(
    result: UtilityResult, title: str = "Classifiers of held-out target patients"
) -> Table:
    """Arms down; records, scores, difference to the same without, and verdict across."""
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
        "Differences are to the same way without synthetic records; of sets alone, to the target "
        "only."
    )
    return Table(title, header, tuple(rows), note)
