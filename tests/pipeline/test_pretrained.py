from dataclasses import replace

import pytest
import torch

from ecgtransfer.errors import CorpusError, RunError
from ecgtransfer.pipeline import (
    FidelitySettings,
    GenerateSettings,
    PretrainedModel,
    PrivacySettings,
    ReportSettings,
    Run,
    TargetSettings,
    draw_surrogate_source,
    evaluate,
    evaluate_all,
    export_source,
    find_source,
    import_source_model,
    load_source,
    model_export,
    pretrained,
    pretrained_models,
    read_source,
    report_run,
    source_records,
    split_target,
    surrogate,
    synthesise,
    train_source,
    transfer,
)
from tests.pipeline.small_run import (
    CLASSIFIER,
    SAMPLER,
    STEPS,
    UTILITY,
    Silent,
    content,
    no_bars,
    transfer_settings,
)

SCORES = {
    "AUROC": {"value": 0.9, "low": 0.85, "high": 0.93},
    "records": 40,
    "rules": {"rows": [["class", "obey"], ["NORM", "80 %"]], "verdicts": ["Passed.", "Kept."]},
}


@pytest.fixture
def exported(tmp_path, trained):
    return export_source(trained, tmp_path / "our-hospital", SCORES, "Knows no STEMI.")


@pytest.fixture
def received(tmp_path, exported):
    """A run at another hospital, which has the model and none of its records."""
    run = Run.create(tmp_path / "run")
    import_source_model(run, find_source(str(exported.folder)))
    return run


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(source_records, "RECORD_STEPS", 2)
    monkeypatch.setattr(surrogate, "SURROGATE_RECORDS", 30)


def test_an_exported_model_denoises_like_the_one_it_is_of_but_for_rounding(received, source, rng):
    theirs = load_source(received)
    x = torch.randn(4, *source.model.units.shape, generator=rng)
    sigma, label = torch.full((4,), 0.7), torch.zeros(4, len(source.label_space))
    ours = source.model(x, sigma, label)
    found = theirs.model(x, sigma, label)
    assert not torch.equal(found, ours)
    assert (found - ours).square().mean() < 1e-4 * ours.square().mean()
    assert torch.equal(theirs.model.units.amplitude_mv, source.model.units.amplitude_mv)
    assert theirs.fingerprint != source.fingerprint
    assert theirs.known_labels == source.known_labels


def test_an_exported_model_tells_no_path_and_has_half_the_size(exported, trained, tmp_path):
    texts = [(exported.folder / name).read_text() for name in ("request.json", "card.json")]
    texts.append(exported.model_card)
    assert not any("/" + part in text for text in texts for part in tmp_path.parts[1:])
    whole = trained.folder / "source/weights.safetensors"
    assert exported.megabytes < 0.6 * whole.stat().st_size / 1e6


def test_a_model_card_states_data_command_scores_and_limits(exported, source):
    card = exported.model_card
    for words in (
        "# our-hospital",
        f"{source.summary.records} training records",
        f"NORM {source.summary.labels['NORM']}",
        f"--preset tiny --steps {STEPS} --batch-size 4 --precision float32 --seed 0 --plain`",
        "- AUROC: 0.900 [0.850, 0.930]\n- records: 40\n",
        "### rules\n\n\n#### rows\n\n| class | obey |\n| --- | --- |\n| NORM | 80 % |\n",
        "#### verdicts\n\n- Passed.\n- Kept.\n",
        "Knows no STEMI.",
        "not for diagnosis",
    ):
        assert words in card
    assert exported.scores == SCORES


def test_without_scores_and_limits_a_card_says_nothing_of_them(tmp_path, trained):
    model = export_source(trained, tmp_path / "plain")
    assert model.scores == {}
    assert "## " not in model.model_card


