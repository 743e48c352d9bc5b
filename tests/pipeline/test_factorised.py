"""A factorised source: trained, given away, steered and transferred."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from ecgtransfer.corpus import ECGSet, label_space
from ecgtransfer.diffusion import CascadeConditions
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.pipeline import (
    GenerateSettings,
    Run,
    SourceSettings,
    Steering,
    TargetSettings,
    export,
    export_source,
    find_source,
    load_source,
    load_target_model,
    read_source,
    split_target,
    synthesise,
    train_source,
    transfer,
)
from ecgtransfer.pipeline.cascade_transfer import (
    _Part,
    _select_rhythm,
    load_cascade_changes,
    source_trains,
)
from ecgtransfer.pipeline.conditioned import ages, record_shapes, sexes
from ecgtransfer.pipeline.source import import_source_model, source_files
from ecgtransfer.pipeline.source_training import learned_labels
from ecgtransfer.pipeline.target import target_records
from ecgtransfer.signals import Beats, read_annotation
from ecgtransfer.storage import read_card
from ecgtransfer.transfer import DomainRecords, RhythmSelection
from tests.pipeline.small_run import CASCADE, SAMPLER, STEPS, no_bars, transfer_settings


@pytest.fixture(scope="module")
def settings(ecgset):
    return SourceSettings(
        source=ecgset.folder,
        preset="tiny",
        steps=STEPS,
        batch_size=4,
        precision="float32",
        factorised=True,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory, settings):
    made = Run.create(tmp_path_factory.mktemp("factorised") / "run")
    train_source(made, settings)
    return made


@pytest.fixture(scope="module")
def factorised(run):
    return load_source(run)


@pytest.fixture(scope="module")
def few_labels(tmp_path_factory, clinic):
    """The clinic in a label space of three names, in another order than the source's."""
    from ecgtransfer.corpus import LabelSpace
    from ecgtransfer.corpus.sets.ecgset_writer import write_ecgset

    names = ("PVC", "NORM", "AFIB")
    columns = [clinic.label_space.names.index(name) for name in names]
    kept = np.flatnonzero(clinic.labels[:, columns].any(axis=1))
    records = clinic.records.iloc[kept].assign(patient=[f"p{k}" for k in kept])
    return write_ecgset(
        tmp_path_factory.mktemp("few") / "set",
        np.rint(clinic.independent_mv(kept) * 1000).astype(np.int16),
        clinic.labels[kept][:, columns],
        records,
        LabelSpace(names),
        100,
        "simulated",
    )


def test_training_leaves_three_models_that_load_as_they_were(run, factorised, settings):
    assert source_files(run.stage("source")) == (
        "request.json",
        "weights.safetensors",
        "card.json",
        "rhythm/weights.safetensors",
        "beat_shapes/weights.safetensors",
        "seen.parquet",
    )
    assert set(factorised.summary.stages) == {"rhythm", "beat_shapes"}
    again = load_source(run)
    for mine, theirs in zip(
        factorised.cascade.state_dict().values(), again.cascade.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)
    assert train_source(run, settings) == factorised.summary


def test_statements_of_few_records_are_left_out_but_for_the_core(ecgset, settings):
    train = np.arange(len(ecgset))
    counts = dict(zip(ecgset.label_space.names, ecgset.labels.sum(axis=0), strict=True))
    some = learned_labels(ecgset, train, replace(settings, least_records=1000))
    assert some == tuple(name for name in label_space("icbeb9").names if counts[name])
    superclass = replace(settings, factorised=False)
    assert learned_labels(ecgset, train, superclass) == ecgset.label_space.names


def test_a_generated_set_carries_the_beats_it_was_made_of(run, factorised):
    asked = GenerateSettings(
        counts=("NORM=6", "AFIB=4"), method="source", name="free", sampler=SAMPLER
    )
    ecgset = synthesise(run, factorised, asked)
    assert ecgset.records.beats.notna().all()
    assert all(len(each) >= 1 for each in ecgset.beats)
    # The record does what its layout does: the largest QRS are at the beats.
    wfdb = export(run, "free", "source")
    row = pd.read_csv(wfdb / "ptbxl_database.csv").iloc[0]
    found = read_annotation(wfdb / f"{row.filename_lr}.atr", 10.0)
    assert np.allclose(found.times_s, ecgset.beats[0].times_s, atol=0.006)
    again = synthesise(run, factorised, replace(asked, name="again"))
    assert again.fingerprint == ecgset.fingerprint


def test_a_heart_rate_is_what_is_generated(run, factorised):
    asked = GenerateSettings(
        counts=("NORM=8",),
        method="source",
        name="slow",
        sampler=SAMPLER,
        steering=Steering(heart_rate_bpm=(50, 55), age=30, sex="female"),
    )
    ecgset = synthesise(run, factorised, asked)
    rates = [each.heart_rate_bpm for each in ecgset.beats]
    assert min(rates) >= 49.5
    assert max(rates) <= 55.5
    assert set(ecgset.records.age) == {30}
    assert set(ecgset.records.sex) == {"female"}
    assert ecgset.card["steering"] == {
        "heart_rate_bpm": [50, 55], "age": 30, "sex": "female", "beats": None
    }  # fmt: skip


