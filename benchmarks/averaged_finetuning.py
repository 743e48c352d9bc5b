"""How much of the stack's gain is averaging: five fine-tunings, one a fold, without guidance.

    python benchmarks/averaged_finetuning.py STUDY

STUDY is a folder for the source models of the study of mixtures, trained where they are missing.
Same records, networks, rule and scores as `ecgtransfer mixtures`, whose rows stand beside it from
`benchmarks/mixtures/mixtures.json`. Writes `benchmarks/averaged_finetuning.json`; minutes.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from ecgtransfer.experiments.mixtures import score_board, transfer_task
from ecgtransfer.experiments.problems import problem
from ecgtransfer.experiments.study import FULL, SCORES, Study
from ecgtransfer.experiments.transfer_task import FOLDS, NOISE
from ecgtransfer.statistics import (
    student_estimate,
)
from ecgtransfer.transfer import FinetuneConfig, averaged, finetune, patient_folds
from ecgtransfer.transfer.methods.finetune import unfrozen

HERE = Path(__file__).resolve().parent
PLACES = (("paper", 30), ("paper", 100), ("unequal", 100))
BESIDE = ("finetune", "tgdp", "stack")


def scores(study: Path, name: str, n: int, seed: int) -> dict[str, float]:
    """Of the mean of the fine-tuned denoisers of all folds."""
    with tempfile.TemporaryDirectory() as scratch:
        given = transfer_task(FULL, study, name, n, seed, Path(scratch))
        rate = given.finetuned.chosen["learning_rate"]
        config = FinetuneConfig(noise=NOISE, train=given.train_config(rate))
        tuned = []
        for number, (fit, held_out) in enumerate(patient_folds(given.target, FOLDS, seed)):
            folder = Path(scratch) / f"fold-{number}"
            network, _ = finetune(unfrozen(given.source), fit, held_out, config, folder)
            tuned.append(network.requires_grad_(False))
        judged = asdict(score_board(FULL, problem(name), seed).judge(averaged(tuned)))
    return {score: judged[score] for score in SCORES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    study = parser.parse_args().study
    (study / "sources").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    held = Study.open(HERE / "mixtures")
    places = []
    for name, n in PLACES:
        found = [scores(study, name, n, seed) for seed in range(FULL.seeds)]
        rows = {row.method: row for row in held.table(name, n)}
        places.append(
            {
                "problem": name,
                "n": n,
                "averaged fine-tuning": {
                    score: asdict(student_estimate([each[score] for each in found]))
                    for score in SCORES
                },
                **{
                    method: {score: asdict(rows[method].scores[score]) for score in SCORES}
                    for method in BESIDE
                },
            }
        )
        print(
            name,
            n,
            {
                key: round(places[-1][key]["score_error"]["value"], 4)
                for key in ("averaged fine-tuning", *BESIDE)
            },
            flush=True,
        )
    results = {
        "command": "python benchmarks/averaged_finetuning.py STUDY",
        "seeds": FULL.seeds,
        "places": places,
    }
    text = json.dumps(results, indent=1, sort_keys=True)
    (HERE / "averaged_finetuning.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
