from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.diffusion import (
    BeatShapeConfig,
    BeatShapeModel,
    Condition,
    ConditionedRecords,
    encode_records,
    fit_beat_shapes,
    held_out_shape_loss,
    rhythm_summary,
    shape_loss,
)
from ecgtransfer.diffusion.beat_shape_training import calibrate_sampling_noise
from ecgtransfer.diffusion.beat_windows import wave_windows
from ecgtransfer.diffusion.shape_augmentation import AUGMENTATION_PARAMETERS
from ecgtransfer.errors import ConfigError
from ecgtransfer.signals.beats import BeatKind, Beats
from ecgtransfer.training import TrainConfig, load_weights, seeded_initialisation

RATE_HZ, WIDTH = 25, 24
SPREAD = 0.3  # of log amplitude within a label
CONFIG = BeatShapeConfig(
    label_names=("TALL", "FLAT"),
    sampling_rate_hz=RATE_HZ,
    components=6,
    ventricular_components=4,
    p_wave_components=0,
    width=32,
    blocks=1,
    conditioning=16,
)
TRAIN = TrainConfig(
    steps=8, batch_size=32, warmup_steps=5, ema_decay=0.5, checkpoint_every=4, validate_every=4
)
TRAINING, HELD_OUT = np.arange(240), np.arange(240, 320)


def beats(interval_s=0.8, ventricular=False):
    times = np.arange(0.3, 10, interval_s)
    kinds = np.full(len(times), BeatKind.ORDINARY, np.int8)
    if ventricular:
        kinds[2] = BeatKind.VENTRICULAR
    return Beats(times, kinds, 10.0)


def simulated(seed=0):
    """320 records: tall or flat beats, a third with ventricular ones; the level is a third of the
    beat's amplitude, and a ventricular beat is the ordinary one upside down and twice as large."""
    rng = np.random.default_rng(seed)
    n = len(TRAINING) + len(HELD_OUT)
    labels = np.eye(2, dtype=np.float32)[rng.integers(2, size=n)]
    ventricular = np.arange(n) % 3 == 0
    amplitude = (labels @ np.array([1.5, 0.5])) * np.exp(SPREAD * rng.standard_normal(n))
    wave = np.exp(-0.5 * np.square((np.arange(WIDTH) - 9) / 2))
    leads = np.linspace(0.5, 1.5, 8)[:, None]
    shapes = np.zeros((n, 2, 8, WIDTH), np.float32)
    shapes[:, 0] = amplitude[:, None, None] * leads * wave
    shapes[:, 0] += 0.02 * rng.standard_normal((n, 8, WIDTH))
    shapes[ventricular, 1] = -2 * shapes[ventricular, 0]
    level = np.repeat(amplitude[:, None] / 3, 8, axis=1).astype(np.float32)
    records = ConditionedRecords(
        signals=None,
        labels=labels,
        beats=[beats(ventricular=bool(flag)) for flag in ventricular],
        shapes_mv=shapes,
        age=rng.integers(20, 90, n).astype(np.float32),
        sex=(np.arange(n) % 2).astype(np.float32),
        core=(0,),
    )
    return records, level


def half_width(values):
    """Half of the middle 68 %: the standard deviation of normal values, whatever the tails."""
    return np.subtract(*np.quantile(values, [0.84, 0.16])) / 2


def model(config=CONFIG, seed=0):
    with seeded_initialisation(seed):
        return BeatShapeModel(config)


def measured(config=CONFIG, records=None):
    simulated_records, level = simulated()
    records = simulated_records if records is None else records
    made = model(config)
    made.measure_units(records.shapes_mv[TRAINING], level[TRAINING])
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    records, level = simulated()
    made = model()
    train = replace(TRAIN, steps=600, learning_rate=5e-3, ema_decay=0.9, validate_every=600)
    folder = tmp_path_factory.mktemp("trained")
    result = fit_beat_shapes(made, records, level, TRAINING, HELD_OUT, train, folder)
    return made, result, folder


@pytest.mark.parametrize("p_wave", [0, 40])
@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_shapes_and_levels_come_back_from_their_components(whitening, p_wave):
    records, level = simulated()
    config = replace(CONFIG, components=192, whitening=whitening, p_wave_components=p_wave)
    made = measured(config)
    x0, condition = encode_records(made, records, level, HELD_OUT)
    shapes, levels = made.decode(x0, condition)
    assert_close(shapes[:, 0], torch.from_numpy(records.shapes_mv[HELD_OUT, 0]), atol=1e-4, rtol=0)
    assert_close(levels, torch.from_numpy(level[HELD_OUT]), atol=1e-5, rtol=1e-5)
    absent = ~records.shapes_mv[HELD_OUT, 1].any(axis=(1, 2))
    assert not shapes[absent, 1].any()
    assert shapes[~absent, 1].any(dim=(1, 2)).all()


