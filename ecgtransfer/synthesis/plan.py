"""The plan of a generated set: everything that determines its content, independent of the model."""

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

#: Upper bound of the table's size per record, in bytes, while parts of the table are joined.
TABLE_BYTES = 400

#: Required entries of `card_extra`, which record the set's provenance.
PROVENANCE = ("model_fingerprint", "method")


def record_seed(seed: int, number: int) -> int:
    """Seed of the record with index `number` in a run with `seed`: 63 bits, by `SeedSequence`.

    All records of a run, and the same record in different runs, have independent seeds.
    """
    (state,) = np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(1, np.uint64)
    return int(state >> np.uint64(1))


def disk_bytes(missing: int, records: int, samples: int, labels: int) -> int:
    """Upper bound of the disk space that the missing records of a set still need, in bytes.

    The whole table is included, because its parts stay on disk until they are joined.

    Args:
        missing: number of records to generate.
        records: number of records in the set.
        samples: T, samples per lead.
        labels: K, number of labels.
    """
    return missing * (len(INDEPENDENT_LEADS) * samples * 2 + labels * 4) + records * TABLE_BYTES


@dataclass(frozen=True)
class SetPlan:
    """A set to generate.

    Attributes:
        request: labels and counts.
        label_space: columns of the label.
        samples: T, samples per record.
        sampling_rate_hz: sampling rate of all records.
        seed: seed of the run.
        network_batch: records per call of the network.
        card: JSON values that determine the set's bytes, and its provenance.
    """

    request: SynthesisRequest
    label_space: LabelSpace
    samples: int
    sampling_rate_hz: float
    seed: int
    network_batch: int
    card: Mapping[str, object]

    def disk_bytes(self, missing: int, records: int) -> int:
        """Upper bound of the disk space that `missing` of `records` still need, in bytes."""
        return disk_bytes(missing, records, self.samples, len(self.label_space))

    def table(self, start: int, stop: int) -> pd.DataFrame:
        """Table rows of records start to stop - 1; synthetic records have no patient."""
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
        """Open the set in `folder` after checking that it has this plan and this card.

        Raises:
            RunError: the folder holds something else.
        """
        try:
            found = ECGSet.open(folder)
        except CorpusError as error:
            raise RunError(
                f"cannot generate into {folder}, which exists already: {error}"
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
    """Build the card of a set: everything that determines its bytes.

    Raises:
        ConfigError: `card_extra` lacks the provenance, repeats a setting, or is not JSON.
    """
    for name in PROVENANCE:
        if not isinstance(card_extra.get(name), str):
            raise ConfigError(
                f"the card of a generated set must hold its {name} as text, "
                f"got {card_extra.get(name)!r}"
            )
    clash = sorted(card_extra.keys() & settings.keys())
    if clash:
        raise ConfigError(
            f"card_extra must not hold {', '.join(clash)}, which the request determines"
        )
    try:
        card: dict[str, object] = json.loads(
            json.dumps({**card_extra, **settings}, allow_nan=False)
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"card_extra must hold JSON values only: {error}") from None
    return card
