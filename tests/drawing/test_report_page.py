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

from ecgtransfer.drawing.figure import PALETTE, Figure
from ecgtransfer.drawing.report_page import (
    Report,
    Section,
    render_report,
    report_json,
    write_report,
)
from ecgtransfer.drawing.table import Table
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.statistics import Estimate, Verdict
from tests.drawing.sample_report import sample_report, tables

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


def test_every_colour_that_is_used_is_one_of_the_palette(html):
    used = set(re.findall(r"var\(--([a-z0-9-]+)", html))
    assert used <= PALETTE.keys() | {"sans", "serif"}
    for scheme in (0, 1):
        assert all(f"--{name}:{pair[scheme]};" in html for name, pair in PALETTE.items())


def test_a_table_without_rows_is_a_table():
    assert "<tbody>" in render_report(small_report(methods=(Table("t", ("a", "b"), ()),)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Section("A b", "t"), "expected a section id .* got 'A b'"),
        (lambda: Section("limits", "t"), "expected a section id .* got 'limits'"),
        (lambda: Section("a-title", "t"), "expected a section id .* got 'a-title'"),
        (lambda: small_report(title=" "), "expected a title .* got no title"),
        (
            lambda: small_report(sections=(Section("a", "t"), Section("a", "u"))),
            "got the id 'a' twice",
        ),
    ],
)
def test_what_cannot_be_in_a_report_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


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
