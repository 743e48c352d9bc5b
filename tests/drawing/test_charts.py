"""Charts against what they draw: scales, ends, and the numbers in their words."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from ecgtransfer.drawing.charts import bars_svg, forest_svg, interval_plot_svg
from ecgtransfer.drawing.figure import PALETTE
from ecgtransfer.drawing.paper_svg import ecg_svg
from ecgtransfer.drawing.scatter import scatter_svg
from ecgtransfer.drawing.spectrum import Curve, spectrum_svg
from ecgtransfer.errors import ConfigError
from ecgtransfer.signals import Recording
from ecgtransfer.statistics import Estimate, Quantiles
from tests.drawing.svg_reading import SVG, Chart, points, words


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
        "Difference, with 95 % intervals: 2 of 3 exclude 0. helps: +0.012 [+0.004, +0.021]; "
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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: forest_svg([], title="a"), "expected rows in figure 'a', got none"),
        (lambda: Quantiles(1, 2, 4, 3, 5, 9), "five finite percentiles in rising order"),
        (lambda: Quantiles(1, 2, 3, 4, float("nan"), 9), "five finite percentiles"),
    ],
)
def test_a_chart_that_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


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
        ecg_svg(Recording(np.zeros((12, 1000)), 100), title=bad, mark=bad),
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
