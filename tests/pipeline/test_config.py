from dataclasses import asdict

import pytest

from ecgtransfer.errors import ConfigError
from ecgtransfer.pipeline import PRESETS, SourceSettings, preset
from ecgtransfer.storage import to_card


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_describes_a_network(name):
    config = preset(name).unet(9, 8)
    assert (config.labels, config.leads) == (9, 8)
    assert preset(name).train.steps > 0


def test_what_is_asked_for_takes_the_place_of_the_preset(tmp_path):
    settings = SourceSettings(tmp_path, preset="tiny", steps=7, batch_size=3, seed=4, accumulate=2)
    changed = {"steps": 7, "batch_size": 3, "seed": 4, "accumulate": 2}
    assert asdict(settings.train()) == asdict(preset("tiny").train) | changed
    assert SourceSettings(tmp_path, learning_rate=1e-5).train().learning_rate == 1e-5


def test_a_request_without_accumulation_is_what_it_was_before_there_was_any(tmp_path):
    once, twice = SourceSettings(tmp_path), SourceSettings(tmp_path, accumulate=2)
    asked = {"source": once, "train": once.train()}
    assert not any("accumulate" in part for part in to_card(asked).values())
    asked = {"source": twice, "train": twice.train()}
    assert all(part["accumulate"] == 2 for part in to_card(asked).values())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"preset": "huge"}, "expected a preset of tiny, cpu, gpu, got 'huge'"),
        ({"precision": "float8"}, "precision of auto, float32, bfloat16, got 'float8'"),
        ({"learning_rate": -1.0}, "learning rate"),
        ({"steps": 0}, "at least 1 step"),
        ({"accumulate": 0}, "at least 1 batch per step"),
    ],
)
def test_settings_are_checked_before_anything_is_read(tmp_path, wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        SourceSettings(tmp_path, **wrong)
