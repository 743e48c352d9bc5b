"""What a generated set is to be, apart from the network that draws it: checked, and on its card."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ecgtransfer.corpus import ECGSet, LabelSpace
from ecgtransfer.errors import ConfigError, CorpusError, RunError
from ecgtransfer.signals import INDEPENDENT_LEADS
from ecgtransfer.synthesis.request import SynthesisRequest

#: Bytes of the table that a record takes at most while the parts of the table are joined.
TABLE_BYTES = 400

#: What `card_extra` must say, so that each set tells where it comes from.
PROVENANCE = ("model_fingerprint", "method")


def record_seed(seed: int, number: int) -> int:
    """Seed of record `number` in a run with `seed`: 63 bits, by numpy's `SeedSequence`.

    Any two records of a run, and the same record of two runs, get unrelated seeds.
    """
    (state,) = np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(1, np.uint64)
    return int(state >> np.uint64(1))


def disk_bytes(missing: int, records: int, samples: int, labels: int) -> int:
    """Bytes on the disk that `missing` of the `records` of a set still need at most.

    With T samples a lead, K labels, and the whole table, of which the parts lie there until it is
    joined.
    """
    return missing * (len(INDEPENDENT_LEADS) * samples * 2 + labels * 4) + records * TABLE_BYTES


@dataclass(frozen=True)
class SetPlan:
    """A set that is to be drawn.

    Attributes:
        request: labels and counts.
        label_space: columns of its labels.
        samples: T, samples a record.
        sampling_rate_hz: of all records.
        seed: of the run.
        network_batch: records in one call of the network.
        card: all that decides the set's bytes, and where it comes from; JSON values.
    """

    request: SynthesisRequest
    label_space: LabelSpace
    samples: int
    sampling_rate_hz: float
    seed: int
    network_batch: int
    card: Mapping[str, object]

    def disk_bytes(self, missing: int, records: int) -> int:
        """Bytes on the disk that `missing` of `records` still need at most, with their table."""
        return disk_bytes(missing, records, self.samples, len(self.label_space))

    def table(self, start: int, stop: int) -> pd.DataFrame:
        """Rows of the set's table for records start to stop - 1; no record has a patient."""
        numbers = range(start, stop)
        seeds = [record_seed(self.seed, number) for number in numbers]
        return pd.DataFrame(
            {
                "name": [f"synthetic{number + 1:05d}" for number in numbers],
                "patient": None,
                "seed": np.array(seeds, dtype=np.int64),
                "labels": ["+".join(self.request.labels_of_record(number)) for number in numbers],
                "method": self.card["method"],
            }
        )

    def open_finished(self, folder: Path, card: Mapping[str, object]) -> ECGSet:
        """The set that lies in `folder`, if it is one of this plan with that card.

        Raises:
            RunError: something else lies there.
        """
        try:
            found = ECGSet.open(folder)
        except CorpusError as error:
            raise RunError(
                f"cannot generate into {folder}, which is there already: {error}"
            ) from None
        wanted = {
            **card,
            "origin": "generated",
            "labels": list(self.label_space.names),
            "sampling_rate_hz": self.sampling_rate_hz,
        }
        differing = [key for key in wanted if found.card.get(key) != wanted[key]]
        if differing:
            raise RunError(
                f"{folder} holds a finished set with another {', '.join(differing)}; choose "
                "another folder or remove it"
            )
        return found


def plan_card(card_extra: Mapping[str, object], **settings: object) -> dict[str, object]:
    """What the card says beside the set's own facts: all that decides its bytes.

    Raises:
        ConfigError: no provenance, a setting in `card_extra`, or other than JSON values.
    """
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
