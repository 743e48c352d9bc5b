import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_generation import SmallNetwork, flat_units

from ecgtransfer.corpus import ECGSet, LabelSpace
from ecgtransfer.diffusion import RECORD_SOLVER, karras_sigmas, sample
from ecgtransfer.errors import ConfigError, CorpusError, RunError, StorageError
from ecgtransfer.storage import exclusive_lock
from ecgtransfer.synthesis import SynthesisRequest, generate, per_class, record_seed
from ecgtransfer.training import record_noise

COUNTS = ("AFIB=30", "CRBBB+PVC=25", "NORM=5")


def signals_digest(ecgset: ECGSet) -> str:
    return hashlib.sha256((ecgset.folder / "signals.npy").read_bytes()).hexdigest()


def beside(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.iterdir()} - {folder.name}


def test_counts_labels_and_provenance_are_exact(make, space):
    ecgset = make("set", *COUNTS)
    ecgset.verify()
    assert len(ecgset) == 60
    assert ecgset.origin == "generated"
    assert (ecgset.sampling_rate_hz, ecgset.n_samples) == (100, 64)
    counts = dict(zip(space.names, ecgset.labels.sum(0).astype(int), strict=True))
    assert {name: n for name, n in counts.items() if n} == {
        "AFIB": 30,
        "CRBBB": 25,
        "PVC": 25,
        "NORM": 5,
    }
    records = ecgset.records
    assert records["labels"].tolist() == ["AFIB"] * 30 + ["CRBBB+PVC"] * 25 + ["NORM"] * 5
    assert records["seed"].tolist() == [record_seed(7, number) for number in range(60)]
    assert records["name"].is_unique
    assert records["patient"].isna().all()
    assert set(records["method"]) == {"source"}
    assert ecgset.card["model_fingerprint"] == "abc123"
    assert ecgset.card["counts"] == [[["AFIB"], 30], [["CRBBB", "PVC"], 25], [["NORM"], 5]]
    assert (ecgset.card["seed"], ecgset.card["solver"]) == (7, "adams")
    assert beside(ecgset.folder) == set()


def test_records_follow_the_law_of_their_label(make, gaussian, space):
    sigmas = karras_sigmas(80, 0.01, 400.0)
    ecgset = make("set", "NORM=60", "AFIB=60", denoise=gaussian.denoise, sigmas=sigmas)
    x0 = ecgset.independent_mv().reshape(2, 60, -1) / 0.2
    wanted = gaussian.mean(torch.eye(len(space)))[[space.index("NORM"), space.index("AFIB")]]
    np.testing.assert_allclose(x0.mean(axis=(1, 2)), wanted.flatten(), atol=0.01)
    np.testing.assert_allclose(x0.std(axis=(1, 2)), 0.5, rtol=0.05)


def test_the_seed_in_the_table_makes_the_record_again(make, gaussian, space):
    ecgset = make("set", *COUNTS)
    noise = record_noise([int(ecgset.records["seed"][37])], (8, 64))
    label = torch.from_numpy(ecgset.labels[37:38])
    x0 = sample(gaussian.denoise, noise, label, karras_sigmas(8, 0.01, 20.0), RECORD_SOLVER)
    np.testing.assert_allclose(ecgset.independent_mv(37), 0.2 * x0, atol=0.00051)


def test_a_record_is_the_same_at_any_batch_size(make, space):
    # At 4 mV a unit, one call of this network for one record differs from one for 16 by a
    # microvolt in a hundred samples of these.
    units = flat_units(250)
    units.amplitude_mv.fill_(4.0)
    settings = {"denoise": SmallNetwork(len(space)), "units": units, "samples": 250}
    wanted = make("wanted", *COUNTS, **settings)
    for batch_size in (1, 5, 16, 48, 1000):
        found = make(f"{batch_size}", *COUNTS, batch_size=batch_size, **settings)
        assert signals_digest(found) == signals_digest(wanted)
        assert found.fingerprint == wanted.fingerprint


def test_a_record_is_the_same_in_any_company(make, space):
    network = SmallNetwork(len(space))
    alone = make("alone", "AFIB=3", denoise=network)
    among = make("among", "AFIB=21", "PVC=9", denoise=network)
    np.testing.assert_array_equal(alone.signals_mv(), among.signals_mv(slice(3)))


def test_the_network_always_sees_the_same_number_of_records(make, gaussian):
    make("set", "AFIB=21", denoise=gaussian.denoise, batch_size=3)
    assert set(gaussian.calls) == {16}
    gaussian.calls.clear()
    make("other", "AFIB=21", denoise=gaussian.denoise, network_batch=5)
    assert set(gaussian.calls) == {5}