def test_the_size_of_the_p_wave_is_a_coordinate():
    """Two records whose P windows differ by a factor have the same direction and another size."""
    records, _ = simulated()
    wave = wave_windows(RATE_HZ)[0]
    rng = np.random.default_rng(1)
    size = np.exp(rng.standard_normal(len(records)))
    p_wave = 0.3 * rng.standard_normal((len(records), 8, 1)) * np.exp(-np.square(np.arange(24) - 4))
    records.shapes_mv[:, 0] += (size[:, None, None] * p_wave * wave).astype(np.float32)
    made = measured(replace(CONFIG, components=64, p_wave_components=8), records)
    assert made.dimensions == 64 + 1 + 8 + 4
    pair = torch.zeros(2, 2, 8, WIDTH)
    pair[:, 0] = made.ordinary.mean.reshape(8, WIDTH)
    inside = made.ordinary.basis[:, :8] @ torch.randn(8, generator=torch.Generator().manual_seed(0))
    pair[0, 0] += inside.reshape(8, WIDTH)
    pair[1, 0] += 3 * inside.reshape(8, WIDTH)
    one, other = made.encode(pair, torch.ones(2, 8))
    assert_close(one[:64], other[:64], atol=1e-4, rtol=1e-4)
    grown = (other[64] - one[64]) * made.p_wave.log_deviation
    assert float(grown) == pytest.approx(np.log(3), abs=1e-4)
    shapes, _ = made.decode(torch.stack([one, other]), Condition(rhythm=torch.zeros(2, 3)))
    assert_close(shapes[:, 0], pair[:, 0], atol=1e-4, rtol=0)


def test_x0_has_the_stated_deviations_on_training_records():
    records, level = simulated()
    made = measured(replace(CONFIG, whitening=1.0))
    x0, condition = encode_records(made, records, level, TRAINING)
    assert_close(made.spread, torch.ones(made.dimensions))
    assert_close(x0[:, :14].std(dim=0), torch.ones(14), atol=0.1, rtol=0)
    with_ventricular = condition.rhythm[:, 2] > 0
    assert_close(x0[with_ventricular, 14:].std(dim=0), torch.ones(4), atol=0.1, rtol=0)
    assert not x0[~with_ventricular, 14:].any()


def test_whitening_leaves_the_stated_power_of_the_deviation():
    made = measured(replace(CONFIG, whitening=0.25))
    ratio = made.spread[0] / made.spread[3]
    assert_close(ratio, (made.ordinary.deviation[0] / made.ordinary.deviation[3]) ** 0.75)


def test_a_fresh_model_is_the_best_linear_denoiser_of_each_component(rng):
    made = measured().requires_grad_(False)
    condition = Condition(rhythm=torch.tensor([[0.0, 0.0, 0.1]]).expand(20_000, 3))
    x0 = made.spread * torch.randn(20_000, made.dimensions, generator=rng)
    noise = torch.randn(x0.shape, generator=rng)
    for level in (0.05, 1.0, 20.0):
        sigma = torch.full((len(x0),), level)
        loss = shape_loss(made, made, x0, condition, sigma, noise)
        assert float(loss.mean()) == pytest.approx(1, abs=0.01)


def test_the_loss_counts_the_components_that_a_record_has(rng):
    made = measured()
    rhythm = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.2]])
    x0 = torch.zeros(2, made.dimensions)

    def off_by_one_deviation(x, sigma, condition):
        return made.spread.expand_as(x)

    sigma, noise = torch.tensor([0.5, 0.5]), torch.randn(x0.shape, generator=rng)
    loss = shape_loss(made, off_by_one_deviation, x0, Condition(rhythm=rhythm), sigma, noise)
    term = 1 + made.spread.square() / 0.25
    assert_close(loss, torch.stack([term[:14].mean(), term.mean()]))


def test_where_there_is_no_ventricular_beat_its_components_are_zero_and_unseen(trained, rng):
    made, _, _ = trained
    x, sigma = torch.randn(4, made.dimensions, generator=rng), torch.ones(4)
    other = x.clone()
    other[:, 14:] = 7
    without, with_one = (
        Condition(rhythm=torch.tensor([[0.0, 0.0, share]]).expand(4, 3)) for share in (0.0, 0.1)
    )
    assert not made(x, sigma, without)[:, 14:].any()
    assert torch.equal(made(x, sigma, without), made(other, sigma, without))
    assert not torch.equal(made(x, sigma, with_one), made(other, sigma, with_one))


