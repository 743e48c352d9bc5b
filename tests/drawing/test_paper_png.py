import io
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as MatplotlibPath
from matplotlib.transforms import Bbox

from ecgtransfer.drawing.paper_layout import BASELINES_MM, SHEETS, TRACE_START_MM
from ecgtransfer.drawing.paper_png import draw_recording, draw_recordings, save_drawing
from ecgtransfer.errors import ConfigError, SignalError, StorageError
from ecgtransfer.signals import LEADS, Recording, read_recording


def words(axes):
    return [text.get_text() for text in axes.texts]


def lines_mm(axes):
    return [line.get_xydata() for line in axes.lines]


def png(figure, **options):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **options)
    return buffer.getvalue()


def test_every_lead_is_named_once_and_the_rhythm_strip_again(ecg):
    (axes,) = draw_recording(ecg()[0], "Jane Doe").axes
    assert sorted(words(axes)) == sorted(
        [*LEADS, "II", "Jane Doe", "25 mm/s    10 mm/mV    100 Hz"]
    )


def test_paper_has_lines_every_millimetre_and_stronger_ones_every_five(ecg):
    (axes,) = draw_recording(ecg()[0]).axes
    fine, strong = (patch for patch in axes.patches if isinstance(patch, PathPatch))
    for lines, spacing in ((fine, 1), (strong, 5)):
        ends = lines.get_path().vertices.reshape(-1, 2, 2)
        upright = sorted({float(a[0]) for a, b in ends if a[0] == b[0]})
        level = sorted({float(a[1]) for a, b in ends if a[1] == b[1]})
        assert set(np.diff(upright)) == set(np.diff(level)) == {spacing}
    assert strong.get_linewidth() > fine.get_linewidth()


def test_one_millimetre_is_one_millimetre_on_a_print(ecg):
    figure = draw_recording(ecg()[0])
    (axes,) = figure.axes
    origin, along, up = axes.transData.transform([(0, 0), (25, 0), (0, 10)])
    assert (along - origin)[0] / figure.dpi * 25.4 == pytest.approx(25)
    assert (up - origin)[1] / figure.dpi * 25.4 == pytest.approx(10)


def test_each_row_begins_with_a_calibration_pulse_of_one_millivolt_and_a_fifth_of_a_second(ecg):
    (axes,) = draw_recording(ecg()[0]).axes
    pulses = [line for line in lines_mm(axes) if line[:, 0].max() < TRACE_START_MM]
    assert len(pulses) == 4
    for pulse, baseline in zip(pulses, BASELINES_MM, strict=True):
        height = pulse[:, 1] - baseline
        assert height.max() == 10
        assert np.ptp(pulse[height == 10, 0]) == 5


def test_traces_have_the_scale_of_the_paper():
    # A step of 1 mV at 1 s in lead I alone, a ramp everywhere else.
    signal = np.zeros((12, 1000))
    signal[0, 100:110] = 1.0
    (axes,) = draw_recording(Recording(signal, 100)).axes
    trace = next(line for line in lines_mm(axes) if len(line) == 251)
    assert trace[0] == pytest.approx((TRACE_START_MM, BASELINES_MM[0]))
    assert trace[100] == pytest.approx((TRACE_START_MM + 25, BASELINES_MM[0] + 10))


def test_each_lead_has_its_place_and_its_time():
    # Lead k is (k + 1) t^2: the slope at the start of a trace says which lead it is, and when.
    time_s = np.arange(1001) / 100
    parabolas = 1e-3 * np.arange(1, 13)[:, None] * time_s**2
    (axes,) = draw_recording(Recording(parabolas, 100)).axes
    traces = [line for line in lines_mm(axes) if len(line) == 251]
    rows = [("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6")]
    places = [(column, name) for names in rows for column, name in enumerate(names)]
    for trace, (column, name) in zip(traces, places, strict=True):
        at = 250 * column
        expected = np.diff(10 * parabolas[LEADS.index(name), [at, at + 1]])[0]
        assert trace[0, 0] == pytest.approx(TRACE_START_MM + 62.5 * column)
        assert trace[1, 1] - trace[0, 1] == pytest.approx(expected, abs=1e-6)


