"""Labelled synthetic records, drawn one seed each, written to disk as they come.

What a record is depends on the model, its label, its seed and the sampler alone. Floating-point
convolutions, however, round differently for batches of different sizes, which is enough to move
some samples by a microvolt; so the network always sees the same number of records at a time, and
the same ones together, whatever is drawn between two saves and wherever a stopped run goes on.
"""

import json
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgtransfer.corpus import ECGSet, ECGSetWriter, LabelSpace, microvolts
from ecgtransfer.diffusion import Denoiser, sample
from ecgtransfer.errors import ConfigError, CorpusError, RunError
from ecgtransfer.signals import INDEPENDENT_LEADS, expand_leads
from ecgtransfer.synthesis.folders import require_space, sole_writer
from ecgtransfer.synthesis.request import SynthesisRequest
from ecgtransfer.training import record_noise

#: Millivolts beyond which a sample is broken, in any of the 12 leads: int16 microvolts end at
#: 32.767, and the largest sample of PTB-XL is below 30.
LARGEST_MV = 32.0

#: Records in one call of the network. On two CPU cores 16 is the fastest; an accelerator is idle
#: with so few.
NETWORK_BATCH_CPU = 16
NETWORK_BATCH_ACCELERATOR = 256

#: Bytes of the table that a record takes at most while the parts of the table are joined.
TABLE_BYTES = 400

#: What `card_extra` must say, so that each set tells where it comes from.
PROVENANCE = ("model_fingerprint", "method")


class MillivoltUnits(Protocol):
    """What is needed of `diffusion.SignalUnits`: model units to millivolts."""

    def to_mv(self, x0: Tensor) -> Tensor:
        """x0 (B, 8, T) in model units -> (B, 8, T) in millivolts."""
        ...


def record_seed(seed: int, number: int) -> int:
    """Seed of record `number` in a run with `seed`: 63 bits, by numpy's `SeedSequence`.

    Any two records of a run, and the same record of two runs, get unrelated seeds.
    """
    (state,) = np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(1, np.uint64)
    return int(state >> np.uint64(1))


