"""Blind test of a run: recorded ECGs of its target and synthetic ECGs for clinicians to read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecgtransfer.defaults import BLIND_RECORDS, PAPER_LAYOUT
from ecgtransfer.errors import RunError
from ecgtransfer.evaluation import BlindTest, write_blind_test
from ecgtransfer.pipeline.evaluation import synthetic_sets
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.target import Target


@dataclass(frozen=True)
class BlindSettings:
    """Settings of a blind test.

    Attributes:
        method: transfer method of the synthetic set; None for the only one of the run.
        name: name of the set.
        records: ECGs of each kind. If no one can distinguish the kinds, 85 % of readings show it
            with 50, and 42 % with 20.
        layout: layout of the leads on paper.
        seed: seed of the selection and of the order.
    """

    method: str | None = None
    name: str = "synthetic"
    records: int = BLIND_RECORDS
    layout: str = PAPER_LAYOUT
    seed: int = 0


def write_blind(
    run: Run,
    target: Target,
    settings: BlindSettings,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> BlindTest:
    """Write the folder of a blind test with target records and synthetic records.

    Args:
        run: run with the synthetic set.
        target: target of the run.
        settings: settings of the test.
        folder: folder to write; it must not exist.
        progress: called with (ECGs plotted, ECGs in total).

    Raises:
        ConfigError: the method is unknown.
        CorpusError: there are fewer records than requested.
        RunError: the set does not exist, or there are several and no method is given.
        StorageError: the folder exists or cannot be written.
    """
    sets = synthetic_sets(run, settings.name, (settings.method,) if settings.method else ())
    if len(sets.methods) > 1:
        raise RunError(
            f"expected one set {settings.name!r} in {run.folder}, found those of "
            f"{', '.join(sets.methods)}; name one with --method"
        )
    return write_blind_test(
        target.ecgset,
        sets.open(sets.methods[0]),
        folder,
        settings.records,
        among=np.sort(np.concatenate([target.train, target.test])),
        seed=settings.seed,
        layout=settings.layout,
        progress=progress,
    )
