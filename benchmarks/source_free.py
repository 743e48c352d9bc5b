"""Guidance that learns from the source model's own records, against recorded ones of the source.

    python benchmarks/source_free.py --source NAME=RUN ... --source-set SET --target SET --work WORK

Each RUN holds a source model (weak ones and well-trained ones belong into one table). For every
source, kind of source records and seed a TGDP transfer by the public command, in a run of its own
below WORK; what is done is not done again. Scored by the denoising loss of test records, which no
training and no choice has seen, less that of the source model itself: same records, same noise.
Adds to `benchmarks/source_free.json`.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from test_loss import losses

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "source_free.json"
TRAIN_RECORDS = 80
#: Options of `ecgtransfer transfer` by what the guidance learns from.
KINDS = {
    "source": ("--method", "source"),
    "recorded": ("--method", "tgdp", "--folds", "1", "--source-records", "real"),
    "drawn": ("--method", "tgdp", "--folds", "1", "--source-records", "model"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", action="append", required=True, help="NAME=RUN")
    parser.add_argument("--source-set", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    for named in options.source:
        name, _, run = named.partition("=")
        found = scores(name, Path(run), options)
        held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(held | {name: found}, indent=1, sort_keys=True) + "\n")
        print(name, json.dumps(found["difference_to_source"]), flush=True)


def scores(name: str, source: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both kinds of source records on one source model, by seed and as means over seeds."""
    by_seed = []
    for seed in range(options.seeds):
        summaries, places = {}, {}
        for kind, words in KINDS.items():
            folder = options.work / f"{name}-{kind}-{seed}"
            summaries[kind] = transfer(folder, source, words, seed, options)
            places[kind] = (folder, words[1])
        found = losses(places, seed)
        by_seed.append(
            {
                "test": found,
                "transfers": {
                    kind: {
                        key: summaries[kind][key]
                        for key in ("seconds", "held_out_loss", "source_loss", "diagnostics")
                        if key in summaries[kind]
                    }
                    for kind in ("recorded", "drawn")
                },
            }
        )
    card = json.loads((source / "source" / "card.json").read_text())
    return {
        "command": f"python benchmarks/source_free.py --source {name}=RUN --source-set SET "
        f"--target SET --work WORK --seeds {options.seeds}",
        "source": {key: card["results"][key] for key in ("steps", "parameters", "validation_loss")},
        "by_seed": by_seed,
        "difference_to_source": {
            kind: [round(each["test"]["difference_to_source"][kind][0], 5) for each in by_seed]
            for kind in ("recorded", "drawn")
        },
        "mean_difference_to_source": {
            kind: float(
                np.mean([each["test"]["difference_to_source"][kind][0] for each in by_seed])
            )
            for kind in ("recorded", "drawn")
        },
    }


def transfer(
    folder: Path, source: Path, words: tuple[str, ...], seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One transfer by the public command; its JSON."""
    command = [
        *("ecgtransfer", "transfer", str(folder), "--source", str(source)),
        *("--source-set", str(options.source_set), "--target", str(options.target)),
        *("--train-records", str(TRAIN_RECORDS), "--seed", str(seed), "--split-seed", str(seed)),
        *(*words, "--json"),
    ]
    print("$", " ".join(command), file=sys.stderr, flush=True)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


if __name__ == "__main__":
    main()
