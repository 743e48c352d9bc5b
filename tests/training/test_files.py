import errno

import pytest
import torch
from small_training import (
    CONFIG,
    batches,
    files,
    loss,
    network,
)

from ecgtransfer.errors import RunError
from ecgtransfer.training import fit, load_weights, save_weights


def test_weights_go_to_disk_and_back(tmp_path):
    written, read = network(seed=0), network(seed=1)
    path = tmp_path / "weights.safetensors"
    save_weights(written, path)
    load_weights(read, path)
    assert all(map(torch.equal, written.parameters(), read.parameters()))
    assert files(tmp_path) == ["weights.safetensors"]


def test_weights_are_as_readable_as_any_other_file(tmp_path):
    (tmp_path / "other").touch()
    save_weights(network(), tmp_path / "weights.safetensors")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_missing_weights_are_refused(tmp_path):
    with pytest.raises(RunError, match=r"expected weights at .*found no such file; train first"):
        load_weights(network(), tmp_path / "weights.safetensors")


def test_weights_of_another_network_are_refused_and_nothing_touched(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(network(width=7), path)
    model = network()
    before = model[2].bias.clone()
    sentence = "another network.* \\(0 tensors missing, 0 unknown, 3 of another shape; the first"
    with pytest.raises(RunError, match=sentence):
        load_weights(model, path)
    assert torch.equal(model[2].bias, before)


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x08" + bytes(7) + b"{}{}{}{}"])
def test_a_file_that_holds_no_weights_is_refused(content, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"not a complete safetensors file"):
        load_weights(network(), path)


def test_weights_that_cannot_be_read_are_refused(tmp_path, monkeypatch):
    def closed(path, framework):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("ecgtransfer.training.files.safe_open", closed)
    with pytest.raises(RunError, match=r"could not be read .*Permission denied"):
        load_weights(network(), tmp_path / "weights.safetensors")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match=r"taken could not be written .*choose another place"):
        fit(network(), loss, batches, CONFIG, tmp_path / "taken")
