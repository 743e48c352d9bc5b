from dataclasses import dataclass, field

from ecgtransfer.settings import UNSTATED_AT_DEFAULT, stated
from ecgtransfer.training import TrainConfig


@dataclass(frozen=True)
class Settings:
    old: int = 1
    new: int = field(default=2, metadata=UNSTATED_AT_DEFAULT)


def test_a_newer_setting_is_stated_only_where_it_is_not_at_its_default():
    assert stated(Settings()) == {"old": 1}
    assert stated(Settings(old=3, new=2)) == {"old": 3}
    assert stated(Settings(new=3)) == {"old": 1, "new": 3}


def test_a_training_that_accumulates_nothing_binds_as_it_did_before():
    assert "accumulate" not in TrainConfig(steps=3).binding
    assert TrainConfig(steps=3, accumulate=2).binding["accumulate"] == 2
