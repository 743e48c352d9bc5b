"""Which transfer should be the default: variants on real ECGs, by the loss on test records.

    python benchmarks/transfer_variants.py --work WORK --target device --seed 0

WORK holds `source` (a run with a trained source) and `sets/ptbxl` and `sets/icbeb`, as
`benchmarks/real_run.py` leaves them; each variant gets a run of its own there, and what is done is
not done again. Adds its result to `benchmarks/transfer_variants.json`. The loss is denoising loss,
and no variant sees a test record.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from test_loss import losses

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "transfer_variants.json"
DEVICE = "AT-6 C 5.5"
TARGETS = {
    "icbeb2018": ("--target", "sets/icbeb"),
    "device": ("--target", "sets/ptbxl", "--select", f"device={DEVICE}"),
}
#: Settings of the consistency loss alone, beside this script.
ALONE = ("--config", str(HERE / "consistency_alone.toml"))
TRAIN_RECORDS = 80
#: Options of `ecgtransfer transfer` by variant, in the order in which they run.
VARIANTS = {
    "source": ("--method", "source"),
    "all terms, one split": ("--method", "tgdp"),
    "consistency, one split": ("--method", "tgdp", *ALONE),
    "fine-tuning": ("--method", "finetune"),
    "LoRA": ("--method", "lora"),
    "DiffFit": ("--method", "difffit"),
    "consistency, cross-fitted": ("--method", "tgdp", *ALONE),
    "stack": ("--method", "stack", *ALONE),
}
#: These share a run, so that the second takes the guidance of the first over.
CROSS_FITTED = ("consistency, cross-fitted", "stack")


def transfer(work: Path, target: str, name: str, folds: int, seed: int) -> dict:
    """One variant by the public command; its JSON."""
    folder = folder_of(work, target, name, folds, seed)
    where = [str(work / word) if word.startswith("sets/") else word for word in TARGETS[target]]
    words = [
        *("transfer", str(folder), "--source", str(work / "source"), *where, *VARIANTS[name]),
        *("--train-records", str(TRAIN_RECORDS), "--seed", str(seed), "--split-seed", str(seed)),
    ]
    words += ["--folds", str(folds) if name in CROSS_FITTED else "1"]
    print("$ ecgtransfer", " ".join(words), file=sys.stderr, flush=True)
    done = subprocess.run(
        ["ecgtransfer", *words, "--json"], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def folder_of(work: Path, target: str, name: str, folds: int, seed: int) -> Path:
    """The run of a variant."""
    if name in CROSS_FITTED:
        name = f"{folds} folds"
    return work / "variants" / "-".join([target, *name.replace(",", "").split(), f"seed{seed}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of target records and trainings")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="none given: all")
    options = parser.parse_args()
    work, target, folds, seed = options.work, options.target, options.folds, options.seed
    names = [name for name in VARIANTS if name in (options.variant or VARIANTS) or name == "source"]
    summaries = {}
    for name in names:
        summaries[name] = transfer(work, target, name, folds, seed)
    methods = {name: VARIANTS[name][1] for name in names}
    scores = losses(
        {name: (folder_of(work, target, name, folds, seed), methods[name]) for name in names}, seed
    )
    held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    chosen = "".join(f' --variant "{name}"' for name in names if options.variant)
    held[f"{target}, seed {seed}, {folds} folds"] = {
        "command": f"python benchmarks/transfer_variants.py --work WORK --target {target} "
        f"--folds {folds} --seed {seed}{chosen}",
        "transfers": {
            name: {
                "options": " ".join(VARIANTS[name]),
                "seconds": summary["seconds"],
                "trained_parameters": summary["trained_parameters"],
                "held_out_loss": summary["held_out_loss"],
                "source_held_out_loss": summary["source_loss"],
            }
            for name, summary in summaries.items()
        },
        "test": scores,
    }
    RESULTS.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
    print(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
