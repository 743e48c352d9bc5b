"""Generate labelled synthetic records, one seed each, and write them to disk batch by batch.

A record depends only on the model, its label, its seed and the sampler. Convolutions in floating
point, however, round differently for different batch sizes, which can change a sample by a
microvolt. The network therefore always sees the same records together in batches of one size,
regardless of how often records are saved and of where an interrupted run resumes.
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

#: Largest amplitude of a valid record in millivolts, in any of the 12 leads. int16 microvolts end
#: at 32.767 mV, and no sample of PTB-XL reaches 30 mV.
LARGEST_MV = 32.0

#: Records per call of the network: 16 is fastest on two CPU cores but too few to occupy an
#: accelerator.
NETWORK_BATCH_CPU = 16
NETWORK_BATCH_ACCELERATOR = 256


class RecordModel(Protocol):
    """The part of `diffusion.DiffusionModel` that generation needs."""

    def to_mv(self, x0: Tensor, condition: Condition | None = None) -> Tensor:
        """Convert x0 (B, 8, T) in model units to millivolts (B, 8, T)."""
        ...


class ConditionSource(Protocol):
    """Samples the condition of each record from the record's own seed."""

    def __call__(
        self, label: Tensor, seeds: Sequence[int], first: int = 0
    ) -> tuple[Condition, list[Beats]]:
        """Sample the condition and the beats of B records.

        The row of a record depends only on its own label, seed and index, and on the batch size.

        Args:
            label: (B, K).
            seeds: one seed per record.
            first: index of the first record.
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
    """Generate the records of a request as a new ECG set, or resume where an earlier call stopped.

    Finished records are stored in `.NAME.partial` next to the folder, which appears complete at the
    end. After Ctrl-C, a kill or a full disk, the same call generates only the missing records; the
    set is identical to that of an uninterrupted call. A call for an existing set returns it. Memory
    holds `batch_size` records, plus 8 bytes for each record of the request.

    With `shard`, only that part is generated, into a folder of its own (see `shards`); calls for
    different shards may run at the same time. Once all shards exist, a call without `shard` joins
    them to a set with the same bytes as one generated in one piece, and deletes them.

    Args:
        denoise: (x (B, 8, T), sigma (B,), condition) -> denoised; records must be independent.
        model: converts model units to millivolts.
        request: labels and counts.
        folder: destination of the set.
        label_space: columns of the model's label.
        sigmas: (steps + 1,) decreasing noise levels that end in 0.
        card_extra: JSON values for the card, at least `model_fingerprint` and `method`.
        samples: T, samples per record.
        sampling_rate_hz: sampling rate of the model.
        solver: as in `diffusion.sample`.
        seed: seed of the run; each record has its own (`record_seed`), stored in the table.
        conditions: samples beats and other conditions; None to condition on the label only.
        columns: table columns with one value for all records, such as the age in `conditions`;
            `card_extra` must hold what they follow from.
        batch_size: records between two saves, rounded up to whole calls of the network; it does not
            affect the result.
        network_batch: records per call of the network; the last call is padded. Smaller values need
            less memory. It affects rounding and is part of the card. Default: 16 on a CPU, 256 on
            an accelerator.
        shard: the part to generate; None for the whole set.
        progress: called with (records finished, records requested), first with the records that an
            earlier call finished.
        disk: called once, before generating or joining, with the disk space that is needed.
        device: device of the network.

    Returns:
        The set, or the shard as a set. Its origin is "generated"; its table has the seed, labels
        and method of each record. If the whole set exists already, a call for a shard returns it.

    Raises:
        ConfigError: a setting is out of range; there are more shards than calls of the network; or
            the card lacks its provenance, is not JSON, or contradicts the request.
        CorpusError: a label is not in the label space, or there is unfinished work with other
            settings.
        RunError: a record is not finite or exceeds 32 mV; the folder holds something else; the set
            is being generated in another number of shards; or a shard is missing when joining.
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
        progress or _no_progress,
        disk,
    )
    if shard is None:
        return _draw_whole(folder, drawing)
    return _draw_shard(folder, drawing, shard)


def _no_progress(done: int, total: int) -> None:
    """No-op progress callback."""


def _draw_whole(folder: Path, drawing: "_Drawing") -> ECGSet:
    """Open, join from shards, or generate the whole set."""
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
    """Open or generate one shard of the set in `folder`; open the whole set if it exists."""
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
    """A plan with the network and settings that generate it; see `generate` for the fields."""

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
        """Generate the missing ones of some records of the plan, as a set of their own."""
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
        """Generate records start to stop - 1, at most `network_batch`.

        Returns:
            Signals (n, 8, T) in microvolts, and beats.
        """
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
    """Convert signals (n, 8, T) from mV to int16 microvolts, without clipping.

    Raises:
        RunError: a record is not finite or exceeds `LARGEST_MV`; the message names its seed.
    """
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
            "unstable at these settings: lower the guidance weight, take more steps or train longer"
        )
    return microvolts(signals_mv)