def test_outside_training_no_change_is_assumed(trained, rng):
    made, _, _ = trained
    x, sigma = torch.randn(4, made.dimensions, generator=rng), torch.ones(4)
    rhythm = torch.zeros(4, 3)
    unchanged = torch.zeros(4, AUGMENTATION_PARAMETERS)
    plain = made(x, sigma, Condition(rhythm=rhythm))
    assert torch.equal(made(x, sigma, Condition(rhythm=rhythm, augmentation=unchanged)), plain)
    assert not torch.equal(
        made(x, sigma, Condition(rhythm=rhythm, augmentation=unchanged + 1)), plain
    )


def test_training_beats_the_best_linear_denoiser(trained):
    made, result, _ = trained
    records, level = simulated()
    linear = measured()
    assert result.validation < 0.7 * held_out_shape_loss(made, records, level, HELD_OUT, 0)(linear)


def test_drawn_shapes_follow_the_label_and_levels_and_ventricular_beats_the_shape(trained):
    made, _, _ = trained
    label = torch.eye(2).repeat(150, 1)
    condition = made.condition(label, [beats(ventricular=True)] * 300)
    shapes, level = made.draw(condition, range(300), steps=15)
    amplitude = shapes[:, 0, :, 9].mean(axis=1)
    assert np.median(amplitude[::2]) == pytest.approx(1.5, rel=0.15)
    assert np.median(amplitude[1::2]) == pytest.approx(0.5, rel=0.15)
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        deviation = half_width(np.log(amplitude[rows]))
        assert deviation == pytest.approx(SPREAD, rel=0.25)
        fits = np.log(level[rows].mean(axis=1) * 3 / amplitude[rows])
        assert half_width(fits) < 0.6 * deviation
    ratio = shapes[:, 1, :, 9].mean(axis=1) / amplitude
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        assert np.median(ratio[rows]) == pytest.approx(-2, rel=0.15)


@pytest.mark.parametrize(
    ("wider", "told"), [(0.97, 1.0), (1.0, 1.0), (1.025, 1 / 1.025), (2, 0.96)]
)
def test_told_less_noise_the_drawn_deviations_are_the_real_ones(wider, told):
    """A fresh network is the exact denoiser of deviations d; told k sigma it draws d / k."""
    made = BeatShapeModel(replace(CONFIG, components=64))
    normal = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(800) + 0.5) / 800)
    x0 = wider * normal[:, None].repeat(1, made.dimensions)
    condition = made.condition(torch.eye(2).repeat(400, 1), [beats(ventricular=True)] * 800)
    calibrate_sampling_noise(made, x0, condition, seed=0, steps=60)
    assert float(made.noise_told) == pytest.approx(told, abs=0.012)


def test_a_record_depends_on_its_seed_and_condition_alone(trained):
    made, _, _ = trained
    label = torch.eye(2).repeat(150, 1)
    trains = [beats(0.6 + 0.001 * row, row % 2 == 0) for row in range(300)]
    shapes, level = made.draw(made.condition(label, trains), range(300), steps=4)
    chosen = [299, 4, 256]
    some = made.condition(label[chosen], [trains[row] for row in chosen])
    again, levels = made.draw(some, chosen, steps=4)
    assert np.array_equal(again, shapes[chosen])
    assert np.array_equal(levels, level[chosen])


def test_a_label_scale_of_two_goes_twice_as_far_from_the_unlabelled(trained, rng):
    made, _, _ = trained
    seen = []

    def spy(x, sigma, condition):
        seen.append(condition.label is None)
        return made(x, sigma, condition)

    condition = made.condition(torch.eye(2), [beats()] * 2)
    made.draw(condition, [1, 2], steps=3, label_scale=2.0, denoise=spy)
    assert sorted(seen) == [False] * 3 + [True] * 3


def test_the_weights_on_disk_are_all_of_the_model(trained):
    made, _, folder = trained
    loaded = model(seed=1)
    load_weights(loaded, folder / "weights.safetensors")
    condition = made.condition(torch.eye(2), [beats()] * 2)
    for mine, its in zip(
        made.draw(condition, [1, 2], steps=3), loaded.draw(condition, [1, 2], steps=3), strict=True
    ):
        assert np.array_equal(mine, its)


