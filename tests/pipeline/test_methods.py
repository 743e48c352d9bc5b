import csv
import json
import shutil
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ecgtransfer.diffusion import DiffusionModel, mean_denoising_loss
from ecgtransfer.errors import ConfigError, CorpusError, RunError
from ecgtransfer.pipeline import (
    METHODS,
    Run,
    TransferSettings,
    import_source_model,
    load_source,
    load_target,
    load_target_model,
    source_records,
    transfer,
)
from ecgtransfer.pipeline import methods as methods_module
from ecgtransfer.pipeline.methods import DRAWS_PER_RECORD, judging_draws
from ecgtransfer.pipeline.source_records import matched_source
from ecgtransfer.pipeline.target import project_labels, target_records
from ecgtransfer.storage import from_card
from ecgtransfer.training import WEIGHTS, load_weights
from ecgtransfer.transfer import NoiseLevelWeight, RatioDiagnostics, guided, patient_folds
from ecgtransfer.transfer.methods import signal_networks
from ecgtransfer.transfer.methods import tgdp as tgdp_module
from ecgtransfer.transfer.records import HeldOutDraws
from tests.pipeline.small_run import TRAIN, Interrupting, Silent, no_bars, transfer_settings

every_method = pytest.mark.parametrize("method", list(METHODS))


@pytest.fixture(scope="module")
def target(settled, source):
    return load_target(settled, source)


@pytest.fixture(scope="module")
def noisy(clinic):
    """Two noised records with noise levels and labels."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 8, 1000, generator=generator)
    return x, torch.tensor([0.5, 3.0]), torch.from_numpy(clinic.labels[:2])


@pytest.mark.parametrize("method", [method for method in METHODS if method != "stack"])
def test_every_method_leaves_a_denoiser_that_the_disk_gives_back(
    transferred, source, target, method
):
    noise = source.model.config.noise
    held_out = target_records(source, target, target.held_out)
    draws = judging_draws(held_out, noise, seed=0)
    x0, label = held_out.take(draws.index)
    denoise = load_target_model(transferred.run, source, method).denoise
    loss = mean_denoising_loss(denoise, x0, label, draws.sigma, draws.noise, batch_size=64)
    # The summary holds the loss of the denoiser that was in memory when the transfer ended.
    assert loss == transferred.summaries[method].held_out_loss


@every_method
def test_a_transfer_that_is_done_is_told_not_repeated(
    transferred, source, target, method, monkeypatch
):
    monkeypatch.setattr(methods_module, "source_domain", None)
    again = transfer(transferred.run, source, target, transfer_settings(method), no_bars)
    first = transferred.summaries[method]
    assert again.warnings == first.warnings
    assert asdict(again) == asdict(first)


# The few steps of difffit lower no held-out loss here, and leave the source model as it is.
@pytest.mark.parametrize("method", ["tgdp", "stack", "finetune", "lora", "scratch"])
def test_the_target_gets_a_denoiser_of_its_own(transferred, source, noisy, method):
    model = load_target_model(transferred.run, source, method)
    assert (model.method, model.source) == (method, source)
    assert model.fingerprint == transferred.run.stage(f"transfer-{method}").card["fingerprint"]
    with torch.no_grad():
        assert not torch.equal(model.denoise(*noisy), source.model(*noisy))


@pytest.mark.parametrize("done", [True, False])
def test_the_source_needs_no_transfer(transferred, trained, source, noisy, done):
    model = load_target_model(transferred.run if done else trained, source, "source")
    with torch.no_grad():
        assert torch.equal(model.denoise(*noisy), source.model(*noisy))


def test_a_transfer_is_judged_by_other_noise_than_chose_its_training(transferred, source, target):
    noise = source.model.config.noise
    held_out = target_records(source, target, target.held_out)
    judging = judging_draws(held_out, noise, seed=0)
    choosing = HeldOutDraws.of(held_out, noise, draws=DRAWS_PER_RECORD, seed=0)
    assert not torch.isin(judging.sigma, choosing.sigma).any()
    chosen = min(validations(transferred.run.folder / "transfer-finetune"))
    assert transferred.summaries["finetune"].held_out_loss != pytest.approx(chosen, rel=1e-3)


def validations(folder):
    """Every validation score of the trainings in a folder."""
    for log in folder.rglob("log.csv"):
        with log.open(newline="") as file:
            yield from (
                float(row["validation"]) for row in csv.DictReader(file) if row["validation"]
            )


@pytest.mark.parametrize("method", ["tgdp", "stack", "finetune"])
def test_a_label_scale_amplifies_the_label_of_the_targets_denoiser(
    transferred, source, noisy, method
):
    scaled = load_target_model(transferred.run, source, method, 2.5).denoise
    labelled = load_target_model(transferred.run, source, method, 1.0).denoise(*noisy)
    unlabelled = without_label(transferred, source, noisy, method)
    with torch.no_grad():
        expected = unlabelled + 2.5 * (labelled - unlabelled)
        assert torch.allclose(scaled(*noisy), expected, atol=1e-4)
        assert not torch.allclose(scaled(*noisy), labelled, atol=1e-4)


@torch.no_grad()
def without_label(transferred, source, noisy, method):
    """The target's denoiser of records without a label, from what the disk holds."""
    x, sigma, _ = noisy
    stage, details = f"transfer-{method}", transferred.summaries[method].details
    plain = source.model(x, sigma, None)
    if method == "finetune":
        tuned = DiffusionModel(source.model.config)
        load_weights(tuned, transferred.run.folder / stage / WEIGHTS)
        return tuned.eval()(x, sigma, None)
    if method == "tgdp":
        network = signal_networks(source.model).guidance()
        load_weights(network, transferred.run.folder / stage / "guidance" / WEIGHTS)
        weight = from_card(NoiseLevelWeight, details["weight_without_label"], Path("card.json"))
        return guided(source.model, network.eval(), weight)(x, sigma, None)
    folds = [
        parts_of_the_stack(transferred, source, (x, sigma, None), number) for number in range(2)
    ]
    for name, parts in zip(("tgdp", "finetune"), zip(*folds, strict=True), strict=True):
        weight = from_card(
            NoiseLevelWeight, details["weights_without_label"][name], Path("card.json")
        )(sigma)
        plain = plain + weight[:, None, None] * (parts[0] + parts[1]) / 2
    return plain


