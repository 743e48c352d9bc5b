"""Tables of a blind reading."""

from ecgtransfer.drawing import Cell, Formatted, Table
from ecgtransfer.evaluation.blind.result import BlindScore, BlindTest
from ecgtransfer.statistics import Estimate


def describe_blind_test(test: BlindTest) -> dict[str, object]:
    """Describe a blind test by names and values, for the terminal and for JSON."""
    return {
        "folder": str(test.folder),
        "recorded": test.records,
        "generated": test.records,
        "pairs_with_the_same_labels": test.matched,
        "seed": test.seed,
        "chance_to_find_no_difference": test.power,
        "key_sha256": test.key_sha256,
    }


def reader_table(score: BlindScore, title: str = "Readers") -> Table:
    """Table with one row per measure and one column per reader."""
    readers = score.readers
    labels = dict.fromkeys(label for reader in readers for label in reader.by_label)
    rows: tuple[tuple[Cell, ...], ...] = (
        ("sensitivity", *(_cell(reader.sensitivity) for reader in readers)),
        ("specificity", *(_cell(reader.specificity) for reader in readers)),
        ("accuracy", *(_cell(reader.accuracy) for reader in readers)),
        ("AUROC by confidence", *(_cell(reader.auroc) for reader in readers)),
        ("answered", *(reader.answered for reader in readers)),
        ("unanswered", *(reader.unanswered for reader in readers)),
        *(
            (f"accuracy, {label}", *(_cell(reader.by_label.get(label)) for reader in readers))
            for label in labels
        ),
    )
    return Table(title, ("measure", *(reader.reader for reader in readers)), rows)


def _cell(score: Estimate | None) -> Formatted | None:
    return None if score is None else Formatted.of(score)