def test_an_interrupted_training_is_resumed_exactly(tmp_path):
    def stop(state):
        if state.step == 6:
            raise KeyboardInterrupt

    wanted, resumed = model(), model(seed=1)
    arguments = *simulated(), TRAINING, HELD_OUT, TRAIN
    fit_beat_shapes(wanted, *arguments, tmp_path / "one")
    with pytest.raises(KeyboardInterrupt):
        fit_beat_shapes(model(), *arguments, tmp_path / "two", progress=stop)
    fit_beat_shapes(resumed, *arguments, tmp_path / "two")
    assert all(map(torch.equal, resumed.state_dict().values(), wanted.state_dict().values()))


def test_components_are_found_on_training_records_alone(tmp_path):
    made = []
    for factor in (1, 100):
        records, level = simulated()
        records.shapes_mv[HELD_OUT] *= factor
        level[HELD_OUT] *= factor
        made.append(model())
        folder = tmp_path / str(factor)
        fit_beat_shapes(made[-1], records, level, TRAINING, HELD_OUT, TRAIN, folder)
    buffers = [dict(each.named_buffers()) for each in made]
    for name in buffers[0].keys() - {"noise_told"}:  # chosen on the held-out records
        assert torch.equal(buffers[0][name], buffers[1][name])


def test_a_model_that_goes_on_keeps_the_components_it_has(tmp_path):
    made = model()
    arguments = *simulated(), TRAINING, HELD_OUT[:0], TRAIN, tmp_path
    fit_beat_shapes(made, *arguments, measure_units=False)
    assert_close(made.ordinary.basis, torch.eye(192, 6))


def test_records_without_an_ordinary_beat_are_left_out(tmp_path):
    records, level = simulated()
    records.shapes_mv[1:, 0] = 0
    with pytest.raises(ConfigError, match=r"2 training records with an ordinary beat, got 1"):
        fit_beat_shapes(model(), records, level, TRAINING, HELD_OUT, TRAIN, tmp_path)


def test_levels_of_other_records_are_refused(tmp_path):
    records, level = simulated()
    with pytest.raises(ConfigError, match=r"expected levels of 320 records, got 319 of them"):
        fit_beat_shapes(model(), records, level[1:], TRAINING, HELD_OUT, TRAIN, tmp_path)


def test_a_set_without_ventricular_beats_can_be_learned(tmp_path):
    records, level = simulated()
    records.shapes_mv[:, 1] = 0
    records = replace(records, beats=[beats()] * len(records))
    made = model()
    fit_beat_shapes(made, records, level, TRAINING, HELD_OUT, TRAIN, tmp_path)
    shapes, _ = made.draw(made.condition(torch.eye(2), [beats()] * 2), [0, 1], steps=3)
    assert shapes[:, 0].any()
    assert not shapes[:, 1].any()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (beats(0.5), [np.log(0.5), 0.0, 0.0]),
        (Beats(np.array([0.0, 1.0, 3.0]), np.array([1, 2, 1]), 4.0), [np.log(1.5), 2 / 3, 1 / 3]),
        (Beats(np.array([1.0]), np.array([2]), 4.0), [0.0, 0.0, 1.0]),
        (Beats(np.array([]), np.array([]), 4.0), [0.0, 0.0, 0.0]),
    ],
)
def test_the_rhythm_is_summarised_by_interval_irregularity_and_ventricular_share(given, expected):
    assert rhythm_summary(given) == pytest.approx(expected, abs=1e-6)


def test_another_number_of_seeds_is_refused():
    made = model()
    with pytest.raises(ConfigError, match=r"one seed for each of 2 records, got 3"):
        made.draw(made.condition(torch.eye(2), [beats()] * 2), [1, 2, 3])


def test_shapes_of_another_rate_are_refused():
    with pytest.raises(ConfigError, match=r"expected beat shapes of shape \(B, 2, 8, 24\), got"):
        model().encode(torch.zeros(3, 2, 8, 96), torch.ones(3, 8))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"components": 193}, r"1 to 192 components of either beat, got 193 and 4"),
        ({"p_wave_components": 7}, r"0 to 6 components of the P wave, got 7"),
        ({"ventricular_components": 0}, r"1 to 192 components of either beat, got 6 and 0"),
        ({"whitening": 1.5}, r"0 <= whitening <= 1 and 0 <= label_balance <= 1, got 1.5 and 0.75"),
        ({"label_balance": -1.0}, r"got 0.5 and -1.0"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        replace(CONFIG, **changes)