def test_the_rhythm_strip_is_lead_ii_for_ten_seconds(ecg):
    recording = ecg(seconds=12)[0]
    (axes,) = draw_recording(recording).axes
    strip = next(line for line in lines_mm(axes) if len(line) == 1001)
    shown = recording.lead_mv("II")[:1001]
    expected = BASELINES_MM[3] + 10 * (shown - np.median(shown))
    assert strip[:, 1] == pytest.approx(expected)


def test_a_short_recording_still_shows_all_leads(ecg):
    (axes,) = draw_recording(ecg(seconds=6)[0]).axes
    assert set(LEADS) <= set(words(axes))
    assert sum(len(line) in (150, 151) for line in lines_mm(axes)) == 12


def test_a_recording_of_one_sample_can_be_drawn():
    assert draw_recording(Recording(np.zeros((12, 1)), 100)).axes


def test_an_offset_does_not_move_a_trace(ecg):
    recording = ecg()[0]
    shifted = Recording(recording.signal_mv + 3, 100)
    (axes,), (moved,) = draw_recording(recording).axes, draw_recording(shifted).axes
    for one, other in zip(lines_mm(axes), lines_mm(moved), strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_ink_stays_on_the_grid(ecg):
    recording = ecg()[0]
    tall = Recording(recording.signal_mv * 50, 100)
    figure = draw_recording(tall)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    (axes,) = figure.axes
    top = len(pixels) - int(axes.transData.transform((0, 130))[1])
    assert (pixels[: top - 2].max(axis=-1) > 200).all()


def test_a_long_title_is_cut_off(ecg):
    (axes,) = draw_recording(ecg()[0], "x" * 500).axes
    title = next(word for word in words(axes) if word.startswith("x"))
    assert len(title) == 120
    assert title.endswith("...")


def test_an_existing_figure_is_drawn_into(ecg):
    figure = Figure(figsize=(5, 3))
    figure.add_subplot()
    assert draw_recording(ecg()[0], figure=figure) is figure
    assert len(figure.axes) == 1
    assert tuple(figure.get_size_inches()) == (5, 3)


def test_several_recordings_have_a_sheet_and_a_title_each(ecg):
    recordings = [ecg(bpm=bpm)[0] for bpm in (50, 70, 90)]
    figure = draw_recordings(recordings, ["slow", "normal", "fast"])
    assert [words(axes)[-2] for axes in figure.axes] == ["slow", "normal", "fast"]
    bottoms = [axes.get_position().y0 for axes in figure.axes]
    assert bottoms == sorted(bottoms, reverse=True)
    one = draw_recording(recordings[0])
    assert figure.get_size_inches() == pytest.approx(one.get_size_inches() * (1, 3))


def test_sheets_can_stand_side_by_side(ecg):
    figure = draw_recordings([ecg()[0]] * 3, ["a", "b", "c"], columns=2)
    assert [axes.get_position(original=True).x0 for axes in figure.axes] == [0, 0.5, 0]
    assert [axes.get_position(original=True).y0 for axes in figure.axes] == [0.5, 0.5, 0]


@pytest.mark.parametrize(
    ("count", "titles", "columns"), [(0, [], 1), (2, ["one"], 1), (1, ["one"], 0)]
)
def test_recordings_and_titles_come_in_pairs(ecg, count, titles, columns):
    with pytest.raises(SignalError, match="expected one title for each of one or more recordings"):
        draw_recordings([ecg()[0]] * count, titles, columns)


def test_the_users_style_does_not_change_the_paper(ecg):
    plain = png(draw_recording(ecg()[0], "same"), dpi=60)
    with matplotlib.rc_context({"text.color": "red", "axes.facecolor": "black", "font.size": 30}):
        assert png(draw_recording(ecg()[0], "same"), dpi=60) == plain


def test_a_real_recording_is_a_small_file(real_data):
    path = sorted(real_data.glob("icbeb/challenge/*.hea"))[0]
    figure = draw_recording(read_recording(path.with_suffix("")), path.stem)
    assert len(png(figure, dpi=110)) < 300_000


# --- files ---------------------------------------------------------------------------------------

MM_PER_PT = 25.4 / 72


def svg_lines_mm(path):
    """Points of every path of straight lines in an SVG, in mm from the lower left; the size."""
    root = ElementTree.parse(path).getroot()
    width, height = (float(root.get(side).removesuffix("pt")) for side in ("width", "height"))
    assert [float(number) for number in root.get("viewBox").split()] == [0, 0, width, height]
    lines = []
    for node in root.iter("{http://www.w3.org/2000/svg}path"):
        points = []
        for letter, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", node.get("d", "Z")):
            steps = np.array(re.findall(r"-?(?:\d+\.?\d*|\.\d+)", numbers), dtype=float)
            for step in steps.reshape(-1, 2) if letter in "Ml" else ():
                points.append(step if letter == "M" else points[-1] + step)
        if points:
            lines.append((np.array([0, height]) + np.array(points) * (1, -1)) * MM_PER_PT)
    return lines, (width * MM_PER_PT, height * MM_PER_PT)


def test_in_an_svg_25_mm_are_a_second_and_10_mm_a_millivolt(tmp_path):
    # A pulse of 1 mV from 1 s to 2 s in every lead, as in the middle of the first column.
    signal = np.zeros((12, 1001))
    signal[:, 100:200] = 1.0
    save_drawing(draw_recording(Recording(signal, 100)), tmp_path / "ecg.svg")
    lines, size_mm = svg_lines_mm(tmp_path / "ecg.svg")
    assert size_mm == pytest.approx((276, 145), abs=1e-3)
    first = [line for line in lines if np.ptp(line[:, 0]) == pytest.approx(62.5, abs=0.01)]
    pulsed = [line for line in first if np.ptp(line[:, 1]) > 5]
    assert len(pulsed) == 3
    for line in pulsed:
        assert np.ptp(line[:, 1]) == pytest.approx(10, abs=0.01)
        high = line[line[:, 1] > line[:, 1].max() - 0.01, 0]
        assert np.ptp(high) == pytest.approx(0.99 * 25, abs=0.02)
    calibrations = [line for line in lines if len(line) == 6]
    assert len(calibrations) == 4
    for line in calibrations:
        top = line[line[:, 1] > line[:, 1].max() - 0.01, 0]
        assert np.ptp(line[:, 1]) == pytest.approx(10, abs=0.01)
        assert np.ptp(top) == pytest.approx(5, abs=0.01)


def test_in_an_svg_a_trace_is_where_the_recording_is(tmp_path, ecg):
    recording = ecg(seconds=10)[0]
    save_drawing(draw_recording(recording, layout="12x1"), tmp_path / "ecg.svg")
    lines, size_mm = svg_lines_mm(tmp_path / "ecg.svg")
    assert size_mm == pytest.approx((276, 210), abs=1e-3)
    traces = [line for line in lines if 249 < np.ptp(line[:, 0]) < 251 and len(line) > 100]
    assert len(traces) == 12
    for trace, lead, baseline in zip(
        traces, recording.signal_mv, SHEETS["12x1"].baselines_mm, strict=True
    ):
        seconds = (trace[:, 0] - 3 - TRACE_START_MM) / 25
        expected_mv = np.interp(seconds, np.arange(1000) / 100, lead - np.median(lead))
        shown_mv = (trace[:, 1] - 7 - baseline) / 10
        # A tenth of the line's width, and a steep slope turns time into height.
        assert np.median(np.abs(shown_mv - expected_mv)) < 0.003
        assert np.ptp(shown_mv) == pytest.approx(np.ptp(lead), abs=0.02)


def test_a_pdf_has_the_size_of_the_sheet(tmp_path, ecg):
    save_drawing(draw_recording(ecg()[0]), tmp_path / "ecg.pdf")
    (box,) = re.findall(rb"/MediaBox \[([^\]]*)\]", (tmp_path / "ecg.pdf").read_bytes())
    corners = [float(number) * MM_PER_PT for number in box.split()]
    assert corners == pytest.approx([0, 0, 276, 145], abs=1e-3)


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_the_same_drawing_has_the_same_bytes(tmp_path, ecg, ending):
    for name in ("one", "two"):
        save_drawing(draw_recording(ecg()[0], "same"), tmp_path / f"{name}{ending}")
    assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"two{ending}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "error", "remedy"),
    [
        ("ecg.jpg", SignalError, "give a path ending in"),
        ("ecg", SignalError, "give a path ending in"),
        ("none/ecg.svg", StorageError, "make room, .* choose another place"),
    ],
)
def test_a_file_that_cannot_be_written_is_told_and_leaves_nothing(
    tmp_path, ecg, name, error, remedy
):
    with pytest.raises(error, match=f"could not be written .*; {remedy}"):
        save_drawing(draw_recording(ecg()[0]), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_svg_of_a_real_recording_is_below_300_kb(real_data, tmp_path):
    for number, path in enumerate(sorted(real_data.glob("icbeb/challenge/*.hea"))[:4]):
        recording = read_recording(path.with_suffix(""))
        layout = list(SHEETS)[number % 2]
        save_drawing(draw_recording(recording, path.stem, layout=layout), tmp_path / "ecg.svg")
        assert (tmp_path / "ecg.svg").stat().st_size < 300_000


# --- names and marks -----------------------------------------------------------------------------


def boxes_mm(axes):
    """Each lead name with its box on the sheet."""
    renderer = axes.figure.canvas.get_renderer()
    back = axes.transData.inverted()
    return [
        (text.get_text(), back.transform(text.get_window_extent(renderer).get_points()))
        for text in axes.texts
        if text.get_text() in LEADS
    ]


def crossed(axes):
    """Names through whose box a trace goes."""
    return [
        name
        for name, corners in boxes_mm(axes)
        for line in lines_mm(axes)
        if MatplotlibPath(line).intersects_bbox(Bbox(corners), filled=False)
    ]


@pytest.mark.parametrize("layout", list(SHEETS))
def test_no_trace_runs_through_the_name_of_a_lead(ecg, layout):
    # Tall complexes at the very start of the columns, where the names are.
    recording = ecg(bpm=110)[0]
    tall = Recording(recording.signal_mv * 2, 100)
    (axes,) = draw_recording(tall, layout=layout).axes
    assert len(boxes_mm(axes)) == 13 if layout == "3x4" else 12
    if layout == "12x1":  # rows lie close: only a trace's own columns are free for certain
        assert all(right < TRACE_START_MM for _, ((_, _), (right, _)) in boxes_mm(axes))
    else:
        assert crossed(axes) == []


def test_a_name_goes_where_there_is_room():
    # In lead V1 a plateau at the height where its name would be.
    signal = np.zeros((12, 1000))
    signal[LEADS.index("V1"), 500:520] = 0.9
    (axes,) = draw_recording(Recording(signal, 100)).axes
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert heights["aVR"] == BASELINES_MM[0] + 9
    assert abs(heights["V1"] - BASELINES_MM[0] - 9) > 1.9
    assert crossed(axes) == []


def test_every_row_of_the_long_layout_is_one_lead_for_ten_seconds(ecg):
    recording = ecg(seconds=12)[0]
    (axes,) = draw_recording(recording, layout="12x1").axes
    traces = [line for line in lines_mm(axes) if len(line) == 1001]
    for trace, lead, baseline in zip(
        traces, recording.signal_mv, SHEETS["12x1"].baselines_mm, strict=True
    ):
        expected = baseline + 10 * (lead[:1001] - np.median(lead[:1001]))
        assert trace[:, 1] == pytest.approx(expected)


def test_an_unknown_layout_is_refused(ecg):
    with pytest.raises(ConfigError, match="expected a layout of 3x4, 12x1, got '6x2'"):
        draw_recording(ecg()[0], layout="6x2")


def test_a_mark_stands_below_the_grid_beside_the_scales(ecg):
    (axes,) = draw_recording(ecg()[0], "Jane Doe", mark="SYNTHETIC").axes
    mark = next(text for text in axes.texts if text.get_text() == "SYNTHETIC")
    scales = next(text for text in axes.texts if text.get_text().startswith("25 mm/s"))
    renderer = axes.figure.canvas.get_renderer()
    assert not mark.get_window_extent(renderer).overlaps(scales.get_window_extent(renderer))
    assert mark.get_position()[1] < 0
