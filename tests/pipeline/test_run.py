import errno
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from ecgtransfer.errors import RunError
from ecgtransfer.pipeline import Run
from ecgtransfer.storage import fingerprint, read_json, write_json
from tests.pipeline.small_run import content


@dataclass(frozen=True)
class Inner:
    widths: tuple[int, ...] = (1, 2)
    folder: Path = Path("sets/a")


@dataclass(frozen=True)
class Settings:
    steps: int = 5
    inner: Inner = Inner()


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_new_run_is_written_when_its_first_stage_begins(tmp_path):
    run = Run.create(tmp_path / "new" / "run")
    assert not run.folder.exists()
    assert run.stage("source").begin(Settings()) is False
    assert read_json(run.folder / "config.json")["format"] == 1
    assert "torch" in read_json(run.folder / "config.json")["software"]
    assert Run.open(run.folder).folder == Run.create(run.folder).folder == run.folder


def test_an_empty_folder_may_become_a_run(tmp_path):
    Run.create(tmp_path).stage("source").begin(Settings())
    assert Run.open(tmp_path).folder == tmp_path


def test_a_folder_of_other_files_is_no_run(tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(RunError, match=r"found other files in .*; choose another place"):
        Run.create(tmp_path)
    with pytest.raises(RunError, match=r"expected .*config\.json, .*is this a run folder\?"):
        Run.open(tmp_path)
    with pytest.raises(RunError, match="new or empty folder"):
        Run.create(tmp_path / "photo.jpg")


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RunError, match=r"expected a run folder at .*none; begin one with"):
        Run.open(tmp_path / "none")


@pytest.mark.parametrize("held", [{"format": 2}, {"format": None}, {}])
def test_a_run_of_another_version_is_refused(tmp_path, held):
    write_json(tmp_path / "config.json", held)
    for way in (Run.open, Run.create):
        with pytest.raises(RunError, match=r"format 1, got format (2|None) in .*; use the version"):
            way(tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "not readable as JSON"), ("\xff", "not readable as JSON"), ("[1]", "got list")],
)
def test_a_broken_config_is_told(tmp_path, text, sentence):
    (tmp_path / "config.json").write_bytes(text.encode("latin1"))
    with pytest.raises(RunError, match=sentence):
        Run.open(tmp_path)


def test_a_config_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(RunError, match=r"could not be read \(Is a directory\)"):
        Run.open(tmp_path)


def test_a_run_below_a_file_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"could not be written .*another place"):
        Run.create(tmp_path / "file" / "run").stage("source").begin(Settings())


def test_a_stage_is_begun_finished_and_skipped(tmp_path):
    stage = Run.create(tmp_path).stage("source")
    assert stage.name == "source"
    assert stage.begin(Settings()) is False
    assert not stage.is_done
    with pytest.raises(RunError, match=r"finished stage 'source' in .*; run it first"):
        assert stage.card
    assert stage.begin(Settings()) is False
    card = stage.finish({"loss": 1.5})
    assert stage.is_done
    assert stage.begin(Settings()) is True
    assert stage.card == card
    assert card["results"] == {"loss": 1.5}
    assert card["settings"] == {"steps": 5, "inner": {"widths": [1, 2], "folder": "sets/a"}}
    assert card["fingerprint"] == fingerprint(Settings())
    assert {"torch", "python"} <= card["software"].keys()


def test_any_number_of_processes_begin_the_same_stage_at_once(tmp_path):
    begin, told = threading.Barrier(16), []

    def claim():
        begin.wait()
        told.append(Run.create(tmp_path / "run").stage("source").begin(Settings(), alone=False))

    threads = [threading.Thread(target=claim) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [False] * 16
    assert content(tmp_path / "run").keys() == {"config.json", "source/request.json"}
    assert read_json(tmp_path / "run/source/request.json")["fingerprint"] == fingerprint(Settings())


def test_what_a_kill_left_half_written_is_in_nobodys_way(tmp_path):
    (tmp_path / ".config.json.0a1b.partial").write_text("{")
    stage = Run.create(tmp_path).stage("source")
    stage.folder.mkdir()
    (stage.folder / ".request.json.0a1b.partial").write_text("{")
    assert stage.begin(Settings(steps=6)) is False
    assert stage.begin(Settings()) is False
    assert read_json(stage.folder / "request.json")["settings"]["steps"] == 5


def test_other_settings_are_refused_and_named(tmp_path):
    stage = Run.create(tmp_path).stage("source")
    stage.begin(Settings())
    (stage.folder / "weights.safetensors").touch()
    before = content(tmp_path)
    with pytest.raises(RunError) as caught:
        stage.begin(Settings(steps=6, inner=Inner(widths=(1, 3))))
    told = str(caught.value)
    assert "(inner.widths [1, 2], asked for [1, 3]; steps 5, asked for 6)" in told
    assert f"remove {stage.folder}" in told
    assert "folder sets/a" not in told
    assert content(tmp_path) == before


def test_a_request_that_came_to_nothing_does_not_bind(tmp_path):
    stage = Run.create(tmp_path).stage("source")
    stage.begin(Settings(steps=6))
    assert stage.begin(Settings()) is False
    stage.finish({})
    assert stage.card["settings"]["steps"] == 5


def test_a_stage_folder_of_other_files_is_left_alone(tmp_path):
    run = Run.create(tmp_path / "run")
    run.stage("source").begin(Settings())
    (run.folder / "target").mkdir()
    (run.folder / "target" / "photo.jpg").touch()
    with pytest.raises(RunError, match="found other files there"):
        run.stage("target").begin(Settings())
    assert content(run.folder / "target") == {"photo.jpg": b""}


def test_finished_stages_are_found_by_the_beginning_of_their_names(tmp_path):
    run = Run.create(tmp_path)
    for name in ("synthetic-b", "synthetic-a", "source"):
        run.stage(name).begin({})
        run.stage(name).finish({})
    run.stage("synthetic-c").begin({})
    assert [stage.name for stage in run.stages("synthetic")] == ["synthetic-a", "synthetic-b"]


AT_WORK = """
import sys
from pathlib import Path
from ecgtransfer.pipeline import Run
stage = Run.create(Path(sys.argv[1])).stage("source")
print(stage.begin({"steps": 5}), flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_kept_out_until_the_first_is_done_or_gone(tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", AT_WORK, tmp_path / "run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with first:
        assert first.stdout.readline() == "False\n"
        stage = Run.open(tmp_path / "run").stage("source")
        with pytest.raises(RunError, match=r"another process is writing .*source; wait for it"):
            stage.begin({"steps": 5})
        assert stage.begin({"steps": 5}, alone=False) is False
        assert Run.open(tmp_path / "run").stage("other").begin({"steps": 5}) is False
        first.kill()
    assert stage.begin({"steps": 5}) is False
    assert stage.begin({"steps": 5}) is False
    stage.finish({})
    assert not list((tmp_path / "run").glob(".source*"))
    assert stage.begin({"steps": 5}) is True


def test_a_card_that_is_set_aside_leaves_the_stage_to_be_done_again(tmp_path, monkeypatch):
    stage = Run.create(tmp_path).stage("question")
    stage.begin(Settings())
    card = stage.finish({"answer": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full_disk)
        with pytest.raises(RunError, match=r"card\.json could not be written \(No space left on"):
            stage.set_aside("card-1.json")
    assert stage.is_done
    stage.set_aside("card-1.json")
    assert not stage.is_done
    assert read_json(stage.folder / "card-1.json") == card
    assert stage.begin(Settings()) is False
