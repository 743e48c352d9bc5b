import json
from pathlib import Path

import pytest

from ecgtransfer.errors import RunError
from ecgtransfer.evaluation import PrivacyEvaluation
from ecgtransfer.pipeline import ReportSettings, report_run
from ecgtransfer.storage import from_card


@pytest.fixture(scope="module")
def page(answered, source, tmp_path_factory):
    """The report of all four answers, and its numbers."""
    folder = tmp_path_factory.mktemp("report")
    written = report_run(answered.run, source, answered.target, ReportSettings("mixed"), folder)
    return written.read_text(), json.loads(written.with_suffix(".json").read_text())


def test_the_page_answers_every_question_and_says_what_it_is_not(page):
    html, _ = page
    for word in ("Utility", "Fidelity", "Physiology", "Privacy", "not for diagnosis"):
        assert word in html
    assert html.count("<svg") > 20
    assert "target only + tgdp x1" in html
    assert "All records of the target are simulated" in html
    assert "This page shows real ECGs" not in html
    assert "a simulated record of the target" in html
    assert "a real record" not in html


def test_a_page_of_recorded_ecgs_is_to_be_treated_as_patient_data(
    answered, source, tmp_path, monkeypatch
):
    monkeypatch.setitem(answered.target.ecgset.card, "origin", "recorded")
    written = report_run(answered.run, source, answered.target, ReportSettings("mixed"), tmp_path)
    html = written.read_text()
    assert "This page shows real ECGs" in html
    assert "a real record of the target" in html
    assert "they come from no patient" not in html


def test_every_number_lies_beside_the_page(page, answered):
    _, held = page
    assert held["numbers"].keys() == {"utility", "fidelity", "physiology", "privacy"}
    evaluation = answered.answers["privacy"].evaluation
    found = from_card(PrivacyEvaluation, held["numbers"]["privacy"], Path("report.json"))
    assert found == evaluation
    assert held["report"]["settings"]["utility"]["ratios"] == [1.0]


def test_a_page_for_passing_on_draws_no_real_record(answered, source, tmp_path, page, monkeypatch):
    target = answered.target.ecgset
    monkeypatch.setattr(target, "recording", None)
    written = report_run(
        answered.run, source, answered.target, ReportSettings("mixed", with_real=False), tmp_path
    )
    html = written.read_text()
    assert "record of the target" not in html
    assert "Training record" not in html
    assert "a simulated record of the target" in page[0]
    assert html.count("SYNTHETIC") >= 18
    held = json.loads(written.with_suffix(".json").read_text())["numbers"]["privacy"]
    found = from_card(PrivacyEvaluation, held, Path("report.json"))
    pairs = found.methods["tgdp"].spaces[0].closest_pairs
    assert pairs
    assert all((pair.training, pair.training_name) == (None, None) for pair in pairs)
    evaluation = answered.answers["privacy"].evaluation
    assert evaluation.methods["tgdp"].spaces[0].closest_pairs[0].training_name
    assert found == evaluation.without_training_names()


def test_a_run_without_answers_is_told_what_to_do(copied, source, answered, tmp_path):
    run = copied(answered.run, "source", "target", "mixed-tgdp")
    with pytest.raises(
        RunError, match=r"an evaluation of the sets .* none; run 'ecgtransfer evaluate"
    ):
        report_run(run, source, answered.target, ReportSettings("mixed"), tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_question_that_was_not_asked_is_named(copied, answered, source, tmp_path):
    stages = ("source", "target", "mixed-tgdp", "mixed-source", "privacy-mixed")
    run = copied(answered.run, *stages)
    written = report_run(run, source, answered.target, ReportSettings("mixed"), tmp_path / "r")
    html = written.read_text()
    assert "Not evaluated for this run: utility, fidelity, physiology." in html
    assert "Do synthetic records reveal training patients?" in html


def test_an_answer_of_an_earlier_version_is_refused_in_a_sentence(
    copied, answered, source, tmp_path
):
    run = copied(answered.run)
    path = run.folder / "privacy-mixed" / "card.json"
    card = json.loads(path.read_text())
    del card["results"]["version"]
    path.write_text(json.dumps(card))
    with pytest.raises(RunError, match=r"privacy was made by another version .* again"):
        report_run(run, source, answered.target, ReportSettings("mixed"), tmp_path / "r")
    assert not (tmp_path / "r").exists()
