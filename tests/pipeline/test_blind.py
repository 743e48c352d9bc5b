import numpy as np
import pytest

from ecgtransfer.errors import RunError
from ecgtransfer.evaluation import score_blind_test
from ecgtransfer.evaluation.blind.result import chance_of_no_difference
from ecgtransfer.pipeline import BlindSettings, write_blind
from ecgtransfer.pipeline import blind as blind_module


def test_a_blind_test_of_a_run_is_written_and_scored(answered, tmp_path):
    settings = BlindSettings("tgdp", "mixed", records=2)
    test = write_blind(answered.run, answered.target, settings, tmp_path / "test")
    assert test.records == 2
    assert len(list((tmp_path / "test").glob("*.png"))) == 4
    sheet = tmp_path / "test/answers.csv"
    header, *rows = sheet.read_text().splitlines()
    place = header.split(",").index("synthetic")
    filled = [
        ",".join(["yes" if k == place else c for k, c in enumerate(row.split(","))]) for row in rows
    ]
    sheet.write_text("\n".join([header, *filled]) + "\n")
    (reader,) = score_blind_test(tmp_path / "test").readers
    assert (reader.sensitivity.value, reader.specificity.value) == (1, 0)


def test_only_records_of_the_target_are_real(answered, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(blind_module, "write_blind_test", lambda *_, **given: asked.update(given))
    write_blind(answered.run, answered.target, BlindSettings("tgdp", "mixed"), tmp_path / "test")
    known = np.union1d(answered.target.train, answered.target.test)
    assert asked["among"].tolist() == known.tolist()


def test_as_many_ecgs_are_drawn_as_can_show_that_nobody_tells_them_apart():
    assert chance_of_no_difference(2 * BlindSettings.records) > 0.8


def test_a_set_must_be_named_where_there_are_several(answered, tmp_path):
    with pytest.raises(RunError, match=r"those of tgdp, source; name one with --method"):
        write_blind(answered.run, answered.target, BlindSettings(name="mixed"), tmp_path / "test")
