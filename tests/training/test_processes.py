import json
import os
import subprocess
import sys
from pathlib import Path

from ecgtransfer.training import meeting_point, process_number

SCRIPT = Path(__file__).with_name("two_processes.py")


def test_a_process_alone_is_the_first_of_one_and_waits_for_nobody():
    assert process_number() == (0, 1)
    meeting_point()()


def test_two_processes_share_the_batches_and_end_in_the_same_weights(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, SCRIPT, tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"result-{n}.json").read_text()) for n in (0, 1))
    assert (first["main"], second["main"]) == (True, False)
    assert first["met"] == list(range(0, 40, 2))
    assert second["met"] == list(range(1, 40, 2))
    assert first["weight"] == second["weight"] != 0
