"""Shards: parts of a set that several processes generate at once, and how they are joined.

The shards of a set `NAME` are stored next to it in `NAME.shards`:

NAME.shards/plan.json     the card of the set and the number of shards; the first process writes it,
                          and processes with another plan are rejected
NAME.shards/03-of-16/     a finished shard, an ECG set like any other
NAME.shards/.03-of-16.partial, .03-of-16.lock     a shard that is being generated

Only `plan.json` is shared, so that shards may be generated in any order, at the same time, and on
several machines with access to the folder. Shards end at the end of a network call, so that a
record does not depend on the shards (different CPUs or GPUs may still round differently). The
joined set has the same bytes as a set generated in one piece.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecgtransfer.corpus import ECGSet, ECGSetWriter
from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.storage import (
    DiskSpace,
    disk_errors,
    read_card,
    require_space,
    to_card,
    write_json,
)
from ecgtransfer.synthesis.plan import SetPlan

PLAN = "plan.json"

#: File names that are expected in the folder of shards.
EXPECTED_NAMES = re.compile(r"\.?plan\.json.*|\.?[0-9]+-of-[0-9]+(\.partial|\.lock)?")

#: Records copied between two saves when shards are joined: 16 MB at 100 Hz and 10 s.
JOINED_RECORDS = 1024


@dataclass(frozen=True)
class Shard:
    """One part of a set.

    Attributes:
        number: number of the shard, from 1.
        of: number of shards.

    Raises:
        ConfigError: not 1 <= number <= of.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ConfigError(f"expected a shard of 1/{self.of} to {self.of}/{self.of}, got {self}")

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Parse a shard from the command line, such as "3/16".

        Raises:
            ConfigError: the text has another form.
        """
        if not (found := re.fullmatch(r"([0-9]{1,9})/0*([1-9][0-9]{0,8})", text.strip())):
            raise ConfigError(f"expected a shard such as 3/16, got {text!r}")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def folder(self, whole: Path) -> Path:
        """Folder of this shard of the set `whole`."""
        return shards_folder(whole) / f"{self.number:0{len(str(self.of))}d}-of-{self.of}"

    def records(self, total: int, network_batch: int) -> range:
        """Indices of its records: whole calls of the network, evenly distributed over the shards.

        Raises:
            ConfigError: there are fewer calls of the network than shards.
        """
        calls = -(-total // network_batch)
        if calls < self.of:
            raise ConfigError(
                f"{total} records are {calls} calls of the network with {network_batch} records "
                f"each, too few for {self.of} shards; take at most {calls}"
            )
        first, last = (calls * number // self.of for number in (self.number - 1, self.number))
        return range(first * network_batch, min(last * network_batch, total))

    def card(self, plan: SetPlan) -> dict[str, object]:
        """Card of this shard: the card of the whole set, and which part this is."""
        return {**plan.card, "shard": str(self)}


@dataclass(frozen=True)
class _ShardPlan:
    """Content of the file `PLAN`: number of shards and card of the whole set."""

    of: int
    card: Mapping[str, Any]


def shards_folder(whole: Path) -> Path:
    """Folder of the shards of the set `whole`."""
    return whole.with_name(f"{whole.name}.shards")


def is_sharded(whole: Path) -> bool:
    """Whether generating the set `whole` in shards has started."""
    return (shards_folder(whole) / PLAN).exists()


def all_shards(of: int) -> tuple[Shard, ...]:
    """All shards of a set that has `of` of them."""
    return tuple(Shard(number, of) for number in range(1, of + 1))


def missing_shards(whole: Path, of: int) -> tuple[Shard, ...]:
    """Unfinished shards of the set `whole`."""
    return tuple(shard for shard in all_shards(of) if not shard.folder(whole).exists())


def claim_shards(whole: Path, plan: SetPlan, of: int | None = None) -> int:
    """Create the folder of shards for this plan, or check that an existing one belongs to it.

    Args:
        whole: folder of the set.
        plan: plan of the set.
        of: number of shards; None for the number that other processes use.

    Returns:
        The number of shards.

    Raises:
        RunError: the set is being generated in one piece or in another number of shards, or the
            folder holds shards of another set or other files.
    """
    place = shards_folder(whole)
    if not is_sharded(whole) and whole.with_name(f".{whole.name}.partial").exists():
        raise RunError(
            f"{whole} is being generated in one piece; continue without --shard and in one "
            "process, or remove its unfinished files to start over in shards"
        )
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        if foreign := sorted(
            path.name for path in place.iterdir() if not EXPECTED_NAMES.fullmatch(path.name)
        ):
            raise RunError(
                f"{place} holds {foreign[0]!r}, which is not a shard; move it or choose another "
                "folder"
            )
        if of is not None and not (place / PLAN).exists():
            write_json(place / PLAN, to_card(_ShardPlan(of, plan.card)), keep=True)
    held = read_card(_ShardPlan, place / PLAN)
    held_of, held_card = held.of, held.card
    if of not in (None, held_of):
        raise RunError(
            f"{whole} is being generated in {held_of} shards, not in {of}; use one of them, such "
            f"as --shard 1/{held_of}, or remove {place} to start over"
        )
    differing = [
        key for key in sorted({*held_card, *plan.card}) if held_card.get(key) != plan.card.get(key)
    ]
    if differing:
        raise RunError(
            f"{place} holds shards of a set with another {', '.join(differing)}; finish it with "
            "its original settings, choose another folder, or remove it"
        )
    return held_of


def join_shards(
    whole: Path,
    plan: SetPlan,
    progress: Callable[[int, int], None],
    disk: Callable[[DiskSpace], None] | None = None,
) -> ECGSet:
    """Join all shards of a set into `whole`, or resume where an earlier call stopped.

    The fingerprint of each shard and the labels of each record are checked, so that the count of
    every label combination is exact. Memory holds `JOINED_RECORDS` records. Delete the shards
    afterwards with `remove_shards`.

    Raises:
        CorpusError: a shard has changed since it was written.
        RunError: a shard is missing, belongs to another set, or has other labels than requested; or
            there is too little disk space.
    """
    shards = all_shards(claim_shards(whole, plan))
    _check_all_there(whole, len(shards))
    parts = [_open_shard(whole, plan, shard) for shard in shards]
    with ECGSetWriter(
        whole,
        plan.label_space,
        plan.sampling_rate_hz,
        "generated",
        card_extra=plan.card,
        resume=True,
    ) as writer:
        total = plan.request.total
        space = require_space(whole, plan.disk_bytes(total - len(writer), total))
        if disk is not None:
            disk(space)
        progress(len(writer), total)
        ends = 0
        for part in parts:
            begins, ends = ends, ends + len(part)
            if len(writer) < ends:
                _append(writer, part, len(writer) - begins, plan, progress)
        return writer.finish()


def _append(
    writer: ECGSetWriter,
    part: ECGSet,
    start: int,
    plan: SetPlan,
    progress: Callable[[int, int], None],
) -> None:
    """Append the records of a shard from index `start` on, after checking their labels."""
    part.verify()
    for chunk in part.chunks(JOINED_RECORDS, start):
        first, last = len(writer), len(writer) + len(chunk.labels)
        wanted = plan.request.label_matrix(plan.label_space, first, last)
        if not np.array_equal(chunk.labels, wanted):
            raise RunError(
                f"{part.folder} has other labels than requested among the records {first} to "
                f"{last - 1}; remove it and generate it again"
            )
        writer.append(*chunk)
        writer.checkpoint()
        progress(last, plan.request.total)


def _check_all_there(whole: Path, of: int) -> None:
    if missing := missing_shards(whole, of):
        several = len(missing) > 1
        raise RunError(
            f"{whole} lacks {'the shards' if several else 'shard'} {', '.join(map(str, missing))}; "
            f"generate {'each' if several else 'it'} with the same command and --shard "
            f"{missing[0]}, then repeat this command"
        )


def remove_shards(whole: Path) -> None:
    """Delete the shards of a joined set; leave unknown files."""
    place = shards_folder(whole)
    if place.exists() and all(EXPECTED_NAMES.fullmatch(path.name) for path in place.iterdir()):
        shutil.rmtree(place, ignore_errors=True)


def _open_shard(whole: Path, plan: SetPlan, shard: Shard) -> ECGSet:
    """Open a finished shard after checking it against the plan."""
    part = plan.open_finished(shard.folder(whole), shard.card(plan))
    expected = shard.records(plan.request.total, plan.network_batch)
    if len(part) != len(expected):
        raise RunError(
            f"{part.folder} has {len(part)} records, expected {len(expected)}; remove it and "
            "generate it again"
        )
    return part