def test_another_seed_gives_other_records(make):
    first, second = make("first", "AFIB=2"), make("second", "AFIB=2", seed=8)
    assert not np.isclose(first.signals_mv(), second.signals_mv()).mean() > 0.1
    seeds = [record_seed(seed, number) for seed in (0, 1) for number in range(2000)]
    assert len(set(seeds)) == 4000
    assert 0 <= min(seeds) <= max(seeds) < 2**63


def test_progress_counts_finished_records(make):
    seen = []
    make("set", "AFIB=40", batch_size=16, progress=lambda *numbers: seen.append(numbers))
    assert seen == [(0, 40), (16, 40), (32, 40), (40, 40)]


def test_the_same_call_again_returns_the_finished_set(make, gaussian):
    wanted = make("set", *COUNTS)
    found = make("set", *COUNTS, denoise=gaussian.denoise)
    assert gaussian.calls == []
    assert found.fingerprint == wanted.fingerprint


def test_an_interrupted_call_goes_on_from_there(make, gaussian):
    wanted = make("wanted", *COUNTS)
    seen = []

    def interrupt(done, total):
        seen.append(done)
        if done == 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make("set", *COUNTS, batch_size=16, progress=interrupt)
    assert not (wanted.folder.parent / "set").exists()
    found = make("set", *COUNTS, denoise=gaussian.denoise)
    assert len(gaussian.calls) == 2 * 8
    assert signals_digest(found) == signals_digest(wanted)
    assert found.fingerprint == wanted.fingerprint


