"""Guidance of beat shapes, against the Gaussian law that a fresh model denoises exactly."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.diffusion import BeatShapeConfig, BeatShapeModel, Condition, NoiseConfig
from ecgtransfer.training import TrainConfig, seeded_initialisation
from ecgtransfer.transfer import (
    BeatShapeGuidance,
    DomainRecords,
    FinetuneConfig,
    TgdpConfig,
    TunableBeatShapes,
    consistency_loss,
    finetune,
    fit_guidance,
    guided,
)

CONFIG = BeatShapeConfig(
    label_names=("NORM", "PVC"),
    sampling_rate_hz=25,
    components=5,
    ventricular_components=3,
    p_wave_components=2,
    width=32,
    blocks=1,
    conditioning=16,
)
TRAIN = TrainConfig(
    steps=120,
    batch_size=64,
    learning_rate=5e-3,
    warmup_steps=10,
    ema_decay=0.9,
    validate_every=40,
)
#: The most that D_q is off after training, as a share of its distance from D_p.
MOST_LEFT = 0.1


@pytest.fixture
def model():
    """Denoises N(0, diag(spread^2)) exactly, for its network starts at zero."""
    with seeded_initialisation(0):
        made = BeatShapeModel(CONFIG).eval().requires_grad_(False)
    made.spread.copy_(torch.linspace(0.4, 1.6, made.dimensions))
    return made


def conditions(n, ventricular=True):
    return Condition(
        label=torch.eye(2)[torch.arange(n) % 2],
        known=torch.ones(n, 2, dtype=torch.bool),
        age=torch.full((n,), 60.0),
        sex=torch.full((n,), torch.nan),
        rhythm=torch.tensor([[-0.2, 0.05, 0.1 * ventricular]]).expand(n, -1),
    )


def shifted(model, n, rng, ventricular=True):
    """Records of N(mean, diag(spread^2)), and the mean."""
    mean = 0.8 * model.spread
    x0 = mean + model.spread * torch.randn(n, model.dimensions, generator=rng)
    names = tuple(f"{n} {number}" for number in range(n))
    return DomainRecords(x0, conditions(n, ventricular), names), mean


def test_training_starts_at_the_source_model_with_a_gradient(model, rng):
    network = BeatShapeGuidance(model)
    records, _ = shifted(model, 8, rng)
    sigma, noise = torch.linspace(0.2, 3, 8), torch.randn(records.x0.shape, generator=rng)
    x = records.x0 + sigma[:, None] * noise
    assert_close(guided(model, network)(x, sigma, records.label), model(x, sigma, records.label))
    consistency_loss(model, network, records.x0, records.label, sigma, noise).mean().backward()
    for name in ("shift", "gain"):
        assert getattr(network, name).grad.abs().min() > 0
    assert network.of_condition.weight.grad[:-1].abs().max() > 0
    # A constant in log h has no slope.
    assert network.offset.grad is None
    assert network.of_condition.weight.grad[-1].abs().max() == 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_shift_and_gain_move_each_component_by_its_output_scale(model, rng):
    network = BeatShapeGuidance(model)
    shift, gain = torch.randn(2, model.dimensions, generator=rng)
    with torch.no_grad():
        network.shift.copy_(shift.expand(4, -1))
        network.gain.copy_(gain.expand(4, -1))
    records, _ = shifted(model, 6, rng)
    sigma = torch.linspace(0.1, 4, 6)
    moved = guided(model, network)(records.x0, sigma, records.label)
    moved -= model(records.x0, sigma, records.label)
    scale = (sigma[:, None].square() + model.spread.square()).rsqrt()
    expected = sigma[:, None] * model.spread * scale * (shift + gain * records.x0 * scale)
    assert_close(moved, expected)


def test_each_number_of_the_condition_has_a_shift_of_its_own(model, rng):
    network = BeatShapeGuidance(model)
    records, _ = shifted(model, 4, rng)
    sigma = torch.full((4,), 0.7)

    def moved(column, given):
        with torch.no_grad():
            network.of_condition.weight.zero_()
            network.of_condition.weight[:, column] = 1.0
        return guided(model, network)(records.x0, sigma, given) - model(records.x0, sigma, given)

    given = records.label
    unit = 0.7 * model.spread * (0.7**2 + model.spread.square()).rsqrt()
    assert_close(moved(0, given), 0.3 * given.label[:, :1] * unit)  # NORM is present
    assert_close(moved(2, given), 0.3 * (1 - given.label[:, :1]) * unit)  # or absent
    assert_close(moved(4, given), given.rhythm[:, :1] * unit)
    assert_close(moved(8, given), 0.3 * unit.expand(4, -1))  # the age is known
    assert_close(moved(10, given), 0.0 * unit.expand(4, -1))  # the sex is not
    hidden = given.without_label(torch.ones(4, dtype=torch.bool))
    assert moved(0, hidden).abs().max() == moved(2, hidden).abs().max() == 0
    assert moved(0, given.without_label()).abs().max() == 0


def test_components_that_a_record_lacks_are_not_moved(model, rng):
    network = BeatShapeGuidance(model)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=rng)
    records, _ = shifted(model, 4, rng, ventricular=False)
    sigma = torch.ones(4)
    moved = guided(model, network)(records.x0, sigma, records.label)
    moved -= model(records.x0, sigma, records.label)
    assert moved[:, -3:].abs().max() == 0
    assert moved[:, :-3].abs().min() > 0
    bare = network(records.x0, sigma, records.label.label)
    assert bare.shape == (4,)


def test_the_denoiser_of_a_shifted_law_is_learned(model, rng, tmp_path):
    network = BeatShapeGuidance(model)
    target, mean = shifted(model, 200, rng)
    held_out, _ = shifted(model, 60, rng)
    noise = NoiseConfig(-0.5, 1.0, sigma_min=0.05, sigma_max=20.0)
    config = TgdpConfig(
        target_positives=1.0,
        eta_guidance=0.0,
        eta_cycle=0.0,
        eta_consistency=1.0,
        noise=noise,
        train=TRAIN,
    )
    fit_guidance(model, network, target, target, held_out, config, tmp_path)
    x = held_out.x0 + torch.randn(held_out.x0.shape, generator=rng)
    sigma, variance = torch.ones(60), model.spread.square()
    exact = (variance * x + mean) / (variance + 1)
    found = guided(model, network)(x, sigma, held_out.label)
    source = model(x, sigma, held_out.label)
    left = (found - exact).square().mean() / (source - exact).square().mean()
    assert left < MOST_LEFT


def test_what_is_fine_tuned_is_the_model_itself(model, rng, tmp_path):
    tunable = TunableBeatShapes(model)
    records, mean = shifted(model, 64, rng)
    held_out, _ = shifted(model, 32, rng)
    sigma = torch.ones(64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=rng).mul_(0.1)
    plain = model(records.x0, sigma, records.label)
    assert_close(tunable(records.x0, sigma, records.label), plain)
    dropped = torch.from_numpy(np.arange(64) % 2 == 0)
    some = tunable(records.x0, sigma, records.label, dropped)
    assert_close(some[1::2], plain[1::2])
    hidden = records.label.without_label(torch.ones(64, dtype=torch.bool))
    assert_close(some[::2], model(records.x0, sigma, hidden)[::2])
    assert (some[::2] - plain[::2]).abs().max() > 1e-4
    config = FinetuneConfig(noise=CONFIG.noise, train=TRAIN)
    tuned, _ = finetune(
        TunableBeatShapes(model).requires_grad_(True), records, held_out, config, tmp_path
    )
    x = mean + torch.zeros(32, model.dimensions)
    before, after = (each(x, sigma[:32], held_out.label) for each in (tunable, tuned))
    assert (after - mean).square().mean() < 0.7 * (before - mean).square().mean()
