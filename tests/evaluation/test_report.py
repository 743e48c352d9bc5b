"""The page as text: well-formed, closed to the network, escaped; its numbers as JSON."""

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.evaluation.report import (
    PALETTE,
    Figure,
    Report,
    Section,
    Table,
    Verdict,
    decimals_for,
    number_text,
    plain,
    render_report,
    report_json,
    table_view,
    write_report,
)
from ecgtransfer.statistics import (
    Estimate,
)
from tests.evaluation.sample_report import sample_report, tables

#: Elements of HTML and SVG that this page may leave without an end tag.
VOID = {"meta", "link", "br", "img", "hr", "input"}
EMPTY = {"path", "rect", "circle"}

SQUARE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M0 0h1"/></svg>'


class Page(HTMLParser):
    """Elements in order as (name, attributes, text inside, names of the elements around)."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements = []
        self.open = []
        self.feed(html)
        self.close()
        assert self.open == [], "elements that nobody closes"

    def handle_starttag(self, tag, attributes):
        element = (tag, dict(attributes), [], [name for name, *_ in self.open])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), [], [name for name, *_ in self.open]))

    def handle_endtag(self, tag):
        assert self.open[-1][0] == tag, f"</{tag}> closes <{self.open[-1][0]}>"
        self.open.pop()

    def handle_data(self, data):
        for _, _, text, _ in self.open:
            text.append(data)

    def all(self, *names):
        return [
            (tag, attributes, " ".join("".join(text).split()), around)
            for tag, attributes, text, around in self.elements
            if tag in names
        ]


@pytest.fixture(scope="module")
def html():
    return render_report(sample_report())


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def small_report(**changes):
    fields = {"title": "T", "subtitle": "", "made_on": "", "sections": ()}
    return Report(**fields | changes)


# --- the page ------------------------------------------------------------------------------------


def test_verdicts_come_first_then_sections_then_what_they_rest_on(page):
    titles = [text for _, _, text, _ in page.all("h2")]
    assert titles == [
        "Verdicts",
        "Utility",
        "Fidelity",
        "Privacy",
        "Physiology",
        "More tables",
        "Synthetic ECGs",
        "Methods",
        "Settings",
        "Data, licences and citations",
        "Limits",
    ]


def test_headings_descend_one_level_at_a_time_from_a_single_h1(page):
    levels = [int(tag[1]) for tag, *_ in page.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_question_has_a_card_with_its_outcome_in_a_word_and_a_symbol(page):
    cards = [text for _, a, text, _ in page.all("li") if "card" in a.get("class", "").split()]
    for card, (question, word) in zip(
        cards,
        [
            ("Do synthetic records help?", "Pass in part"),
            ("Do they look alike?", "Fail"),
            ("Do they leak?", "Undecided"),
            ("Do they make sense?", "Pass"),
        ],
        strict=True,
    ):
        assert f"{question} {word} " in card
    badges = [a for _, a, _, _ in page.all("p") if "badge" in a.get("class", "").split()]
    icons = [around for _, a, _, around in page.all("svg") if a.get("class") == "icon"]
    assert len(badges) == 4
    assert len([around for around in icons if around[-1] == "p"]) == 4


@pytest.mark.parametrize(
    ("passed", "outcome"),
    [
        ([True], "pass"),
        ([True, True], "pass"),
        ([True, None], "partial"),
        ([True, False, None], "fail"),
        ([None, False], "fail"),
        ([None], "open"),
    ],
)
def test_the_worst_verdict_rules_and_an_open_one_is_not_hidden_by_a_pass(passed, outcome):
    verdicts = tuple(Verdict(each, "Because.") for each in passed)
    assert Section("s", "S", verdicts=verdicts).outcome == outcome


def test_that_a_synthetic_ecg_is_not_for_diagnosis_stands_first_and_last(page):
    notes = [(text, around) for _, a, text, around in page.all("div") if a.get("role") == "note"]
    assert [around[-1] for _, around in notes] == ["header", "footer"]
    assert all(text.startswith("Not for diagnosis.") for text, _ in notes)


def test_the_page_has_landmarks_a_language_a_title_and_a_way_past_them(page):
    names = [tag for tag, *_ in page.elements]
    assert [names.count(tag) for tag in ("main", "header", "footer", "nav", "title")] == [1] * 5
    assert page.all("html")[0][1]["lang"] == "en"
    assert page.all("title")[0][2] == "PTB-XL to ICBEB"
    first_link = page.all("a")[0]
    assert first_link[1]["href"] == "#main"


def test_ids_are_unique_and_every_link_within_the_page_arrives(page):
    ids = [attributes["id"] for _, attributes, *_ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    inner = [a["href"][1:] for _, a, *_ in page.all("a") if a["href"].startswith("#")]
    named = [a["aria-labelledby"] for _, a, *_ in page.elements if "aria-labelledby" in a]
    assert set(inner) | set(named) <= set(ids)
    assert {"verdicts", "utility", "gallery", "methods", "limits"} <= set(inner)


def test_tables_have_captions_and_headers_for_rows_and_columns(page):
    captions = [text for _, _, text, around in page.all("caption")]
    assert captions == [*(table.title for table in tables()), "Settings of this evaluation"]
    assert {a["scope"] for _, a, *_ in page.all("th")} == {"col", "row"}
    rows = [around for *_, around in page.all("tr") if around[-1] == "tbody"]
    assert len([a for _, a, *_ in page.all("th") if a["scope"] == "row"]) == len(rows)


def test_every_drawing_has_the_words_of_its_figure(page):
    report = sample_report()
    drawn = [part for section in report.sections for part in section.body if hasattr(part, "alt")]
    images = [a["aria-label"] for _, a, *_ in page.all("div") if a.get("role") == "img"]
    assert images == [figure.alt for figure in drawn]
    assert len(images) == 16


def test_the_page_loads_nothing(html, page):
    for tag, attributes, _, _ in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "video", "use"}
        assert not attributes.keys() & {"src", "srcset", "data", "action", "style", "background"}
        assert not any(name.startswith("on") for name in attributes)
        target = attributes.get("href", "#")
        if not target.startswith("#"):
            assert tag == "a"
            assert target == "report.json" or target.startswith("https://")
    assert not re.search(r"url\(|@import|//[a-z]", re.sub(r'"https?://[^"]*"|>https?://', "", html))


def test_only_the_pages_own_script_and_style_may_run(html, page):
    metas = page.all("meta")
    policy = next(a["content"] for _, a, *_ in metas if "http-equiv" in a)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"


def test_text_from_outside_stays_text():
    bad = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
    figure = Figure(bad, SQUARE, bad, bad)
    table = Table(bad, (bad, "n"), ((bad, 1), ("b", 2)), note=bad)
    body = (bad, table, figure)
    report = Report(
        bad,
        bad,
        bad,
        (Section("s", bad, bad, (Verdict(None, bad),), body),),
        body,
        {bad: {bad: bad}},
        body,
        (bad,),
    )
    page = Page(render_report(report))
    assert len(page.all("script")) == 1
    assert page.all("title")[0][2] == bad
    assert page.all("h1")[0][2] == bad
    assert [a["aria-label"] for _, a, *_ in page.all("div") if a.get("role") == "img"] == [bad] * 3
    assert sum(text == bad for _, _, text, _ in page.all("p", "span", "th", "td", "li")) > 15


def test_an_address_in_a_text_becomes_a_link_without_the_full_stop_behind_it():
    text = "See https://doi.org/10.1/a_(b)?x=1&y=2. Not javascript:alert(1), (http://e.org/)."
    page = Page(render_report(small_report(methods=(text,))))
    links = [(a["href"], inside) for _, a, inside, around in page.all("a") if around[-1] == "p"]
    assert links == [
        ("https://doi.org/10.1/a_(b)?x=1&y=2",) * 2,
        ("http://e.org/",) * 2,
        ("report.json",) * 2,
    ]
    assert text in [inside for _, _, inside, _ in page.all("p")]


def test_parts_without_content_are_left_out():
    page = Page(render_report(small_report()))
    assert page.all("h2") == []
    assert page.all("li") == []


def test_settings_are_listed_by_their_whole_names():
    settings = {
        "seed": 7,
        "train": {"rate": 3e-4, "steps": [1, 2], "amp": False, "more": {}, "note": ""},
        "limit": None,
    }
    page = Page(render_report(small_report(settings=settings)))
    names = [text for _, a, text, _ in page.all("th") if a["scope"] == "row"]
    values = [text for _, _, text, _ in page.all("td")]
    assert dict(zip(names, values, strict=True)) == {
        "seed": "7",
        "train.rate": "0.0003",
        "train.steps": "1, 2",
        "train.amp": "no",
        "train.more": "–",
        "train.note": "–",
        "limit": "–",
    }


def test_a_report_of_twelve_ecgs_six_tables_and_six_figures_is_small(html):
    report = sample_report()
    body = [part for section in report.sections for part in section.body]
    ecgs = sum(part.svg.count("<svg y=") for part in body if isinstance(part, Figure))
    assert ecgs == 12
    assert sum(isinstance(part, Table) for part in body) == 6
    assert sum(isinstance(part, Figure) for part in body) >= 6
    assert len(html.encode()) < 1_000_000


# --- colours -------------------------------------------------------------------------------------


def luminance(colour):
    """Relative luminance of "#rrggbb" (WCAG 2.2)."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_computed_as_the_standard_says():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#ffffff", "#767676") == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_words_and_curves_stand_out_from_what_lies_behind_them(scheme):
    colours = {name: pair[scheme] for name, pair in PALETTE.items()}
    series = [name for name in colours if name.startswith("series-")]
    pairs = [
        *((name, "page") for name in ("ink", "muted", "accent", "pass", "fail", "open", *series)),
        *((name, "well") for name in ("ink", "muted")),
        *((name, f"{name}-back") for name in ("pass", "fail", "open")),
        ("ink", "fail-back"),
        ("paper-ink", "paper"),
        ("paper-mark", "page"),
    ]
    weak = {pair: contrast(*(colours[name] for name in pair)) for pair in pairs}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}
    assert contrast(colours["strong-rule"], colours["page"]) >= 3
    # The lines of the paper are seen, and do not drown the trace.
    for lines in ("paper-1-mm", "paper-5-mm"):
        assert contrast(colours[lines], colours["paper"]) > 1.1
        assert contrast(colours[lines], colours["paper-ink"]) > 4.5


