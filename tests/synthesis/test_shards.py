import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_generation import SmallNetwork, flat_units

from ecgtransfer.corpus import write_ecgset
from ecgtransfer.errors import ConfigError, CorpusError, RunError, StorageError
from ecgtransfer.storage import exclusive_lock
from ecgtransfer.synthesis import DiskSpace, Shard, missing_shards
from ecgtransfer.synthesis.shards import shards_folder

#: 60 records: four calls of the network, the last one not full.
COUNTS = ("AFIB=30", "CRBBB+PVC=25", "NORM=5")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stop_at(number):
    def stop(done, total):
        if done >= number:
            raise KeyboardInterrupt

    return stop


@pytest.fixture
def draw(make):
    """`--shard number/of` of the set `set`."""
    return lambda number, of, **settings: make("set", *COUNTS, shard=Shard(number, of), **settings)


@pytest.mark.parametrize("of", [1, 2, 3, 4])
def test_shards_drawn_in_any_order_join_to_the_bytes_of_one_piece(make, draw, space, tmp_path, of):
    # At 4 mV a unit this network rounds to other microvolts where it sees other records together.
    units = flat_units(250)
    units.amplitude_mv.fill_(4.0)
    settings = {"denoise": SmallNetwork(len(space)), "units": units, "samples": 250}
    wanted = make("wanted", *COUNTS, **settings)
    for number in reversed(range(1, of + 1)):
        shard = draw(number, of, batch_size=16 * number, **settings)
        assert shard.folder == tmp_path / "set.shards" / f"{number}-of-{of}"
        assert not (tmp_path / "set").exists()
    found = make("set", *COUNTS, **settings | {"denoise": None})
    assert content(found.folder) == content(wanted.folder)
    assert {path.name for path in tmp_path.iterdir()} == {"set", "wanted"}


def test_a_shard_is_a_set_that_says_which_part_it_is(draw, make):
    shard = draw(2, 4)
    assert shard.card["shard"] == "2/4"
    assert shard.records["name"].tolist() == [f"synthetic{number:05d}" for number in range(17, 33)]
    assert shard.card["counts"] == make("whole", *COUNTS).card["counts"]
    shard.verify()


def test_the_counts_over_all_shards_are_those_asked_for(draw, space):
    parts = [draw(number, 3) for number in (1, 2, 3)]
    counted = Counter("+".join(space.decode(row)) for part in parts for row in part.labels)
    assert counted == {"AFIB": 30, "CRBBB+PVC": 25, "NORM": 5}
    assert [len(part) for part in parts] == [16, 16, 28]


