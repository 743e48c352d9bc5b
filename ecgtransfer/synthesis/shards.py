"""A set in parts that several processes draw at once, and how they become one set.

The shards of a set `NAME` lie beside it in `NAME.shards`:

NAME.shards/plan.json     what the set is and in how many shards it is drawn; the first to come
                          writes it, and who asks for something else is refused
NAME.shards/03-of-16/     a finished shard, an ECG set like any other
NAME.shards/.03-of-16.partial, .03-of-16.lock     one that is being drawn

Nothing is shared but `plan.json`, so shards may be drawn in any order, at once, and on several
machines that see the folder. Shards end where calls of the network do, so a record is the same
whoever draws it (machines of different make may round differently, as ever), and the joined set has
the bytes of one that was drawn in one piece.
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

#: What may lie in the folder of shards.
OURS = re.compile(r"\.?plan\.json.*|\.?[0-9]+-of-[0-9]+(\.partial|\.lock)?")

#: Records copied between two saves while shards are joined: 16 MB at 100 Hz and 10 s.
JOINED_RECORDS = 1024


@dataclass(frozen=True)
class Shard:
    """Part `number` of `of`, counted from 1.

    Raises `ConfigError` for numbers that are not 1 <= number <= of.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ConfigError(f"expected a shard of 1/{self.of} to {self.of}/{self.of}, got {self}")

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard that the command line calls "3/16"; ConfigError for any other text."""
        if not (found := re.fullmatch(r"([0-9]{1,9})/0*([1-9][0-9]{0,8})", text.strip())):
            raise ConfigError(f"expected a shard such as 3/16, got {text!r}")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def folder(self, whole: Path) -> Path:
        """Where this shard of the set `whole` lies."""
        return shards_folder(whole) / f"{self.number:0{len(str(self.of))}d}-of-{self.of}"

    def records(self, total: int, network_batch: int) -> range:
        """Numbers of its records, of `total`: whole calls of the network, about as many as others.

        Raises `ConfigError` when there are fewer calls than shards.
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
        """What the card of this shard says: that of the whole set, and which part it is."""
        return {**plan.card, "shard": str(self)}


@dataclass(frozen=True)
class _ShardPlan:
    """What the file `PLAN` states: the number of shards, and the card of the whole set."""

    of: int
    card: Mapping[str, Any]


def shards_folder(whole: Path) -> Path:
    """Where the shards of the set `whole` lie."""
    return whole.with_name(f"{whole.name}.shards")


def is_sharded(whole: Path) -> bool:
    """Whether drawing the set `whole` in shards was begun."""
    return (shards_folder(whole) / PLAN).exists()


def all_shards(of: int) -> tuple[Shard, ...]:
    """Every shard of a set in `of` of them."""
    return tuple(Shard(number, of) for number in range(1, of + 1))


def missing_shards(whole: Path, of: int) -> tuple[Shard, ...]:
    """The shards of the set `whole` that are not finished."""
    return tuple(shard for shard in all_shards(of) if not shard.folder(whole).exists())


def claim_shards(whole: Path, plan: SetPlan, of: int | None = None) -> int:
    """Make the folder of shards the place of this plan, or check that it is; their number.

    of: number of shards; None takes what others have begun with.

    Raises `RunError` when the set is being drawn in one piece or in another number of shards, when
    the folder holds shards of another set, or something that is no shard.
    """
    place = shards_folder(whole)
    if not is_sharded(whole) and whole.with_name(f".{whole.name}.partial").exists():
        raise RunError(
            f"{whole} is being drawn in one piece; go on without --shard and in one process, or "
            "remove what is unfinished there to begin anew in shards"
        )
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        if foreign := sorted(
            path.name for path in place.iterdir() if not OURS.fullmatch(path.name)
        ):
            raise RunError(
                f"{place} holds {foreign[0]!r}, which is no shard; move it or choose another folder"
            )
        if of is not None and not (place / PLAN).exists():
            write_json(place / PLAN, to_card(_ShardPlan(of, plan.card)), keep=True)
    held = read_card(_ShardPlan, place / PLAN)
    held_of, held_card = held.of, held.card
    if of not in (None, held_of):
        raise RunError(
            f"{whole} is being drawn in {held_of} shards, not in {of}; take one of them, such as "
            f"--shard 1/{held_of}, or remove {place} to begin anew"
        )
    differing = [
        key for key in sorted({*held_card, *plan.card}) if held_card.get(key) != plan.card.get(key)
    ]
    if differing:
        raise RunError(
            f"{place} holds shards of a set with another {', '.join(differing)}; finish it with "
            "its own settings, choose another folder, or remove it"
        )
    return held_of


def join_shards(
    whole: Path,
    plan: SetPlan,
    progress: Callable[[int, int], None],
    disk: Callable[[DiskSpace], None] | None = None,
) -> ECGSet:
    """Join all shards of a set into `whole`, or go on where an earlier call stopped.

    Each shard is held against its own fingerprint, and each record against the labels asked for, so
    that the count of every combination of labels is exact. Memory holds `JOINED_RECORDS` records.
    The shards stay; `remove_shards` removes them.

    Raises:
        CorpusError: a shard that has changed since it was written.
        RunError: a shard that is missing, of another set, or without the labels asked for; too
            little disk.
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
    """Append the records of a shard from its number `start` on, if they are as asked for."""
    part.verify()
    for chunk in part.chunks(JOINED_RECORDS, start):
        first, last = len(writer), len(writer) + len(chunk.labels)
        wanted = plan.request.label_matrix(plan.label_space, first, last)
        if not np.array_equal(chunk.labels, wanted):
            raise RunError(
                f"{part.folder} has other labels than were asked for among the records {first} to "
                f"{last - 1}; remove it and draw it again"
            )
        writer.append(*chunk)
        writer.checkpoint()
        progress(last, plan.request.total)


def _check_all_there(whole: Path, of: int) -> None:
    if missing := missing_shards(whole, of):
        several = len(missing) > 1
        raise RunError(
            f"{whole} lacks {'the shards' if several else 'shard'} {', '.join(map(str, missing))}; "
            f"draw {'each' if several else 'it'} with the same command and --shard {missing[0]}, "
            "then give this one again"
        )


def remove_shards(whole: Path) -> None:
    """Remove the shards of a set that is whole; what is no shard stays."""
    place = shards_folder(whole)
    if place.exists() and all(OURS.fullmatch(path.name) for path in place.iterdir()):
        shutil.rmtree(place, ignore_errors=True)


def _open_shard(whole: Path, plan: SetPlan, shard: Shard) -> ECGSet:
    """A finished shard, held against the plan."""
    part = plan.open_finished(shard.folder(whole), shard.card(plan))
    expected = shard.records(plan.request.total, plan.network_batch)
    if len(part) != len(expected):
        raise RunError(
            f"{part.folder} has {len(part)} records, expected {len(expected)}; remove it and draw "
            "it again"
        )
    return part
