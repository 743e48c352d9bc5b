"""The geometry of ECG paper, and that both backends draw exactly this geometry."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pytest

from ecgtransfer.drawing.paper_layout import (
    BASELINES_MM,
    NAME_HALF_MM,
    SHEETS,
    TRACE_START_MM,
    place_marks,
    place_names,
    place_traces,
    scales,
    sheet_of,
)
from ecgtransfer.drawing.paper_png import draw_recording
from ecgtransfer.drawing.paper_svg import UNITS_PER_MM, ecg_svg
from ecgtransfer.errors import ConfigError
from ecgtransfer.signals import LEADS, Recording
from tests.drawing.svg_reading import SVG, points

both_layouts = pytest.mark.parametrize("layout", list(SHEETS))


def test_a_trace_has_25_mm_a_second_and_10_mm_a_millivolt():
    signal = np.zeros((12, 1000))
    signal[LEADS.index("V5"), 800:805] = 1.5
    (trace,) = [t for t in place_traces(Recording(signal, 100), SHEETS["3x4"]) if t.name == "V5"]
    assert trace.left_mm == TRACE_START_MM + 3 * 62.5
    assert trace.baseline_mm == BASELINES_MM[1]
    high = trace.x_mm[trace.y_mm > 0]
    assert high == pytest.approx(TRACE_START_MM + 200 + 0.25 * np.arange(5))
    assert trace.y_mm.max() == 15


@pytest.mark.parametrize("rate_hz", [100, 257, 500])
def test_columns_share_the_sample_that_they_meet_in(rate_hz):
    time_s = np.arange(10 * rate_hz + 1) / rate_hz
    traces = place_traces(Recording(np.tile(time_s, (12, 1)), rate_hz), SHEETS["3x4"])
    for before, after in pairwise(traces[:4]):
        assert before.x_mm[-1] == pytest.approx(after.x_mm[0], abs=25 / rate_hz)
        gap_s = (after.x_mm[0] - before.x_mm[-1]) / 25
        assert abs(gap_s) <= 0.5 / rate_hz + 1e-9


@both_layouts
def test_no_trace_crosses_a_name_where_there_is_room(ecg, layout):
    sheet = SHEETS[layout]
    traces = place_traces(ecg()[0], sheet)
    places = place_names(traces, sheet)
    assert [place.name for place in places] == [name for names in sheet.rows for name in names]
    for place in places if layout == "3x4" else ():
        for trace in traces:
            under = (trace.x_mm >= place.x_mm) & (trace.x_mm <= place.x_mm + 2.3 * len(place.name))
            y_mm = trace.baseline_mm + trace.y_mm[under]
            assert (np.abs(y_mm - place.y_mm) > NAME_HALF_MM).all()


def test_a_name_without_a_free_place_goes_to_the_one_with_the_most_room():
    # A triangle wave of 40 mm everywhere: every place is crossed.
    wave = np.tile(2 * np.abs(np.arange(1000) % 4 - 2) - 2.0, (12, 1))
    sheet = SHEETS["3x4"]
    traces = place_traces(Recording(wave, 100), sheet)
    assert len(place_names(traces, sheet)) == 13


@both_layouts
def test_marks_are_a_pulse_for_each_row_and_a_border_between_leads(layout):
    sheet = SHEETS[layout]
    marks = place_marks(place_traces(Recording(np.zeros((12, 1000)), 100), sheet), sheet)
    pulses = [line for line in marks if len(line) == 6]
    assert [line[0, 1] for line in pulses] == list(sheet.baselines_mm)
    assert all(np.ptp(line[:, 1]) == 10 for line in pulses)
    borders = [line for line in marks if len(line) == 2]
    assert len(borders) == (9 if layout == "3x4" else 0)
    assert all(np.ptp(line, axis=0).tolist() == [0, 6] for line in borders)


@both_layouts
def test_both_backends_draw_the_same_lines_and_names(ecg, layout):
    recording = ecg(bpm=77)[0]
    (axes,) = draw_recording(recording, layout=layout).axes
    root = ElementTree.fromstring(ecg_svg(recording, title="t", layout=layout).svg)
    (sheet,) = root.findall(f"{SVG}svg")
    height_mm = SHEETS[layout].grid_height_mm
    ink = next(p for p in sheet.findall(f"{SVG}path") if "paper-ink" in p.get("stroke"))
    drawn = [(0, height_mm) + line / UNITS_PER_MM * (1, -1) for line in points(ink.get("d"))]
    assert len(drawn) == len(axes.lines)
    for line, other in zip(drawn, axes.lines, strict=True):
        x_mm, y_mm = other.get_xydata().T
        if np.ptp(x_mm) > 20:  # a trace, simplified to within 0.05 mm and rounded to 0.025 mm
            assert (line[0, 0], line[-1, 0]) == pytest.approx((x_mm[0], x_mm[-1]), abs=0.026)
            assert (line[:, 1].min(), line[:, 1].max()) == pytest.approx(
                (y_mm.min(), y_mm.max()), abs=0.08
            )
        else:
            assert line == pytest.approx(other.get_xydata(), abs=0.026)
    names = [
        ("".join(node.itertext()), float(node.get("x")) / UNITS_PER_MM)
        for node in sheet.iter(f"{SVG}text")
    ]
    texts = [(text.get_text(), text.get_position()[0]) for text in axes.texts]
    for (name, x_mm), (text, place_mm) in zip(names, texts[: len(names)], strict=True):
        assert name == text
        assert x_mm == pytest.approx(place_mm, abs=0.026)


def test_scales_are_printed_in_both_backends(ecg):
    recording = ecg(rate_hz=250)[0]
    assert scales(recording) == ("25 mm/s", "10 mm/mV", "250 Hz")
    svg = ecg_svg(recording, title="t").svg
    assert re.search("25 mm/s · 10 mm/mV · 250 Hz · small square 0.04 s × 0.1 mV", svg)


def test_an_unknown_layout_is_refused():
    assert sheet_of("12x1") is SHEETS["12x1"]
    with pytest.raises(ConfigError, match="expected a layout of 3x4, 12x1, got '6x2'; choose one"):
        sheet_of("6x2")
