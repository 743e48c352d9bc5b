"""Cost of two torch threads beside other work, under policies of waiting, and of one thread.

    python benchmarks/threads.py [--rounds 3] [--steps 40] [--load 2] [--write FILE]

Each policy trains the demonstration's classifier for some steps in a process of its own, while
`--load` other processes compute. The policies take turns in every round, so that what else the
machine does meets all of them. Prints the median CPU time (user and system) and wall time of the
training alone, without imports, and their ratio to torch's default; writes them as JSON.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).resolve().with_suffix(".json")
#: Environment of each policy; the first one is the reference.
POLICIES = {
    "two threads, default": {"OMP_NUM_THREADS": "2"},
    "two threads, passive": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
#: Variables of the caller that would change a policy.
OF_CALLER = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

#: Trains and prints CPU and wall seconds.
TRAIN = """
import sys, time, torch
from ecgtransfer.models import Encoder1d, EncoderConfig

torch.manual_seed(0)
network = Encoder1d(EncoderConfig(outputs=9, leads=8, widths=(32, 48, 64), blocks=1))
optimizer = torch.optim.AdamW(network.parameters())
x, y = torch.randn(16, 8, 1000), torch.rand(16, 9).round()

def step():
    optimizer.zero_grad()
    torch.nn.functional.binary_cross_entropy_with_logits(network(x), y).backward()
    optimizer.step()

for _ in range(3):
    step()
cpu, wall = time.process_time(), time.perf_counter()
for _ in range(int(sys.argv[1])):
    step()
print(time.process_time() - cpu, time.perf_counter() - wall)
"""
#: Other work: one core, until it is ended.
BUSY = "while True: sum(range(10**6))"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--load", type=int, default=2, help="processes beside the training")
    parser.add_argument("--write", type=Path, default=RESULTS)
    asked = parser.parse_args()
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(asked.load)]
    try:
        runs = [
            {name: measured(policy, asked.steps) for name, policy in POLICIES.items()}
            for _ in range(asked.rounds)
        ]
    finally:
        for process in busy:
            process.kill()
            process.wait()
    reference = next(iter(POLICIES))
    print("| policy | CPU s | wall s | CPU, ratio | wall, ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    found = {}
    for name in POLICIES:
        cpu, wall = (median(run[name][k] for run in runs) for k in (0, 1))
        ratios = [median(run[name][k] / run[reference][k] for run in runs) for k in (0, 1)]
        found[name] = {
            "cpu_s": cpu,
            "wall_s": wall,
            "cpu_ratio": ratios[0],
            "wall_ratio": ratios[1],
        }
        print(f"| {name} | {cpu:.2f} | {wall:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    settings = {
        "rounds": asked.rounds,
        "steps": asked.steps,
        "load": asked.load,
        "cores": os.cpu_count(),
        "load_average_1_min": os.getloadavg()[0],
        "python": platform.python_version(),
    }
    written = {"policies": found, "settings": settings}
    asked.write.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")


def measured(policy: dict[str, str], steps: int) -> tuple[float, float]:
    """CPU and wall seconds of the training under a policy."""
    inherited = {name: value for name, value in os.environ.items() if name not in OF_CALLER}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(steps)],
        env=inherited | policy,
        capture_output=True,
        text=True,
        check=True,
    )
    cpu, wall = map(float, done.stdout.split())
    return cpu, wall


if __name__ == "__main__":
    main()
