"""A blind test of a run: recorded ECGs of its target and synthetic ones, for clinicians."""

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
    """What a blind test is to hold.

    Attributes:
        method: whose synthetic set; None takes the only one of the run.
        name: of the set.
        records: ECGs of each kind; with 50 a set that nobody can tell apart is called so in 85 % of
            readings, with 20 in 42 %.
        layout: of the paper.
        seed: of what is drawn, and of the order.
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
    """Write a folder for a blind reading of the target's records and a synthetic set.

    Raises:
        ConfigError: no such method.
        CorpusError: a folder that exists, or fewer records than asked for.
        RunError: no such set, or several of which none is named.
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