def test_guidance_that_was_told_every_label_has_no_other_label_scale(
    copied, settled, source, target
):
    run, settings = copied(settled), transfer_settings()
    tgdp = replace(settings.tgdp, eta_consistency=0.0)
    transfer(run, source, target, replace(settings, tgdp=tgdp), no_bars)
    load_target_model(run, source, "tgdp", 1.0)
    with pytest.raises(ConfigError, match=r"records without a label for label scale 2, .*transfer"):
        load_target_model(run, source, "tgdp", 2.0)


def test_a_transfer_leaves_the_source_as_it_is(trained, transferred, source):
    weights = "source/weights.safetensors"
    assert (trained.folder / weights).read_bytes() == (
        transferred.run.folder / weights
    ).read_bytes()
    fresh = load_source(trained)
    for ours, theirs in zip(source.model.parameters(), fresh.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_what_the_user_should_read_is_carried_and_kept(transferred):
    overlap, chance = transferred.summaries["tgdp"].warnings
    assert "the domains hardly overlap" in overlap
    assert "no better than chance (out-of-fold log loss 0." in chance
    held = transferred.run.stage("transfer-tgdp").card["results"]
    assert held["warnings"] == [overlap, chance]
    ratio = transferred.summaries["tgdp"].details["ratio"]
    assert {"mean_ratio", "mean_inverse_ratio", "effective_fraction", "auc"} <= ratio.keys()
    assert ratio["n_source"] == 16
    for method in ("finetune", "lora", "difffit", "scratch", "source"):
        assert transferred.summaries[method].warnings == ()


def weights_of(method, transferred):
    with safe_open(transferred.run.folder / f"transfer-{method}/weights.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_full_fine_tuning_and_scratch_train_the_whole_model(transferred, source):
    whole = sum(parameter.numel() for parameter in source.model.parameters())
    assert transferred.summaries["finetune"].trained_parameters == whole
    assert transferred.summaries["scratch"].trained_parameters == whole


def test_lora_leaves_a_model_of_the_sources_biases_and_low_rank_updates(transferred, source):
    rank, trained = TransferSettings().lora.rank, 0
    after = weights_of("lora", transferred)
    assert after.keys() == source.model.state_dict().keys()
    for name, before in source.model.named_parameters():
        if before.ndim > 1:
            update = (after[name] - before).flatten(1)
            singular = torch.linalg.svdvals(update)
            assert singular[0] > 0
            assert (singular[rank:] < 1e-3 * singular[0]).all()
            trained += rank * sum(update.shape)
        else:
            assert torch.equal(after[name], before)
    assert transferred.summaries["lora"].trained_parameters == trained


def test_difffit_leaves_a_model_of_scaled_weights(transferred, source):
    after, trained = weights_of("difffit", transferred), 0
    assert after.keys() == source.model.state_dict().keys()
    for name, before in source.model.named_parameters():
        if before.ndim > 1 and ".conditioning." not in name:
            factor = (after[name] * before).sum() / before.square().sum().clamp(min=1e-30)
            torch.testing.assert_close(after[name], factor * before)
            trained += 1
        else:
            trained += before.numel()
    assert transferred.summaries["difffit"].trained_parameters == trained


def test_other_settings_are_refused(transferred, source, target):
    settings = transfer_settings("finetune", seed=1)
    with pytest.raises(RunError, match=r"'transfer-finetune' with other .*seed 0, asked for 1"):
        transfer(transferred.run, source, target, settings, no_bars)


@pytest.mark.parametrize(
    ("method", "task", "weights"),
    [
        ("tgdp", "guidance", "guidance/weights.safetensors"),
        ("finetune", "finetune", "weights.safetensors"),
        ("lora", "lora", "weights.safetensors"),
    ],
)
def test_an_interrupted_transfer_goes_on_to_the_same_weights(
    copied, settled, transferred, source, target, method, task, weights
):
    run, settings = copied(settled), transfer_settings(method)
    with pytest.raises(KeyboardInterrupt):
        transfer(run, source, target, settings, Interrupting(task, 4).training)
    assert not run.stage(f"transfer-{method}").is_done
    with pytest.raises(RunError, match="expected a finished stage"):
        load_target_model(run, source, method)
    summary = transfer(run, source, target, settings, Silent().training)
    assert summary.held_out_loss == transferred.summaries[method].held_out_loss
    assert summary.details == transferred.summaries[method].details
    stage = f"transfer-{method}/{weights}"
    assert (run.folder / stage).read_bytes() == (transferred.run.folder / stage).read_bytes()


def test_a_kill_after_the_last_training_repeats_none(
    copied, settled, transferred, source, target, monkeypatch
):
    def pressed(*_):
        raise KeyboardInterrupt

    @contextmanager
    def barred(task):
        yield pressed

    run, methods = copied(settled), ("tgdp", "finetune", "lora")
    for method in methods:
        monkeypatch.setattr(methods_module, "_target_loss", pressed)
        with pytest.raises(KeyboardInterrupt):
            transfer(run, source, target, transfer_settings(method), no_bars)
        monkeypatch.undo()
        summary = transfer(run, source, target, transfer_settings(method), barred)
        assert summary.held_out_loss == transferred.summaries[method].held_out_loss
        assert summary.details == transferred.summaries[method].details
    assert not list(run.folder.rglob("checkpoint.safetensors"))


@pytest.mark.parametrize("beats", [False, True])
def test_a_ratio_that_knows_nothing_draws_no_positives(
    copied, settled, source, target, monkeypatch, beats
):
    used, fit_guidance = [], tgdp_module.fit_guidance

    def watched(*arguments, **options):
        used.append(arguments[5])
        return fit_guidance(*arguments, **options)

    monkeypatch.setattr(RatioDiagnostics, "beats_chance", beats)
    monkeypatch.setattr(tgdp_module, "fit_guidance", watched)
    settings = transfer_settings(folds=2)
    settings = replace(settings, tgdp=replace(settings.tgdp, eta_cycle=0.5))
    summary = transfer(copied(settled), source, target, settings, no_bars)
    expected = (0.5, 0.5) if beats else (1.0, 0.0)
    assert [(config.target_positives, config.eta_cycle) for config in used] == [expected] * 2
    ratios = summary.details["ratios"]
    assert [(each["target_positives"], each["eta_cycle"]) for each in ratios] == [expected] * 2
    sentences = [each for each in summary.warnings if "no better than chance" in each]
    assert len(sentences) == (0 if beats else 1)
    assert beats or "in 2 of 2 folds" in sentences[0]


def test_the_card_tells_of_the_ratios_that_guide(crossed):
    run, summary, _ = crossed
    ratios = summary.details["ratios"]
    for number, each in enumerate(ratios):
        held = json.loads((run.folder / f"transfer-tgdp/fold-{number}/ratio.json").read_text())
        assert held == each
        assert each["noisy"] is None
    for name, value in summary.details["ratio"].items():
        mean = (ratios[0]["clean"][name] + ratios[1]["clean"][name]) / 2
        assert value == pytest.approx(round(mean) if name in ("n_source", "n_target") else mean)


def test_without_a_loss_that_asks_for_a_ratio_there_is_none(copied, settled, source, target):
    settings = transfer_settings()
    settings = replace(settings, tgdp=replace(settings.tgdp, target_positives=1.0))
    summary = transfer(copied(settled), source, target, settings, no_bars)
    assert "ratio" not in summary.details
    assert summary.details["ratios"][0]["clean"] is None
    assert summary.warnings == ()


def test_the_rate_that_held_out_records_choose_is_kept_and_told(
    copied, settled, transferred, source, target
):
    run, rates = copied(settled), {}
    for learning_rates in ((1e-3,), (1e-4,), (1e-3, 1e-4)):
        settings = transfer_settings("finetune").with_training(learning_rates=learning_rates)
        rates[learning_rates] = transfer(run, source, target, settings, no_bars)
        shutil.rmtree(run.folder / "transfer-finetune")
    both = rates[1e-3, 1e-4]
    alone = rates[both.details["learning_rate"],]
    assert both.held_out_loss == alone.held_out_loss
    assert both.details == alone.details
    assert both == replace(transferred.summaries["finetune"], seconds=both.seconds)


def test_the_cycle_loss_brings_its_own_classifier(copied, settled, source, target):
    run, tasks = copied(settled), []

    def bars(task):
        tasks.append(task)
        return no_bars(task)

    settings = transfer_settings()
    settings = replace(settings, tgdp=replace(settings.tgdp, eta_cycle=1.0))
    transfer(run, source, target, settings, bars)
    assert tasks == ["domain classifier", "noise-dependent classifier", "guidance"]
    assert (run.folder / "transfer-tgdp/noisy_domain_classifier/weights.safetensors").exists()


@pytest.fixture(scope="module")
def crossed(settled, source, target, tmp_path_factory):
    """A transfer in two folds, with all it asked a progress bar for."""
    folder = tmp_path_factory.mktemp("crossed") / "run"
    shutil.copytree(settled.folder, folder)
    run, tasks = Run.open(folder), []

    def bars(task):
        tasks.append(task)
        return no_bars(task)

    return run, transfer(run, source, target, transfer_settings(folds=2), bars), tasks


def test_cross_fitting_trains_a_guidance_for_each_fold_and_takes_their_mean(
    crossed, transferred, source, noisy
):
    run, summary, tasks = crossed
    assert tasks == [
        "domain classifier, fold 1 of 2",
        "guidance, fold 1 of 2",
        "domain classifier, fold 2 of 2",
        "guidance, fold 2 of 2",
    ]
    one = transferred.summaries["tgdp"]
    assert summary.trained_parameters == 2 * one.trained_parameters
    weight = from_card(NoiseLevelWeight, summary.details["weight"], Path("card.json"))
    folds = []
    for number in range(2):
        network = signal_networks(source.model).guidance()
        load_weights(network, run.folder / f"transfer-tgdp/fold-{number}/guidance/{WEIGHTS}")
        folds.append(guided(source.model, network.eval(), weight)(*noisy))
    found = load_target_model(run, source, "tgdp").denoise(*noisy)
    assert torch.allclose(found, (folds[0] + folds[1]).detach() / 2, atol=1e-5)
    assert not torch.equal(*folds)


def test_cross_fitting_goes_on_after_the_folds_that_are_done(
    crossed, copied, settled, source, target
):
    run, settings = copied(settled), transfer_settings(folds=2)
    with pytest.raises(KeyboardInterrupt):
        transfer(run, source, target, settings, Interrupting("guidance, fold 2 of 2", 2).training)
    first = run.folder / f"transfer-tgdp/fold-0/guidance/{WEIGHTS}"
    done = first.stat().st_mtime_ns
    summary = transfer(run, source, target, settings, Silent().training)
    assert first.stat().st_mtime_ns == done
    assert replace(summary, seconds=0.0) == replace(crossed[1], seconds=0.0)


def test_the_loss_of_a_cross_fitted_transfer_is_of_each_folds_own_held_out_records(
    crossed, source, target
):
    noise = source.model.config.noise
    records = target_records(source, target, target.train)
    total = 0.0
    for _, part in patient_folds(records, 2, seed=0):
        draws = judging_draws(part, noise, seed=0)
        x0, label = part.take(draws.index)
        total += len(part) * mean_denoising_loss(
            source.model, x0, label, draws.sigma, draws.noise, batch_size=64
        )
    assert crossed[1].source_loss == pytest.approx(total / len(records))


def parts_of_the_stack(transferred, source, noisy, number):
    """Guidance's and fine-tuning's step away from the source, of one fold."""
    folder = transferred.run.folder / f"transfer-stack/fold-{number}"
    network = signal_networks(source.model).guidance()
    load_weights(network, folder / f"guidance/{WEIGHTS}")
    tuned = DiffusionModel(source.model.config)
    load_weights(tuned, folder / f"finetune/{WEIGHTS}")
    with torch.no_grad():
        plain = source.model(*noisy)
        return guided(source.model, network.eval())(*noisy) - plain, tuned.eval()(*noisy) - plain


def test_a_stack_adds_the_mean_steps_of_both_parts_at_their_weights(transferred, source, noisy):
    weights = transferred.summaries["stack"].details["weights"]
    folds = [parts_of_the_stack(transferred, source, noisy, number) for number in range(2)]
    with torch.no_grad():
        expected = source.model(*noisy)
        for name, parts in zip(("tgdp", "finetune"), zip(*folds, strict=True), strict=True):
            weight = from_card(NoiseLevelWeight, weights[name], Path("card.json"))(noisy[1])
            expected = expected + weight[:, None, None] * (parts[0] + parts[1]) / 2
        found = load_target_model(transferred.run, source, "stack").denoise(*noisy)
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_loss_of_a_stack_is_of_each_folds_own_held_out_records(transferred, source, target):
    noise = source.model.config.noise
    records = target_records(source, target, target.train)
    weights = [
        from_card(
            NoiseLevelWeight,
            transferred.summaries["stack"].details["weights"][name],
            Path("card.json"),
        )
        for name in ("tgdp", "finetune")
    ]
    total = 0.0
    for number, (_, part) in enumerate(patient_folds(records, 2, seed=0)):
        draws = judging_draws(part, noise, seed=0)
        x0, label = part.take(draws.index)
        x = x0 + draws.sigma[:, None, None] * draws.noise
        steps = parts_of_the_stack(transferred, source, (x, draws.sigma, label), number)
        with torch.no_grad():
            denoised = source.model(x, draws.sigma, label)
        for weight, step in zip(weights, steps, strict=True):
            denoised = denoised + weight(draws.sigma)[:, None, None] * step
        scale = (draws.sigma**2 + 1) / draws.sigma**2
        loss = (scale * (denoised - x0).square().flatten(1).mean(1)).mean()
        total += len(part) * float(loss)
    assert transferred.summaries["stack"].held_out_loss == pytest.approx(
        total / len(records), rel=1e-5
    )


@pytest.mark.parametrize("steps", [TRAIN.steps, TRAIN.steps - 1])
def test_a_stack_takes_the_guidance_of_a_finished_transfer_over_if_it_is_the_same(
    crossed, copied, source, target, transferred, steps
):
    run, tasks = copied(crossed[0]), []

    def bars(task):
        tasks.append(task)
        return no_bars(task)

    settings = transfer_settings("stack")
    tgdp = replace(settings.tgdp, train=replace(TRAIN, steps=steps))
    summary = transfer(run, source, target, replace(settings, tgdp=tgdp), bars)
    same = steps == TRAIN.steps
    trained = [task for task in tasks if task.startswith("guidance")]
    assert trained == ([] if same else ["guidance, fold 1 of 2", "guidance, fold 2 of 2"])
    theirs, ours = (
        (run.folder / f"transfer-{method}/fold-1/guidance/{WEIGHTS}").read_bytes()
        for method in ("tgdp", "stack")
    )
    assert (theirs == ours) is same
    if same:
        assert summary.details == transferred.summaries["stack"].details


@pytest.mark.parametrize("method", ["tgdp", "stack"])
def test_more_folds_than_patients_are_refused_before_anything_is_begun(
    copied, settled, source, target, method
):
    run = copied(settled)
    patients = target.ecgset.records.patient.iloc[target.train].nunique()
    sentence = f"got {patients + 1} folds of {patients} patients; change the number of folds"
    with pytest.raises(CorpusError, match=sentence):
        transfer(run, source, target, transfer_settings(method, folds=patients + 1), no_bars)
    assert not run.stage(f"transfer-{method}").folder.exists()


def test_an_interrupted_stack_goes_on_after_the_trainings_that_are_done(
    copied, settled, transferred, source, target
):
    run, settings = copied(settled), transfer_settings("stack")
    with pytest.raises(KeyboardInterrupt):
        transfer(run, source, target, settings, Interrupting("finetune, fold 2 of 2", 2).training)
    stage = run.folder / "transfer-stack"
    done = [
        stage / f"{each}/{WEIGHTS}"
        for each in ("fold-0/guidance", "fold-0/finetune", "fold-1/guidance")
    ]
    times = [path.stat().st_mtime_ns for path in done]
    summary = transfer(run, source, target, settings, Silent().training)
    assert [path.stat().st_mtime_ns for path in done] == times
    assert replace(summary, seconds=0.0) == replace(transferred.summaries["stack"], seconds=0.0)


def test_matched_source_records_have_just_the_labels_of_the_target(source, target):
    wanted = target.labels[target.train]
    numbers, labels = matched_source(source, source.label_space, wanted, 2000, seed=0)
    ecgset, train, _ = source.records()
    assert np.array_equal(labels, project_labels(source.label_space, ecgset))
    assert set(numbers.tolist()) <= set(train.tolist())
    here, there, drawn = (
        {tuple(row) for row in rows} for rows in (labels[train], wanted, labels[numbers])
    )
    assert drawn == here & there
    assert np.array_equal(
        matched_source(source, source.label_space, wanted, 2000, seed=0)[0], numbers
    )


def test_matched_source_records_follow_the_mix_of_the_target(source, target):
    norm, afib = source.label_space.encode(["NORM"]), source.label_space.encode(["AFIB"])
    numbers, labels = matched_source(
        source, source.label_space, np.stack([norm, norm, norm, afib]), 8, seed=1
    )
    drawn = [source.label_space.decode(row) for row in labels[numbers]]
    assert set(drawn) == {("NORM",), ("AFIB",)}
    assert drawn.count(("NORM",)) > drawn.count(("AFIB",))


def test_matched_source_records_are_dealt_again_where_the_source_is_short(source):
    norm, afib = source.label_space.encode(["NORM"]), source.label_space.encode(["AFIB"])
    numbers, labels = matched_source(
        source, source.label_space, np.stack([norm, norm, norm, afib]), 400, seed=2
    )
    assert len(numbers) == 400
    ours = numbers[(labels[numbers] == afib).all(1)]
    assert len(ours) / 400 == pytest.approx(0.25, abs=0.07)
    times = np.bincount(ours)[np.unique(ours)]
    assert max(times) - min(times) <= 1


def test_a_target_whose_labels_the_source_lacks_is_told_what_to_do(source):
    every = np.ones((1, 9), np.float32)
    with pytest.raises(CorpusError, match=r"found none of any combination .*--source-records mod"):
        matched_source(source, source.label_space, every, 10, seed=0)


def test_what_the_sentence_advises_works_in_the_same_run(
    copied, settled, source, target, monkeypatch
):
    def nothing_matches(*_):
        raise CorpusError("use --source-records model")

    tasks = []

    def bars(task):
        tasks.append(task)
        return no_bars(task)

    monkeypatch.setattr(source_records, "matched_source", nothing_matches)
    monkeypatch.setattr(source_records, "RECORD_STEPS", 2)
    monkeypatch.setattr(source_records, "AT_ONCE", 8)
    run = copied(settled)
    with pytest.raises(CorpusError, match="use --source-records model"):
        transfer(run, source, target, transfer_settings(), no_bars)
    settings = transfer_settings(source_records="model", n_source=12)
    summary = transfer(run, source, target, settings, bars)
    assert tasks == ["source records from the model", "domain classifier", "guidance"]
    assert summary.details["ratio"]["n_source"] == 12


def test_an_adopted_source_serves_another_run(tmp_path, trained, target):
    run = Run.create(tmp_path / "other")
    import_source_model(run, trained.stage("source"))
    summary = transfer(run, load_source(run), target, transfer_settings("source"), no_bars)
    assert summary.held_out_loss == summary.source_loss
    assert summary.trained_parameters == 0


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"method": "magic"},
            f"expected a method of {', '.join(METHODS)}, got 'magic'",
        ),
        ({"source_records": "fake"}, "source records that are real or model, got 'fake'"),
        ({"folds": 0}, "at least 1 fold, got 0"),
        ({"method": "stack", "folds": 1}, "at least 2 folds for stack, got 1"),
        ({"calibration_draws": 0}, "at least 1 calibration draw, got 0"),
        ({"n_source": 7}, "at least 8 source records, got 7"),
    ],
)
def test_settings_are_checked_on_construction(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        TransferSettings(**wrong)


def test_steps_and_rate_are_those_of_what_the_method_trains():
    changed = transfer_settings().with_training(9, (0.5, 0.1))
    for config in (changed.tgdp, changed.finetune, changed.adapter, changed.scratch):
        assert (config.train.steps, config.train.learning_rate) == (9, 0.5)
        assert config.rate_factors == (1.0, 0.2)
    assert changed.classifier.train == TRAIN
    assert transfer_settings().with_training() == transfer_settings()
    assert transfer_settings().with_training(9).finetune.rate_factors == (1.0, 0.1)