@given(total=st.integers(1, 10**7), network_batch=st.integers(1, 300), of=st.integers(1, 64))
def test_shards_cut_a_request_at_calls_of_the_network(total, network_batch, of):
    calls = -(-total // network_batch)
    if of > calls:
        with pytest.raises(ConfigError, match=f"too few for {of} shards; take at most {calls}$"):
            Shard(1, of).records(total, network_batch)
        return
    parts = [Shard(number, of).records(total, network_batch) for number in range(1, of + 1)]
    borders = [0, *(part.stop for part in parts)]
    assert [part.start for part in parts] == borders[:-1]
    assert borders[-1] == total
    assert all(border % network_batch == 0 for border in borders[:-1])
    in_calls = [-(-len(part) // network_batch) for part in parts]
    assert 1 <= min(in_calls) <= max(in_calls) <= min(in_calls) + 1


def test_an_interrupted_shard_goes_on_and_so_does_joining(make, draw, gaussian):
    wanted = make("wanted", *COUNTS)
    for number in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            draw(number, 2, batch_size=16, progress=stop_at(16))
    seen = []
    for number in (1, 2):
        draw(number, 2, denoise=gaussian.denoise, progress=lambda *told: seen.append(told))
    assert seen == [(16, 32), (32, 32), (16, 28), (28, 28)]
    assert len(gaussian.calls) == 2 * 8
    with pytest.raises(KeyboardInterrupt):
        make("set", *COUNTS, progress=stop_at(32))
    assert shards_folder(wanted.folder.with_name("set")).exists()
    seen.clear()
    found = make("set", *COUNTS, progress=lambda *told: seen.append(told))
    assert seen == [(32, 60), (60, 60)]
    assert content(found.folder) == content(wanted.folder)


def test_what_is_finished_is_found(make, draw, gaussian):
    first = draw(1, 2)
    assert draw(1, 2, denoise=gaussian.denoise).fingerprint == first.fingerprint
    draw(2, 2)
    whole = make("set", *COUNTS)
    assert draw(1, 2, denoise=gaussian.denoise).fingerprint == whole.fingerprint
    assert gaussian.calls == []
    assert not shards_folder(whole.folder).exists()


#: Draws and joins shards of argv[1], each process killed at its n-th fsync, again and again.
KILLED_AGAIN_AND_AGAIN = """
import os, signal, sys
sys.path.insert(0, os.path.dirname(sys.argv[2]))
from pathlib import Path
from small_generation import GenerateSmall
from ecgtransfer.corpus import label_space
from ecgtransfer.synthesis import Shard

folder, space, fsync = Path(sys.argv[1]), label_space("icbeb9"), os.fsync
for shard, moments in [("1/2", (1, 4, 7, 7, None)), ("2/2", (2, 6, None)), (None, (1, 6, 6, 5))]:
    for moment in moments:
        child = os.fork()
        if child == 0:
            count = 0

            def striking_fsync(handle):
                global count
                count += 1
                if count == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                fsync(handle)

            os.fsync = striking_fsync
            GenerateSmall(folder, space)(
                "set", "AFIB=30", "CRBBB+PVC=25", "NORM=5", batch_size=16,
                shard=None if shard is None else Shard.parse(shard),
            )
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) == (moment is not None), (shard, moment, status)
        assert not (folder / "set").exists()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_sigkill_while_drawing_or_joining_changes_no_byte(make):
    wanted = make("wanted", *COUNTS)
    command = [sys.executable, "-c", KILLED_AGAIN_AND_AGAIN, str(wanted.folder.parent), __file__]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert (done.stdout.strip(), done.stderr) == ("done", "")
    found = make("set", *COUNTS)
    assert content(found.folder) == content(wanted.folder)
    assert {path.name for path in wanted.folder.parent.iterdir()} == {"set", "wanted"}


def test_two_processes_at_one_shard_are_refused_and_at_two_are_not(draw, tmp_path):
    pytest.importorskip("fcntl")
    busy = Shard(1, 2).folder(tmp_path / "set")
    busy.parent.mkdir()
    with exclusive_lock(busy):
        with pytest.raises(RunError, match=r"another process is writing .*1-of-2; wait for it"):
            draw(1, 2)
        assert len(draw(2, 2)) == 28


def test_of_all_who_begin_at_once_one_decides_into_how_many_shards(make, tmp_path):
    begin, told = threading.Barrier(16), []

    def claim(number):
        begin.wait()
        try:
            make("set", *COUNTS, shard=Shard(1 + number % 2, 2 + 2 * (number % 2)))
        except RunError as error:
            told.append(str(error))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    of = json.loads((tmp_path / "set.shards" / "plan.json").read_text())["of"]
    assert of in (2, 4)
    other = 6 - of
    assert sum(f"in {of} shards, not in {other}; use one of them" in line for line in told) == 8
    assert missing_shards(tmp_path / "set", of) == tuple(
        shard for shard in (Shard(n, of) for n in range(1, of + 1)) if shard.number != of // 2
    )


def test_missing_shards_are_named_with_the_command_that_draws_them(make, draw, tmp_path):
    draw(2, 3)
    with pytest.raises(KeyboardInterrupt):
        draw(3, 3, batch_size=16, progress=stop_at(16))
    sentence = (
        r"set lacks the shards 1/3, 3/3; generate each with the same command and --shard 1/3,"
    )
    with pytest.raises(RunError, match=sentence):
        make("set", *COUNTS)
    draw(1, 3)
    with pytest.raises(
        RunError, match=r"lacks shard 3/3; generate it with .* and --shard 3/3, then"
    ):
        make("set", *COUNTS)
    assert not (tmp_path / "set").exists()


def test_sixteenths_and_eighths_do_not_mix_nor_shards_and_one_piece(make, draw, tmp_path):
    draw(1, 2)
    sentence = r"is being generated in 2 shards, not in 4; use one of them, such as --shard 1/2, or"
    with pytest.raises(RunError, match=sentence):
        draw(1, 4)
    with pytest.raises(KeyboardInterrupt):
        make("other", *COUNTS, batch_size=16, progress=stop_at(16))
    with pytest.raises(
        RunError, match=r"other is being generated in one piece; continue without --shard"
    ):
        make("other", *COUNTS, shard=Shard(1, 2))
    assert not (tmp_path / "other.shards").exists()


def test_shards_of_another_set_are_refused(make, draw, tmp_path):
    draw(1, 2)
    with pytest.raises(RunError, match=r"holds shards of a set with another seed; finish it"):
        draw(2, 2, seed=8)
    with pytest.raises(RunError, match=r"holds shards of a set with another seed; finish it"):
        make("set", *COUNTS, seed=8)
    make("foreign", *COUNTS, seed=8, shard=Shard(2, 2))
    shutil.copytree(tmp_path / "foreign.shards" / "2-of-2", tmp_path / "set.shards" / "2-of-2")
    with pytest.raises(RunError, match=r"2-of-2 holds a finished set with another seed"):
        make("set", *COUNTS)
    shutil.rmtree(tmp_path / "set.shards" / "2-of-2")
    shutil.copytree(tmp_path / "set.shards" / "1-of-2", tmp_path / "set.shards" / "2-of-2")
    with pytest.raises(RunError, match=r"2-of-2 holds a finished set with another shard"):
        make("set", *COUNTS)
    assert not (tmp_path / "set").exists()


def rewrite(part, *, labels=None, records=slice(None)):
    """Replace a shard by one with other labels or fewer records, whose fingerprint is true."""
    facts = {
        key: part.card[key]
        for key in part.card
        if key in ("counts", "device", "method", "model_fingerprint", "network_batch", "seed")
        or key in ("shape", "shard", "sigmas", "solver")
    }
    labels = np.array(part.labels) if labels is None else labels
    signals_uv = np.rint(part.independent_mv() * 1000).astype(np.int16)
    write_ecgset(
        part.folder,
        signals_uv[records],
        labels[records],
        part.records[records],
        part.label_space,
        100,
        "generated",
        facts,
        overwrite=True,
    )


def test_a_shard_with_other_contents_is_refused(make, draw):
    draw(2, 2)
    part = draw(1, 2)
    rewrite(part, labels=np.roll(part.labels, 1, axis=0))
    with pytest.raises(RunError, match=r"1-of-2 has other labels than requested among the"):
        make("set", *COUNTS)
    rewrite(part, records=slice(20))
    with pytest.raises(
        RunError, match=r"1-of-2 has 20 records, expected 32; remove it and generate"
    ):
        make("set", *COUNTS)
    shutil.rmtree(part.folder)
    draw(1, 2)
    with (part.folder / "signals.npy").open("r+b") as file:
        file.seek(200)
        file.write(b"\1\2\3")
    with pytest.raises(CorpusError, match=r"1-of-2 has changed since it was written"):
        make("set", *COUNTS)


def test_more_shards_than_calls_of_the_network_are_refused(draw, tmp_path):
    sentence = r"60 records are 4 calls .* 16 records each, too few for 5 shards; take at most 4"
    with pytest.raises(ConfigError, match=sentence):
        draw(1, 5)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_shard_is_left_alone(make, draw, tmp_path):
    (tmp_path / "set.shards").mkdir()
    (tmp_path / "set.shards" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"holds 'thesis\.txt', which is not a shard; move it"):
        draw(1, 2)
    assert len(make("set", *COUNTS)) == 60
    assert (tmp_path / "set.shards" / "thesis.txt").exists()


def test_a_plan_that_cannot_be_read_is_told(make, draw, tmp_path):
    draw(1, 2)
    for text, sentence in (
        ("{", r"plan\.json is not readable as JSON .*; restore or remove it"),
        ('{"of": "2", "card": {}}', r"expected a whole number as the field of of .*plan\.json"),
    ):
        (tmp_path / "set.shards" / "plan.json").write_text(text)
        for call in (lambda: draw(2, 2), lambda: make("set", *COUNTS)):
            with pytest.raises(StorageError, match=sentence):
                call()


def test_the_disk_is_told_before_the_start(make, draw, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    told = []
    draw(1, 2, disk=told.append)
    draw(1, 2, disk=told.append)
    draw(2, 2)
    # 8 leads of 64 samples of 2 bytes, 9 labels of 4, a row of the table.
    assert told == [DiskSpace(32 * (1024 + 36 + 400), 10**9)]
    assert str(told[0]) == "needs 0.0 MB of disk, 1,000.0 MB are free"
    assert told[0].to_dict() == {"needed_mb": 0.0, "free_mb": 1000.0}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**4))
    with pytest.raises(RunError, match=r"set needs 0\.1 MB more and the disk has 0\.0 MB free"):
        make("set", *COUNTS)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    make("set", *COUNTS, disk=told.append)
    assert told[1] == DiskSpace(60 * (1024 + 36 + 400), 10**9)


def test_the_disk_need_told_is_one_that_suffices(make, tmp_path):
    told = []
    ecgset = make("set", "AFIB=600", samples=250, units=flat_units(250), disk=told.append)
    held = sum(path.stat().st_size for path in ecgset.folder.iterdir())
    assert held < told[0].needed < 1.2 * held + 600 * 400


@pytest.mark.parametrize(
    ("text", "shard"), [("3/16", Shard(3, 16)), (" 16/16 ", Shard(16, 16)), ("01/02", Shard(1, 2))]
)
def test_a_shard_is_read_as_it_is_written(text, shard):
    assert Shard.parse(text) == Shard.parse(str(shard)) == shard


@pytest.mark.parametrize("text", ["", "3", "3/", "/3", "a/b", "-1/2", "1/2/3", "1.5/2", "3 of 16"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="expected a shard such as 3/16, got"):
        Shard.parse(text)


@pytest.mark.parametrize("text", ["0/4", "5/4"])
def test_a_shard_outside_the_set_is_refused(text):
    with pytest.raises(ConfigError, match=f"expected a shard of 1/4 to 4/4, got {text}"):
        Shard.parse(text)


def test_a_shard_lies_where_its_name_sorts(tmp_path):
    assert Shard(3, 16).folder(tmp_path / "set") == tmp_path / "set.shards" / "03-of-16"
