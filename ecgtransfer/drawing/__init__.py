"""Drawings: ECGs on paper, charts, printed pages, and the HTML report."""

from typing import TYPE_CHECKING

from ecgtransfer.lazy import lazy_names

if TYPE_CHECKING:
    from ecgtransfer.drawing.charts import bars_svg, forest_svg, interval_plot_svg
    from ecgtransfer.drawing.figure import Figure
    from ecgtransfer.drawing.overview import draw_overview
    from ecgtransfer.drawing.paper_layout import SHEETS
    from ecgtransfer.drawing.paper_png import draw_recording, draw_recordings, save_drawing
    from ecgtransfer.drawing.paper_svg import ecg_pair_svg, ecg_svg, gallery
    from ecgtransfer.drawing.plot_record import plot
    from ecgtransfer.drawing.report_page import (
        OUTCOME_WORDS,
        Report,
        Section,
        render_report,
        write_report,
    )
    from ecgtransfer.drawing.scatter import scatter_svg
    from ecgtransfer.drawing.show import (
        ShownRecord,
        ShownSet,
        show_record,
        show_recording,
        show_set,
    )
    from ecgtransfer.drawing.spectrum import Curve, spectrum_svg
    from ecgtransfer.drawing.table import Cell, Formatted, Table
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "OUTCOME_WORDS",
    "SHEETS",
    "Cell",
    "Curve",
    "Figure",
    "Formatted",
    "Report",
    "Section",
    "ShownRecord",
    "ShownSet",
    "Table",
    "bars_svg",
    "draw_overview",
    "draw_recording",
    "draw_recordings",
    "ecg_pair_svg",
    "ecg_svg",
    "forest_svg",
    "gallery",
    "interval_plot_svg",
    "plot",
    "render_report",
    "save_drawing",
    "scatter_svg",
    "show_record",
    "show_recording",
    "show_set",
    "spectrum_svg",
    "write_report",
]
