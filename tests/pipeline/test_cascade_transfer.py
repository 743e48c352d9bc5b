"""Guidance of beat shapes is followed where held-out patients show it to help."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.diffusion import BeatShapeConfig, BeatShapeModel, Condition
from ecgtransfer.pipeline.beat_shape_transfer import (
    ShapeWork,
    guide_beat_shapes,
    tune_beat_shapes,
)
from ecgtransfer.pipeline.cascade_settings import CascadeSettings
from ecgtransfer.training import seeded_initialisation
from ecgtransfer.transfer import DomainRecords
from tests.pipeline.small_run import no_bars

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


@pytest.fixture
def model():
    """Denoises N(0, 1) exactly, for its network starts at zero."""
    with seeded_initialisation(0):
        return BeatShapeModel(CONFIG).eval().requires_grad_(False)


def target(model, mean, n=60):
    """Records of N(mean, 1), two of each patient."""
    x0 = mean + torch.randn(n, model.dimensions, generator=torch.Generator().manual_seed(1))
    given = Condition(
        label=torch.eye(2)[torch.arange(n) % 2],
        known=torch.ones(n, 2, dtype=torch.bool),
        age=torch.full((n,), 60.0),
        sex=torch.full((n,), torch.nan),
        rhythm=torch.tensor([[-0.2, 0.05, 0.1]]).expand(n, -1),
    )
    return DomainRecords(x0, given, tuple(f"p{number // 2}" for number in range(n)))


def work(model, folder, folds=2, **changes):
    settings = CascadeSettings(draws=1)
    train = replace(settings.tgdp.train, steps=80, validate_every=20)
    settings = replace(settings, tgdp=replace(settings.tgdp, train=train, **changes))
    return ShapeWork(model, settings, folder, folds, 0, no_bars)


@pytest.mark.parametrize("folds", [1, 2])
def test_guidance_is_followed_where_the_target_is_shifted(model, tmp_path, folds):
    records = target(model, 0.8)
    halves = [records.subset(range(*rows)) for rows in ((0, 40), (40, 60))]
    denoise, card = guide_beat_shapes(work(model, tmp_path, folds), *halves, records)
    assert card["guides"]
    assert card["gain"] > 2 * card["standard_error"] > 0
    assert card["held_out_loss"] < card["source_loss"] - 0.1
    assert card["weight"] == card["calibrated"]
    sigma, mean = torch.full((8,), 2.0), torch.full((8, model.dimensions), 0.8)
    with torch.no_grad():
        left = denoise(mean, sigma, records.label[:8]) - mean
        source = model(mean, sigma, records.label[:8]) - mean
    assert left.square().mean() < 0.5 * source.square().mean()
    # Weights that an interrupted transfer left are taken as they are.
    again, same = guide_beat_shapes(work(model, tmp_path, folds), *halves, records)
    assert same == card
    assert_close(again(mean, sigma, records.label[:8]), denoise(mean, sigma, records.label[:8]))


def test_guidance_is_left_where_there_is_no_shift(model, tmp_path):
    records = target(model, 0.0)
    denoise, card = guide_beat_shapes(
        work(model, tmp_path, eta_guidance=1.0), records, records, records
    )
    assert not card["guides"]
    assert set(card["weight"]["values"]) == {0.0}
    sigma = torch.ones(60)
    assert_close(denoise(records.x0, sigma, records.label), model(records.x0, sigma, records.label))


def test_fine_tuning_moves_the_model_towards_the_target(model, tmp_path):
    records = target(model, 0.8)
    halves = [records.subset(range(*rows)) for rows in ((0, 40), (40, 60))]
    chosen = work(model, tmp_path)
    train = replace(chosen.settings.finetune.train, steps=40, validate_every=20, learning_rate=5e-3)
    settings = replace(chosen.settings, finetune=replace(chosen.settings.finetune, train=train))
    _, card = tune_beat_shapes(replace(chosen, settings=settings), *halves)
    assert card["held_out_loss"] < card["source_loss"] - 0.05
