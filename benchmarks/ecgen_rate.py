"""Seconds that `ecgen` takes to sample; `benchmarks/throughput.py` runs it.

    PYTHON benchmarks/ecgen_rate.py --threads 2 --batches 8 32 --steps 5 --repeats 3

PYTHON is the interpreter of an environment with `ecgen` in it, which needs nothing of ours. The
model is what ecgen builds by default, a U-Net of 12.2 M parameters with its DDIM sampler, told the
label by its own multi-label encoder; random weights. Prints one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import version

import ecgen
import torch
from ecgen.families.continuous.module import DiffusionModule

LABELS, SAMPLES = 9, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batches", type=int, nargs="+", required=True)
    parser.add_argument("--steps", type=int, required=True, help="timed steps of the sampler")
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--bfloat16", action="store_true", help="under torch.autocast")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    encoder = {"field": "labels", "name": "multilabel", "params": {"num_labels": LABELS}}
    model = DiffusionModule(conditioning={"encoders": [encoder]}).eval()

    def sampling(batch: int) -> Callable[[], None]:
        label = torch.eye(LABELS)[torch.arange(batch) % LABELS].numpy()

        def work() -> None:
            with torch.autocast("cpu", torch.bfloat16) if options.bfloat16 else nullcontext():
                ecgen.sample(
                    model,
                    n=batch,
                    cond={"labels": label},
                    steps=options.steps,
                    seq_length=SAMPLES,
                    batch_size=batch,
                    seed=0,
                )

        return work

    seconds = {}
    for batch in options.batches:
        work = sampling(batch)
        work()
        seconds[batch] = []
        for _ in range(options.repeats):
            began = time.perf_counter()
            work()
            seconds[batch].append(time.perf_counter() - began)
    found = {
        "version": version("ecgen"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": model.config.sample_steps,
        "seconds": seconds,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
