"""Labelled synthetic records, drawn one seed each, written to disk as they come.

What a record is depends on the model, its label, its seed and the sampler alone. Floating-point
convolutions, however, round differently for batches of different sizes, which is enough to move
some samples by a microvolt; so the network always sees the same number of records at a time, and
the same ones together, whatever is drawn between two saves and wherever a stopped run goes on.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgtransfer.corpus import ECGSet, ECGSetWriter, LabelSpace, microvolts
from ecgtransfer.corpus.sets.set_beats import BEATS_COLUMN
from ecgtransfer.corpus.sets.set_folder import remove_leftovers
from ecgtransfer.diffusion import RECORD_SOLVER, Condition, Denoiser, sample
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.signals import INDEPENDENT_LEADS, Beats, expand_leads
from ecgtransfer.storage import DiskSpace, exclusive_lock, require_space
from ecgtransfer.synthesis.plan import SetPlan, plan_card, record_seed
from ecgtransfer.synthesis.request import SynthesisRequest
from ecgtransfer.synthesis.shards import (
    Shard,
    claim_shards,
    is_sharded,
    join_shards,
    remove_shards,
)
from ecgtransfer.training import record_noise

#: Millivolts beyond which a sample is broken, in any of the 12 leads: int16 microvolts end at
#: 32.767, and the largest sample of PTB-XL is below 30.
LARGEST_MV = 32.0

#: Records in one call of the network. On two CPU cores 16 is the fastest; an accelerator is idle
#: with so few.
NETWORK_BATCH_CPU = 16
NETWORK_BATCH_ACCELERATOR = 256


class RecordModel(Protocol):
    """What is needed of a `diffusion.DiffusionModel`: model units to millivolts."""

    def to_mv(self, x0: Tensor, condition: Condition | None = None) -> Tensor:
        """x0 (B, 8, T) in model units -> (B, 8, T) in millivolts."""
        ...


class ConditionSource(Protocol):
    """What each record is conditioned on, drawn from the record's own seed."""

    def __call__(
        self, label: Tensor, seeds: Sequence[int], first: int = 0
    ) -> tuple[Condition, list[Beats]]:
        """Labels (B, K) and seeds of B records, numbered from `first` -> condition and beats.

        A record's row depends on its own label, seed and number and on the size of the batch alone.
        """
        ...