def test_given_rhythms_are_taken_in_turn(run, factorised, tmp_path):
    path = tmp_path / "beats.csv"
    path.write_text("record,time_s,kind\na,0.5,N\na,1.5,V\na,2.5,N\nb,0.3,N\nb,0.9,N\nb,1.6,N\n")
    asked = GenerateSettings(
        counts=("NORM=3", "PVC=2"),
        method="source",
        name="given",
        sampler=SAMPLER,
        steering=Steering(beats=path),
    )
    ecgset = synthesise(run, factorised, asked)
    texts = ["0.500N 1.500V 2.500N", "0.300N 0.900N 1.600N"]
    assert ecgset.records.beats.tolist() == [texts[number % 2] for number in range(5)]


def test_a_source_of_labels_alone_cannot_be_steered(trained, source):
    asked = GenerateSettings(
        counts=("NORM=1",), method="source", steering=Steering(heart_rate_bpm=(50, 60))
    )
    with pytest.raises(RunError, match="expected a source model with a rhythm model to steer"):
        synthesise(trained, source, asked)


def test_statements_that_the_model_does_not_know_are_refused(run, factorised):
    asked = GenerateSettings(counts=("LVH=1",), method="source", name="unknown")
    with pytest.raises(
        ConfigError, match=r"the model knows and the target states \(.*\), got 'LVH'"
    ):
        synthesise(run, factorised, asked)


def test_a_target_that_states_three_names_leaves_the_others_unknown(
    tmp_path, run, factorised, few_labels
):
    own = Run.create(tmp_path / "clinic")
    import_source_model(own, run.stage("source"))
    source = load_source(own)
    target = split_target(own, source, TargetSettings(few_labels.folder, train_records=12))
    assert target.label_space.names == ("PVC", "NORM", "AFIB")
    records = target_records(source, target, target.train)
    names = source.model.config.label_names
    for column, name in enumerate(names):
        known = records.label.known[:, column]
        assert bool(known.all()) if name in target.label_space.names else not bool(known.any())
        if name in target.label_space.names:
            own_column = target.label_space.names.index(name)
            expected = torch.from_numpy(target.labels[target.train][:, own_column])
            assert torch.equal(records.label.label[:, column], expected)
    back = source.model.to_mv(records.x0, records.label)
    expected = torch.from_numpy(few_labels.independent_mv(target.train))
    assert (back - expected).abs().max() < 1e-3


@pytest.mark.parametrize("method", ["source", "finetune", "tgdp"])
def test_every_method_carries_a_factorised_source_over(tmp_path, run, few_labels, method):
    own = Run.create(tmp_path / "clinic")
    import_source_model(own, run.stage("source"))
    source = load_source(own)
    target = split_target(own, source, TargetSettings(few_labels.folder, train_records=12))
    summary = transfer(
        own, source, target, replace(transfer_settings(method), source_records="model"), no_bars
    )
    assert np.isfinite(summary.held_out_loss)
    model = load_target_model(own, source, method)
    records = target_records(source, target, target.train[:2])
    sigma = torch.full((2,), 1.5)
    with torch.no_grad():
        assert torch.isfinite(model.denoise(records.x0, sigma, records.label)).all()
    drawn = synthesise(
        own,
        source,
        GenerateSettings(counts=("PVC+NORM=2",), method=method, sampler=SAMPLER),
    )
    assert drawn.label_space.names == ("PVC", "NORM", "AFIB")
    assert drawn.labels.tolist() == [[1, 1, 0]] * 2
    if method == "source":
        assert model.cascade_changes is None
        assert "cascade" not in summary.details
        return
    stated = summary.details["cascade"]
    assert stated["rhythm"] == {"left_alone": "12 records of 12 patients are too few"}
    assert np.isfinite(stated["beat_shapes"]["held_out_loss"])
    assert np.isfinite(stated["beat_shapes"]["source_loss"])
    assert model.cascade_changes.select_rhythm is None
    shapes = source.cascade.beat_shapes
    given = shapes.condition(
        records.label.label,
        [target.ecgset.beats[number] for number in target.train[:2]],
        known=records.label.known,
    )
    x = torch.randn(2, shapes.dimensions, generator=torch.Generator().manual_seed(0))
    changes = model.cascade_changes
    if method == "tgdp":
        assert (changes.shape_denoiser is not None) == stated["beat_shapes"]["guides"]
        # As if held-out patients had shown the guidance to help.
        followed = stated["beat_shapes"] | {
            "guides": True,
            "weight": {"sigmas": [1.0], "values": [1.0]},
        }
        folder = own.stage("transfer-tgdp").folder
        changes = load_cascade_changes(source, method, folder, {"beat_shapes": followed})
    ours = changes.shape_denoiser(x, sigma, given)
    assert torch.isfinite(ours).all()
    assert (ours - shapes(x, sigma, given)).abs().max() > 0


