"""Stages `physiology-<name>`: do synthetic records make physiological sense?"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ecgtransfer.defaults import LARGEST_SIDE
from ecgtransfer.drawing import Table
from ecgtransfer.evaluation import Intervals, measure_intervals, measure_physiology
from ecgtransfer.pipeline.answers import (
    Answer,
    asked,
    begin_answer,
    by_method,
    question_stage,
    some,
    synthetic_sets,
)
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.target import Target, labels_in
from ecgtransfer.statistics import streams


@dataclass(frozen=True)
class PhysiologySettings:
    """What the physiology of synthetic sets is asked with.

    Attributes:
        methods: whose synthetic sets; none takes every method that has a set of that name.
        name: of the sets.
        records: of a side, at most, drawn at random.
        seed: of everything that is drawn.
    """

    methods: tuple[str, ...] = ()
    name: str = "synthetic"
    records: int = LARGEST_SIDE
    seed: int = 0


def evaluate_physiology(
    run: Run,
    source: Source,
    target: Target,
    settings: PhysiologySettings,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Answer:
    """Delineate each set and the target's records and compare the two, or find it done.

    All of the target's records count as real, the training records too: the rules of the classes
    come from textbooks, and rare classes have few test records.

    Raises:
        RunError: no such synthetic set, or other settings in place.
    """
    sets = synthetic_sets(run, settings.name, settings.methods)
    settings = replace(settings, methods=sets.methods)
    stage = question_stage(run, "physiology", settings.name)
    if held := begin_answer(stage, "physiology", asked(settings, sets, target)):
        return held
    rng = streams.generator(settings.seed, streams.PHYSIOLOGY_SIDES)
    real = some(np.concatenate([target.train, target.test]), settings.records, rng)
    chosen = {
        method: some(np.arange(len(sets.open(method))), settings.records, rng)
        for method in sets.methods
    }
    total = len(real) + sum(map(len, chosen.values()))
    done = 0

    def intervals(signals_mv: np.ndarray) -> list[Intervals]:
        nonlocal done
        before = done

        def counted(now: int, of: int) -> None:
            if progress is not None:
                progress(before + now, total)

        measured = measure_intervals(
            signals_mv, target.ecgset.sampling_rate_hz, workers=workers, progress=counted
        )
        done += len(measured)
        return measured

    patients = target.ecgset.records.patient.astype(str).to_numpy()[real]
    of_real = intervals(target.ecgset.independent_mv(real))
    verdicts, tests, tables, numbers = [], [], [], {}
    for method in sets.methods:
        ecgset = sets.open(method)
        result = measure_physiology(
            of_real,
            target.labels[real],
            intervals(ecgset.independent_mv(chosen[method])),
            labels_in(target.label_space, ecgset)[chosen[method]],
            target.label_space.names,
            patients,
            seed=settings.seed,
        )
        whole, *others = (by_method(method, verdict) for verdict in result.verdicts())
        verdicts.append(whole)
        tests += others
        tables.append(Table.from_rows(f"Rules of the classes, {method}", result.rule_rows()))
        tables.append(Table.from_rows(f"Intervals, {method}", result.interval_rows()))
        numbers[method] = result.to_dict()
    answer = Answer("physiology", tuple(verdicts), tuple(tests), tuple(tables), numbers)
    stage.finish(answer.to_card())
    return answer
