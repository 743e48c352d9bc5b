"""Stages `privacy-<name>`: do synthetic records give the target's training patients away?"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from ecgtransfer.defaults import LARGEST_SIDE
from ecgtransfer.drawing import Table
from ecgtransfer.evaluation import (
    ClassifierConfig,
    FeatureScale,
    PrivacySide,
    measure_privacy,
    train_classifier,
)
from ecgtransfer.pipeline.answers import (
    Answer,
    asked,
    begin_answer,
    by_method,
    labelled_source,
    question_stage,
    some,
    synthetic_sets,
    told_of_stand_ins,
)
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.target import Target
from ecgtransfer.statistics import streams


@dataclass(frozen=True)
class PrivacySettings:
    """What the privacy of synthetic sets is asked with.

    Attributes:
        methods: whose synthetic sets; none takes every method that has a set of that name.
        name: of the sets.
        classifier: of the source's records, whose features are one of the two spaces: it has seen
            neither side of the target, so that knowing one side cannot look like a leak.
        seed: of everything that is drawn.
    """

    methods: tuple[str, ...] = ()
    name: str = "synthetic"
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    seed: int = 0


def evaluate_privacy(
    run: Run,
    source: Source,
    target: Target,
    settings: PrivacySettings,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Answer:
    """Look for the target's training patients in each set, with its test patients as strangers.

    Raises:
        CorpusError: fewer than five patients on a side.
        RunError: no such synthetic set, or other settings in place.
    """
    sets = synthetic_sets(run, settings.name, settings.methods)
    settings = replace(settings, methods=sets.methods)
    stage = question_stage(run, "privacy", settings.name)
    if held := begin_answer(stage, "privacy", asked(settings, sets, target)):
        return held
    rng = streams.generator(settings.seed, streams.PRIVACY_SIDES)
    known = labelled_source(run, source, target, LARGEST_SIDE, settings.seed)
    classifier = train_classifier(
        known,
        target.label_space.names,
        settings.classifier,
        stage.folder / "embedding",
        seed=settings.seed,
    )
    scale = FeatureScale.fitted(classifier.features(known.signals_mv))

    def side(ecgset, numbers, *, patients=True) -> PrivacySide:  # type: ignore[no-untyped-def]
        signals_mv = ecgset.independent_mv(numbers)
        table = ecgset.records.iloc[numbers]
        return PrivacySide(
            signals_mv,
            scale(classifier.features(signals_mv)),
            table.patient.astype(str).to_numpy() if patients else None,
            tuple(table.name.astype(str)),
        )

    training = side(target.ecgset, target.train)
    hold_out = side(target.ecgset, some(target.test, LARGEST_SIDE, rng))
    verdicts, tests, tables, numbers = [], [], [], {}
    for place, method in enumerate(sets.methods):
        ecgset = sets.open(method)
        chosen = some(np.arange(len(ecgset)), LARGEST_SIDE, rng)

        def counted(now: int, of: int, place: int = place) -> None:
            if progress is not None:
                progress(place * of + now, len(sets.methods) * of)

        result = measure_privacy(
            training,
            hold_out,
            side(ecgset, chosen, patients=False),
            sampling_rate_hz=target.ecgset.sampling_rate_hz,
            seed=settings.seed,
            workers=workers,
            progress=counted,
        )
        whole, *others = (by_method(method, verdict) for verdict in result.verdicts())
        verdicts.append(whole)
        tests += others
        tables.append(Table.from_rows(f"Tests, {method}", result.rows()))
        numbers[method] = result.to_dict()
    tests += told_of_stand_ins(source)
    answer = Answer("privacy", tuple(verdicts), tuple(tests), tuple(tables), numbers)
    stage.finish(answer.to_card())
    return answer
