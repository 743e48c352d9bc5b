"""Folders that are written in several calls."""

import shutil
from types import SimpleNamespace

import pytest

from ecgtransfer.errors import StorageError
from ecgtransfer.storage import (
    DiskSpace,
    bytes_below,
    exclusive_lock,
    read_json,
    require_space,
    write_resumable,
)

PLAN, CARD = {"layout": 1, "set": "abc"}, {"records": 3}


def writer(stop_after=None):
    def write(files):
        files.mkdir(exist_ok=True)
        for number in range(3):
            if number == stop_after:
                raise KeyboardInterrupt
            path = files / str(number)
            if not path.exists():
                path.write_text("whole")

    return write


def test_an_interrupted_folder_goes_on_where_it_ended(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        write_resumable(folder, PLAN, CARD, writer(stop_after=2))
    assert not folder.exists()
    assert (tmp_path / ".out.partial" / "files" / "1").exists()
    write_resumable(folder, PLAN, CARD, writer())
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1", "2", "export.json"]
    assert read_json(folder / "export.json") == {**PLAN, "card": CARD}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_finished_folder_is_not_written_again(tmp_path):
    write_resumable(tmp_path / "out", PLAN, CARD, writer())
    write_resumable(tmp_path / "out", PLAN, CARD, pytest.fail)
    with pytest.raises(StorageError, match="out exists and is not an export of this set; choose"):
        write_resumable(tmp_path / "out", {**PLAN, "set": "other"}, CARD, writer())


def test_other_unfinished_work_is_not_touched(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_resumable(tmp_path / "out", PLAN, CARD, writer(stop_after=1))
    with pytest.raises(StorageError, match="holds unfinished work with another set; finish it"):
        write_resumable(tmp_path / "out", {**PLAN, "set": "other"}, CARD, writer())
    assert (tmp_path / ".out.partial" / "files" / "0").exists()


def test_a_foreign_folder_in_the_way_is_not_touched(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "thesis.txt").touch()
    with pytest.raises(StorageError, match="was not written by this command"):
        write_resumable(tmp_path / "out", PLAN, CARD, writer())
    assert (tmp_path / ".out.partial" / "thesis.txt").exists()


def test_two_processes_do_not_write_one_folder(tmp_path):
    with (
        exclusive_lock(tmp_path / "out"),
        pytest.raises(StorageError, match=r"another process is writing .*out; wait for it"),
    ):
        write_resumable(tmp_path / "out", PLAN, CARD, writer())


def test_space_is_asked_for_before_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_500_000))
    assert require_space(tmp_path / "a" / "b", 1_500_000) == DiskSpace(1_500_000, 1_500_000)
    assert require_space(tmp_path, -5) == DiskSpace(0, 1_500_000)
    with pytest.raises(StorageError, match=r"needs 1\.6 MB more and the disk has 1\.5 MB free"):
        require_space(tmp_path, 1_600_000)
    assert str(DiskSpace(2_000_000, 1_500_000)) == "needs 2.0 MB of disk, 1.5 MB are free"
    assert DiskSpace(2_000_000, 1_540_000).to_dict() == {"needed_mb": 2.0, "free_mb": 1.5}


def test_bytes_below_a_folder_are_those_of_its_files(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(bytes(3))
    (tmp_path / "a" / "b" / "y").write_bytes(bytes(4))
    assert bytes_below(tmp_path) == 7
    assert bytes_below(tmp_path / "none") == 0
