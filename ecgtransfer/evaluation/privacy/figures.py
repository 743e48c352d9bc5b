"""Tables and figures of the privacy evaluation."""

from collections.abc import Iterator

import numpy as np

from ecgtransfer.corpus import ECGSet
from ecgtransfer.drawing import Cell, Figure, Formatted, Table, ecg_pair_svg, ecg_svg
from ecgtransfer.evaluation.cohorts import Cohorts
from ecgtransfer.evaluation.privacy.result import (
    ALLOWED_COPIES,
    TOLERANCE,
    PrivacyEvaluation,
    PrivacyResult,
    word_of,
)

#: Number of closest pairs that are plotted per method.
PAIRS = 3


def tables(evaluation: PrivacyEvaluation) -> Iterator[Table]:
    """Yield the table of tests of each method."""
    for method, result in evaluation.methods.items():
        yield privacy_table(result, f"Tests, {method}")


def figures(evaluation: PrivacyEvaluation, cohorts: Cohorts, with_real: bool) -> Iterator[Figure]:
    """Yield plots of the closest pairs, real above synthetic, or of the synthetic records alone."""
    real = cohorts.train.ecgset
    for method, result in evaluation.methods.items():
        ecgset = cohorts.synthetic[method].ecgset
        (signal,) = (found for found in result.spaces if found.space == "signal")
        for rank, pair in enumerate(signal.closest_pairs[:PAIRS], 1):
            title = (
                f"{method}, closest pair {rank}: correlation {pair.correlation:.2f} at a lag of "
                f"{pair.lag_s:+.2f} s"
            )
            generated = _index_of(ecgset, pair.generated_name)
            labels = _labels_of(ecgset, generated)
            if not with_real or pair.training_name is None:
                yield ecg_svg(
                    ecgset.recording(generated),
                    title=title,
                    description=labels,
                    caption="This report does not show the training record of this pair.",
                )
                continue
            training = _index_of(real, pair.training_name)
            yield ecg_pair_svg(
                real.recording(training),
                ecgset.recording(generated),
                title=title,
                headings=(
                    f"Training record {pair.training_name}: {_labels_of(real, training)}",
                    f"Synthetic record {pair.generated_name}: {labels}",
                ),
            )


def privacy_table(result: PrivacyResult, title: str = "Tests") -> Table:
    """Table of each measure with its expected value without a leak, its limit and its verdict."""
    limit = f"lower end at most {0.5 + TOLERANCE:.2f}"
    rows: list[tuple[Cell, ...]] = []
    for found in result.spaces:
        near, attack = found.closeness, found.membership
        chance = Formatted(0.5, "0.5")
        rows += [
            (
                "share closer to training than to hold-out",
                found.space,
                Formatted.of(near.share),
                chance,
                limit,
                word_of(near.passed),
            ),
            (
                "nearest-neighbour distance ratio, training",
                found.space,
                Formatted.of(near.ratio_training),
                Formatted.of(near.ratio_hold_out, after="(hold-out)"),
                None,
                None,
            ),
            (
                "membership inference, AUC",
                found.space,
                Formatted.of(attack.auc),
                chance,
                limit,
                word_of(attack.passed),
            ),
        ]
    copies = result.copies
    rows += [
        (
            "correlation with closest training record (median, 95 %, largest)",
            "signal",
            str(copies.generated),
            None if copies.hold_out is None else f"{copies.hold_out} (hold-out)",
            None,
            None,
        ),
        (
            f"suspected copies (correlation above {copies.threshold:.3f})",
            "signal",
            Formatted(
                len(copies.suspected), f"{len(copies.suspected)} of {copies.generated_records}"
            ),
            Formatted(0, "0"),
            f"at most {ALLOWED_COPIES}",
            word_of(copies.passed),
        ),
    ]
    header = ("measure", "space", "generated", "without a leak", "limit", "verdict")
    return Table(title, header, tuple(rows))


def _index_of(ecgset: ECGSet, name: str) -> int:
    """Index of the record with this name."""
    return int(np.flatnonzero(ecgset.records.name.astype(str).to_numpy() == name)[0])


def _labels_of(ecgset: ECGSet, index: int) -> str:
    return " + ".join(ecgset.label_space.decode(ecgset.labels[index])) or "no label"
