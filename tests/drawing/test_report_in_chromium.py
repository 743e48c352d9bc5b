"""The page in a real browser: from disk, sorted, narrow, dark, printed, without JavaScript."""

import re
import shutil
import zlib

import numpy as np
import pytest

from ecgtransfer.drawing.figure import PALETTE
from ecgtransfer.drawing.report_page import write_report
from tests.drawing.sample_report import CLASSES, SORTED, sample_report, tables

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

#: Width of A4 between the margins of the page's own @page rule, in CSS pixels of 1/96 inch.
PRINTED_PX = (210 - 2 * 15) / 25.4 * 96


@pytest.fixture(scope="module")
def browser():
    # The driver and the browser are spoken to through pipes, so that a test without network can.
    with playwright_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return write_report(sample_report(), {}, tmp_path_factory.mktemp("report")).as_uri()


@pytest.fixture
def show(browser, address):
    """Open the report; returns the page, with all that it said and asked for in `page.heard`."""
    contexts = []

    def opened(width=1400, height=900, scheme="light", *, media="screen", javascript=True):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            java_script_enabled=javascript,
        )
        contexts.append(context)
        page = context.new_page()
        page.heard = []
        page.on("console", lambda message: page.heard.append(message.text))
        page.on("pageerror", lambda error: page.heard.append(str(error)))
        page.on("request", lambda request: page.heard.append(request.url))
        page.emulate_media(media=media, color_scheme=scheme)
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()


def test_it_opens_from_disk_without_a_word_on_the_console_or_a_request(show, address):
    page = show()
    page.wait_for_load_state("networkidle")
    assert address.startswith("file://")
    assert page.heard == [address]
    assert page.title() == "PTB-XL to ICBEB"