def generate(
    denoise: Denoiser,
    model: RecordModel,
    request: SynthesisRequest,
    folder: Path | str,
    *,
    label_space: LabelSpace,
    sigmas: Tensor,
    card_extra: Mapping[str, object],
    samples: int = 1000,
    sampling_rate_hz: float = 100,
    solver: str = RECORD_SOLVER,
    seed: int = 0,
    conditions: ConditionSource | None = None,
    columns: Mapping[str, str | float] | None = None,
    batch_size: int = 64,
    network_batch: int | None = None,
    shard: Shard | None = None,
    progress: Callable[[int, int], None] | None = None,
    disk: Callable[[DiskSpace], None] | None = None,
    device: torch.device | str = "cpu",
) -> ECGSet:
    """Draw the records of a request into a new ECG set, or go on where an earlier call stopped.

    Finished records wait in `.NAME.partial` beside the folder; the folder itself appears whole at
    the end. The same call after Ctrl-C, a kill or a full disk draws only what is missing, and the
    set has the same signals, labels and table as from an undisturbed call. A call for a set that
    is already there returns it. Memory holds `batch_size` records and 8 bytes for each other.

    With `shard` only that part is drawn, into its own folder (see `shards`); calls for different
    shards may run at once. When all are there, a call without it joins them, with the bytes of a
    set that was drawn in one piece, and removes them.

    Args:
        denoise: (x (B, 8, T), sigma (B,), condition) -> denoised; records may not mix.
        model: `to_mv` takes model units to millivolts, (B, 8, T).
        request: labels and counts.
        folder: where the set goes.
        label_space: columns of the model's label.
        sigmas: (steps + 1,) falling noise levels that end in 0.
        card_extra: JSON values for the card, at least `model_fingerprint` and `method`.
        samples: T, samples a record.
        sampling_rate_hz: of the model.
        solver: of `diffusion.sample`.
        seed: of the run; each record has its own (`record_seed`), stated in the table.
        conditions: draws beats and whatever else records are conditioned on; None for the label
            alone.
        columns: of the table, with the same value for every record, such as the age that
            `conditions` ask for; what they follow from must be in `card_extra`.
        batch_size: records drawn between two saves, rounded up to whole calls of the network;
            changes no sample, label or row of the result.
        network_batch: records in one call of the network, the last call being filled up; fewer
            take less memory. Part of what is drawn: rounding follows it. Default 16 on a CPU,
            256 on an accelerator.
        shard: the part to draw; None for the whole set.
        progress: called with (records finished, records asked for), first with what an earlier
            call finished.
        disk: called once, before anything is drawn or joined, with what the disk is to take.
        device: where the network is.

    Returns:
        The set, or the shard as one, origin "generated", its table with the seed, labels and method
        of each record. Where the whole set is there already, a call for a shard returns that.

    Raises:
        ConfigError: a setting out of range, more shards than calls of the network, or a card
            without its provenance, with other than JSON values, or with what the request decides.
        CorpusError: a label that the space does not have, or unfinished work with other settings.
        RunError: a record that is not finite or beyond 32 mV, a folder that holds something else,
            a set that is being drawn in another number of shards, or shards to be joined of which
            one is missing.
        StorageError: the disk is full or refuses to write, or another process is writing the
            folder.
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
    card = plan_card(
        card_extra,
        counts=[[list(labels), count] for labels, count in request.entries],
        seed=seed,
        shape=[len(INDEPENDENT_LEADS), samples],
        sigmas=[float(sigma) for sigma in sigmas],
        solver=solver,
        network_batch=network_batch,
        device=device.type,
    )
    plan = SetPlan(request, label_space, samples, sampling_rate_hz, seed, network_batch, card)
    request.label_matrix(label_space, 0, 0)
    drawing = _Drawing(
        denoise,
        model,
        plan,
        sigmas,
        solver,
        device,
        conditions,
        columns or {},
        batch_size,
        progress or _nobody,
        disk,
    )
    if shard is None:
        return _draw_whole(folder, drawing)
    return _draw_shard(folder, drawing, shard)


def _nobody(done: int, total: int) -> None:
    """Progress that nobody wants to know."""


def _draw_whole(folder: Path, drawing: "_Drawing") -> ECGSet:
    """The whole set: found, joined from its shards, or drawn."""
    plan = drawing.plan
    with exclusive_lock(folder):
        if folder.exists():
            ecgset = plan.open_finished(folder, plan.card)
            remove_leftovers(folder)
        elif is_sharded(folder):
            ecgset = join_shards(folder, plan, drawing.progress, drawing.disk)
        else:
            ecgset = drawing.write(folder, range(plan.request.total), plan.card)
        remove_shards(folder)
    return ecgset


def _draw_shard(folder: Path, drawing: "_Drawing", shard: Shard) -> ECGSet:
    """One shard of the set in `folder`: found or drawn; the whole set where that is there."""
    plan = drawing.plan
    records = shard.records(plan.request.total, plan.network_batch)
    if folder.exists():
        return plan.open_finished(folder, plan.card)
    claim_shards(folder, plan, shard.of)
    place, card = shard.folder(folder), shard.card(plan)
    with exclusive_lock(place):
        if place.exists():
            remove_leftovers(place)
            return plan.open_finished(place, card)
        return drawing.write(place, records, card)


@dataclass(frozen=True)
class _Drawing:
    """A plan and the network that draws it; see `generate`."""

    denoise: Denoiser
    model: RecordModel
    plan: SetPlan
    sigmas: Tensor
    solver: str
    device: torch.device
    conditions: ConditionSource | None
    columns: Mapping[str, str | float]
    batch_size: int
    progress: Callable[[int, int], None]
    disk: Callable[[DiskSpace], None] | None

    def write(self, place: Path, records: range, card: Mapping[str, object]) -> ECGSet:
        """Some records of the plan as a set of their own, or what is missing of it."""
        plan, total = self.plan, len(records)
        chunk = -(-self.batch_size // plan.network_batch) * plan.network_batch
        with ECGSetWriter(
            place,
            plan.label_space,
            plan.sampling_rate_hz,
            "generated",
            card_extra=card,
            resume=True,
        ) as writer:
            space = require_space(place, plan.disk_bytes(total - len(writer), total))
            if self.disk is not None:
                self.disk(space)
            self.progress(len(writer), total)
            for first in range(records.start + len(writer), records.stop, chunk):
                last = min(first + chunk, records.stop)
                calls = range(first, last, plan.network_batch)
                drawn = [
                    self._draw(start, min(start + plan.network_batch, last)) for start in calls
                ]
                table = plan.table(first, last)
                for name, value in self.columns.items():
                    table[name] = value
                if self.conditions is not None:
                    table[BEATS_COLUMN] = [each.to_text() for _, beats in drawn for each in beats]
                writer.append(
                    np.concatenate([signals_uv for signals_uv, _ in drawn]),
                    plan.request.label_matrix(plan.label_space, first, last),
                    table,
                )
                writer.checkpoint()
                self.progress(len(writer), total)
            return writer.finish()

    def _draw(self, start: int, stop: int) -> tuple[NDArray[np.int16], list[Beats]]:
        """Records start to stop - 1, at most `network_batch`: (n, 8, T) microvolts, and beats."""
        plan = self.plan
        seeds = [record_seed(plan.seed, number) for number in range(start, stop)]
        label = torch.from_numpy(plan.request.label_matrix(plan.label_space, start, stop))
        filling = plan.network_batch - len(seeds)
        filled = seeds + seeds[-1:] * filling
        shape = (len(INDEPENDENT_LEADS), plan.samples)
        noise = record_noise(filled, shape).to(self.device)
        label = torch.cat([label, label[-1:].expand(filling, -1)]).to(self.device)
        with torch.no_grad():
            if self.conditions is None:
                beats: list[Beats] = []
                x0 = sample(self.denoise, noise, label, self.sigmas, self.solver)
                signals_mv = self.model.to_mv(x0)
            else:
                condition, beats = self.conditions(label, filled, start)
                x0 = sample(self.denoise, noise, condition, self.sigmas, self.solver)
                signals_mv = self.model.to_mv(x0, condition)
            drawn_mv = signals_mv[: len(seeds)].cpu().double().numpy()
        return _microvolts(drawn_mv, start, seeds, plan.request), beats[: len(seeds)]


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
