"""A printed page: places count from its upper left corner, in the unit of the page."""

import pytest
from PIL import Image

from ecgtransfer.drawing.page import DPI, PALETTE, WIDTH, Page
from ecgtransfer.errors import RunError


def test_places_count_from_the_upper_left_corner_in_the_unit_of_the_page():
    page = Page.of(100, 200, units_per_inch=25.4, dpi=127)
    assert page.figure.get_size_inches() == pytest.approx((200 / 25.4, 100 / 25.4))
    box = page.panel(20, 10, 50, 30).get_position()
    assert (box.x0, box.x1, box.y0, box.y1) == pytest.approx((0.1, 0.35, 0.6, 0.9))
    page.write(50, 25, "here", 8, ha="right")
    (text,) = page.figure.texts
    assert text.get_position() == pytest.approx((0.25, 0.75))
    assert (text.get_va(), text.get_ha()) == ("top", "right")


def test_a_page_is_saved_in_few_colours(tmp_path):
    page = Page.of(1)
    page.panel(1, 0.1, 3, 0.5).plot([0, 1])
    page.save(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        assert image.size == (WIDTH * DPI, DPI)
        assert len(image.getcolors()) <= PALETTE


def test_a_page_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(RunError, match="could not be written"):
        Page.of(1).save(tmp_path / "none" / "page.png")
    assert list(tmp_path.iterdir()) == []
