"""Draw one record with its name and labels, in one call."""

import os
from typing import TYPE_CHECKING

from ecgtransfer.corpus import ECGRecord
from ecgtransfer.drawing.paper_png import draw_recording, save_drawing
from ecgtransfer.drawing.show import SYNTHETIC
from ecgtransfer.signals import Recording

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(
    record: Recording,
    to: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
    layout: str = "3x4",
) -> "Figure":
    """Draw a record on ECG paper; a synthetic one is marked as such.

    A notebook shows the figure that is returned.

    Args:
        record: a record of a set, such as `ecgset[0]`, or any recording.
        to: also write it to this file (.png, .svg or .pdf).
        title: text above the grid; by default name and labels of a record of a set.
        layout: `3x4` or `12x1`.

    Raises:
        ConfigError: unknown layout.
        SignalError: another file extension.
        StorageError: the file cannot be written.
    """
    mark = ""
    if isinstance(record, ECGRecord):
        mark = SYNTHETIC if record.is_synthetic else ""
        if title is None:
            title = f"{record.name}: {', '.join(record.labels) or 'no label'}"
    figure = draw_recording(record, title or "", mark=mark, layout=layout)
    if to is not None:
        save_drawing(figure, to)
    return figure
