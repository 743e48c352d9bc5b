from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ecgtransfer.diffusion import (
    Condition,
    DiffusionConfig,
    DiffusionModel,
    NoiseConfig,
    SignalUnits,
    fit_diffusion,
    gaussian_denoiser,
    held_out_loss,
)
from ecgtransfer.errors import ConfigError
from ecgtransfer.models import UNetConfig
from ecgtransfer.training import TrainConfig, load_weights, seeded_initialisation

CONFIG = DiffusionConfig(
    label_names=("UP", "DOWN"),
    samples=32,
    sampling_rate_hz=100,
    unet=UNetConfig(labels=2, fold=2, widths=(16, 16), blocks=1, attention=1, conditioning=16),
)
TRAIN = TrainConfig(
    steps=8, batch_size=16, warmup_steps=5, ema_decay=0.5, checkpoint_every=4, validate_every=4
)
TRAINING, HELD_OUT = np.arange(96), np.arange(96, 160)


class Waves:
    """160 records of two diagnoses: half a wave up or down in noise, in millivolts."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.labels = np.eye(2, dtype=np.float32)[rng.integers(2, size=160)]
        wave = np.sin(np.pi * np.arange(32) / 32)
        sign = self.labels @ np.array([1.0, -1.0])
        noise = 0.1 * rng.standard_normal((160, 8, 32))
        self.signals = (sign[:, None, None] * wave + noise).astype(np.float32)

    def independent_mv(self, index):
        return self.signals[index]


def model(config=CONFIG, seed=0):
    with seeded_initialisation(seed):
        return DiffusionModel(config)


class Linear(nn.Module):
    """The best linear denoiser of white records as a network."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, x, sigma, label):
        return gaussian_denoiser(x, sigma, label)


def test_training_beats_the_best_linear_denoiser(tmp_path):
    waves, trained = Waves(), model()
    train = replace(TRAIN, steps=60, learning_rate=5e-3, validate_every=60, ema_decay=0.8)
    result = fit_diffusion(trained, waves, TRAINING, HELD_OUT, train, tmp_path)
    assert result.validation < 0.9 * held_out_loss(trained, waves, HELD_OUT, train.seed)(Linear())


def test_the_denoiser_is_told_the_label_of_the_very_record_that_it_sees(tmp_path):
    seen = []
    trained = model(replace(CONFIG, noise=NoiseConfig(log_mean=-5.0), label_dropout=0.3))
    trained.denoiser.register_forward_pre_hook(lambda _, told: seen.append(told[:3]))
    fit_diffusion(trained, Waves(), TRAINING, HELD_OUT[:0], TRAIN, tmp_path)
    x, sigma = (torch.cat([told[part] for told in seen]) for part in (0, 1))
    told = Condition.cat([told[2] for told in seen])
    above = trained.units.to_mv(x)[:, :, 12:20].mean((1, 2)) > 0
    assert torch.equal(above, told.label[:, 0] > 0)
    assert len(sigma.unique()) == len(x) == TRAIN.steps * TRAIN.batch_size
    assert 0.15 < (~told.known.any(dim=1)).float().mean() < 0.45


def test_units_are_measured_on_training_records_alone(tmp_path):
    waves, disturbed = Waves(), Waves()
    disturbed.signals[HELD_OUT] *= 100
    models = [model(), model()]
    for number, records in enumerate([waves, disturbed]):
        fit_diffusion(models[number], records, TRAINING, HELD_OUT, TRAIN, tmp_path / str(number))
    assert torch.equal(models[0].units.amplitude_mv, models[1].units.amplitude_mv)
    measured = SignalUnits.fitted([waves.signals[TRAINING]])
    assert_close(models[0].units.amplitude_mv, measured.amplitude_mv)


def test_a_model_that_goes_on_keeps_the_units_it_has(tmp_path):
    grown = model()
    grown.units.amplitude_mv.fill_(0.5)
    fit_diffusion(grown, Waves(), TRAINING, HELD_OUT, TRAIN, tmp_path, fit_units=False)
    assert (grown.units.amplitude_mv == 0.5).all()


def test_the_weights_on_disk_are_all_of_the_model(tmp_path):
    trained, loaded = model(), model(seed=1)
    fit_diffusion(trained, Waves(), TRAINING, HELD_OUT, TRAIN, tmp_path)
    load_weights(loaded, tmp_path / "weights.safetensors")
    x, sigma = torch.ones(2, 8, 32), torch.tensor([0.1, 4.0])
    assert torch.equal(loaded(x, sigma, torch.eye(2)), trained(x, sigma, torch.eye(2)))
    assert torch.equal(loaded.units.to_mv(x), trained.units.to_mv(x))


def test_an_interrupted_training_is_resumed_exactly(tmp_path):
    def stop(state):
        if state.step == 6:
            raise KeyboardInterrupt

    wanted, resumed = model(), model(seed=1)
    fit_diffusion(wanted, Waves(), TRAINING, HELD_OUT, TRAIN, tmp_path / "one")
    arguments = Waves(), TRAINING, HELD_OUT, TRAIN, tmp_path / "two"
    with pytest.raises(KeyboardInterrupt):
        fit_diffusion(model(), *arguments, progress=stop)
    fit_diffusion(resumed, *arguments)
    assert all(map(torch.equal, resumed.state_dict().values(), wanted.state_dict().values()))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_label_dropout_is_what_trains_the_missing_label(dropout, tmp_path):
    trained = model(replace(CONFIG, label_dropout=dropout))
    before = trained.denoiser.network.conditioning.no_label.clone()
    fit_diffusion(trained, Waves(), TRAINING, HELD_OUT[:0], TRAIN, tmp_path)
    after = trained.denoiser.network.conditioning.no_label
    assert torch.equal(after, before) == (dropout == 0)


def test_the_units_stay_out_of_the_gradient():
    assert {name.split(".")[0] for name, _ in model().named_parameters()} == {"denoiser"}


def test_the_held_out_loss_is_the_same_at_every_validation():
    waves, fitted = Waves(), model()
    fitted.units.load_state_dict(SignalUnits.fitted([waves.signals]).state_dict())
    validate = held_out_loss(fitted, waves, HELD_OUT, seed=0)
    assert validate(fitted) == validate(fitted)
    assert held_out_loss(fitted, waves, HELD_OUT, seed=1)(fitted) != validate(fitted)
    assert validate(fitted) == pytest.approx(validate(Linear()), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"label_names": ("UP",)}, r"a network for 1 labels, got one for 2"),
        ({"samples": 0}, r"at least 1 sample and 1 Hz, got 0 and 100"),
        ({"precision": "float16"}, r"a precision of float32, bfloat16, got 'float16'"),
        ({"label_dropout": 1.0}, r"0 <= label_dropout < 1"),
        ({"label_balance": -0.1}, r"0 <= label_balance <= 1"),
    ],
)
def test_impossible_models_are_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        replace(CONFIG, **changes)


def test_training_on_a_single_record_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least 2 training records, got 1"):
        fit_diffusion(model(), Waves(), TRAINING[:1], HELD_OUT, TRAIN, tmp_path)
