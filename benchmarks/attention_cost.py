"""What attention costs in a training step on a CPU, written out and by torch's own; and compiling.

    OMP_NUM_THREADS=1 python benchmarks/attention_cost.py

Forward and backward of one attention at the sizes of preset `cpu`, and whole steps of its network
as they are and by `torch.compile`, batch 32, in one run, the sides in turn; CPU time of one thread.
Random weights: the arithmetic is the same. Writes `benchmarks/attention_cost.json`.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

from ecgtransfer.diffusion import ECGDenoiser, fastest_precision
from ecgtransfer.models import UNet1d, attend
from ecgtransfer.pipeline import PRESETS

HERE = Path(__file__).resolve().parent
BATCH, SAMPLES, LABELS = 32, 1000, 9
#: Heads and moments of the two levels with attention, 32 channels a head.
LEVELS = ((6, 63), (8, 32))
REPEATS = 12


def compared(sides: dict[str, Callable[[], None]]) -> dict[str, dict[str, float]]:
    """Milliseconds of CPU time of each side, after two calls to warm up: median and range."""
    for work in sides.values():
        work()
        work()
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(REPEATS):
        for name, work in sides.items():
            began = time.process_time()
            work()
            found[name].append(1000 * (time.process_time() - began))
    return {
        name: {
            "median": round(statistics.median(taken), 2),
            "low": round(min(taken), 2),
            "high": round(max(taken), 2),
        }
        for name, taken in found.items()
    }


def attention(heads: int, moments: int) -> dict[str, dict[str, float]]:
    """One attention, forward and backward."""
    parts = [
        torch.randn(BATCH, heads, moments, 32, dtype=torch.bfloat16, requires_grad=True)
        for _ in range(3)
    ]

    def step(function: Callable[..., torch.Tensor]) -> None:
        function(*parts).float().square().mean().backward()

    return compared(
        {
            "written out": lambda: step(attend),
            "torch's own": lambda: step(F.scaled_dot_product_attention),
        }
    )


def network() -> dict[str, dict[str, float]]:
    """Whole training steps of preset cpu."""
    model = ECGDenoiser(UNet1d(PRESETS["cpu"].unet(LABELS, 8)), fastest_precision())
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    x, sigma, label = torch.randn(BATCH, 8, SAMPLES), torch.ones(BATCH), torch.zeros(BATCH, LABELS)

    def step(denoise: Callable[..., torch.Tensor]) -> None:
        optimiser.zero_grad()
        (denoise(x, sigma, label) - x).square().mean().backward()
        optimiser.step()

    compiled = torch.compile(model)
    return compared({"as it is": lambda: step(model), "compiled": lambda: step(compiled)})


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = {
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "unit": "ms of CPU time, one thread",
        "attention": {f"{heads} heads, {t} moments": attention(heads, t) for heads, t in LEVELS},
        "training step, preset cpu": network(),
    }
    text = json.dumps(found, indent=1)
    (HERE / "attention_cost.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
