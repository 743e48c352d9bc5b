"""Stage `stand-ins-source`: records that the source model draws in place of its training records.

A question that compares with the source's records uses them where these are not on this machine.
"""

from collections.abc import Callable

import numpy as np

from ecgtransfer.corpus import ECGSet
from ecgtransfer.errors import RunError
from ecgtransfer.evaluation import Cohort
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.seen import corpus_name
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.synthetic import (
    SET,
    SURROGATE_SET,
    GenerateSettings,
    counts_like,
    synthesise,
    synthetic_stage,
)
from ecgtransfer.pipeline.target import Target, labels_in

#: Surrogate records, about so many: one set for all questions about a run.
SURROGATE_RECORDS = 500


def draw_surrogate_source(
    run: Run,
    source: Source,
    target: Target,
    progress: Callable[[int, int], None] | None = None,
) -> ECGSet:
    """Draw records from the source model, or find them done.

    They have the mix of labels of the target's training records. An interrupted call goes on.
    """
    ratio = SURROGATE_RECORDS / len(target.train)
    counts = counts_like(target, source, ratio, known=source.known_labels)
    settings = GenerateSettings(
        counts=counts, method="source", name=SURROGATE_SET, of_evaluation=True
    )
    return synthesise(run, source, settings, progress)


def source_cohort(run: Run, source: Source, target: Target) -> Cohort:
    """The training records of the source, or the surrogate ones where these are not here.

    Patients of another corpus than the target's are other people, even where their names agree.

    Raises:
        RunError: neither the source's records nor surrogate ones are there.
    """
    if source.location is None:
        return _surrogate_cohort(run, target)
    ecgset, train, _ = source.records()
    labels = labels_in(target.label_space, ecgset, drop_others=True)
    corpus = corpus_name(ecgset)
    same_people = ecgset.fingerprint == target.ecgset.fingerprint or (
        corpus is not None and corpus == corpus_name(target.ecgset)
    )
    train = train[labels[train].any(axis=1)]
    return Cohort(ecgset, labels, train, "" if same_people else "source ")


def _surrogate_cohort(run: Run, target: Target) -> Cohort:
    stage = run.stage(synthetic_stage(SURROGATE_SET, "source"))
    if not stage.is_done:
        raise RunError(
            f"expected surrogate source records in {stage.folder}, because the source's own are "
            "not here, found none; draw them with `draw_surrogate_source` first"
        )
    ecgset = ECGSet.open(stage.folder / SET)
    return Cohort(ecgset, labels_in(target.label_space, ecgset), np.arange(len(ecgset)), None)
