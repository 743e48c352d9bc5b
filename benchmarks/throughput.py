"""Training and guided generation at the CPU preset, in records a second.

    python benchmarks/throughput.py

12 leads, 10 s, 100 Hz. Random weights: the arithmetic is the same. Writes
`benchmarks/throughput.json`. Run it on an idle machine.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ecgtransfer.diffusion import (
    DiffusionConfig,
    DiffusionModel,
    denoising_loss,
    draw_sigma,
    fastest_precision,
    karras_sigmas,
    sample,
)
from ecgtransfer.pipeline import PRESETS, SamplerSettings
from ecgtransfer.training import averaged_copy, record_noise, update_average
from ecgtransfer.transfer import GuidanceConfig, GuidanceNetwork, guided

HERE = Path(__file__).resolve().parent
LABELS, LEADS, SAMPLES = 9, 8, 1000
GENERATED = 32


def rates(work: Callable[[], None], records: int, repeats: int) -> dict[str, float]:
    """Records a second: median, lowest and highest of some repeats after a warm-up."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    found = sorted(records / s for s in seconds)
    return {"median": statistics.median(found), "low": found[0], "high": found[-1]}


def main() -> None:
    preset = PRESETS["cpu"]
    config = DiffusionConfig(
        label_names=tuple(str(number) for number in range(LABELS)),
        samples=SAMPLES,
        sampling_rate_hz=100,
        unet=preset.unet(LABELS, LEADS),
        precision=fastest_precision(),
    )
    model = DiffusionModel(config)
    average = averaged_copy(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    batch = preset.train.batch_size
    signals = torch.randn(batch, LEADS, SAMPLES, generator=generator)
    label = torch.eye(LABELS)[torch.arange(batch) % LABELS]

    def train() -> None:
        x0 = model.units.to_model(signals)
        sigma = draw_sigma(batch, config.noise, generator)
        noise = torch.randn(x0.shape, generator=generator)
        loss = denoising_loss(model, x0, label, sigma, noise).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        update_average(average, model, preset.train.ema_decay, 1000)

    training = rates(train, batch, repeats=8)
    model.eval().requires_grad_(False)
    guidance = GuidanceNetwork(GuidanceConfig(labels=LABELS)).requires_grad_(False)
    sampler = SamplerSettings()
    sigmas = karras_sigmas(sampler.steps, config.noise.sigma_min, config.noise.sigma_max)
    noise = record_noise(range(GENERATED), (LEADS, SAMPLES))
    classes = torch.eye(LABELS)[torch.arange(GENERATED) % LABELS]
    results = {
        "command": "python benchmarks/throughput.py",
        "preset": "cpu",
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": config.precision,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "sampler": f"{sampler.solver}, {sampler.steps} steps",
        "training_records_per_s": training,
        "guided_records_per_s": rates(
            lambda: model.units.to_mv(sample(guided(model, guidance), noise, classes, sigmas)),
            GENERATED,
            repeats=3,
        ),
        "unguided_records_per_s": rates(
            lambda: model.units.to_mv(sample(model, noise, classes, sigmas)), GENERATED, repeats=3
        ),
    }
    text = json.dumps(results, indent=1, sort_keys=True)
    (HERE / "throughput.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