def generate(
    denoise: Denoiser,
    units: MillivoltUnits,
    request: SynthesisRequest,
    folder: Path | str,
    *,
    label_space: LabelSpace,
    sigmas: Tensor,
    card_extra: Mapping[str, object],
    samples: int = 1000,
    sampling_rate_hz: float = 100,
    solver: str = "dpmpp2m",
    seed: int = 0,
    batch_size: int = 64,
    network_batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    device: torch.device | str = "cpu",
) -> ECGSet:
    """Draw the records of a request into a new ECG set, or go on where an earlier call stopped.

    Finished records wait in `.NAME.partial` beside the folder; the folder itself appears whole at
    the end. The same call after Ctrl-C, a kill or a full disk draws only what is missing, and the
    set has the same signals, labels and table as from an undisturbed call. A call for a set that
    is already there returns it.

    Args:
        denoise: (x (B, 8, T), sigma (B,), label (B, K)) -> denoised; records may not mix.
        units: `to_mv` takes model units to millivolts, (B, 8, T).
        request: labels and counts.
        folder: where the set goes.
        label_space: columns of the model's label.
        sigmas: (steps + 1,) falling noise levels that end in 0.
        card_extra: JSON values for the card, at least `model_fingerprint` and `method`.
        samples: T, samples a record.
        sampling_rate_hz: of the model.
        solver: "dpmpp2m" or "heun".
        seed: of the run; each record has its own (`record_seed`), stated in the table.
        batch_size: records drawn between two saves, rounded up to whole calls of the network;
            changes no sample, label or row of the result.
        network_batch: records in one call of the network, the last call being filled up; fewer
            take less memory. Part of what is drawn: rounding follows it. Default 16 on a CPU,
            256 on an accelerator.
        progress: called with (records finished, records asked for), first with what an earlier
            call finished.
        device: where the network is.

    Returns:
        The set, origin "generated", its table with the seed, labels and method of each record.

    Raises:
        ConfigError: a setting out of range, or a card without its provenance, with other than JSON
            values, or with what the request decides.
        CorpusError: a label that the space does not have, unfinished work with other settings, or
            a disk that fills up or refuses.
        RunError: too little disk, a record that is not finite or beyond 32 mV, another process at
            work in the folder, or a folder that holds something else.
    """
    folder = Path(folder)
    device = torch.device(device)
    if network_batch is None:
        network_batch = NETWORK_BATCH_CPU if device.type == "cpu" else NETWORK_BATCH_ACCELERATOR
    numbers = {"samples": samples, "batch_size": batch_size, "network_batch": network_batch}
    for name, value in numbers.items():
        if operator.index(value) < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    if operator.index(seed) < 0:
        raise ConfigError(f"the seed must be a whole number of at least 0, got {seed}")
    card = _card(
        card_extra,
        counts=[[list(labels), count] for labels, count in request.entries],
        seed=seed,
        shape=[len(INDEPENDENT_LEADS), samples],
        sigmas=[float(sigma) for sigma in sigmas],
        solver=solver,
        network_batch=network_batch,
        device=device.type,
    )
    request.label_matrix(label_space, 0, 0)

    def draw(start: int, stop: int) -> NDArray[np.int16]:
        """Records start to stop - 1, at most `network_batch`: (n, 8, T) int16 microvolts."""
        seeds = [record_seed(seed, number) for number in range(start, stop)]
        label = torch.from_numpy(request.label_matrix(label_space, start, stop))
        filling = network_batch - len(seeds)
        noise = record_noise(seeds + seeds[-1:] * filling, (len(INDEPENDENT_LEADS), samples))
        label = torch.cat([label, label[-1:].expand(filling, -1)])
        with torch.no_grad():
            x0 = sample(denoise, noise.to(device), label.to(device), sigmas, solver)
            signals_mv = units.to_mv(x0)[: len(seeds)].cpu().double().numpy()
        return _microvolts(signals_mv, start, seeds, request)

    chunk = -(-batch_size // network_batch) * network_batch
    with sole_writer(folder):
        if folder.exists():
            return _finished_set(folder, label_space, sampling_rate_hz, card)
        with ECGSetWriter(
            folder, label_space, sampling_rate_hz, "generated", card_extra=card, resume=True
        ) as writer:
            record_bytes = len(INDEPENDENT_LEADS) * samples * 2 + len(label_space) * 4
            missing = request.total - len(writer)
            require_space(folder, missing * record_bytes + request.total * TABLE_BYTES)
            if progress is not None:
                progress(len(writer), request.total)
            for first in range(len(writer), request.total, chunk):
                last = min(first + chunk, request.total)
                calls = range(first, last, network_batch)
                drawn = [draw(start, min(start + network_batch, last)) for start in calls]
                writer.append(
                    np.concatenate(drawn),
                    request.label_matrix(label_space, first, last),
                    _table(request, first, last, seed, str(card["method"])),
                )
                writer.checkpoint()
                if progress is not None:
                    progress(len(writer), request.total)
            return writer.finish()


def _card(card_extra: Mapping[str, object], **settings: object) -> dict[str, object]:
    """What the card says beside the set's own facts: all that decides its bytes."""
    for name in PROVENANCE:
        if not isinstance(card_extra.get(name), str):
            raise ConfigError(
                f"the card of a generated set must say its {name} as text, "
                f"got {card_extra.get(name)!r}"
            )
    clash = sorted(card_extra.keys() & settings.keys())
    if clash:
        raise ConfigError(f"card_extra may not say {', '.join(clash)}, which the request decides")
    try:
        card: dict[str, object] = json.loads(
            json.dumps({**card_extra, **settings}, allow_nan=False)
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"card_extra must hold JSON values only: {error}") from None
    return card


def _finished_set(
    folder: Path, label_space: LabelSpace, sampling_rate_hz: float, card: Mapping[str, object]
) -> ECGSet:
    """The set that an earlier call with the same settings finished."""
    try:
        found = ECGSet.open(folder)
    except CorpusError as error:
        raise RunError(f"cannot generate into {folder}, which is there already: {error}") from None
    wanted = {
        **card,
        "origin": "generated",
        "labels": list(label_space.names),
        "sampling_rate_hz": sampling_rate_hz,
    }
    differing = [key for key in wanted if found.card.get(key) != wanted[key]]
    if differing:
        raise RunError(
            f"{folder} holds a finished set with another {', '.join(differing)}; choose another "
            "folder or remove it"
        )
    return found


def _microvolts(
    signals_mv: NDArray[np.float64], start: int, seeds: list[int], request: SynthesisRequest
) -> NDArray[np.int16]:
    """(n, 8, T) mV -> int16 microvolts; a broken record is refused by its seed, never clipped."""
    with np.errstate(invalid="ignore", over="ignore"):
        largest = np.abs(expand_leads(signals_mv)).max(axis=(1, 2))
    for place in np.flatnonzero(~(largest <= LARGEST_MV)):
        what = (
            f"reaches {largest[place]:.0f} mV (32 is the limit)"
            if np.isfinite(largest[place])
            else "has samples that are not finite"
        )
        labels = "+".join(request.labels_of_record(start + int(place)))
        raise RunError(
            f"record {start + place} ({labels}, seed {seeds[place]}) {what}; the denoiser is "
            "broken at these settings: lower the guidance weight, take more steps or train longer"
        )
    return microvolts(signals_mv)


def _table(
    request: SynthesisRequest, start: int, stop: int, seed: int, method: str
) -> pd.DataFrame:
    """Rows of the set's table for records start to stop - 1; a synthetic record has no patient."""
    numbers = range(start, stop)
    return pd.DataFrame(
        {
            "name": [f"synthetic{number + 1:05d}" for number in numbers],
            "patient": None,
            "seed": np.array([record_seed(seed, number) for number in numbers], dtype=np.int64),
            "labels": ["+".join(request.labels_of_record(number)) for number in numbers],
            "method": method,
        }
    )
