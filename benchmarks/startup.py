"""CPU seconds and heavy imports of every help and of other short answers of the program.

    python benchmarks/startup.py [--repeats 5] [--before FILE] [--write FILE]

Each command runs in a process of its own, `--repeats` times; the least CPU time (user and system)
is kept, which depends least on what else the machine does. Prints a table, with `--before` beside
the numbers of an earlier run, and writes them as JSON (`benchmarks/startup.json` by default).
Exit code 1 if a command takes longer than `LIMIT_S`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).resolve().with_suffix(".json")
#: Most CPU seconds that a short answer may take.
LIMIT_S = 0.4
#: Short answers that are no help.
OTHERS = ("--version", "-h", "--no-such-option", "models list", "models show ptbxl-cascade")
#: Packages that take long to import.
HEAVY = ("torch", "numpy", "pandas", "scipy", "sklearn")

#: The words before each help, found by walking the program.
WALK = """
import json, typer
from ecgtransfer_cli.app import app

def walk(command, words):
    yield " ".join([*words, "--help"])
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, [*words, name])

print(json.dumps(list(walk(typer.main.get_command(app), []))))
"""
#: Runs one command and writes its CPU seconds and imports below what it prints.
TIMED = f"""
import json, sys, time
from ecgtransfer_cli.main import main
try:
    main()
except SystemExit:
    pass
print()
heavy = [name for name in {HEAVY} if name in sys.modules]
print(json.dumps([time.process_time(), heavy]))
"""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--write", type=Path, default=RESULTS)
    asked = parser.parse_args()
    before = json.loads(asked.before.read_text())["cpu_seconds"] if asked.before else {}
    walked = subprocess.run([sys.executable, "-c", WALK], capture_output=True, check=True)
    seconds, imports = {}, {}
    print(f"| command | CPU seconds{' | before' * bool(before)} | imports |")
    print(f"| --- | ---:{' | ---:' * bool(before)} | --- |")
    for line in [*json.loads(walked.stdout), *OTHERS]:
        seconds[line], imports[line] = measured(line, asked.repeats)
        earlier = f" | {before.get(line, float('nan')):.2f}" if before else ""
        named = ", ".join(imports[line]) or "none"
        print(f"| `ecgtransfer {line}` | {seconds[line]:.2f}{earlier} | {named} |", flush=True)
    told = {
        "cpu_seconds": seconds,
        "imports": imports,
        "limit_seconds": LIMIT_S,
        "repeats": asked.repeats,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    asked.write.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")
    if slow := [line for line, value in seconds.items() if value > LIMIT_S]:
        raise SystemExit(f"over {LIMIT_S} s of CPU: {', '.join(slow)}")


def measured(line: str, repeats: int) -> tuple[float, list[str]]:
    """Least CPU seconds of a command, and the heavy packages that it imports."""
    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", TIMED, *line.split()], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return min(value for value, _ in runs), runs[0][1]


if __name__ == "__main__":
    main()
