"""ECGs as SVG against what they draw: scale, peaks, sizes in bytes, and their words."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgtransfer.drawing.paper_layout import BASELINES_MM, TRACE_START_MM
from ecgtransfer.drawing.paper_svg import ecg_pair_svg, ecg_svg, gallery, kept_samples
from ecgtransfer.errors import ConfigError
from ecgtransfer.signals import LEADS, Recording, read_recording
from ecgtransfer.simulation import TARGET_HOSPITAL, simulate
from tests.drawing.svg_reading import SVG, points, words


def sheets(figure):
    """Of each sheet the lines in ink, in mm from the grid's lower left corner; by the drawing."""
    root = ElementTree.fromstring(figure.svg)
    units_per_mm = float(root.get("viewBox").split()[2]) / float(root.get("width")[:-2])
    found = []
    for sheet in root.findall(f"{SVG}svg"):
        ink = next(p for p in sheet.findall(f"{SVG}path") if "paper-ink" in p.get("stroke"))
        height = float(sheet.get("height"))
        lines = [(0, height) + line * (1, -1) for line in points(ink.get("d"))]
        found.append([line / units_per_mm for line in lines])
    return found


def traces(figure):
    """The twelve stretches and the rhythm strip of the first sheet."""
    (lines, *_) = sheets(figure)
    return [line for line in lines if np.ptp(line[:, 0]) > 20]


def pulse(rate_hz=100):
    """1 mV from 1 s to 2 s in every lead, and nothing else."""
    signal = np.zeros((12, 10 * rate_hz + 1))
    signal[:, rate_hz : 2 * rate_hz] = 1.0
    return Recording(signal, rate_hz)


@pytest.mark.parametrize("rate_hz", [100, 250, 500])
def test_a_second_is_25_mm_and_a_millivolt_10_mm(rate_hz):
    drawn = traces(ecg_svg(pulse(rate_hz), title="pulse"))
    pulsed = [line for line in drawn if np.ptp(line[:, 1]) > 5]
    assert len(pulsed) == 4  # I, II, III and the rhythm strip: what the first 2.5 s show
    for line, baseline in zip(pulsed, BASELINES_MM, strict=True):
        top = line[line[:, 1] > baseline + 9.9]
        assert np.ptp(line[:, 1]) == pytest.approx(10, abs=0.03)
        assert top[0, 0] == pytest.approx(TRACE_START_MM + 25, abs=0.03)
        assert np.ptp(top[:, 0]) == pytest.approx(25 * (1 - 1 / rate_hz), abs=0.06)
        assert line[0, 1] == pytest.approx(baseline, abs=0.03)


def test_the_drawing_has_true_size_where_it_is_printed_as_it_is():
    root = ElementTree.fromstring(ecg_svg(pulse(), title="pulse").svg)
    width, height = (float(root.get(side).removesuffix("mm")) for side in ("width", "height"))
    _, _, across, down = map(float, root.get("viewBox").split())
    assert across / width == pytest.approx(down / height)
    assert width == 270


def test_each_row_begins_with_a_calibration_pulse():
    (lines,) = sheets(ecg_svg(pulse(), title="pulse"))
    pulses = [line for line in lines if line[:, 0].max() < TRACE_START_MM]
    assert len(pulses) == 4
    for line, baseline in zip(pulses, BASELINES_MM, strict=True):
        high = line[line[:, 1] == baseline + 10]
        assert np.ptp(high[:, 0]) == 5
        assert line[0, 1] == line[-1, 1] == baseline


def test_the_paper_has_a_line_every_millimetre_and_a_stronger_one_every_five():
    root = ElementTree.fromstring(ecg_svg(pulse(), title="pulse").svg)
    units_per_mm = float(root.get("viewBox").split()[2]) / 270
    (sheet,) = root.findall(f"{SVG}svg")
    for grid, every_mm in zip(sheet.findall(f"{SVG}g"), (1, 5), strict=True):
        dash, gap = map(float, grid.get("stroke-dasharray").split())
        assert (dash + gap) / units_per_mm == every_mm
        assert float(grid.get("stroke-dashoffset")) == dash / 2  # a line's middle is on the mark
        level, upright = grid.findall(f"{SVG}path")
        assert level.get("stroke-width") == sheet.get("height")
        assert upright.get("stroke-width") == sheet.get("width")


