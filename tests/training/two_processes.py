"""A training that `test_processes.py` starts in two processes; each writes what it met."""

import atexit
import json
import sys
from pathlib import Path

import torch
from torch import nn

from ecgtransfer.training import TrainConfig, fit, is_main_process, main_process_first


def main(folder: Path) -> None:
    """Fit a line; batch number n holds the numbers n and -n."""
    met: list[int] = []
    # What is registered first runs last.
    atexit.register(lambda: torch.distributed.is_initialized() or print("parted", flush=True))
    with main_process_first():
        order = len(list(folder.glob("begun-*")))
        (folder / f"begun-{order}").touch()
    network = nn.Linear(1, 1)
    nn.init.zeros_(network.weight)

    def loss(module, batch, generator):
        met.append(batch)
        x = torch.tensor([[float(batch)], [-float(batch)]])
        return (module(x) - 3 * x).square()[:, 0]

    config = TrainConfig(steps=20, batch_size=2, learning_rate=0.1, warmup_steps=1, ema_decay=0)
    fit(network, loss, lambda number: number, config, folder / "fit")
    result = {"met": met, "weight": network.weight.item(), "main": is_main_process()}
    (folder / f"result-{order}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
