from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.diffusion import NoiseConfig
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.experiments.networks import VectorDenoiser, vector_networks
from ecgtransfer.training import TrainConfig, no_bars, seeded_initialisation
from ecgtransfer.transfer import DomainRecords, FinetuneConfig, TgdpConfig, patient_folds
from ecgtransfer.transfer.methods import (
    METHODS,
    MethodSettings,
    SourceDomain,
    TargetDomain,
    transfer_method,
)

TRAIN = TrainConfig(
    steps=3, batch_size=8, learning_rate=1e-3, warmup_steps=1, validate_every=2, validate_from=1
)
TUNING = FinetuneConfig(rate_factors=(1.0,), train=TRAIN)
#: Guidance that asks for no source records.
SETTINGS = MethodSettings(
    tgdp=TgdpConfig(eta_guidance=0.0, eta_cycle=0.0, train=TRAIN),
    finetune=TUNING,
    adapter=replace(TUNING, train=replace(TRAIN, learning_rate=1e-2)),
    scratch=TUNING,
    folds=2,
)


def drawn(n, mean, generator):
    x0 = mean + torch.randn(n, 3, generator=generator)
    label = torch.nn.functional.one_hot(torch.arange(n) % 2, 2).float()
    return DomainRecords(x0, label, tuple(f"patient {number}" for number in range(n)))


@pytest.fixture
def domains(rng):
    with seeded_initialisation(0):
        model = VectorDenoiser(3, 2).eval().requires_grad_(False)
        torch.nn.init.normal_(model.network.output.weight, std=0.3)
    records = drawn(40, 0.0, rng)
    source = SourceDomain(model, NoiseConfig(), vector_networks(3, 2), lambda: records)
    target = drawn(16, 1.0, rng)
    return source, TargetDomain(*patient_folds(target, 4, seed=0)[0], target)


@pytest.fixture
def noisy(rng):
    x = torch.randn(4, 3, generator=rng)
    return x, torch.tensor([0.1, 0.5, 2.0, 9.0]), torch.eye(2).repeat(2, 1)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_what_is_loaded_is_what_was_fitted(name, scale, domains, noisy, tmp_path):
    source, _ = domains
    fitted = METHODS[name].fit(*domains, SETTINGS, tmp_path)
    loaded = METHODS[name].load(source, tmp_path, fitted.details, tmp_path / "card.json")
    with torch.no_grad():
        found = loaded.denoiser(scale)(*noisy)
        assert_close(found, fitted.denoiser(scale)(*noisy))
        # In three steps difffit lowers no held-out loss, and leaves the source model as it is.
        if name not in ("source", "difffit"):
            unchanged = METHODS["source"].load(source, tmp_path, {}, tmp_path).denoiser(scale)
            assert not torch.allclose(found, unchanged(*noisy), atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_scale_amplifies_the_label(name, domains, noisy, tmp_path):
    model = METHODS[name].fit(*domains, SETTINGS, tmp_path).model
    with torch.no_grad():
        labelled = model.denoiser()(*noisy)
        double, triple = (model.denoiser(scale)(*noisy) for scale in (2.0, 3.0))
    # D_none + s (D - D_none) is linear in s.
    assert_close(triple - double, double - labelled, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(double, labelled, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_no_method_changes_the_source_model(name, domains, tmp_path):
    source, _ = domains
    before = {key: value.clone() for key, value in source.model.state_dict().items()}
    METHODS[name].fit(*domains, SETTINGS, tmp_path)
    assert_close(source.model.state_dict(), before, atol=0, rtol=0)
    assert not any(p.requires_grad for p in source.model.parameters())


def test_held_out_loss_is_measured_on_records_that_each_denoiser_missed(domains, tmp_path):
    _, target = domains
    fitted = METHODS["tgdp"].fit(*domains, SETTINGS, tmp_path)
    missed = [patient for _, part in fitted.evaluated for patient in part.patient]
    assert sorted(missed) == sorted(target.train.patient)
    fitted = METHODS["finetune"].fit(*domains, SETTINGS, tmp_path / "finetune")
    assert [part for _, part in fitted.evaluated] == [target.held_out]


def test_guidance_is_reused_where_it_is_given(domains, tmp_path):
    METHODS["tgdp"].fit(*domains, SETTINGS, tmp_path / "tgdp")
    folders = [tmp_path / f"tgdp/fold-{number}" for number in range(2)]
    tasks = []

    def bars(task):
        tasks.append(task)
        return no_bars(task)

    METHODS["stack"].fit(*domains, SETTINGS, tmp_path / "stack", bars=bars, reuse=folders)
    assert tasks == ["finetune, fold 1 of 2", "finetune, fold 2 of 2"]
    for number in range(2):
        path = f"fold-{number}/guidance/weights.safetensors"
        assert (tmp_path / "stack" / path).read_bytes() == (tmp_path / "tgdp" / path).read_bytes()


def test_guidance_that_saw_every_label_has_no_other_scale(domains, noisy, tmp_path):
    settings = replace(SETTINGS, tgdp=replace(SETTINGS.tgdp, label_dropout=0.0))
    for name in ("tgdp", "stack"):
        fitted = METHODS[name].fit(*domains, settings, tmp_path / name)
        assert fitted.denoiser()(*noisy).shape == (4, 3)
        with pytest.raises(ConfigError, match="records without a label for label scale 2, got one"):
            fitted.denoiser(2.0)


def test_more_folds_than_patients_are_refused(domains, tmp_path):
    with pytest.raises(CorpusError, match="got 17 folds of 16 patients"):
        METHODS["tgdp"].fit(*domains, replace(SETTINGS, folds=17), tmp_path)


def test_guidance_without_source_records_is_refused(domains, tmp_path):
    source, target = domains
    bare = SourceDomain(source.model, source.noise, source.networks)
    with pytest.raises(ConfigError, match="expected source records for a guidance that learns"):
        METHODS["tgdp"].fit(bare, target, SETTINGS, tmp_path)
    METHODS["finetune"].fit(bare, target, SETTINGS, tmp_path / "finetune")


def test_methods_are_registered_under_their_names():
    assert all(name == method.name and method.title for name, method in METHODS.items())
    assert transfer_method("lora") is METHODS["lora"]
    with pytest.raises(ConfigError, match=r"a method of tgdp, stack, .*, source, got 'magic'"):
        transfer_method("magic")