@pytest.fixture(scope="module")
def ecgs():
    names = [("AFIB",), ("CLBBB",), ("PVC",)]
    return [simulate(names, TARGET_HOSPITAL, 5, rate)[0] for rate in (100, 500)]


def test_every_sample_lies_on_its_line_and_so_no_peak_is_lost(ecgs):
    for recording in (recording for group in ecgs for recording in group):
        rate = recording.sampling_rate_hz
        drawn = traces(ecg_svg(recording, title="ecg"))
        order = ["I", "aVR", "V1", "V4", "II", "aVL", "V2", "V5", "III", "aVF", "V3", "V6", "II"]
        assert len(drawn) == len(order)
        for number, (name, line) in enumerate(zip(order, drawn, strict=True)):
            row, column = divmod(number, 4)
            start = round(2.5 * column * rate) if row < 3 else 0
            stretch = recording.lead_mv(name)[
                start : start + round((2.5 if row < 3 else 10) * rate)
            ]
            x_mm = TRACE_START_MM + 25 * (start + np.arange(len(stretch))) / rate
            y_mm = np.interp(x_mm, line[:, 0], line[:, 1]) - BASELINES_MM[row]
            shown = y_mm / 10 + np.median(recording.lead_mv(name)[start : start + len(stretch) + 1])
            peaks = np.flatnonzero(stretch >= np.quantile(stretch, 0.99))
            # 0.05 mm of tolerance; rounding by 0.025 mm, along a slope of up to 0.1 mV per ms.
            assert shown[peaks] == pytest.approx(stretch[peaks], abs=0.03)
            assert np.ptp(shown) == pytest.approx(np.ptp(stretch), abs=0.01)
            assert np.median(np.abs(shown - stretch)) < 0.005


def test_a_decimation_by_stride_would_have_been_noticed(ecgs):
    # The same check on every eighth sample: the QRS complexes are gone.
    stretch = ecgs[1][0].lead_mv("V5").astype(float)
    coarse = np.interp(np.arange(len(stretch)), np.arange(0, len(stretch), 8), stretch[::8])
    assert np.ptp(stretch) - np.ptp(coarse) > 0.01


@given(
    st.lists(st.floats(-50, 50, allow_subnormal=False), min_size=1, max_size=60),
    st.floats(0.01, 5),
)
def test_lines_between_kept_samples_miss_no_sample_by_more_than_the_tolerance(values, tolerance):
    kept = kept_samples(values, tolerance)
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    assert (np.diff(kept) > 0).all()
    drawn = np.interp(np.arange(len(values)), kept, np.array(values)[kept])
    assert np.abs(drawn - values).max() <= tolerance * (1 + 1e-9)


def test_straight_lines_keep_their_ends_alone():
    assert kept_samples(np.linspace(0, 7, 100), 1e-6).tolist() == [0, 99]
    assert kept_samples([*range(10), *range(8, -1, -1)], 1e-6).tolist() == [0, 9, 18]


def test_an_ecg_is_a_small_drawing(ecgs):
    for recording in (recording for group in ecgs for recording in group):
        for layout, most in (("3x4", 25_000), ("12x1", 40_000)):
            assert len(ecg_svg(recording, title="ecg", layout=layout).svg) < most


def test_even_noise_at_500_hz_stays_below_80_kb_and_off_its_line_by_less_than_its_width():
    noise = 0.05 * np.random.default_rng(2).normal(size=(12, 5000))
    figure = ecg_svg(Recording(noise, 500), title="noise")
    assert len(figure.svg) < 80_000
    strip = traces(figure)[-1]
    x_mm = TRACE_START_MM + np.arange(5000) / 20
    shown = (np.interp(x_mm, strip[:, 0], strip[:, 1]) - BASELINES_MM[3]) / 10
    off_mm = 10 * np.abs(shown + np.median(noise[1]) - noise[1])
    assert off_mm.max() < 0.3