def test_an_export_never_overwrites_and_leaves_nothing_half(tmp_path, trained, monkeypatch):
    def full(*_):
        raise RunError("no room")

    monkeypatch.setattr(model_export, "save_weights", full)
    with pytest.raises(RunError, match="no room"):
        export_source(trained, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    monkeypatch.undo()
    export_source(trained, tmp_path / "model")
    before = content(tmp_path)
    with pytest.raises(RunError, match="exists already; choose another folder"):
        export_source(trained, tmp_path / "model")
    assert content(tmp_path) == before
    with pytest.raises(RunError, match="expected a finished stage 'source'"):
        export_source(Run.create(tmp_path / "other"), tmp_path / "nothing")


def test_a_source_is_a_shipped_model_a_run_or_an_exported_model(
    exported, trained, monkeypatch, tmp_path
):
    monkeypatch.setattr(pretrained, "_shipped", lambda: [exported.folder])
    assert find_source("our-hospital").folder == exported.folder
    assert find_source(str(exported.folder)).folder == exported.folder
    assert find_source(str(trained.folder)).folder == trained.folder / "source"
    assert pretrained_models() == (PretrainedModel.open(exported.folder),)
    with pytest.raises(RunError, match=r"a source model at 'magic'.*\(our-hospital\)"):
        find_source("magic")
    with pytest.raises(RunError, match="is the source of a run and has no model card"):
        PretrainedModel.open(find_source(str(trained.folder)).folder)


def test_every_shipped_model_can_be_loaded_and_has_a_card():
    for model in pretrained_models():
        assert "not for diagnosis" in model.model_card
        assert sum(model.summary.labels.values()) > 0
        assert load_shipped(model).location is None


def load_shipped(model):
    return read_source(find_source(model.name))


def test_all_models_of_the_package_weigh_less_than_25_megabytes():
    assert sum(model.megabytes for model in pretrained_models()) < 25


def test_a_hospital_without_the_source_records_transfers_draws_and_asks(
    received, clinic, quick, tmp_path
):
    source = load_source(received)
    assert source.location is None
    target = split_target(received, source, TargetSettings(clinic.folder, train_records=16))
    with pytest.raises(RunError, match=r"which are not here; .*--source-records model"):
        transfer(received, source, target, transfer_settings(), no_bars)
    settings = transfer_settings(source_records="model", n_source=12)
    transfer(received, source, target, settings, no_bars)
    asked = GenerateSettings(ratio=1.0, method="tgdp", sampler=SAMPLER)
    synthesise(received, source, asked)
    about = (FidelitySettings(classifier=CLASSIFIER), PrivacySettings(classifier=CLASSIFIER))
    for settings in about:
        with pytest.raises(RunError, match=r"surrogate source records in .*draw_surrogate_source"):
            evaluate(received, source, target, settings)
    answers = evaluate_all(received, source, target, about, Silent())
    for answer in answers:
        assert "Records sampled from the source model" in " ".join(
            test.sentence for test in answer.tests
        )
    card = received.folder / "stand-ins-source/set/card.json"
    before = card.stat().st_mtime_ns
    assert evaluate_all(received, source, target, about, Silent()) == answers
    assert len(draw_surrogate_source(received, source, target)) >= 30
    assert card.stat().st_mtime_ns == before
    assert "drew" not in evaluate(received, source, target, UTILITY).verdicts[0].sentence
    page = report_run(received, source, target, ReportSettings(), tmp_path / "report")
    assert "Source: " in page.read_text()


def test_a_baseline_of_source_records_is_refused_where_there_are_none(
    received, clinic, quick, tmp_path
):
    source = load_source(received)
    target = split_target(received, source, TargetSettings(clinic.folder, train_records=16))
    transfer(received, source, target, transfer_settings("source"), no_bars)
    synthesise(received, source, GenerateSettings(ratio=1.0, method="source", sampler=SAMPLER))
    with pytest.raises(RunError, match=r"are not here; .*--source-set.*--arm other than source"):
        evaluate(received, source, target, replace(UTILITY, arms=("source",)))
    assert not (received.folder / "utility-synthetic").exists()


def test_records_that_come_later_are_found_where_they_are_said_to_be(
    received, exported, trained, ecgset, clinic, tmp_path
):
    with pytest.raises(CorpusError):
        import_source_model(received, find_source(str(exported.folder)), tmp_path / "nowhere")
    with pytest.raises(RunError, match="the set that the source model was trained on"):
        import_source_model(received, find_source(str(exported.folder)), clinic.folder)
    assert load_source(received).location is None
    import_source_model(received, find_source(str(exported.folder)), ecgset.folder)
    found, train, held_out = load_source(Run.open(received.folder)).records()
    assert found.fingerprint == ecgset.fingerprint
    _, same, others = load_source(trained).records()
    assert (train.tolist(), held_out.tolist()) == (same.tolist(), others.tolist())
    third = Run.create(tmp_path / "third")
    import_source_model(third, received.stage("source"))
    assert load_source(third).location == ecgset.folder


def test_a_source_is_trained_where_its_records_are(received, source_settings):
    with pytest.raises(RunError, match="with other settings"):
        train_source(received, source_settings)
