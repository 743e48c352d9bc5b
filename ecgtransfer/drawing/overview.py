"""One-page overview of a set: counts of labels and ages, and a strip of ECG for each label."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ecgtransfer.corpus import ECGSet
from ecgtransfer.drawing.page import Page
from ecgtransfer.drawing.paper_layout import PAPER_MM_PER_MV, PAPER_MM_PER_S
from ecgtransfer.drawing.paper_png import DPI, INK, MM_PER_INCH, WARNING
from ecgtransfer.signals import LEADS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Number of most frequent labels with a bar, and with a strip.
MOST_BARS, MOST_STRIPS = 30, 12

#: The page in millimetres: width, margin, height of a bar, space for titles and axes around the
#: bars; font size of the heading in points.
WIDTH_MM, MARGIN_MM, BAR_MM, AROUND_BARS_MM = 276, 8, 5, 30
LEAST_BARS_MM = 40
HEADING_PT = 10

#: A strip in millimetres of ECG paper: 4.8 s of lead II, 3 mV high, with its title.
STRIP_LEAD = "II"
STRIP_S, STRIP_MV, STRIP_TITLE_MM = 4.8, 3.0, 8
STRIP_COLUMNS = 2

_BAR, _GRID = "#35608d", "#f3c4c4"


def draw_overview(
    ecgset: ECGSet, labels: Mapping[str, int], ages: Mapping[str, int], mark: str = ""
) -> "Figure":
    """Draw counts of labels and ages on one page, and lead II of one record for each label.

    The strip shows the first record of a label, preferably one without other labels, at the scale
    of ECG paper, 25 mm/s and 10 mm/mV.

    Args:
        ecgset: a set with records.
        labels: number of records of each label.
        ages: number of records of each decade of age.
        mark: text in red next to the title, such as SYNTHETIC.
    """
    frequent = sorted((name for name in labels if labels[name]), key=lambda name: -labels[name])
    bars, strips = frequent[:MOST_BARS], frequent[:MOST_STRIPS]
    rows = -(-len(strips) // STRIP_COLUMNS)
    bars_mm = max(LEAST_BARS_MM, BAR_MM * len(bars))
    strip_mm = STRIP_MV * PAPER_MM_PER_MV + STRIP_TITLE_MM
    height_mm = bars_mm + AROUND_BARS_MM + rows * strip_mm + MARGIN_MM
    page = Page.of(height_mm, WIDTH_MM, units_per_inch=MM_PER_INCH, dpi=DPI)
    heading = f"{ecgset.folder.name}: {len(ecgset):,} records, {ecgset.origin}"
    words: dict[str, str] = {"weight": "bold", "va": "center"}
    page.write(MARGIN_MM, MARGIN_MM, heading, HEADING_PT, color=INK, **words)
    page.write(
        WIDTH_MM - MARGIN_MM, MARGIN_MM, mark, HEADING_PT, color=WARNING, ha="right", **words
    )
    left_out = len(labels) - len(bars)
    _draw_bars(
        page.panel(48, 20, 90, bars_mm),
        {name: labels[name] for name in bars},
        "records of each label" + (f" ({left_out} more labels)" if left_out else ""),
    )
    _draw_columns(page.panel(164, 20, 104, bars_mm), ages, "records of each age in years")
    for index, name in enumerate(strips):
        row, column = divmod(index, STRIP_COLUMNS)
        axes = page.panel(
            MARGIN_MM + column * (STRIP_S * PAPER_MM_PER_S + 20),
            bars_mm + AROUND_BARS_MM + row * strip_mm + STRIP_TITLE_MM,
            STRIP_S * PAPER_MM_PER_S,
            STRIP_MV * PAPER_MM_PER_MV,
        )
        _draw_strip(axes, ecgset, _example(ecgset, name), name)
    return page.figure


def _example(ecgset: ECGSet, name: str) -> int:
    """Index of the first record of a label, preferably one without other labels."""
    column = ecgset.label_space.index(name)
    stated = ecgset.labels >= 0.5
    having = np.flatnonzero(stated[:, column])
    return int(having[np.argmin(stated[having].sum(axis=1))])


def _draw_bars(axes: "Axes", counts: Mapping[str, int], title: str) -> None:
    axes.barh(list(counts), list(counts.values()), color=_BAR)
    axes.invert_yaxis()
    for place, count in enumerate(counts.values()):
        axes.text(count, place, f" {count:,}", va="center", fontsize=7, color=INK)
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    axes.margins(x=0.15)
    _plain(axes)


def _draw_columns(axes: "Axes", counts: Mapping[str, int], title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.bar(list(counts), list(counts.values()), color=_BAR)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    axes.tick_params(axis="x", rotation=40)
    _plain(axes)


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)


def _draw_strip(axes: "Axes", ecgset: ECGSet, index: int, label: str) -> None:
    """Draw lead II of a record on a grid of 5 mm."""
    recording = ecgset.recording(index)
    samples = int(STRIP_S * recording.sampling_rate_hz) + 1
    strip = recording.signal_mv[LEADS.index(STRIP_LEAD), :samples].astype(np.float64)
    strip -= np.median(strip)
    axes.set(xlim=(0, STRIP_S), ylim=(-STRIP_MV / 3, STRIP_MV * 2 / 3))
    axes.set_xticks(np.arange(0, STRIP_S + 0.01, 5 / PAPER_MM_PER_S), [])
    axes.set_yticks(np.arange(-STRIP_MV / 3, STRIP_MV * 2 / 3 + 0.01, 5 / PAPER_MM_PER_MV), [])
    axes.grid(color=_GRID, linewidth=0.5)
    axes.tick_params(length=0)
    axes.spines[:].set_color(_GRID)
    axes.plot(np.arange(len(strip)) / recording.sampling_rate_hz, strip, color=INK, linewidth=0.8)
    name = str(ecgset.records.name.iloc[index])
    axes.set_title(f"{label}   ({name}, {STRIP_LEAD})", fontsize=8, loc="left", color=INK, pad=3)