def test_a_script_that_came_in_with_the_data_would_not_run(show):
    page = show()
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
        }"""
    )
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in said for said in page.heard)


# --- sorting -------------------------------------------------------------------------------------

ARMS = [row[0] for row in SORTED.rows]


def sorting(page):
    """The table of the sorting test: its headers, and a function that reads its first column."""
    table = page.locator("table", has=page.get_by_text(SORTED.title))
    headers = {name: table.get_by_role("button", name=name, exact=True) for name in SORTED.header}
    return headers, lambda: table.locator("tbody th").all_inner_texts(), table


def test_a_click_sorts_by_number_and_another_turns_it_round(show):
    headers, arms, table = sorting(show())
    assert arms() == ARMS
    headers["Records"].click()
    assert arms() == ["synthetic", "target only", "fine-tuned", "pooled"]  # 97, 690, 1380, 12900
    headers["Records"].click()
    assert arms() == ["pooled", "fine-tuned", "target only", "synthetic"]
    sorted_by = table.locator("th[aria-sort]")
    assert sorted_by.all_inner_texts() == ["Records"]
    assert sorted_by.get_attribute("aria-sort") == "descending"


def test_estimates_are_sorted_by_their_value_and_no_value_comes_last_both_ways(show):
    headers, arms, _ = sorting(show())
    headers["Macro AUROC"].click()
    assert arms() == ["fine-tuned", "target only", "synthetic", "pooled"]  # -0.02 is below 0.861
    headers["Macro AUROC"].click()
    assert arms() == ["synthetic", "target only", "fine-tuned", "pooled"]


def test_words_with_numbers_are_sorted_by_them(show):
    headers, arms, _ = sorting(show())
    headers["Ratio"].click()
    assert arms() == ["fine-tuned", "pooled", "target only", "synthetic"]  # 1, 2, 10, none


def test_rows_that_tie_keep_their_order(show):
    headers, arms, _ = sorting(show())
    headers["Arm"].click()
    assert arms() == ["fine-tuned", "pooled", "synthetic", "target only"]
    headers["Seeds"].click()
    assert arms() == ["pooled", "synthetic", "fine-tuned", "target only"]
    headers["Seeds"].click()
    assert arms() == ["fine-tuned", "target only", "pooled", "synthetic"]


def test_the_keyboard_sorts_too(show):
    page = show()
    headers, arms, _ = sorting(page)
    headers["Arm"].focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Records"
    page.keyboard.press("Enter")
    assert arms()[0] == "synthetic"
    page.keyboard.press("Space")
    assert arms()[0] == "pooled"


def test_every_row_keeps_its_cells(show):
    headers, _, table = sorting(show())
    read = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent).join('|'))"
    before = table.locator("tbody tr").evaluate_all(read)
    headers["Records"].click()
    assert sorted(table.locator("tbody tr").evaluate_all(read)) == sorted(before)


def test_a_table_that_is_not_to_be_sorted_has_no_buttons(show):
    page = show()
    for title in ("Fingerprints", "Settings of this evaluation"):
        assert page.locator("table", has=page.get_by_text(title)).get_by_role("button").count() == 0


# --- widths and schemes --------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 400, 800, 1400])
def test_the_page_never_scrolls_sideways_but_what_is_too_wide_does_in_its_box(show, width):
    page = show(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("window.scrollTo(500, 0)")
    assert page.evaluate("window.scrollX") == 0
    boxes = page.locator(".scroll").evaluate_all(
        "boxes => boxes.map(box => [box.scrollWidth > box.clientWidth, box.tabIndex])"
    )
    assert all(tab_stop == 0 for _, tab_stop in boxes)
    if width <= 400:
        assert any(overflows for overflows, _ in boxes)


def test_each_chart_is_shown_once_as_the_width_asks(show):
    for width, shown_px in ((400, "370"), (1400, "680")):
        drawings = show(width).locator(".drawing.both > svg:visible")
        widths = drawings.evaluate_all("all => all.map(svg => svg.getAttribute('width'))")
        assert widths == [shown_px] * 4


def test_an_ecg_has_its_true_scale_on_a_wide_screen(show):
    box = show(1400).locator("svg.ecg").first.bounding_box()
    assert box["width"] == pytest.approx(270 / 25.4 * 96, abs=0.5)


def test_an_ecg_on_a_phone_can_be_read_and_shows_its_mark(show):
    page = show(400)
    drawing = page.locator("svg.ecg").last
    assert drawing.bounding_box()["width"] >= 750
    drawing.scroll_into_view_if_needed()
    mark = drawing.get_by_text("SYNTHETIC").bounding_box()
    assert mark["x"] >= 0
    assert mark["x"] + mark["width"] <= 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_takes_light_or_dark_from_the_reader(show, scheme):
    colour = show(scheme=scheme).evaluate(
        "getComputedStyle(document.documentElement).getPropertyValue('--page')"
    )
    assert colour == PALETTE["page"][scheme == "dark"]
    assert PALETTE["page"][0] != PALETTE["page"][1]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 400), ("dark", 1400)])
def test_axe_finds_nothing_to_complain_of(show, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    found = axe.Axe().run(show(width, scheme=scheme))
    assert found.violations_count == 0, found.generate_report()
    passed = {rule["id"] for rule in found.response["passes"]}
    assert passed >= {
        "bypass",
        "color-contrast",
        "heading-order",
        "html-has-lang",
        "region",
        "role-img-alt",
        "scrollable-region-focusable",
    }


def test_axe_would_see_words_that_are_too_pale(show):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    page = show()
    page.evaluate("document.documentElement.style.setProperty('--muted', '#b0b0b0')")
    found = axe.Axe().run(page, options={"runOnly": ["color-contrast"]})
    assert found.violations_count == 1


def test_without_javascript_everything_is_there_to_read(show):
    with_script, without = show(), show(javascript=False)
    assert without.get_by_role("button").count() == 0
    # Texts by locators, which need no script in the page.
    texts = [page.locator("main").text_content() for page in (with_script, without)]
    assert texts[0] == texts[1]
    assert without.get_by_text("s079").is_visible()


# --- print ---------------------------------------------------------------------------------------


def test_no_table_and_no_drawing_is_wider_than_the_sheet(show):
    page = show(round(PRINTED_PX), scheme="dark", media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= round(PRINTED_PX)
    boxes = page.locator("table, .drawing > svg:visible, .card, .warning").evaluate_all(
        "all => all.map(each => [each.getBoundingClientRect().left,"
        " each.getBoundingClientRect().right])"
    )
    assert len(boxes) > 25
    assert min(left for left, _ in boxes) >= 0
    assert max(right for _, right in boxes) <= PRINTED_PX
    cut = page.locator("th, td").evaluate_all(
        "all => all.filter(cell => cell.scrollWidth > cell.clientWidth + 1)"
        ".map(cell => cell.textContent)"
    )
    assert cut == []


def test_print_is_light_and_has_no_navigation(show):
    page = show(scheme="dark", media="print")
    style = "getComputedStyle(document.documentElement).getPropertyValue"
    for name, (light, _) in PALETTE.items():
        assert page.evaluate(f"{style}('--{name}')") == light
    assert not page.get_by_role("navigation").is_visible()


def printed(pdf):
    """Each page of a PDF by Chromium as a list of (left, right, baseline, text), in CSS pixels.

    A string is what one text object draws; its right end is where its last letter begins.
    """
    objects = {
        int(found[1]): (found[2], found[3])
        for found in re.finditer(
            rb"(\d+) 0 obj\s*(<<.*?>>)\s*(?:stream\r?\n(.*?)\r?\nendstream)?\s*endobj",
            pdf,
            re.DOTALL,
        )
    }

    def content(reference):
        return zlib.decompress(objects[int(reference)][1])

    def letters(font):
        """Glyph number to text, from the font's ToUnicode map."""
        reference = re.search(rb"/ToUnicode (\d+)", objects[font][0])
        table = content(reference[1])
        found = {}
        for block in re.findall(rb"beginbfchar(.*?)endbfchar", table, re.DOTALL):
            for glyph, text in re.findall(rb"<(\w+)> <(\w+)>", block):
                found[int(glyph, 16)] = bytes.fromhex(text.decode()).decode("utf-16-be")
        for block in re.findall(rb"beginbfrange(.*?)endbfrange", table, re.DOTALL):
            for first, last, text in re.findall(rb"<(\w+)> <(\w+)> <(\w+)>", block):
                for step in range(int(last, 16) - int(first, 16) + 1):
                    found[int(first, 16) + step] = chr(int(text, 16) + step)
        return found

    maps = {}
    pages = []
    for dictionary, _ in objects.values():
        if not re.search(rb"/Type /Page\b", dictionary):
            continue
        fonts = dict(re.findall(rb"/(F\d+) (\d+) 0 R", dictionary))
        for reference in set(fonts.values()) - maps.keys():
            maps[reference] = letters(int(reference))
        drawn = content(re.search(rb"/Contents (\d+)", dictionary)[1])
        pages.append(_strings(drawn, {name: maps[each] for name, each in fonts.items()}))
    return pages


