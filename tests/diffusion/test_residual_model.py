from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.diffusion import (
    BEAT_CHANNELS,
    Condition,
    ConditionedRecords,
    DiffusionConfig,
    DiffusionModel,
    LayoutBatch,
    NoiseConfig,
    SignalUnits,
    beat_channels,
    condition_inputs,
    fit_diffusion,
    held_out_loss,
    measure_units,
    true_condition,
)
from ecgtransfer.diffusion.records import hide_statements, hide_values
from ecgtransfer.errors import ConfigError
from ecgtransfer.models import UNetConfig
from ecgtransfer.signals import BeatKind, Beats, beat_shapes, layout
from ecgtransfer.training import TrainConfig, seeded_initialisation

RATE, SAMPLES, RECORDS = 100, 400, 24
CHANNELS, SCALARS = condition_inputs(8)
CONFIG = DiffusionConfig(
    label_names=("UP", "DOWN", "RARE"),
    samples=SAMPLES,
    sampling_rate_hz=RATE,
    unet=UNetConfig(
        labels=6,
        widths=(16, 32),
        blocks=1,
        attention=0,
        conditioning=16,
        condition_channels=CHANNELS,
        scalars=SCALARS,
    ),
    masked_labels=True,
    residual=True,
)
TRAIN = TrainConfig(steps=4, batch_size=4, warmup_steps=1, validate_every=2)


