"""Figures against what they draw: scales, ends, peaks, and the numbers in their words."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgtransfer.errors import ConfigError
from ecgtransfer.evaluation.report import PALETTE
from ecgtransfer.evaluation.report_figures import (
    Curve,
    Quantiles,
    bars_svg,
    ecg_pair_svg,
    ecg_svg,
    forest_svg,
    gallery,
    interval_plot_svg,
    kept_samples,
    scatter_svg,
    spectrum_svg,
)
from ecgtransfer.signals import LEADS, Recording, read_recording
from ecgtransfer.signals.paper import BASELINES_MM, TRACE_START_MM
from ecgtransfer.simulation import TARGET_HOSPITAL, simulate
from ecgtransfer.statistics import (
    Estimate,
)

SVG = "{http://www.w3.org/2000/svg}"


def points(d):
    """The corners of each line of a path with the commands M, L, l, h, v, H, V and z."""
    lines = []
    for letter, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", d):
        steps = [float(n) for n in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", numbers)]
        if letter == "M":
            lines.append([np.array(steps)])
        elif letter in "lL":
            for step in np.array(steps).reshape(-1, 2):
                lines[-1].append(step if letter == "L" else lines[-1][-1] + step)
        elif letter in "hvHV":
            axis = "hv".index(letter.lower())
            end = lines[-1][-1].copy()
            end[axis] = steps[0] + (end[axis] if letter.islower() else 0)
            lines[-1].append(end)
    return [np.array(line) for line in lines]


def words(svg):
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


# --- ECGs ----------------------------------------------------------------------------------------


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
        (lambda: forest_svg([], title="a"), "expected rows in figure 'a', got none"),
        (lambda: spectrum_svg([1, 2], [], title="a"), "expected power above 0"),
        (lambda: spectrum_svg([1, 2], [Curve("c", [0, 0])], title="a"), "expected power above 0"),
        (lambda: spectrum_svg([1, 1], [Curve("c", [1, 1])], title="a"), "at several frequencies"),
        (lambda: spectrum_svg([1, 2], [Curve("c", [1])], title="a"), "each of 2 frequencies"),
        (lambda: scatter_svg({}, title="a"), r"expected finite points \(n, 2\)"),
        (lambda: scatter_svg({"b": [[1, 2, 3]]}, title="a"), r"got {'b': \(1, 3\)}"),
        (lambda: scatter_svg({"b": [[1, np.nan]]}, title="a"), "expected finite points"),
        (lambda: Quantiles(1, 2, 4, 3, 5, 9), "five finite percentiles in rising order"),
        (lambda: Quantiles(1, 2, 3, 4, float("nan"), 9), "five finite percentiles"),
    ],
)
def test_what_cannot_be_drawn_is_told(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


# --- charts --------------------------------------------------------------------------------------


class Chart:
    """A chart as it was drawn, with the scale of its axis read off the numbers below it."""

    def __init__(self, svg):
        self.root = ElementTree.fromstring(svg)
        texts = [
            (float(n.get("x")), float(n.get("y")), n.get("text-anchor"), "".join(n.itertext()))
            for n in self.root.iter(f"{SVG}text")
        ]
        numbers = [
            (x, float(word.replace("−", "-").replace(",", "")))
            for x, y, anchor, word in texts
            if anchor == "middle" and re.fullmatch(r"[−\d.,]+", word)
        ]
        px, values = np.array(numbers).T
        assert len(values) >= 2, "an axis needs two numbers"
        slope, offset = np.polyfit(px, values, 1)
        self.value = lambda x: slope * np.asarray(x) + offset
        self.tolerance = 0.2 * abs(slope)  # coordinates are in tenths of a pixel
        assert self.value(px) == pytest.approx(values, abs=self.tolerance)

    def level_lines(self, colour):
        """Ends of the horizontal lines of a colour, as values, in their order."""
        lines = [
            self.value(line[:, 0])
            for node in self.root.iter(f"{SVG}path")
            if f"--{colour}," in node.get("stroke", "")
            for line in points(node.get("d"))
            if line[0, 1] == line[-1, 1]
        ]
        return np.array(lines)

    def boxes(self):
        """(left, right, fill) of each rectangle, as values, that is not in a legend."""
        legend = {"18"}
        return [
            (
                float(self.value(float(n.get("x")))),
                float(self.value(float(n.get("x")) + float(n.get("width")))),
                n.get("fill"),
            )
            for n in self.root.iter(f"{SVG}rect")
            if n.get("width") not in legend
        ]


def both(figure):
    """The drawing for a screen and the one for a phone."""
    assert ElementTree.fromstring(figure.narrow).get("width") == "370"
    return Chart(figure.svg), Chart(figure.narrow)


DIFFERENCES = [
    ("helps", Estimate(0.012, 0.004, 0.021)),
    ("no evidence", Estimate(0.003, -0.006, 0.011)),
    ("harms", Estimate(-0.031, -0.044, -0.018)),
    ("diverged", None),
]


def test_a_forest_plot_has_its_intervals_and_its_line_where_the_numbers_are():
    for chart in both(forest_svg(DIFFERENCES, title="Difference", zero=0.0)):
        ends = chart.level_lines("series-1")
        expected = [(each.low, each.high) for _, each in DIFFERENCES if each]
        assert ends == pytest.approx(np.array(expected), abs=chart.tolerance)
        circles = list(chart.root.iter(f"{SVG}circle"))
        middles = [float(chart.value(float(circle.get("cx")))) for circle in circles]
        assert middles == pytest.approx([0.012, 0.003, -0.031], abs=chart.tolerance)
        filled = ["series-1" in circle.get("fill") for circle in circles]
        assert filled == [True, False, True]
        (zero,) = [
            line
            for node in chart.root.iter(f"{SVG}path")
            if "--ink," in node.get("stroke", "")
            for line in points(node.get("d"))
        ]
        assert chart.value(zero[:, 0]) == pytest.approx([0, 0], abs=chart.tolerance)


def test_a_forest_plot_says_its_numbers():
    figure = forest_svg(DIFFERENCES, title="Difference", favours=("harm", "help"))
    assert figure.alt == (
        "Difference, with 95 % intervals: 2 of 3 leave out 0. helps: +0.012 [+0.004, +0.021]; "
        "no evidence: +0.003 [−0.006, +0.011]; harms: −0.031 [−0.044, −0.018]; diverged: no value."
    )
    for svg in (figure.svg, figure.narrow):
        said = words(svg)
        assert {"← harm", "help →", "no value", "−0.031 [−0.044, −0.018]"} <= set(said)


def test_an_infinite_end_runs_to_the_edge_without_a_stop():
    rows = [("wide", Estimate(0.5, -np.inf, 1.0)), ("narrow", Estimate(0.4, 0.2, 0.6))]
    figure = forest_svg(rows, title="Difference")
    chart = Chart(figure.svg)
    low, high = chart.level_lines("series-1")[0]
    assert low < 0 < high == pytest.approx(1.0, abs=chart.tolerance)
    upright = [
        line
        for node in chart.root.iter(f"{SVG}path")
        if "--series-1," in node.get("stroke", "")
        for line in points(node.get("d"))
        if line[0, 0] == line[1, 0]
    ]
    assert len(upright) == 3
    assert "wide: +0.500 [−∞, +1.000]" in figure.alt


def test_differences_that_are_all_alike_can_be_drawn():
    for chart in both(forest_svg([("same", Estimate(0.0, 0.0, 0.0))], title="Difference")):
        assert chart.level_lines("series-1") == pytest.approx(np.zeros((1, 2)), abs=chart.tolerance)


def test_bars_reach_from_zero_to_their_share_in_per_cent():
    rows = [("1AVB", Estimate(0.92, 0.85, 0.96), Estimate(0.71, 0.68, 0.74)), ("PVC", None, None)]
    figure = bars_svg(rows, title="Rules", axis="records that pass")
    for chart in both(figure):
        (real, generated) = chart.boxes()
        assert real[:2] == pytest.approx((0, 92), abs=chart.tolerance)
        assert generated[:2] == pytest.approx((0, 71), abs=chart.tolerance)
        assert "series-1" in real[2]
        assert "page" in generated[2]  # hollow: told apart without colour
        assert chart.level_lines("ink") == pytest.approx(
            np.array([[85, 96], [68, 74]]), abs=chart.tolerance
        )
    assert figure.alt == (
        "Rules, records that pass in per cent with 95 % intervals: 1AVB: real 92 [85, 96], "
        "generated 71 [68, 74]; PVC: real no value, generated no value."
    )


def test_bars_of_numbers_keep_their_unit():
    figure = bars_svg(
        [("a", Estimate(3.0, 2.0, 4.0), None)], title="t", percent=False, names=("this", "that")
    )
    (box,) = Chart(figure.svg).boxes()
    assert box[:2] == pytest.approx((0, 3.0), abs=0.02)
    assert "this 3.000 [2.000, 4.000], that no value" in figure.alt


def test_boxes_stand_at_the_quartiles_and_lines_end_at_the_outer_percentiles():
    real = Quantiles.of(np.arange(101.0) + 80)
    generated = Quantiles(70, 100, 120, 150, 190, 9)
    figure = interval_plot_svg(
        [("CLBBB", real, generated), ("AFIB", None, real)],
        title="QRS duration",
        unit="ms",
        limits={"120 ms": 120.0},
    )
    for chart in both(figure):
        boxes = np.array([box[:2] for box in chart.boxes()])
        quartiles = np.array([(105, 155), (100, 150), (105, 155)])
        assert boxes == pytest.approx(quartiles, abs=chart.tolerance)
        outer = chart.level_lines("series-1"), chart.level_lines("series-2")
        assert outer[0] == pytest.approx(np.array([[85, 175]]), abs=chart.tolerance)
        assert outer[1] == pytest.approx(np.array([[70, 190], [85, 175]]), abs=chart.tolerance)
        (limit,) = [n for n in chart.root.iter(f"{SVG}path") if n.get("stroke-dasharray")]
        assert chart.value(points(limit.get("d"))[0][:, 0]) == pytest.approx(
            [120, 120], abs=chart.tolerance
        )
        assert "120 ms" in words(ElementTree.tostring(chart.root, encoding="unicode"))
    assert figure.alt == (
        "QRS duration in ms, median and 5th to 95th percentile: CLBBB: real 130.0 (85.0 to 175.0), "
        "generated 120.0 (70.0 to 190.0); AFIB: real no value, generated 130.0 (85.0 to 175.0)."
    )


def test_percentiles_are_those_of_the_finite_values():
    values = np.random.default_rng(3).normal(size=500)
    found = Quantiles.of([*values, np.nan, np.inf])
    assert found.count == 500
    expected = np.percentile(values, [5, 25, 50, 75, 95])
    assert [found.p5, found.p25, found.p50, found.p75, found.p95] == pytest.approx(expected)
    assert Quantiles.of([np.nan]) is None


def spectrum_axes(svg):
    """Functions from pixels to hertz and to log10 of power, read off the numbers at the axes."""
    chart = Chart(svg)
    powers = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    marks = [
        (float(node.get("y")) - 4, float("".join(node.itertext())[2:].translate(powers)))
        for node in chart.root.iter(f"{SVG}text")
        if re.fullmatch(r"10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", "".join(node.itertext()))
    ]
    slope, offset = np.polyfit(*np.array(marks).T, 1)
    return chart, lambda y: slope * np.asarray(y) + offset


def test_a_spectrum_is_drawn_on_logarithmic_power_with_gaps_where_there_is_none():
    hz = np.linspace(0.5, 50, 100)
    power = 10 ** (-1 - hz / 20)
    holed = np.where((hz > 20) & (hz < 25), 0, power / 10)
    curves = [Curve("real", power, power / 2, power * 2), Curve("generated", holed)]
    figure = spectrum_svg(hz, curves, title="Spectrum")
    for svg in (figure.svg, figure.narrow):
        chart, level = spectrum_axes(svg)
        drawn = [
            points(node.get("d"))
            for node in chart.root.iter(f"{SVG}path")
            if node.get("stroke-width") == "1.9" and len(points(node.get("d"))[0]) > 2
        ]
        (real,), holed_parts = drawn
        assert chart.value(real[:, 0]) == pytest.approx(hz, abs=0.1)
        assert level(real[:, 1]) == pytest.approx(np.log10(power), abs=0.02)
        assert len(holed_parts) == 2
        assert sum(map(len, holed_parts)) == int((holed > 0).sum())
        (band,) = [n for n in chart.root.iter(f"{SVG}path") if n.get("opacity") == "0.16"]
        (outline,) = points(band.get("d"))
        upper, lower = outline[:100], outline[100:][::-1]
        assert level(upper[:, 1]) == pytest.approx(np.log10(2 * power), abs=0.02)
        assert level(lower[:, 1]) == pytest.approx(np.log10(power / 2), abs=0.02)
        dashes = {n.get("stroke-dasharray") for n in chart.root.iter(f"{SVG}path")}
        assert len(dashes) == 2  # told apart without colour


def test_a_spectrum_says_its_levels_and_its_largest_gap():
    hz = np.arange(1.0, 51.0)
    power = np.full(50, 1e-3)
    louder = np.where(hz == 30, 1e-1, power)
    alt = spectrum_svg(hz, [Curve("real", power), Curve("generated", louder)], title="S").alt
    assert "real −3.0 at 1 Hz, −3.0 at 5 Hz, −3.0 at 10 Hz, −3.0 at 25 Hz, −3.0 at 40 Hz" in alt
    assert "farthest from real at 30 Hz by +2.00 decades" in alt


def test_a_map_has_one_scale_and_a_shape_for_each_group():
    square = np.array([[0, 0], [0, 3], [10, 3], [10, 0.0]])
    figure = scatter_svg({"real": square, "generated": square + 0.5}, title="t-SNE")
    assert figure.narrow == ""
    root = ElementTree.fromstring(figure.svg)
    paths = [node for node in root.iter(f"{SVG}path") if node.get("d").count("M") == 4]
    drawn = [np.array([line[0] for line in points(node.get("d"))]) for node in paths]
    assert len(drawn) == 2
    for places in drawn:
        right, up = np.ptp(places[:, 0]) / 10, np.ptp(places[:, 1]) / 3
        assert right == pytest.approx(up, rel=0.01)
        assert places[0, 1] > places[1, 1]  # the second axis points up
    shapes = [re.sub(r"M[-\d. ]+", "", node.get("d")) for node in paths]
    assert shapes[0] != shapes[1]
    frame = next(node for node in root.iter(f"{SVG}rect"))
    left, top = float(frame.get("x")), float(frame.get("y"))
    inside = np.concatenate(drawn)
    assert (inside > (left, top)).all()
    assert (inside < (left + float(frame.get("width")), top + float(frame.get("height")))).all()


def test_a_map_says_how_mixed_its_groups_are():
    rng = np.random.default_rng(4)
    cloud = rng.normal(size=(400, 2))
    apart = scatter_svg({"real": cloud, "generated": cloud + 100}, title="t").alt
    assert apart.count("100 % have one of their own") == 2
    assert apart.count("at random would give 50 %") == 2
    mixed = scatter_svg({"real": cloud, "generated": rng.normal(size=(1200, 2))}, title="t").alt
    shares = [int(found) for found in re.findall(r"points (\d+) % have one", mixed)]
    assert shares == pytest.approx([25, 75], abs=6)
    assert re.findall(r"would give (\d+) %", mixed) == ["25", "75"]


def test_copies_of_the_real_points_are_seen_as_their_neighbours():
    cloud = np.random.default_rng(5).normal(size=(100, 2))
    alt = scatter_svg({"real": cloud, "copies": cloud}, title="t").alt
    assert alt.count(" 0 % have one of their own") == 2


def test_of_many_points_some_are_drawn_and_the_figure_says_so():
    cloud = np.random.default_rng(6).normal(size=(4000, 2))
    figure = scatter_svg({"real": cloud, "generated": cloud[:10]}, title="t", caption="A map.")
    counts = [node.get("d").count("M") for node in ElementTree.fromstring(figure.svg).iter()
              if node.get("d")]  # fmt: skip
    assert sorted(counts) == [1, 1, 10, 1500]
    assert figure.caption == "A map. Of real 1,500 points are drawn."
    assert "of 4,000 real points" in figure.alt


def test_one_point_and_points_all_alike_can_be_drawn():
    assert scatter_svg({"a": [[1.0, 2.0]]}, title="t").alt == "t: one point."
    scatter_svg({"a": np.ones((5, 2))}, title="t")


def test_labels_from_outside_stay_text():
    bad = "<script>\"'&\x00\x0b" + "x" * 99
    estimate = Estimate(0.5, 0.4, 0.6)
    quantiles = Quantiles(1, 2, 3, 4, 5, 9)
    for figure in (
        forest_svg([(bad, estimate)], title=bad, favours=(bad, bad), unit=bad),
        bars_svg([(bad, estimate, estimate)], title=bad, names=(bad, bad), axis=bad),
        interval_plot_svg([(bad, quantiles, None)], title=bad, unit=bad, limits={bad: 3.0}),
        spectrum_svg([1, 2], [Curve(bad, [1, 10])], title=bad, unit=bad),
        scatter_svg({bad: [[0, 0], [1, 1]]}, title=bad),
        ecg_svg(pulse(), title=bad, mark=bad),
    ):
        assert any("<script>\"'&x" in word for word in words(figure.svg))
        assert not re.search("script", re.sub("&lt;script", "", figure.svg))


def test_a_long_label_is_broken_and_at_last_cut_off():
    label = (
        "pre-trained on the source and then fine-tuned on the target with synthetic records " * 2
    )
    figure = forest_svg([(label, Estimate(0, -1, 1))], title="t")
    for svg, letters in ((figure.svg, 26), (figure.narrow, 46)):
        lines = [word for word in words(svg) if word in label or word.endswith(" …")]
        assert len([line for line in lines if len(line) > 6]) == 3
        assert max(map(len, lines)) <= letters


def test_a_drawing_that_stands_alone_has_the_colours_of_light_paper():
    figure = forest_svg(DIFFERENCES, title="Difference")
    for name, fallback in re.findall(r"var\(--([a-z0-9-]+),(#[0-9a-f]{6})\)", figure.svg):
        assert PALETTE[name][0] == fallback
    assert not re.search(r'(?:fill|stroke)="(?!var\(|none")', figure.svg)


def test_the_drawing_of_a_real_recording_is_below_50_kb_and_mostly_below_25(real_data):
    paths = sorted(real_data.glob("icbeb/challenge/*.hea"))[:20]
    recordings = [read_recording(path.with_suffix("")) for path in paths]
    sizes = [len(ecg_svg(recording, title="real", mark="").svg) for recording in recordings]
    assert max(sizes) < 50_000
    assert np.median(sizes) < 25_000