def _strings(drawn, fonts):
    """What `printed` says of one page, by the operators of the format (ISO 32000-1, Annex A)."""
    page, stack, operands, found = np.eye(3), [], [], []
    for token in re.findall(rb"<[0-9A-Fa-f]+>|[^\s\[\]<>]+", drawn):
        if token == b"q":
            stack.append(page)
        elif token == b"Q":
            page = stack.pop()
        elif token == b"cm":
            page = _matrix(operands) @ page
        elif token == b"Tf":
            font = fonts[operands[-2][1:]]
        elif token == b"BT":
            text, places = "", []
        elif token == b"Tm":
            pen = _matrix(operands)
        elif token == b"Td":
            shift = np.array([float(operands[-2]), float(operands[-1]), 1]) @ pen
            pen = np.vstack([pen[:2], shift])
        elif token == b"Tj":
            glyphs = re.findall(rb"....", operands[-1][1:-1])
            text += "".join(font.get(int(glyph, 16), "?") for glyph in glyphs)
            places.append((pen[2] @ page)[:2] * 96 / 72)
        elif token == b"ET":
            across, up = zip(*places, strict=True)
            found.append((min(across), max(across), min(up), text))
        else:
            operands.append(token)
            continue
        operands = []
    return found


def _matrix(operands):
    """The last six operands as a matrix that points are multiplied with from the left."""
    a, b, c, d, e, f = map(float, operands[-6:])
    return np.array([[a, b, 0], [c, d, 0], [e, f, 1]])


