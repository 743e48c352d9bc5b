"""Surrogate source records: records sampled from the source model instead of its training records.

Evaluations that compare with source records use them if the training records of the source are not
on this machine. The name of their stage is `SURROGATE_SET` followed by the method "source".
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
from ecgtransfer.pipeline.target import Target, project_labels

#: Approximate number of surrogate records; all evaluations of a run share one set.
SURROGATE_RECORDS = 500


def draw_surrogate_source(
    run: Run,
    source: Source,
    target: Target,
    progress: Callable[[int, int], None] | None = None,
    records: int | None = None,
) -> ECGSet:
    """Sample the surrogate records of a run, unless they exist; an interrupted call is resumed.

    They have the class mix of the target's training records.

    Args:
        run: the run.
        source: source of the run.
        target: target of the run.
        progress: called with (records done, records in total).
        records: approximate number of records; None for `SURROGATE_RECORDS`. A finished set of
            another size is kept, because all evaluations of a run share one.
    """
    stage = run.stage(synthetic_stage(SURROGATE_SET, "source"))
    if stage.is_done:
        return ECGSet.open(stage.folder / SET)
    ratio = (records or SURROGATE_RECORDS) / len(target.train)
    counts = counts_like(target, source, ratio, known=source.known_labels)
    settings = GenerateSettings(
        counts=counts, method="source", name=SURROGATE_SET, of_evaluation=True
    )
    return synthesise(run, source, settings, progress)


def source_cohort(run: Run, source: Source, target: Target) -> Cohort:
    """Return the training records of the source, or the surrogate records if these are not here.

    Patients of another corpus than the target's are different patients, even with equal names.

    Raises:
        RunError: there are neither training nor surrogate records.
    """
    if source.location is None:
        return _surrogate_cohort(run, target)
    ecgset, train, _ = source.records()
    labels = project_labels(target.label_space, ecgset, drop_others=True)
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
            f"expected surrogate source records in {stage.folder}, because the source's training "
            "records are not here, found none; sample them with `draw_surrogate_source` first"
        )
    ecgset = ECGSet.open(stage.folder / SET)
    return Cohort(ecgset, project_labels(target.label_space, ecgset), np.arange(len(ecgset)), None)
