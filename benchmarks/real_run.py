"""The real run: PTB-XL to ICBEB2018, and PTB-XL to one of its own devices, by public commands.

    python benchmarks/real_run.py --data DATA --work WORK

DATA holds `ptbxl/` (csv and records100) and `icbeb/`; WORK takes the sets and runs and may be
kept: what is done there is not done again. Writes `benchmarks/real_run.json`, and a report of each
target without real records to WORK. Hours on two cores.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEVICE = "AT-6 C 5.5"
METHODS = ("source", "finetune", "tgdp")
TRAIN_RECORDS, RATIO = 80, 4


def run(*words: str | Path) -> dict:
    """One command of the public command line; its JSON."""
    command = ["ecgtransfer", *(str(word) for word in words), "--json"]
    print("$", " ".join(command), file=sys.stderr, flush=True)
    began = time.monotonic()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return json.loads(done.stdout)


def prepared(corpus: str, folder: Path, to: Path) -> dict:
    """Prepare a set, unless it is there."""
    if not to.exists():
        run("data", "prepare", corpus, folder, "--to", to)
    return run("data", "verify", to)


def transferred(name: str, work: Path, options: argparse.Namespace, target: list[str]) -> dict:
    """All methods on one target, and their evaluation against each other."""
    folder = work / name
    transfers, sets = {}, {}
    for method in METHODS:
        transfers[method] = run(
            *("transfer", folder, "--source", work / "source", *target),
            *("--train-records", str(TRAIN_RECORDS), "--method", method),
            *("--folds", "1", "--seed", str(options.seed), "--split-seed", str(options.seed)),
        )
        sets[method] = run(
            *("generate", folder, "--ratio", str(RATIO), "--method", method, "--no-wfdb"),
            *("--seed", str(options.seed)),
        )
    steps = ("--classifier-steps", str(options.classifier_steps), "--seed", str(options.seed))
    answers = {
        "utility": run(
            *("evaluate", "utility", folder, "--arm", "source", "--arm", "every-baseline"),
            *("--arm", "control", "--ratio", "1", "--ratio", str(RATIO)),
            *("--seeds", str(options.seeds), "--folds", str(options.folds), *steps),
        ),
        "fidelity": run("evaluate", "fidelity", folder, *steps),
        "physiology": run("evaluate", "physiology", folder, "--seed", str(options.seed)),
        "privacy": run("evaluate", "privacy", folder, *steps),
    }
    run("report", folder, "--without-real", "--to", work / f"report-{name}")
    return {"transfers": transfers, "sets": sets, "answers": answers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000, help="training of the source")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each arm")
    parser.add_argument("--classifier-steps", type=int, default=200)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sets = options.work / "sets"
    prepared_sets = {
        "ptbxl": prepared("ptbxl", options.data / "ptbxl", sets / "ptbxl"),
        "icbeb2018": prepared("icbeb2018", options.data / "icbeb", sets / "icbeb"),
    }
    source = run(
        *("train", options.work / "source", "--set", sets / "ptbxl", "--select", "fold=1-8"),
        *("--select", f"device!={DEVICE}", "--validation", "fold=9", "--preset", "cpu"),
        *("--steps", str(options.steps), "--seed", str(options.seed)),
    )
    device = ["--target", str(sets / "ptbxl"), "--select", f"device={DEVICE}"]
    results = {
        "command": f"python benchmarks/real_run.py --steps {options.steps} --seeds "
        f"{options.seeds} --classifier-steps {options.classifier_steps} --folds {options.folds} "
        f"--seed {options.seed} --data DATA --work WORK",
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "sets": {name: card["fingerprint"] for name, card in prepared_sets.items()},
        "source": source,
        "icbeb2018": transferred("icbeb", options.work, options, ["--target", str(sets / "icbeb")]),
        "device": transferred("device", options.work, options, device),
    }
    text = json.dumps(results, indent=1, sort_keys=True)
    (HERE / "real_run.json").write_text(text.replace(f"{options.work}/", "WORK/") + "\n")


if __name__ == "__main__":
    main()
