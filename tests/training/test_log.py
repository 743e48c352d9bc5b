import pytest
from small_training import (
    CONFIG,
    batches,
    files,
    loss,
    network,
    rows_of,
    score,
)

from ecgtransfer.errors import RunError
from ecgtransfer.training import fit


def test_the_log_has_a_row_of_means_every_few_steps_and_at_each_validation(tmp_path):
    told = []
    fit(network(), loss, batches, CONFIG, tmp_path, validate=score, progress=told.append)
    head, *rows = rows_of(tmp_path)
    assert head == ["step", "loss", "learning_rate", "gradient_norm", "validation"]
    assert [int(row[0]) for row in rows] == [0, 4, 6, 8, 12, 16, 18, 20, 24]
    assert [row[0] for row in rows if row[4]] == ["0", "6", "12", "18", "24"]
    assert rows[0][1:4] == ["", "", ""]  # no step was made
    since = [state.loss for state in told[8:12]]
    assert float(rows[4][1]) == pytest.approx(sum(since) / 4, rel=1e-5)
    assert float(rows[4][2]) == pytest.approx(CONFIG.rate_at(11), rel=1e-3)


def test_a_spoilt_log_is_refused(begun):
    (begun / "log.csv").write_text("step,loss\nfour,1.0\n")
    with pytest.raises(RunError, match=r"log.csv is not readable as the log of this training"):
        fit(network(), loss, batches, CONFIG, begun, validate=score)


def test_a_log_that_cannot_be_written_is_said_in_a_sentence(tmp_path):
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(RunError, match=r"log.csv could not be written"):
        fit(network(), loss, batches, CONFIG, tmp_path)
    assert files(tmp_path) == ["log.csv"]