def fastest(n):
    """Selects the train of the highest rate, almost surely."""
    return RhythmSelection(
        centre=(np.log(80.0), *[0.0] * 6),
        scale=(1.0,) * 7,
        weights=(1.0, *[0.0] * 6),
        intercept=0.0,
        slope=1e4,
        offset=0.0,
        ridge=1.0,
        log_loss=0.5,
        standard_error=0.01,
        candidates=n,
    )


def test_selected_rhythms_are_those_of_the_first_and_further_draws(factorised):
    cascade, label = factorised.cascade, torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 2)
    names, seeds = ("NORM", "AFIB"), [3, 4, 5, 6]

    def rates(selector, rows=slice(None)):
        conditions = CascadeConditions(cascade, names, select_rhythm=selector)
        _, beats = conditions.rhythm(label[rows], seeds[rows])
        return [60 / np.median(each.rr_s) for each in beats]

    plain, selected = rates(None), rates(fastest(6))
    assert all(ours >= theirs for ours, theirs in zip(selected, plain, strict=True))
    assert selected != plain
    assert rates(fastest(1)) == plain
    assert rates(replace(fastest(6), log_loss=1.0)) == plain  # tells no train from another
    assert rates(fastest(6), slice(2, 3)) == selected[2:3]
    given = [Beats(np.arange(1, 9, 1.0), np.ones(8, np.int8), 10.0)]
    conditions = CascadeConditions(cascade, names, beats=given, select_rhythm=fastest(6))
    assert conditions.rhythm(label, seeds)[1] == given * 4


def test_rhythm_is_selected_from_twenty_records_on(tmp_path, factorised):
    """The target's trains are regular and fast, of two rates, whatever the source draws."""
    label = torch.zeros(40, len(factorised.model.config.label_names))
    fast = [
        Beats(np.arange(0.1, 9.9, rr), np.ones(len(np.arange(0.1, 9.9, rr)), np.int8), 10.0)
        for rr in np.tile([0.4, 0.42], 20)
    ]
    given = factorised.cascade.beat_shapes.condition(
        label,
        fast,
        known=torch.ones_like(label, dtype=torch.bool),
        age=torch.full((40,), torch.nan),
        sex=torch.full((40,), torch.nan),
    )
    drawn = source_trains(factorised.cascade, given, 1, seed=9)
    records = DomainRecords(torch.zeros(40, 2), given, tuple(f"p{k}" for k in range(40)))
    stated = _select_rhythm(factorised.cascade, _Part(records, fast), CASCADE, tmp_path, 0)
    assert stated["selects"]
    assert stated["log_loss"] + stated["standard_error"] < stated["log_loss_of_chance"]
    selection = read_card(RhythmSelection, tmp_path / "rhythm.json")
    ours, theirs = selection.log_ratio(fast), selection.log_ratio([each for (each,) in drawn])
    assert np.median(ours) > np.median(theirs) + 0.5


def test_a_factorised_source_is_given_away_without_its_records(tmp_path, run, factorised):
    given = export_source(run, tmp_path / "model")
    there = read_source(find_source(str(given.folder)))
    assert there.location is None
    assert there.cascade is not None
    card = given.model_card
    assert "- Model of rhythm:" in card
    assert "- Model of beat shapes:" in card
    ours, theirs = factorised.cascade.state_dict(), there.cascade.state_dict()
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], rtol=0.01, atol=1e-3), name
    size = sum(path.stat().st_size for path in given.folder.rglob("*.safetensors"))
    assert given.megabytes == pytest.approx(size / 1e6)


def test_what_the_set_states_of_patients(ecgset, tmp_path):
    table = ecgset.records.assign(
        age=[300.0, 150.0, 40.0] + [None] * (len(ecgset) - 3),
        sex=["male", "female", None] + [None] * (len(ecgset) - 3),
    )

    class Stated:
        records = table

    assert ages(Stated)[:3].tolist()[::2] == [92.0, 40.0]
    assert np.isnan(ages(Stated)[[1, 3]]).all()
    assert sexes(Stated)[:2].tolist() == [0, 1]
    assert np.isnan(sexes(Stated)[2:]).all()


def test_a_record_without_beats_has_no_shape(ecgset, monkeypatch):
    none = Beats(np.zeros(0), np.zeros(0, np.int8), 10.0)
    opened = ECGSet.open(ecgset.folder)
    monkeypatch.setitem(opened.__dict__, "beats", [none] * len(opened))
    assert not record_shapes(opened, np.array([0, 1])).any()