@pytest.fixture(scope="module")
def sheets(browser, address, tmp_path_factory):
    page = browser.new_page()
    page.goto(address)
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    page.close()
    boxes = set(re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf))
    ((width, height),) = boxes
    assert (float(width), float(height)) == pytest.approx((595.3, 841.9), abs=0.5)  # A4
    return printed(pdf)


def test_every_sheet_of_the_print_says_that_it_is_not_for_diagnosis_and_its_number(sheets):
    assert len(sheets) > 5
    for number, sheet in enumerate(sheets, start=1):
        said = " ".join(text for *_, text in sheet)
        assert "Synthetic ECGs are not for diagnosis." in said
        assert f"{number} / {len(sheets)}" in re.sub(r"\s+", " ", said)


def test_every_cell_is_on_paper_within_the_margins(sheets):
    joined = re.sub(r"\s", "", "".join(text for sheet in sheets for *_, text in sheet))
    for number in range(80):
        assert f"s{number:03d}t{7 * number:03d}" in joined
    for table in tables():
        assert re.sub(r"\s", "", table.title) in joined
    assert joined.count("0.912[0.901,") >= 20 * len(CLASSES)
    assert "9f86d081" * 8 in joined
    margin, width, height = (mm / 25.4 * 96 for mm in (15, 210, 297))
    places = np.array([place for sheet in sheets for *place, _ in sheet])
    assert places[:, 0].min() > margin - 1
    assert places[:, 1].max() < width - margin
    assert places[:, 2].min() > 0
    assert places[:, 2].max() < height


def test_the_header_of_a_table_that_goes_on_stands_on_each_of_its_sheets(sheets):
    held = [
        (
            any(re.fullmatch(r"s\d{3}", text.strip()) for *_, text in sheet),
            "Closest training record" in re.sub(r"\s+", " ", " ".join(t for *_, t in sheet)),
        )
        for sheet in sheets
    ]
    with_rows = [has_header for has_rows, has_header in held if has_rows]
    assert len(with_rows) >= 2
    assert all(with_rows)


def test_no_heading_is_left_alone_at_the_foot_of_a_sheet(sheets):
    headings = ["Verdicts", "Utility", "Fidelity", "Privacy", "Physiology", "More tables"]
    headings += ["Synthetic ECGs", "Methods", "Settings", "Limits", "Data, licences and citations"]
    alone, seen = [], set()
    for sheet in sheets:
        body = [line for line in sheet if line[2] > 70]  # from below: not the foot of the sheet
        lowest = min(y for *_, y, _ in body)
        for *_, y, text in body:
            if text.strip() in headings:
                seen.add(text.strip())
                alone += [text] if y < lowest + 1 else []
    assert seen == set(headings)
    assert alone == []


def test_rows_figures_and_cards_are_not_cut_by_the_end_of_a_sheet(show):
    breaks = (
        show(media="print")
        .locator("tr, figure, .card")
        .evaluate_all("all => [...new Set(all.map(each => getComputedStyle(each).breakInside))]")
    )
    assert breaks == ["avoid"]
