"""Which weights of the guidance loss, on recorders that no reported transfer uses.

    python benchmarks/guidance_weights.py --set SET --source MODEL

SET, records and the short training are those of `benchmarks/transfer_before_after.py`, with other
recorders. For each recorder and seed every choice of weights trains a network from the same start,
for the same number of steps; the positives of the guidance term are target records, so that no
ratio of clean records plays a part. The best choice has the lowest denoising loss on fold 10, less
that of the source model. Beside it stand the sizes of the weighted gradients of the guidance and
cycle terms over that of the consistency term, on the network as trained. Adds to
`benchmarks/guidance_weights.json`; what is there is not done again.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ratio import over_seeds
from torch import Tensor
from transfer_before_after import Study, guidance, ratios, study, test_loss

from ecgtransfer.corpus import ECGSet
from ecgtransfer.diffusion import DiffusionModel, draw_sigma
from ecgtransfer.pipeline.pretrained import find_source
from ecgtransfer.pipeline.source import read_source
from ecgtransfer.transfer import (
    GuidanceNetwork,
    TgdpConfig,
    consistency_loss,
    cycle_loss,
    guided,
    noised_classification_loss,
)

RESULTS = Path(__file__).resolve().with_suffix(".json")
#: No transfer to these is reported.
RECORDERS = ("AT-6 6", "CS-12 E")
#: Guidance and cycle weights beside a consistency weight of 100, in the order in which they run;
#: those that need a noise-dependent classifier come last.
CHOICES = ((0.0, 0.0), (1.0, 0.0), (10.0, 0.0), (10.0, 1.0))
#: Batches behind the sizes of gradients.
BATCHES, BATCH_SIZE = 2, 16


def gradient_sizes(
    model: DiffusionModel, network: GuidanceNetwork, parts: Study, noisy: Any, seed: int
) -> dict[str, float]:
    """Root mean square size of each term's gradient, divided as in the loss, weights all 1."""
    generator = torch.Generator().manual_seed(7000 + seed)
    rng = np.random.default_rng([seed, 24])
    network.requires_grad_(True)
    parameters = list(network.parameters())
    squares: dict[str, list[float]] = {}

    def noise_of(x0: Tensor) -> tuple[Tensor, Tensor]:
        sigma = draw_sigma(len(x0), model.config.noise, generator)
        return sigma, torch.randn(x0.shape, generator=generator)

    for _ in range(BATCHES):
        x0, label = parts.fit.take(rng.integers(len(parts.fit), size=BATCH_SIZE))
        other, other_label = parts.source.take(rng.integers(len(parts.source), size=BATCH_SIZE))
        assert label is not None
        assert other_label is not None
        both = torch.cat([other, x0])
        is_target = torch.arange(len(both)) >= BATCH_SIZE
        sigma, noise = noise_of(both)
        drawn = noise_of(x0)
        size = x0[0].numel()
        terms = {
            "guidance": 2
            * noised_classification_loss(
                network, both, torch.cat([other_label, label]), is_target, sigma, noise
            ).mean()
            / size,
            "consistency": consistency_loss(model, network, x0, label, *drawn).mean(),
        }
        if noisy is not None:
            cycle = cycle_loss(network, x0, label, noisy.classifier, *drawn)
            terms["cycle"] = cycle.mean() / size
        for name, term in terms.items():
            gradients = torch.autograd.grad(term, parameters, allow_unused=True)
            square = sum(float(g.square().sum()) for g in gradients if g is not None)
            squares.setdefault(name, []).append(square)
    network.requires_grad_(False)
    return {name: float(np.mean(values)) ** 0.5 for name, values in squares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", type=Path, required=True)
    parser.add_argument("--source", required=True, help="folder of `ptbxl-nine`, as of 9439e99")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ecgset = ECGSet.open(options.set)
    labels = np.asarray(ecgset.labels, np.float32)
    model = read_source(find_source(options.source)).model.requires_grad_(False)
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    held["command"] = "python benchmarks/guidance_weights.py --set SET --source MODEL"
    each = held.setdefault("each", {})
    studies = [(recorder, seed) for seed in range(options.seeds) for recorder in RECORDERS]
    for with_cycle in (False, True):
        choices = [choice for choice in CHOICES if bool(choice[1]) == with_cycle]
        for recorder, seed in studies:
            found = each.setdefault(f"{recorder}, seed {seed}", {})
            missing = {name: choice for choice in choices if (name := told(*choice)) not in found}
            if not missing:
                continue
            parts = study(ecgset, labels, model, recorder, seed)
            source = test_loss(model, model, parts.test, seed)
            noisy = None
            if with_cycle:
                noisy = ratios(ecgset, labels, parts, model.config.noise, seed)
                found["noise-dependent ratio"] = {
                    "auc": noisy.diagnostics.auc,
                    "beats_chance": noisy.diagnostics.beats_chance,
                }
            for name, (eta_guidance, eta_cycle) in missing.items():
                config = replace(
                    TgdpConfig(),
                    target_positives=1.0,
                    eta_guidance=eta_guidance,
                    eta_cycle=eta_cycle,
                    eta_consistency=100.0,
                )
                began = time.process_time()
                network, weight, facts = guidance(model, parts, config, None, noisy, seed)
                seconds = time.process_time() - began
                loss = test_loss(guided(model, network, weight), model, parts.test, seed)
                sizes = gradient_sizes(model, network, parts, noisy, seed)
                consistency = 100.0 * sizes["consistency"]
                found[name] = {
                    "loss_less_source": float((loss - source).mean()),
                    "guidance_over_consistency": eta_guidance * sizes["guidance"] / consistency,
                    "cycle_over_consistency": eta_cycle * sizes.get("cycle", 0.0) / consistency,
                    "seconds": seconds,
                    **facts,
                }
                print(recorder, seed, name, json.dumps(found[name]), flush=True)
                held["loss_less_source"] = {
                    name: over_seeds(values)
                    for name in map(told, *zip(*CHOICES, strict=True))
                    if (values := [e[name]["loss_less_source"] for e in each.values() if name in e])
                }
                options.results.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")


def told(eta_guidance: float, eta_cycle: float) -> str:
    """A choice of weights in words."""
    return f"guidance {eta_guidance:g}, cycle {eta_cycle:g}"


if __name__ == "__main__":
    main()