#: Generates into argv[1] again and again, each time killed at another moment: at the n-th fsync,
#: and in the middle of the n-th call of the denoiser; then prints what is left under the name.
KILLED_AGAIN_AND_AGAIN = """
import os, signal, sys
sys.path.insert(0, os.path.dirname(sys.argv[2]))
from pathlib import Path
from small_generation import GaussianModel, GenerateSmall
from ecgtransfer.corpus import label_space

folder, space = Path(sys.argv[1]), label_space("icbeb9")
fsync, killed = os.fsync, 0
for kind, moment in [("fsync", 1), ("call", 3), ("fsync", 3), ("fsync", 4), ("fsync", 5),
                     ("call", 9), ("call", 16), ("fsync", 7), ("fsync", 1), ("fsync", 6)]:
    child = os.fork()
    if child == 0:
        model, count = GaussianModel(space), 0

        def strike(this):
            global count
            count += this == kind
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        def denoise(x, sigma, label):
            strike("call")
            return model.denoise(x, sigma, label)

        def striking_fsync(handle):
            strike("fsync")
            fsync(handle)

        os.fsync = striking_fsync
        GenerateSmall(folder, space)("set", "AFIB=30", "CRBBB+PVC=25", "NORM=5", batch_size=16,
                                 denoise=denoise)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), (kind, moment, status)
    assert not (folder / "set").exists()
    killed += 1
print(killed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_sigkill_at_any_moment_costs_one_chunk_and_changes_no_byte(make, gaussian):
    wanted = make("wanted", *COUNTS, batch_size=16)
    command = [sys.executable, "-c", KILLED_AGAIN_AND_AGAIN, str(wanted.folder.parent), __file__]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_thread)
    assert (done.stdout.strip(), done.stderr) == ("10", "")
    found = make("set", *COUNTS, batch_size=16, denoise=gaussian.denoise)
    assert gaussian.calls == [], "the last two were killed with all records drawn"
    for path in wanted.folder.iterdir():
        assert (found.folder / path.name).read_bytes() == path.read_bytes(), path.name
    assert beside(found.folder) == {"wanted"}


def test_a_full_disk_is_one_sentence_and_can_be_mended(make, monkeypatch, gaussian):
    wanted = make("wanted", *COUNTS)
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"left on device\); make room") as caught:
            make("set", *COUNTS, batch_size=16)
    assert "\n" not in str(caught.value)
    assert not (wanted.folder.parent / "set").exists()
    found = make("set", *COUNTS, denoise=gaussian.denoise)
    assert len(gaussian.calls) < 4 * 8
    assert found.fingerprint == wanted.fingerprint


def test_too_little_disk_is_told_before_the_start(make, monkeypatch, gaussian, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(RunError, match=r"needs 0\.1 MB more and the disk has 0\.0 MB free"):
        make("set", *COUNTS, denoise=gaussian.denoise)
    assert gaussian.calls == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 8}, "another seed"),
        ({"solver": "heun"}, "another solver"),
        ({"network_batch": 4}, "another network_batch"),
        (
            {"card_extra": {"model_fingerprint": "fff", "method": "tgdp"}},
            "another method, model_fingerprint",
        ),
        ({"request": SynthesisRequest(((("AFIB",), 61),))}, "another counts"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_another_request_is_refused(make, change, sentence, finished):
    def stop(done, total):
        if done == 16 and not finished:
            raise KeyboardInterrupt

    try:
        make("set", *COUNTS, batch_size=16, progress=stop)
    except KeyboardInterrupt:
        assert not finished
    kind = RunError if finished else CorpusError
    with pytest.raises(kind, match=sentence if not finished else "holds a finished set with"):
        make("set", *COUNTS, **change)
    assert len(make("set", *COUNTS)) == 60


def test_a_foreign_folder_is_refused_and_left_alone(make, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"cannot generate into .*not an ECG set"):
        make("set", "AFIB=1")
    assert (tmp_path / "set" / "thesis.txt").read_text() == "years of work"


def test_a_second_writer_is_refused(make, tmp_path):
    pytest.importorskip("fcntl")
    with (
        exclusive_lock(tmp_path / "set"),
        pytest.raises(RunError, match=r"another process is writing .*set"),
    ):
        make("set", "AFIB=1")
    assert len(make("set", "AFIB=1")) == 1


def test_a_place_that_cannot_be_written_is_refused(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"could not be written \((Not a directory|File exists)\)"):
        make("file/set", "AFIB=1")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (float("nan"), "has samples that are not finite"),
        (float("inf"), "has samples that are not finite"),
        (35.0, r"reaches 35 mV \(32 is the limit\)"),
        (-40.0, r"reaches 40 mV \(32 is the limit\)"),
    ],
)
def test_a_broken_record_is_refused_by_its_seed(make, gaussian, value, sentence):
    class Breaking:
        """Puts one bad sample into lead V6 of record 18."""

        def __init__(self):
            self.calls = 0

        def to_mv(self, x0):
            self.calls += 1
            signals_mv = 0.2 * x0
            if self.calls == 2:
                signals_mv[2, 7, 30] = value
            return signals_mv

    sentence = rf"record 18 \(AFIB, seed {record_seed(7, 18)}\) {sentence}"
    with pytest.raises(RunError, match=sentence):
        make("set", *COUNTS, units=Breaking(), batch_size=16)
    found = make("set", *COUNTS, denoise=gaussian.denoise)
    assert len(gaussian.calls) == 3 * 8, "the records before it were kept"
    assert len(found) == 60


def test_a_derived_lead_beyond_the_limit_is_refused(make):
    class Opposed:
        """Lead I at -20 mV, II at 20 mV, so III = II - I = 40 mV."""

        def to_mv(self, x0):
            signals_mv = torch.zeros_like(x0)
            signals_mv[:, 0], signals_mv[:, 1] = -20.0, 20.0
            return signals_mv

    with pytest.raises(RunError, match="reaches 40 mV"):
        make("set", "AFIB=1", units=Opposed())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"network_batch": 0}, "network_batch must be at least 1, got 0"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"solver": "euler"}, "expected a solver of"),
        ({"card_extra": {"method": "tgdp"}}, "must hold its model_fingerprint as text, got None"),
        ({"card_extra": {"model_fingerprint": "a"}}, "must hold its method as text, got None"),
        (
            {"card_extra": {"model_fingerprint": "a", "method": "b", "seed": 3}},
            "must not hold seed, which the request determines",
        ),
        (
            {"card_extra": {"model_fingerprint": "a", "method": "b", "x": {1, 2}}},
            "must hold JSON values only",
        ),
    ],
)
def test_a_bad_setting_is_refused_and_leaves_nothing(make, tmp_path, change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make("set", "AFIB=1", **change)
    assert list(tmp_path.iterdir()) == []


def test_a_label_that_the_model_does_not_know_is_refused(make, tmp_path):
    with pytest.raises(CorpusError, match="unknown label 'WPW'; expected one of NORM, AFIB"):
        make("set", request=SynthesisRequest(((("WPW",), 3),)))
    assert list(tmp_path.iterdir()) == []


def test_any_label_space_will_do(tmp_path):
    space = LabelSpace(("calm", "storm"))
    ecgset = generate(
        lambda x, sigma, label: x * 0,
        flat_units(10),
        per_class(space, 2),
        tmp_path / "deep" / "down" / "set",
        label_space=space,
        sigmas=torch.tensor([1.0, 0.0]),
        card_extra={"model_fingerprint": "a", "method": "b", "notes": {"more": [1, None]}},
        samples=10,
        sampling_rate_hz=62.5,
    )
    assert ecgset.labels.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert ecgset.sampling_rate_hz == 62.5
    card = json.loads((ecgset.folder / "card.json").read_text())
    assert card["notes"] == {"more": [1, None]}
    assert not ecgset.signals_mv().any()
