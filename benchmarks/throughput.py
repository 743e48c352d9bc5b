"""Training and generation at the CPU preset in records a second, beside two peers.

    python benchmarks/throughput.py --ecgen PYTHON

PYTHON is the interpreter of an environment with `ecgen` 1.1.0; without it ecgen is left out. All
generate the same, 12 leads, 10 s, 100 Hz, with the same number of threads, each at the better of
two numbers of records a call, ours with all its stages: rhythm, beat shapes, records; weights are
random: the arithmetic is the same. Of the peers only
some steps of their samplers are timed, which are alike, and multiplied. Also the machine's rate of
matrix products, the share of it that training and sampling reach (floating point operations as
`torch.utils.flop_counter` counts them: products, convolutions and attention), and the time that
reading a batch takes. Writes `benchmarks/throughput.json`, in about 4 minutes on two cores. Run it
on an idle machine.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sssd_cost import SSSDCost, SSSDSizes, sampled
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ecgtransfer.corpus import label_space
from ecgtransfer.diffusion import (
    BeatShapeConfig,
    BeatShapeModel,
    Cascade,
    CascadeConditions,
    Condition,
    Denoiser,
    DiffusionConfig,
    DiffusionModel,
    LayoutBatch,
    beat_channels,
    denoising_loss,
    draw_sigma,
    fastest_precision,
    sample,
    sampling_sigmas,
    spread_label,
)
from ecgtransfer.pipeline import PRESETS, SamplerSettings
from ecgtransfer.rhythm import RhythmConfig, RhythmModel
from ecgtransfer.signals import Beats, expand_leads, shape_samples
from ecgtransfer.simulation import SOURCE_HOSPITAL, simulate_ecgset
from ecgtransfer.training import (
    averaged_copy,
    label_weights,
    record_noise,
    shuffled_batches,
    update_average,
)
from ecgtransfer.transfer import GuidanceConfig, GuidanceNetwork, guided

HERE = Path(__file__).resolve().parent
LABELS, LEADS, SAMPLES = 9, 8, 1000
#: Statements that the model knows, the labels among them.
STATEMENTS = 47
#: Records a call that are tried.
OUR_BATCHES, ECGEN_BATCHES, SSSD_BATCHES = (16, 32), (8, 32), (1, 4)
#: Timed steps of ecgen's 50 and SSSD-ECG's 200.
ECGEN_STEPS, SSSD_STEPS = 5, 2
#: Side of the square matrices whose product is timed.
SIDE = 4096
#: Records of the set that batches are read from, and batches that are timed together.
RECORDS, BATCHES = 4000, 200

Spread = dict[str, float]


def spread(values: Sequence[float]) -> Spread:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def timed(work: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each repeat after a warm-up."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def fastest(seconds: dict[int, list[float]], share: float = 1.0) -> dict[str, Any]:
    """Records a second at the better number of records a call; `share` of the work was timed."""
    rates = {
        batch: spread([share * batch / each for each in found]) for batch, found in seconds.items()
    }
    best = max(rates, key=lambda batch: rates[batch]["median"])
    return {
        "records_per_s": rates[best],
        "records_a_call": best,
        "tried": {str(batch): rate["median"] for batch, rate in rates.items()},
    }


def flop_of(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def ratio(ours: Spread, theirs: Spread) -> Spread:
    return {
        "median": ours["median"] / theirs["median"],
        "low": ours["low"] / theirs["high"],
        "high": ours["high"] / theirs["low"],
    }


def product_rates(repeats: int) -> dict[str, float]:
    """Floating point operations a second of a large square product, the fastest repeat."""
    found = {}
    for name in ("float32", "bfloat16"):
        a, b = (torch.randn(SIDE, SIDE).to(getattr(torch, name)) for _ in range(2))
        found[name] = 2 * SIDE**3 / min(timed(partial(torch.mm, a, b), max(repeats, 3)))
    return found


def our_training(model: DiffusionModel, repeats: int) -> tuple[list[float], int, int]:
    """Seconds a step, records a step, operations a step."""
    preset, config = PRESETS["cpu"], model.config
    average = averaged_copy(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(0)
    batch = preset.train.batch_size
    signals = torch.randn(batch, LEADS, SAMPLES, generator=generator)
    names = config.label_names
    told = spread_label(torch.eye(LABELS)[torch.arange(batch) % LABELS], names[:LABELS], names)
    beats = [Beats(np.arange(0.4, 9.9, 0.8), np.ones(12, np.int8), 10.0)] * batch
    shapes_mv = np.random.default_rng(0).normal(size=(batch, 2, LEADS, shape_samples(100)))

    def train() -> None:
        known = model.condition(told.label, known=told.known, beats=beats, shapes_mv=shapes_mv)
        x0, condition = model.to_model(signals, known)
        sigma = draw_sigma(batch, config.noise, generator)
        noise = torch.randn(x0.shape, generator=generator)
        loss = denoising_loss(model, x0, condition, sigma, noise).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        update_average(average, model, preset.train.ema_decay, 1000)

    seconds = timed(train, 8 * repeats)
    return seconds, batch, flop_of(train)


def our_generation(model: DiffusionModel, repeats: int) -> dict[str, dict[str, Any]]:
    """Guided and unguided, with the operations of a record."""
    config = model.config
    names = config.label_names
    guidance = GuidanceNetwork(
        GuidanceConfig(
            labels=len(names),
            masked_labels=True,
            condition_channels=config.unet.condition_channels,
            scalars=config.unet.scalars,
        )
    ).requires_grad_(False)
    duration_s = config.samples / config.sampling_rate_hz
    cascade = Cascade(
        RhythmModel(RhythmConfig.of_records(names, duration_s)),
        BeatShapeModel(BeatShapeConfig(names, config.sampling_rate_hz)),
        model,
    )
    conditions = CascadeConditions(cascade, names[:LABELS])
    sampler = SamplerSettings()
    sigmas = sampling_sigmas(sampler.steps, model.config.noise)

    def drawing(denoise: Denoiser, batch: int) -> Callable[[], object]:
        noise = record_noise(range(batch), (LEADS, SAMPLES))
        label = torch.eye(LABELS)[torch.arange(batch) % LABELS]

        @torch.no_grad()
        def draw() -> object:
            condition, _ = conditions(label, range(batch))
            x0 = sample(denoise, noise, condition, sigmas, sampler.solver)
            return expand_leads(model.to_mv(x0, condition).numpy())

        return draw

    def countable(x: Tensor, sigma: Tensor, label: Condition) -> Tensor:
        """The counter cannot follow a slope whose variable is itself the input of a module."""
        log_h: Tensor = guidance(x.clone(), sigma, label)
        return log_h

    denoisers: dict[str, tuple[Denoiser, Denoiser]] = {
        "guided": (guided(model, guidance), guided(model, countable)),
        "unguided": (model, model),
    }
    return {
        name: fastest({batch: timed(drawing(denoise, batch), repeats) for batch in OUR_BATCHES})
        | {"flop_per_record": flop_of(drawing(counted, 2)) // 2}
        for name, (denoise, counted) in denoisers.items()
    }


def ecgen_generation(python: str, bfloat16: bool, repeats: int) -> dict[str, Any]:
    """The default U-Net and sampler of ecgen, in a process of its own."""
    threads = str(torch.get_num_threads())
    command = [python, str(HERE / "ecgen_rate.py"), "--threads", threads]
    command += ["--batches", *map(str, ECGEN_BATCHES), "--steps", str(ECGEN_STEPS)]
    command += ["--repeats", str(repeats), *(["--bfloat16"] if bfloat16 else [])]
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    told = json.loads(done.stdout.splitlines()[-1])
    steps = told["steps"]
    seconds = {int(batch): found for batch, found in told["seconds"].items()}
    return fastest(seconds, ECGEN_STEPS / steps) | {
        "network": f"ecgen {told['version']}, default U-Net, {told['parameters']} parameters",
        "sampler": f"DDIM, {steps} steps",
        "method": f"extrapolated from {ECGEN_STEPS} steps",
    }


def sssd_generation(network: SSSDCost, precision: torch.dtype, repeats: int) -> dict[str, Any]:
    sizes = network.sizes
    seconds = {}
    for batch in SSSD_BATCHES:
        label = torch.eye(sizes.labels)[:batch]
        seconds[batch] = timed(partial(sampled, network, label, SSSD_STEPS, precision), repeats)
    return fastest(seconds, SSSD_STEPS / sizes.steps) | {
        "network": f"cost model of SSSD-ECG, {sum(p.numel() for p in network.parameters())} "
        "parameters beside its S4 kernels, which are computed once",
        "sampler": f"ancestral, {sizes.steps} steps",
        "method": f"extrapolated from {SSSD_STEPS} steps",
    }


def batch_making(batch: int, repeats: int) -> Spread:
    """Seconds that a batch takes from the disk to tensors, as `fit_diffusion` makes it."""
    with tempfile.TemporaryDirectory() as folder:
        records = simulate_ecgset(
            Path(folder) / "set", SOURCE_HOSPITAL, RECORDS, 0, label_space("icbeb9")
        )
        labels, beats = np.asarray(records.labels, np.float32), records.beats
        order = shuffled_batches(RECORDS, batch, 0, label_weights(labels))

        def make() -> None:
            for step in range(BATCHES):
                index = order(step)
                torch.from_numpy(records.independent_mv(index))
                torch.from_numpy(labels[index])
                LayoutBatch.of([beats[number] for number in index], SAMPLES, 100)
                np.stack([beat_channels(beats[number], SAMPLES, 100) for number in index])

        return spread([seconds / BATCHES for seconds in timed(make, repeats)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ecgen", metavar="PYTHON", help="interpreter with ecgen installed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=HERE / "throughput.json")
    options = parser.parse_args()
    repeats, busy = options.repeats, os.getloadavg()[0]
    preset = PRESETS["cpu"]
    config = DiffusionConfig(
        label_names=tuple(str(number) for number in range(STATEMENTS)),
        samples=SAMPLES,
        sampling_rate_hz=100,
        unet=preset.unet(STATEMENTS, LEADS, factorised=True),
        precision=fastest_precision(),
        masked_labels=True,
        residual=True,
    )
    model = DiffusionModel(config)
    products = product_rates(repeats)
    peak = products[config.precision]
    seconds, batch, flop = our_training(model, repeats)
    training = fastest({batch: seconds})["records_per_s"]
    model.eval().requires_grad_(False)
    ours = our_generation(model, repeats)
    making = batch_making(batch, repeats)
    step = statistics.median(seconds)

    precisions = list(dict.fromkeys(["float32", config.precision]))
    peers: dict[str, Any] = {"ecgen": "left out: no interpreter with ecgen was named by --ecgen"}
    if options.ecgen:
        peers["ecgen"] = {
            name: ecgen_generation(options.ecgen, name == "bfloat16", repeats)
            for name in precisions
        }
    network = SSSDCost(SSSDSizes()).eval()
    peers["sssd_cost"] = {
        name: sssd_generation(network, getattr(torch, name), repeats) for name in precisions
    }
    ratios = {
        f"{kind}_to_{peer}_in_{name}": ratio(mine["records_per_s"], found["records_per_s"])
        for kind, mine in ours.items()
        for peer, measured in peers.items()
        if isinstance(measured, dict)
        for name, found in measured.items()
    }
    sampler = SamplerSettings()
    results = {
        "command": "python benchmarks/throughput.py --ecgen PYTHON",
        "repeats": repeats,
        "preset": "cpu",
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": config.precision,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "load_before": busy,
        "sampler": f"{sampler.solver}, {sampler.steps} steps",
        "training_records_per_s": training,
        **{f"{kind}_records_per_s": mine["records_per_s"] for kind, mine in ours.items()},
        "records_a_call": {kind: mine["records_a_call"] for kind, mine in ours.items()},
        "tried_records_a_call": {kind: mine["tried"] for kind, mine in ours.items()},
        "peers": peers,
        "ratios": ratios,
        "precision_of_peers": "float32 is how they come, the other our own arithmetic put on them",
        "matrix_product_gflop_per_s": {name: rate / 1e9 for name, rate in products.items()},
        "mflop_per_record": {
            "training": flop / batch / 1e6,
            **{kind: mine["flop_per_record"] / 1e6 for kind, mine in ours.items()},
        },
        "share_of_matrix_product": {
            "training": flop / step / peak,
            **{
                kind: mine["flop_per_record"] * mine["records_per_s"]["median"] / peak
                for kind, mine in ours.items()
            },
        },
        "operations": "counted by torch.utils.flop_counter: products, convolutions, attention",
        "batch_making": {
            "records": batch,
            "seconds": making,
            "share_of_training_step": making["median"] / step,
            "from": f"a set of {RECORDS} simulated records on disk, read once before",
        },
    }
    text = json.dumps(results, indent=1, sort_keys=True)
    options.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
