"""The training log: one CSV row every few steps."""

import csv
from pathlib import Path

from ecgtransfer.errors import RunError
from ecgtransfer.storage import atomic_file
from ecgtransfer.training.checkpoint import TrainingState

LOG_COLUMNS = ("step", "loss", "learning_rate", "gradient_norm", "validation", "seconds")


class TrainingLog:
    """Writer of `log.csv`.

    Rows after the step from which training resumes are dropped; for step -1, all rows.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.rows: list[list[str]] = []
        if not path.exists() or step < 0:
            return
        try:
            with path.open(newline="") as file:
                self.rows = [row for row in list(csv.reader(file))[1:] if int(row[0]) <= step]
        except (OSError, ValueError, IndexError, csv.Error) as error:
            raise RunError(
                f"{path} is not readable as the log of this training ({error}); remove it and run "
                f"the same command again"
            ) from None

    def add_start(self, validation: float, seconds: float) -> None:
        """Add a row for the initial weights: step 0, no loss."""
        self.rows.append(["0", "", "", "", f"{validation:.6g}", f"{seconds:.1f}"])

    def add(
        self, state: TrainingState, rate: float, validation: float | None, seconds: float
    ) -> None:
        """Add a row for the last step, with the mean loss since the previous row."""
        loss = sum(state.recent) / len(state.recent)
        shown = "" if validation is None else f"{validation:.6g}"
        row = [f"{loss:.6g}", f"{rate:.4g}", f"{state.gradient_norm:.4g}", shown, f"{seconds:.1f}"]
        self.rows.append([str(state.step), *row])

    def flush(self) -> None:
        """Write all rows.

        Raises:
            StorageError: the file cannot be written.
        """
        with atomic_file(self.path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(LOG_COLUMNS)
            writer.writerows(self.rows)