#: Linear RGB as people without red, green and blue cones see it (Machado et al. 2009, severity 1).
CONES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def cielab(linear):
    """CIE L*a*b* (D65) of linear RGB."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    ratio = to_xyz @ np.clip(linear, 0, 1) / (0.9505, 1.0, 1.089)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("seen_by", list(CONES))
def test_colour_blind_readers_tell_the_first_three_series_apart(scheme, seen_by):
    labs = []
    for number in (1, 2, 3):
        colour = PALETTE[f"series-{number}"][scheme]
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        labs.append(cielab(np.array(CONES[seen_by]) @ linear))
    apart = [np.linalg.norm(labs[i] - labs[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert min(apart) > 12  # 2.3 is just noticeable


def test_every_colour_that_is_used_is_one_of_the_palette(html):
    used = set(re.findall(r"var\(--([a-z0-9-]+)", html))
    assert used <= PALETTE.keys() | {"sans", "serif"}
    for scheme in (0, 1):
        assert all(f"--{name}:{pair[scheme]};" in html for name, pair in PALETTE.items())


# --- tables --------------------------------------------------------------------------------------


def column(*cells):
    """Texts with intervals, and keys, of one column of a table."""
    view = table_view(Table("t", ("name", "x"), tuple(("", cell) for cell in cells)))
    views = [row[1] for row in view.rows]
    texts = [f"{each.text} {each.interval}".strip() for each in views]
    return texts, [each.key for each in views], view.numeric[1]


def test_numbers_of_a_column_have_the_decimals_that_its_largest_needs():
    assert column(0.5, 0.12345)[0] == ["0.500", "0.123"]
    assert column(99.96, 3.14159)[0] == ["99.96", "3.14"]
    assert column(1234.5, 200.25)[0] == ["1,234", "200"]
    assert column(0.00123, 0.0002)[0] == ["0.00123", "0.00020"]
    assert column(3.2e-7)[0] == ["3.2\u00a0×\u00a010⁻⁷"]
    assert column(-0.0004, 0.03)[0] == ["0.000", "0.030"]
    assert column(0.0, 0.0)[0] == ["0.000", "0.000"]
    assert column(np.float32(0.25), np.int64(1200))[0] == ["0.250", "1,200"]


def test_numbers_that_lie_far_apart_have_their_own_decimals():
    texts, _, _ = column(Estimate(18.4, 17.44, 19.38), Estimate(0.0131, 0.0124, 0.0138), 0.0)
    assert texts == ["18.40 [17.44, 19.38]", "0.013 [0.012, 0.014]", "0.000"]


def test_an_estimate_is_sorted_by_its_value():
    texts, keys, numeric = column(Estimate(0.9, -0.1, 0.95), 3)
    assert texts == ["0.900 [−0.100, 0.950]", "3"]
    assert keys == [0.9, 3.0]
    assert numeric


def test_what_has_no_value_is_shown_as_such_and_has_no_key():
    texts, keys, numeric = column(None, float("nan"), "", 0.5)
    assert texts == ["–", "–", "–", "0.500"]
    assert keys == [None, None, None, 0.5]
    assert numeric
    assert not column(None, None)[2]


def test_an_infinite_number_is_shown_and_sorted():
    assert column(float("inf"), -float("inf"), 0.5) == (
        ["∞", "−∞", "0.500"],
        [float("inf"), -float("inf"), 0.5],
        True,
    )


def test_text_that_begins_with_a_number_is_sorted_by_it():
    cells = ("0.905 [0.900, 0.910]", "78 %", "1,204 records", "−3", "+0.3", "5e-3", "12.5%")
    texts, keys, numeric = column(*cells)
    assert texts == list(cells)
    assert keys == [0.905, 78, 1204, -3, 0.3, 5e-3, 12.5]
    assert numeric


@pytest.mark.parametrize("word", ["1AVB", "25-35 Hz", "1.2.3", "3x", "2027-03-14", "n = 5"])
def test_a_column_with_other_text_is_sorted_as_text(word):
    assert column("0.9", word)[1:] == ([None, None], False)


def test_truth_values_are_words():
    assert column(True, np.bool_(False)) == (["yes", "no"], [None, None], False)


def test_a_table_is_made_from_the_rows_of_a_result():
    table = Table.from_rows("t", [("measure", "score"), ("F2", "0.5")], "note", sortable=False)
    assert table == Table("t", ("measure", "score"), (("F2", "0.5"),), "note", False)


def test_a_table_without_rows_is_a_table():
    assert "<tbody>" in render_report(small_report(methods=(Table("t", ("a", "b"), ()),)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Table("t", (), ()), "expected columns in table 't', got none"),
        (lambda: Table("t", ("a", "b"), (("x",),)), "expected 2 cells in row 0 .* got 1"),
        (lambda: Table("t", ("a",), (([1],),)), "expected text, a number or an estimate .* list"),
        (lambda: Table.from_rows("t", []), "expected a header in table 't', got no row"),
        (lambda: Section("A b", "t"), "expected a section id .* got 'A b'"),
        (lambda: Section("limits", "t"), "expected a section id .* got 'limits'"),
        (lambda: Section("a-title", "t"), "expected a section id .* got 'a-title'"),
        (lambda: small_report(title=" "), "expected a title .* got no title"),
        (
            lambda: small_report(sections=(Section("a", "t"), Section("a", "u"))),
            "got the id 'a' twice",
        ),
        (lambda: Figure("f", SQUARE, " "), "expected words for those who do not see figure 'f'"),
        (lambda: Figure("f", "no drawing", "a"), "expected one <svg> element"),
        (lambda: Figure("f", SQUARE * 2, "a"), "expected one <svg> element"),
        (lambda: Figure("f", '<!DOCTYPE svg [<!ENTITY a "b">]>' + SQUARE, "a"), "one <svg>"),
        (lambda: Figure("f", "<svg/>", "a"), "with a viewBox"),
        (lambda: Figure("f", '<g viewBox="0 0 1 1"/>', "a"), "expected an <svg> element"),
        (lambda: Figure("f", SQUARE, "a", narrow="<b/>"), "runs and loads nothing"),
    ],
)
def test_what_cannot_be_in_a_report_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    "inside",
    [
        "<script>1</script>",
        "<foreignObject/>",
        '<image href="x.png"/>',
        '<path onclick="1"/>',
        '<path style="fill:red"/>',
        '<path id="a"/>',
        '<path fill="url(#a)"/>',
        '<a xmlns:l="http://www.w3.org/1999/xlink" l:href="https://e.org"/>',
        "<style>*{}</style>",
    ],
)
def test_a_drawing_that_could_run_load_or_clash_is_refused(inside):
    with pytest.raises(ConfigError, match="expected a drawing that runs and loads nothing"):
        Figure("f", SQUARE.replace("</svg>", f"{inside}</svg>"), "a")


@pytest.mark.parametrize(
    ("values", "decimals"),
    [([0.5], 3), ([], 3), ([0.0], 3), ([9.99], 3), ([10.0], 2), ([1e6], 0), ([0.004], 5)],
)
def test_decimals_follow_the_largest_number(values, decimals):
    assert decimals_for([*values, float("nan"), float("-inf")]) == decimals


def test_signed_numbers_have_a_sign_and_a_true_minus():
    assert number_text(0.01, 3, signed=True) == "+0.010"
    assert number_text(-0.01, 3, signed=True) == "−0.010"
    assert number_text(-1234.56, 1) == "−1,234.6"
    assert number_text(0.0, None) == "0"


# --- JSON and files ------------------------------------------------------------------------------


def refuse(word):
    raise AssertionError(f"JSON has no {word}")


def test_numbers_that_are_not_finite_are_null_in_the_json():
    numbers = {
        "nan": float("nan"),
        "inf": [np.inf, np.float32("nan"), 1.5],
        "array": np.array([[1.0, np.nan]]),
        3: (np.int64(4), True, None, "text"),
        "estimate": Estimate(0.5, -np.inf, 0.75),
        "date": date(2027, 3, 14),
        "path": Path("a/b"),
    }
    read = json.loads(report_json(sample_report(), numbers), parse_constant=refuse)
    assert read["numbers"] == {
        "nan": None,
        "inf": [None, None, 1.5],
        "array": [[1.0, None]],
        "3": [4, True, None, "text"],
        "estimate": {"value": 0.5, "low": None, "high": 0.75},
        "date": "2027-03-14",
        "path": "a/b",
    }


def test_the_json_holds_every_verdict_and_every_cell_of_the_page():
    read = json.loads(report_json(sample_report(), {}), parse_constant=refuse)["report"]
    utility = read["sections"][0]
    assert utility["outcome"] == "partial"
    assert utility["verdicts"][1] == {"passed": None, "sentence": "No evidence on calibration."}
    table = utility["tables"][0]
    assert table["header"][:2] == ["Arm", "Records"]
    assert table["rows"][1][:4] == ["pooled", 12900, 3, None]
    assert table["rows"][0][3] == {"value": 0.861, "low": 0.85, "high": 0.87}
    assert utility["figures"][0]["alt"].startswith("Difference in macro AUROC")
    assert read["sections"][4]["outcome"] is None
    assert read["settings"]["transfer"]["method"] == "tgdp"


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(ConfigError, match=r"expected numbers, text .* got object"):
        plain({"a": [object()]})


def test_a_report_is_written_beside_its_numbers(tmp_path):
    path = write_report(sample_report(), {"x": 1}, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.html"
    assert sorted(each.name for each in path.parent.iterdir()) == ["report.html", "report.json"]
    assert path.read_text(encoding="utf-8") == render_report(sample_report())
    assert json.loads(path.with_name("report.json").read_text())["numbers"] == {"x": 1}


def test_the_same_report_has_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_report(sample_report(), {"b": 1, "a": 2}, tmp_path / name)
    for file in ("report.html", "report.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_report_that_cannot_be_written_leaves_the_older_one(tmp_path, monkeypatch):
    write_report(small_report(), {"x": 1}, tmp_path)
    older = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(ConfigError):
        write_report(small_report(), {"x": object()}, tmp_path)
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="could not be written"):
        write_report(replace(small_report(), title="newer"), {"x": 2}, tmp_path)
    assert calls
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == older


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="could not be written"):
        write_report(small_report(), {}, tmp_path / "file")