class Hearts:
    """Records of repeated beats, each record with noise of a level of its own."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.labels = (rng.random((RECORDS, 3)) < 0.5).astype(np.float32)
        self.beats, signals = [], []
        self.level = np.exp(rng.normal(size=RECORDS) * 0.7)
        t = (np.arange(96) - 36) / RATE
        for number in range(RECORDS):
            rr = rng.uniform(0.6, 1.0)
            times = np.arange(rng.uniform(0.05, rr), SAMPLES / RATE - 0.01, rr)
            kinds = np.full(len(times), BeatKind.ORDINARY, np.int8)
            self.beats.append(Beats(times, kinds, SAMPLES / RATE))
            shapes = np.zeros((2, 8, 96), np.float32)
            shapes[0] = rng.normal(size=(8, 1)) * np.exp(-0.5 * (t / 0.03) ** 2)
            noise = rng.normal(size=(8, SAMPLES)) * 0.05 * self.level[number]
            signals.append(layout(self.beats[-1], SAMPLES, RATE)(shapes) + noise)
        self.signals = np.stack(signals).astype(np.float32)
        self.shapes = np.stack(
            [beat_shapes(x, b, RATE)[0] for x, b in zip(self.signals, self.beats, strict=True)]
        )

    def independent_mv(self, index):
        return self.signals[index]

    def conditioned(self):
        return ConditionedRecords(
            self,
            self.labels,
            self.beats,
            self.shapes,
            np.linspace(20, 90, RECORDS).astype(np.float32),
            np.arange(RECORDS, dtype=np.float32) % 2,
            core=(0, 1),
        )


@pytest.fixture(scope="module")
def hearts():
    return Hearts()


def model(seed=0, config=CONFIG):
    with seeded_initialisation(seed):
        return DiffusionModel(config)


@pytest.fixture(scope="module")
def measured(hearts):
    made = model()
    measure_units(made, hearts.conditioned(), np.arange(RECORDS), seed=0)
    return made


def test_residuals_have_unit_variance_in_every_lead_and_record(measured, hearts):
    x0, condition = true_condition(measured, hearts.conditioned(), np.arange(RECORDS))
    assert_close(x0.square().mean(-1), torch.ones(RECORDS, 8))
    correlation = np.corrcoef(condition.level.mean(1).log().numpy(), np.log(hearts.level))[0, 1]
    assert correlation > 0.95


def test_model_units_and_millivolts_are_inverse(measured, hearts):
    numbers = np.array([3, 1, 7])
    x0, condition = true_condition(measured, hearts.conditioned(), numbers)
    back = measured.to_mv(x0, condition)
    assert_close(back, torch.from_numpy(hearts.signals[numbers]), atol=1e-5, rtol=0)


def test_a_residual_of_nothing_is_the_layout(measured, hearts):
    numbers = np.array([0, 5])
    _, condition = true_condition(measured, hearts.conditioned(), numbers)
    signals = measured.to_mv(torch.zeros(2, 8, SAMPLES), condition)
    for row, number in enumerate(numbers):
        expected = layout(hearts.beats[number], SAMPLES, RATE)(hearts.shapes[number])
        assert np.abs(signals[row].numpy() - expected).max() < 1e-4


def test_a_batch_of_layouts_is_each_record_s_layout(hearts):
    placed = LayoutBatch.of(hearts.beats[:3], SAMPLES, RATE)
    together = placed(torch.from_numpy(hearts.shapes[:3]))
    for row in range(3):
        alone = layout(hearts.beats[row], SAMPLES, RATE)(hearts.shapes[row])
        assert_close(together[row], torch.from_numpy(alone))


def test_a_record_without_beats_has_neither_layout_nor_channels(measured):
    none = Beats(np.zeros(0), np.zeros(0, np.int8), SAMPLES / RATE)
    condition = measured.condition(
        torch.zeros(1, 3), beats=[none], shapes_mv=np.zeros((1, 2, 8, 96), np.float32)
    )
    assert not condition.beats.any()
    assert not condition.layout.any()


def test_signals_need_a_level_on_their_way_back(measured):
    with pytest.raises(ConfigError, match="expected a condition with the residual's level"):
        measured.to_mv(torch.zeros(1, 8, SAMPLES), Condition(layout=torch.zeros(1, 8, SAMPLES)))


def test_a_fresh_network_does_not_look_at_the_condition(measured, hearts):
    x0, condition = true_condition(measured, hearts.conditioned(), np.arange(4))
    sigma = torch.full((4,), 2.0)
    assert_close(measured(x0, sigma, condition), measured(x0, sigma, None))


def test_training_moves_what_reads_the_condition(tmp_path, hearts):
    trained = model()
    config = replace(TRAIN, steps=8, ema_decay=0.0, validate_every=0)
    fit_diffusion(trained, hearts.conditioned(), np.arange(20), np.arange(0), config, tmp_path)
    assert trained.denoiser.network.conditioning.scalars.weight.abs().sum() > 0
    x0, condition = true_condition(trained, hearts.conditioned(), np.arange(4))
    sigma = torch.full((4,), 2.0)
    with torch.no_grad():
        whole = trained(x0, sigma, condition)
        for part in ("label", "beats", "layout", "level"):
            left = {"label": None, "known": None} if part == "label" else {part: None}
            if part in ("beats", "layout"):
                left = {part: torch.zeros_like(getattr(condition, part))}
            assert not torch.equal(trained(x0, sigma, replace(condition, **left)), whole), part


def test_the_layout_that_is_told_is_augmented_and_the_residual_is_not(tmp_path, hearts):
    seen = []
    trained = model()
    trained.denoiser.register_forward_pre_hook(lambda _, told: seen.append(told[:3]))
    config = replace(CONFIG, noise=NoiseConfig(log_mean=-6.0))
    trained.config = config
    records = hearts.conditioned()
    fit_diffusion(trained, records, np.arange(20), np.arange(0), TRAIN, tmp_path)
    told = Condition.cat([each[2] for each in seen])
    x0, condition = true_condition(trained, records, np.arange(20))
    distance = (told.layout[:, None] - condition.layout).square().mean((2, 3))
    assert (distance.min(dim=1).values > 1e-6).all()
    noised = torch.cat([each[0] for each in seen])
    nearest = (noised[:, None] - x0).square().mean((2, 3)).min(dim=1).values
    assert (nearest < 1e-3).all()


def test_units_are_those_of_layout_and_residual(measured, hearts):
    laid_out = np.stack(
        [layout(b, SAMPLES, RATE)(m) for b, m in zip(hearts.beats, hearts.shapes, strict=True)]
    )
    assert_close(
        measured.layout_units.amplitude_mv,
        SignalUnits.fitted([laid_out]).amplitude_mv,
        rtol=1e-3,
        atol=1e-6,
    )
    residual = SignalUnits.fitted([hearts.signals - laid_out])
    assert_close(measured.units.amplitude_mv, residual.amplitude_mv, rtol=1e-3, atol=1e-6)


def test_held_out_loss_of_a_fresh_model_is_that_of_the_linear_denoiser(measured, hearts):
    loss = held_out_loss(measured, hearts.conditioned(), np.arange(RECORDS), seed=0)(measured)
    assert abs(loss - 1) < 0.1


def test_plain_records_cannot_train_a_residual_model(tmp_path, hearts):
    with pytest.raises(ConfigError, match="expected records with beats and beat shapes"):
        fit_diffusion(model(), hearts, np.arange(20), np.arange(0), TRAIN, tmp_path)


def test_a_residual_model_needs_a_network_that_takes_its_condition():
    with pytest.raises(ConfigError, match="expected a network of 14 condition channels and 12"):
        replace(CONFIG, unet=UNetConfig(labels=6, widths=(16,), attention=0))
    with pytest.raises(ConfigError, match="expected a network for 6 labels, got one for 3"):
        replace(CONFIG, unet=replace(CONFIG.unet, labels=3))


def test_a_network_without_condition_loads_weights_of_before():
    plain = UNetConfig(labels=3, widths=(16,), blocks=1, attention=0, conditioning=16)
    names = dict(DiffusionModel(DiffusionConfig(("A", "B", "C"), 64, 100, plain)).state_dict())
    assert not [name for name in names if "condition_stem" in name or "scalars" in name]


def test_records_of_other_lengths_are_refused(hearts):
    with pytest.raises(ConfigError, match="expected labels, beats, shapes, ages and sexes of the"):
        replace(hearts.conditioned(), age=np.zeros(3, np.float32))


def test_channels_say_where_each_kind_of_beat_is():
    times = np.array([0.5, 1.2, 1.7, 2.8])
    kinds = np.array(
        [BeatKind.ORDINARY, BeatKind.SUPRAVENTRICULAR, BeatKind.VENTRICULAR, BeatKind.UNKNOWN],
        np.int8,
    )
    channels = beat_channels(Beats(times, kinds, SAMPLES / RATE), SAMPLES, RATE)
    assert channels.shape == (BEAT_CHANNELS, SAMPLES)
    for row, expected in ((0, [50, 280]), (1, [170]), (2, [120])):
        peaks = np.flatnonzero(channels[row] == channels[row].max())
        assert peaks.tolist() == expected
    assert np.allclose(channels[3] ** 2 + channels[4] ** 2, 1, atol=1e-5)
    assert np.allclose(channels[3, [50, 120, 170, 280]], 1, atol=1e-4)
    assert channels[5, 60] == pytest.approx(2 * np.log(0.7))
    assert channels[5, 399] == pytest.approx(2 * np.log(1.1))  # repeated after the last beat


def test_statements_are_hidden_as_targets_leave_them_open():
    generator = torch.Generator().manual_seed(0)
    known = hide_statements((20_000, 5), (0, 1), generator)
    nothing = (~known.any(dim=1)).float().mean()
    core_alone = (known == torch.tensor([True, True, False, False, False])).all(dim=1)
    # Any subset is nothing, or the core alone, with small probability, too: 1 / 6 and 1 / 60.
    assert abs(float(nothing) - (0.1 + 0.45 / 6)) < 0.01
    assert abs(float(core_alone.float().mean()) - (0.45 + 0.45 / 60)) < 0.012
    hidden = hide_values(torch.ones(10_000), generator).isnan().float().mean()
    assert abs(float(hidden) - 0.2) < 0.02
