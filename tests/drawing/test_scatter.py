"""Maps of points against what they draw: one scale, shapes, and how mixed the groups are."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from ecgtransfer.drawing.scatter import scatter_svg
from ecgtransfer.errors import ConfigError
from tests.drawing.svg_reading import SVG, points


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scatter_svg({}, title="a"), r"expected finite points \(n, 2\)"),
        (lambda: scatter_svg({"b": [[1, 2, 3]]}, title="a"), r"got {'b': \(1, 3\)}"),
        (lambda: scatter_svg({"b": [[1, np.nan]]}, title="a"), "expected finite points"),
    ],
)
def test_a_map_that_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
