"""Files and folders that are written whole or not at all."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ecgtransfer.errors import RunError, StorageError
from ecgtransfer.storage import atomic as atomic_module
from ecgtransfer.storage import (
    atomic_file,
    atomic_files,
    atomic_folder,
    disk_errors,
    make_folder,
    publish,
)


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write(path, text, **options):
    with atomic_file(path, **options) as partial:
        partial.write_text(text)


@pytest.mark.parametrize("options", [{}, {"shared": True}])
def test_a_file_appears_whole_and_replaces_the_older_one(tmp_path, options):
    for text in ("old", "new"):
        write(tmp_path / "a.txt", text, **options)
        assert content(tmp_path) == {"a.txt": text}


def test_a_file_that_is_to_be_kept_is_kept(tmp_path):
    write(tmp_path / "a.txt", "first", keep=True)
    write(tmp_path / "a.txt", "second", keep=True)
    assert content(tmp_path) == {"a.txt": "first"}


@pytest.mark.parametrize("options", [{}, {"shared": True}, {"keep": True}])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_exception_leaves_the_older_file_and_nothing_else(tmp_path, options, error):
    write(tmp_path / "a.txt", "old")

    def broken():
        with atomic_file(tmp_path / "a.txt", **options) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        broken()
    assert content(tmp_path) == {"a.txt": "old"}


@pytest.mark.parametrize("function", ["fsync", "touch", "replace"])
def test_a_full_disk_is_one_sentence_and_leaves_the_older_file(tmp_path, monkeypatch, function):
    write(tmp_path / "a.txt", "old")
    owner = os if function == "fsync" else Path
    monkeypatch.setattr(owner, function, full_disk)
    sentence = (
        r"a\.txt could not be written \(No space left on device\); make room, check its "
        r"permissions or choose another place, then run the same command again$"
    )
    with pytest.raises(StorageError, match=sentence) as caught:
        write(tmp_path / "a.txt", "new")
    assert isinstance(caught.value, RunError)
    monkeypatch.undo()
    assert content(tmp_path) == {"a.txt": "old"}


def test_a_folder_that_is_missing_is_the_same_sentence(tmp_path):
    with pytest.raises(StorageError, match=r"could not be written \(No such file or directory\)"):
        write(tmp_path / "none" / "a.txt", "")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"could not be written \(Not a directory\)"):
        make_folder(tmp_path / "file" / "folder")


def test_the_new_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "other").touch()
    with atomic_file(tmp_path / "a.txt") as partial:
        partial.chmod(0o600)
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_of_many_writers_at_once_the_first_wins_and_its_file_is_whole(tmp_path):
    begin = threading.Barrier(8)

    def race(number):
        begin.wait()
        write(tmp_path / "a.txt", str(number) * 20_000, keep=True)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = content(tmp_path)
    assert list(held) == ["a.txt"]
    assert held["a.txt"] == held["a.txt"][0] * 20_000


def test_without_hard_links_the_last_one_wins(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", no_links)
    for text in ("first", "second"):
        write(tmp_path / "a.txt", text, keep=True)
    assert content(tmp_path) == {"a.txt": "second"}


def test_a_killed_writer_leaves_the_older_file(tmp_path):
    write(tmp_path / "a.txt", "old")
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from ecgtransfer.storage import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "a.txt"], check=False)
    assert done.returncode == -9
    assert content(tmp_path) == {"a.txt": "old", ".a.txt.partial": "half"}
    write(tmp_path / "a.txt", "new")
    assert content(tmp_path) == {"a.txt": "new"}


def test_several_files_take_their_places_in_order(tmp_path, monkeypatch):
    names = ("signal", "header")
    for name in names:
        (tmp_path / name).write_text("old")
    steps = []

    def watched(old, new, replace=os.replace):
        replace(old, new)
        steps.append(content(tmp_path).get("header", "none"))

    monkeypatch.setattr(os, "replace", watched)
    with atomic_files(*(tmp_path / name for name in names)) as scratch:
        for name in names:
            (scratch / name).write_text("new")
        assert (tmp_path / "header").read_text() == "old"
    assert steps == ["none", "new"]  # the old header never described the new signal
    assert content(tmp_path) == {"signal": "new", "header": "new"}


def test_several_files_that_are_not_finished_leave_nothing(tmp_path):
    def broken():
        with atomic_files(tmp_path / "a", tmp_path / "b") as scratch:
            (scratch / "a").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    with (
        pytest.raises(StorageError, match=r"b could not be written"),
        atomic_files(tmp_path / "a", tmp_path / "b") as scratch,
    ):
        full_disk(scratch)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole(tmp_path):
    (tmp_path / ".folder.partial").mkdir()
    (tmp_path / ".folder.partial" / "left").touch()
    with atomic_folder(tmp_path / "folder") as partial:
        (partial / "below").mkdir()
        (partial / "below" / "a.txt").write_text("a")
        assert not (tmp_path / "folder").exists()
    assert content(tmp_path) == {"folder/below/a.txt": "a"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "full"), StorageError)],
)
def test_a_folder_that_is_not_finished_leaves_nothing(tmp_path, error, expected):
    def broken():
        with atomic_folder(tmp_path / "parent" / "folder") as partial:
            (partial / "a.txt").write_text("half")
            raise error

    with pytest.raises(expected):
        broken()
    assert list((tmp_path / "parent").iterdir()) == []


def test_a_folder_that_exists_is_not_touched(tmp_path):
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(StorageError, match=r"folder exists already; choose another folder"),
        atomic_folder(tmp_path / "folder"),
    ):
        pytest.fail("the block must not run")


@pytest.mark.parametrize(("one_by_one", "flushes", "syncs"), [(256, 5, 0), (1, 2, 1)])
def test_everything_is_flushed_before_it_is_renamed(
    tmp_path, monkeypatch, one_by_one, flushes, syncs
):
    (tmp_path / "new").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "new" / name).touch()
    calls = {"fsync": 0, "sync": 0}

    def counted(name):
        def call(*_):
            calls[name] += 1

        return call

    monkeypatch.setattr(atomic_module, "FLUSHED_ONE_BY_ONE", one_by_one)
    monkeypatch.setattr(os, "fsync", counted("fsync"))
    monkeypatch.setattr(os, "sync", counted("sync"))
    publish(tmp_path / "new", tmp_path / "folder")
    assert calls == {"fsync": flushes, "sync": syncs}  # files, folder, parent


def test_only_errors_of_the_disk_are_translated(tmp_path):
    with pytest.raises(ValueError, match="other"), disk_errors(tmp_path):
        raise ValueError("other")
    with (
        pytest.raises(StorageError, match=r"could not be written \(no errno\)"),
        disk_errors(tmp_path),
    ):
        raise OSError("no errno")
