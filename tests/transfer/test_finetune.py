from dataclasses import replace

import pytest
import torch

from ecgtransfer.diffusion import ECGDenoiser, NoiseConfig
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.models import UNet1d, UNetConfig
from ecgtransfer.training import TrainConfig
from ecgtransfer.transfer import DomainRecords, FinetuneConfig, finetune

TRAIN = TrainConfig(
    steps=40,
    batch_size=16,
    learning_rate=3e-3,
    warmup_steps=5,
    ema_decay=0.8,
    validate_every=10,
    patience=3,
)
CONFIG = FinetuneConfig(noise=NoiseConfig(log_mean=0.0, log_std=1.0), train=TRAIN)


@pytest.fixture
def denoiser(rng):
    config = UNetConfig(labels=2, leads=2, widths=(16,), blocks=1, attention=0, conditioning=8)
    denoiser = ECGDenoiser(UNet1d(config))
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=rng)
    return denoiser


def target(rng, n, name):
    """A wave on the first lead, flat on the second; the label tells its sign."""
    label = torch.eye(2)[torch.arange(n) % 2]
    wave = torch.sin(torch.arange(32) / 3.0) * (1 - 2 * label[:, 1:])
    x0 = torch.stack([wave, 0 * wave], 1) + 0.05 * torch.randn(n, 2, 32, generator=rng)
    return DomainRecords(x0, label, tuple(f"{name}{i}" for i in range(n)))


def test_finetuning_moves_every_parameter_of_a_copy_and_none_of_the_original(
    denoiser, rng, tmp_path
):
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    tuned, result = finetune(denoiser, target(rng, 60, "t"), target(rng, 30, "v"), CONFIG, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in denoiser.state_dict().items())
    assert type(tuned) is ECGDenoiser
    still = {name for name, value in tuned.named_parameters() if torch.equal(value, before[name])}
    assert still == set()
    assert result.validation < 0.5  # 1 for a denoiser that knows nothing
    assert (tmp_path / "weights.safetensors").exists()


def test_only_parameters_that_need_a_gradient_are_trained(denoiser, rng, tmp_path):
    chosen = "network.out.bias"
    denoiser.requires_grad_(False).get_parameter(chosen).requires_grad_(True)
    train = replace(TRAIN, steps=2, validate_every=2, validate_from=2)  # whatever it comes to
    tuned, _ = finetune(
        denoiser, target(rng, 20, "t"), target(rng, 10, "v"), replace(CONFIG, train=train), tmp_path
    )
    before = denoiser.state_dict()
    moved = {n for n, value in tuned.state_dict().items() if not torch.equal(value, before[n])}
    assert moved == {chosen}


def test_a_frozen_denoiser_is_refused_before_anything_is_written(denoiser, rng, tmp_path):
    denoiser.requires_grad_(False)
    with pytest.raises(ConfigError, match="parameters that need a gradient, got a frozen one"):
        finetune(denoiser, target(rng, 20, "t"), target(rng, 10, "v"), CONFIG, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_training_from_scratch_is_the_same_call_on_random_weights(rng, tmp_path):
    config = UNetConfig(labels=2, leads=2, widths=(16,), blocks=1, attention=0, conditioning=8)
    fresh = ECGDenoiser(UNet1d(config))
    _, result = finetune(fresh, target(rng, 60, "t"), target(rng, 30, "v"), CONFIG, tmp_path)
    assert result.validation < 0.7


def test_training_stops_when_held_out_records_no_longer_gain(denoiser, rng, tmp_path):
    # Two training records of noise teach nothing about the held-out ones.
    noise = DomainRecords(3 * torch.randn(2, 2, 32, generator=rng), torch.eye(2), ("t0", "t1"))
    train = replace(TRAIN, steps=400, validate_every=5, patience=2, learning_rate=1e-2)
    config = replace(CONFIG, rate_factors=(1.0,), train=train)
    _, result = finetune(denoiser, noise, target(rng, 20, "v"), config, tmp_path)
    assert result.steps < 400
    assert result.best_step <= result.steps - 10


def test_a_rate_that_does_harm_leaves_the_start_or_gives_way_to_a_lower_one(
    denoiser, rng, tmp_path
):
    records, held_out = target(rng, 60, "t"), target(rng, 30, "v")
    good, _ = finetune(denoiser, records, held_out, CONFIG, tmp_path / "good")
    train = replace(TRAIN, learning_rate=30.0, gradient_clip=1e9, ema_decay=0.0)
    config = replace(CONFIG, rate_factors=(1.0,), train=train)
    kept, result = finetune(good, records, held_out, config, tmp_path / "harmful")
    assert (result.best_step, result.learning_rate) == (0, 30.0)
    before = good.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in kept.state_dict().items())
    lower = replace(config, rate_factors=(1.0, 1e-5))
    _, chosen = finetune(good, records, held_out, lower, tmp_path / "lower")
    assert chosen.learning_rate == pytest.approx(3e-4)
    assert chosen.best_step > 0
    assert chosen.validation < result.validation


def test_some_records_are_trained_without_their_label(denoiser, rng, tmp_path):
    train = replace(TRAIN, steps=12, validate_every=12, validate_from=12)

    def embedding_of_no_label(dropout):
        config = replace(CONFIG, train=train, label_dropout=dropout)
        records = target(torch.Generator().manual_seed(5), 60, "t")
        tuned, _ = finetune(
            denoiser, records, target(rng, 10, "v"), config, tmp_path / str(dropout)
        )
        return tuned.state_dict()["network.conditioning.no_label"]

    # Weight decay alone shrinks what no record has used; a record that did use it turns it.
    start = denoiser.state_dict()["network.conditioning.no_label"]
    unused, used = embedding_of_no_label(0.0), embedding_of_no_label(0.5)
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(unused, start, dim=0) == pytest.approx(1.0)
    assert cosine(used, start, dim=0) < 0.999


def test_held_out_patients_that_were_trained_on_are_refused(denoiser, rng, tmp_path):
    records = target(rng, 20, "t")
    with pytest.raises(CorpusError, match="20 patients in both"):
        finetune(denoiser, records, records, CONFIG, tmp_path)


def test_a_configuration_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="0 <= label_dropout < 1, got 1"):
        FinetuneConfig(label_dropout=1.0)
    with pytest.raises(ConfigError, match="at least one finite factor of the learning rate"):
        FinetuneConfig(rate_factors=(0.0,))
    with pytest.raises(ConfigError, match="validate_every of at least 1"):
        FinetuneConfig(train=TrainConfig(steps=1))
