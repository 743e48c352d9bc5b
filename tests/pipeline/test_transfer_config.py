import re
from dataclasses import replace
from pathlib import Path

import pytest

from ecgtransfer.errors import ConfigError
from ecgtransfer.pipeline import TransferSettings, read_transfer_config

DOCS = Path(__file__).parents[2] / "docs" / "transfer-config.md"


def read(folder, text, settings=None):
    path = folder / "transfer.toml"
    path.write_text(text)
    return read_transfer_config(path, settings or TransferSettings())


def test_the_documented_values_are_the_defaults(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert read(tmp_path, example) == TransferSettings()


def test_keys_of_the_file_replace_settings_and_no_others(tmp_path):
    start = TransferSettings(method="stack", seed=3)
    text = 'folds = 4\n[tgdp]\nform = "kl"\nrate_factors = [1, 0.5]\n[tgdp.train]\nsteps = 7\n'
    tgdp = replace(
        start.tgdp,
        form="kl",
        rate_factors=(1, 0.5),
        train=replace(start.tgdp.train, steps=7),
    )
    assert read(tmp_path, text, start) == replace(start, folds=4, tgdp=tgdp)
    assert read(tmp_path, "", start) == start


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fold = 2", r"toml has the unknown key fold; use one of tgdp, classifier, .*, cascade$"),
        ("[tgdp]\neta = 1", r"unknown key tgdp\.eta; use one of form, resample, "),
        ("[lora]\nrank = 'two'", r"a whole number as the field lora\.rank of .*'two'; correct the"),
        ("lora = 4", r"expected a table \[lora\] in .*toml, got 4"),
        ("[lora]\nrank = 0", r"\[lora\] of .*toml is not valid: expected a rank of at least 1"),
        ("folds = 0", r"toml is not valid: expected at least 1 fold, got 0"),
        ("method = 'lora'", r"has the key method; use the option --method instead"),
        ("source_records = 'model'", r"use the option --source-records instead"),
        ("[tgdp", r"expected a TOML file at .*transfer\.toml, got an error"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_in_one_sentence(tmp_path, text, sentence):
    with pytest.raises(ConfigError, match=sentence) as refused:
        read(tmp_path, text)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"expected a TOML file at .*none\.toml, got: No such file or directory"
    ):
        read_transfer_config(tmp_path / "none.toml", TransferSettings())
