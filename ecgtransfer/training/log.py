"""What a training leaves to read: one row every few steps."""

import csv
from pathlib import Path

from ecgtransfer.errors import RunError
from ecgtransfer.storage import atomic_file
from ecgtransfer.training.checkpoint import TrainingState

LOG_COLUMNS = ("step", "loss", "learning_rate", "gradient_norm", "validation", "seconds")


class TrainingLog:
    """`log.csv`; rows past the step that training resumes from are dropped, all of them at -1."""

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
        """A row for the weights that training starts from: step 0, no loss."""
        self.rows.append(["0", "", "", "", f"{validation:.6g}", f"{seconds:.1f}"])

    def add(
        self, state: TrainingState, rate: float, validation: float | None, seconds: float
    ) -> None:
        """A row for the step just made, with the mean loss since the row before."""
        loss = sum(state.recent) / len(state.recent)
        shown = "" if validation is None else f"{validation:.6g}"
        row = [f"{loss:.6g}", f"{rate:.4g}", f"{state.gradient_norm:.4g}", shown, f"{seconds:.1f}"]
        self.rows.append([str(state.step), *row])

    def flush(self) -> None:
        """Write all rows; RunError where that fails."""
        with atomic_file(self.path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(LOG_COLUMNS)
            writer.writerows(self.rows)
