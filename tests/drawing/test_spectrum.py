"""Spectra against what they draw: both axes, gaps, bands, and the numbers in their words."""

import re

import numpy as np
import pytest

from ecgtransfer.drawing.spectrum import Curve, spectrum_svg
from ecgtransfer.errors import ConfigError
from tests.drawing.svg_reading import SVG, Chart, points


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectrum_svg([1, 2], [], title="a"), "expected power above 0"),
        (lambda: spectrum_svg([1, 2], [Curve("c", [0, 0])], title="a"), "expected power above 0"),
        (lambda: spectrum_svg([1, 1], [Curve("c", [1, 1])], title="a"), "at several frequencies"),
        (lambda: spectrum_svg([1, 2], [Curve("c", [1])], title="a"), "each of 2 frequencies"),
    ],
)
def test_a_spectrum_that_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