def test_every_lead_is_named_and_the_rhythm_strip_again():
    for layout, again in (("3x4", ["II"]), ("12x1", [])):
        said = words(ecg_svg(pulse(), title="pulse", layout=layout).svg)
        assert sorted(word for word in said if word in LEADS) == sorted([*LEADS, *again])


def test_a_lead_is_named_where_no_trace_goes():
    # In lead V1 a plateau at the height where its name would be.
    signal = np.zeros((12, 1000))
    signal[LEADS.index("V1"), 500:520] = 0.9
    root = ElementTree.fromstring(ecg_svg(Recording(signal, 100), title="plateau").svg)
    heights = {"".join(n.itertext()): float(n.get("y")) / 20 for n in root.iter(f"{SVG}text")}
    assert abs(heights["V1"] - heights["aVR"]) > 1.9
    assert heights["V4"] == heights["aVR"]


def test_a_generated_ecg_is_marked_unless_told_otherwise():
    assert "SYNTHETIC" in words(ecg_svg(pulse(), title="a").svg)
    assert "SYNTHETIC" in ecg_svg(pulse(), title="a").alt
    real = ecg_svg(pulse(), title="a", mark="")
    assert "SYNTHETIC" not in real.svg + real.alt


def test_an_ecg_says_how_high_each_lead_is():
    signal = np.zeros((12, 1000))
    signal[LEADS.index("V2"), 100:120] = -2.34
    alt = ecg_svg(Recording(signal, 100), title="t", description="AFIB, 84/min").alt
    assert alt.startswith("AFIB, 84/min. 12-lead ECG on paper, 10 s at 100 Hz, marked SYNTHETIC;")
    assert "V1 0.0, V2 2.3, V3 0.0" in alt


def test_what_leaves_the_paper_is_cut_off():
    root = ElementTree.fromstring(ecg_svg(pulse(), title="a").svg)
    (sheet,) = root.findall(f"{SVG}svg")  # clips, as any inner <svg> does that is not told not to
    assert sheet.get("overflow") is None
    assert sheet.get("viewBox") == f"0 0 {sheet.get('width')} {sheet.get('height')}"


def test_a_pair_is_two_sheets_in_step_with_their_headings():
    figure = ecg_pair_svg(pulse(), pulse(), title="pair", headings=("real one", "closest"))
    upper, lower = sheets(figure)
    for one, other in zip(upper, lower, strict=True):
        assert one == pytest.approx(other)
    said = words(figure.svg)
    assert said.count("SYNTHETIC") == 1
    assert said.index("real one") < said.index("closest")
    assert "real one: 12-lead ECG" in figure.alt
    assert "closest: 12-lead ECG on paper, 10.01 s at 100 Hz, marked SYNTHETIC" in figure.alt


@pytest.mark.parametrize("seconds", [0.01, 6, 12])
def test_a_recording_of_any_length_can_be_drawn(seconds):
    n = round(100 * seconds)
    figure = ecg_svg(Recording(np.zeros((12, n)), 100), title="a")
    strip = sheets(figure)[0][-1]
    assert np.ptp(strip[:, 0]) == pytest.approx(25 * min((n - 1) / 100, 10), abs=0.03)


def test_a_gallery_has_a_figure_for_each_recording():
    figures = gallery([pulse(), pulse()], ["one", "two"], captions=["a", "b"], mark="")
    assert [(figure.title, figure.caption) for figure in figures] == [("one", "a"), ("two", "b")]
    assert gallery([], []) == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ecg_svg(pulse(), title="a", layout="6x2"), "a layout of 3x4, 12x1, got '6x2'"),
        (lambda: gallery([pulse()], []), "got 1 recordings, 0 titles and 1 captions"),
        (lambda: gallery([pulse()], ["a"], captions=["b", "c"]), "1 titles and 2 captions"),
    ],
)
def test_an_ecg_that_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_the_drawing_of_a_real_recording_is_below_50_kb_and_mostly_below_25(real_data):
    paths = sorted(real_data.glob("icbeb/challenge/*.hea"))[:20]
    recordings = [read_recording(path.with_suffix("")) for path in paths]
    sizes = [len(ecg_svg(recording, title="real", mark="").svg) for recording in recordings]
    assert max(sizes) < 50_000
    assert np.median(sizes) < 25_000
