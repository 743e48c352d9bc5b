"""One writer at a time."""

import errno
import subprocess
import sys

import filelock
import pytest

from ecgtransfer.errors import StorageError
from ecgtransfer.storage import exclusive_lock

HOLDER = """
import sys
from pathlib import Path
from ecgtransfer.storage import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
SENTENCE = r"another process is writing .*set; wait for it or choose another folder$"


@pytest.mark.parametrize("inside", [None, ".fetch.lock"])
def test_a_second_writer_is_refused_while_the_first_is_at_work(tmp_path, inside):
    folder = tmp_path / "set"
    with (
        exclusive_lock(folder, inside),
        exclusive_lock(tmp_path / "other"),
        pytest.raises(StorageError, match=SENTENCE),
        exclusive_lock(folder, inside),
    ):
        pytest.fail("the block must not run")
    with exclusive_lock(folder, inside):
        assert folder.exists() is (inside is not None)
    assert [path.name for path in tmp_path.iterdir()] == (["set"] if inside else [])


def test_another_process_is_kept_out_until_the_first_is_gone(tmp_path):
    folder = tmp_path / "set"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match=SENTENCE), exclusive_lock(folder):
            pytest.fail("the block must not run")
        first.kill()
    with exclusive_lock(folder):
        pass
    assert not list(tmp_path.iterdir())


def test_an_exception_in_the_block_releases_the_lock(tmp_path):
    def broken():
        with exclusive_lock(tmp_path / "set"):
            raise ValueError("broken")

    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            broken()


def test_a_folder_whose_parent_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match=r"set could not be written \((Not a dir|File exists)"),
        exclusive_lock(tmp_path / "file" / "set"),
    ):
        pytest.fail("the block must not run")


@pytest.mark.parametrize(
    ("error", "runs"),
    [
        (OSError(errno.ENOLCK, "No locks available"), True),
        (NotImplementedError(), True),
        (OSError(errno.EACCES, "Permission denied"), False),
    ],
)
def test_only_a_file_system_without_locks_is_written_without(tmp_path, monkeypatch, error, runs):
    def refused(*_, **__):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    if runs:
        with exclusive_lock(tmp_path / "set"):
            pass
        return
    with (
        pytest.raises(StorageError, match=r"could not be written \(Permission denied\)"),
        exclusive_lock(tmp_path / "set"),
    ):
        pytest.fail("the block must not run")
