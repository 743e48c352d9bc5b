import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_diffusion import TRAIN, trained
from torch.testing import assert_close
from two_processes import fitted

from ecgtransfer.errors import RunError
from ecgtransfer.training import make_barrier, process_number

HERE = Path(__file__).parent


def test_a_process_alone_is_the_first_of_one_and_waits_for_nobody():
    assert process_number() == (0, 1)
    make_barrier()()


def in_two_processes(script, folder):
    """What each of the two wrote, and what they said."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, HERE / script, folder],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads((folder / f"result-{number}.json").read_text()) for number in (0, 1)]
    return *results, done.stdout


def test_two_processes_share_the_batches_and_end_in_the_same_weights(tmp_path):
    first, second, said = in_two_processes("two_processes.py", tmp_path)
    assert said.count("parted") == 2
    assert (first["main"], second["main"]) == (True, False)
    assert first["met"] == list(range(0, 40, 2))
    assert second["met"] == list(range(1, 40, 2))
    assert first["weight"] == second["weight"] != 0
    with pytest.raises(RunError, match=r"other settings \(processes 2, not at its default\)"):
        fitted(tmp_path / "fit", [])


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Two trainings of a diffusion model in two processes: folder, results of both processes."""
    folder = tmp_path_factory.mktemp("two")
    return folder, in_two_processes("diffusion_processes.py", folder)[:2]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_one_process_that_accumulates_follows_two_to_rounding(accumulate, two_processes, tmp_path):
    folder, results = two_processes
    alone = trained(replace(TRAIN, accumulate=2 * accumulate), tmp_path)
    first, second = (result[str(accumulate)] for result in results)
    assert first == second
    assert len(set(alone["losses"])) == TRAIN.steps
    assert_close(torch.tensor(first["losses"]), torch.tensor(alone["losses"]), rtol=1e-5, atol=0)
    assert_close(torch.tensor(first["weights"]), torch.tensor(alone["weights"]), rtol=0, atol=1e-5)
    assert log_of(folder / str(accumulate)) == pytest.approx(log_of(tmp_path), rel=2e-6)


def log_of(folder):
    """Mean loss in the last row of the log."""
    with (folder / "log.csv").open(newline="") as file:
        return float(list(csv.DictReader(file))[-1]["loss"])
