"""The report of a run: the four answers on one page, for reviewers and clinicians."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ecgtransfer.corpus import ECGSet, load_manifest
from ecgtransfer.drawing import (
    OUTCOME_WORDS,
    Curve,
    Figure,
    Quantiles,
    Report,
    Section,
    Table,
    bars_svg,
    ecg_pair_svg,
    ecg_svg,
    forest_svg,
    interval_plot_svg,
    scatter_svg,
    spectrum_svg,
    write_report,
)
from ecgtransfer.errors import ManifestError, RunError
from ecgtransfer.pipeline.answers import (
    QUESTIONS,
    Answer,
    SyntheticSets,
    first_with,
    in_the_mix_of,
    question_stage,
    some,
    synthetic_sets,
)
from ecgtransfer.pipeline.run import CARD, Run
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.source_stage import corpus_in_words, corpus_of
from ecgtransfer.pipeline.target import Target, labels_in
from ecgtransfer.statistics import (
    Estimate,
)

#: What each question asks, in the words of the page.
ASKED = {
    "utility": "Do synthetic records help a classifier of patients that nobody learned from?",
    "fidelity": "Do synthetic records look like the target's?",
    "physiology": "Do synthetic records make physiological sense?",
    "privacy": "Do synthetic records give training patients away?",
}

#: Pairs of closest records that are drawn for each method, and records behind a spectrum.
PAIRS, SPECTRUM_RECORDS = 3, 500

#: Measures whose distributions are drawn, with the limits that textbooks set.
DRAWN_INTERVALS: Mapping[str, Mapping[str, float]] = {
    "heart rate": {},
    "PR": {"200 ms": 200.0},
    "QRS": {"120 ms": 120.0},
    "QTc": {},
}

#: Segment of a spectrum in seconds: 0.5 Hz apart, smooth enough for a small figure.
SEGMENT_S = 2.0

#: Numbers by which a training record could be looked up.
NAMES_OF_REAL = frozenset({"training", "training_name"})

NOT_FOR_DIAGNOSIS = (
    "A synthetic ECG is of no patient and not for diagnosis. It may look right and be wrong: use "
    "it to train and to test software, never to decide on a person."
)


@dataclass(frozen=True)
class ReportSettings:
    """What a report is to show.

    Attributes:
        name: of the synthetic sets.
        methods: whose; none takes all that were evaluated.
        with_real: draw real records of the target beside synthetic ones. Without, the page may be
            passed on as far as its numbers may.
    """

    name: str = "synthetic"
    methods: tuple[str, ...] = ()
    with_real: bool = True


def report_run(
    run: Run, source: Source, target: Target, settings: ReportSettings, folder: Path
) -> Path:
    """Write `report.html` and `report.json` on the answers that a run has; the page.

    Raises:
        RunError: no question was answered yet, no such set, or a disk that does not take it.
    """
    sets = synthetic_sets(run, settings.name, settings.methods)
    answers = _answers(run, settings.name)
    sections = [_section(answers[name], sets, source, target, settings) for name in answers]
    sections.append(_galleries(sets, source, target, settings))
    report = Report(
        title="What are these synthetic ECGs worth?",
        subtitle=(
            f"Set “{settings.name}” by {', '.join(sets.methods)}, target "
            f"{target.ecgset.folder.name}: {len(target.train)} records to learn from, "
            f"{len(target.test)} to test"
        ),
        made_on=date.today().isoformat(),
        sections=tuple(sections),
        methods=tuple(_methods(source, target, sets)),
        settings=_settings(run, settings.name, sets),
        licences=tuple(_licences(source, target)),
        limits=tuple(_limits(settings, target, answers)),
    )
    numbers: Any = {name: answer.numbers for name, answer in answers.items()}
    if not settings.with_real:
        numbers = _without(numbers, NAMES_OF_REAL)
    return write_report(report, numbers, folder)


def _without(numbers: Any, keys: Collection[str]) -> Any:
    """The same without the values of some keys, however deep they lie."""
    if isinstance(numbers, Mapping):
        return {k: _without(value, keys) for k, value in numbers.items() if k not in keys}
    if isinstance(numbers, list | tuple):
        return [_without(value, keys) for value in numbers]
    return numbers


def _answers(run: Run, name: str) -> dict[str, Answer]:
    """The answers that there are, in the order of `QUESTIONS`."""
    stages = {question: question_stage(run, question, name) for question in QUESTIONS}
    answers = {
        question: Answer.from_card(question, stage.card["results"], stage.folder / CARD)
        for question, stage in stages.items()
        if stage.is_done
    }
    if not answers:
        raise RunError(
            f"expected an answered question about the sets {name!r} in {run.folder}, found none; "
            f"run 'ecgtransfer evaluate all' first"
        )
    return answers


def _section(
    answer: Answer, sets: SyntheticSets, source: Source, target: Target, settings: ReportSettings
) -> Section:
    """What a question came to, with its figures before its tables."""
    figures: Iterator[Figure]
    match answer.question:
        case "utility":
            figures = _utility_figures(answer)
        case "fidelity":
            figures = _fidelity_figures(answer, sets, source, target)
        case "physiology":
            figures = _physiology_figures(answer, sets)
        case _:
            figures = _privacy_figures(answer, sets, target, settings)
    return Section(
        id=answer.question,
        title=answer.question.capitalize(),
        question=ASKED[answer.question],
        verdicts=answer.verdicts,
        body=(*figures, _tests(answer), *answer.tables),
    )


def _tests(answer: Answer) -> Table:
    """What the verdicts rest on, a row each."""
    return Table(
        "What the verdicts rest on",
        ("outcome", "test"),
        tuple((OUTCOME_WORDS[test.outcome], test.sentence) for test in answer.tests),
    )


def _utility_figures(answer: Answer) -> Iterator[Figure]:
    """Differences of the arms with synthetic records to the same without, and of the best ones."""
    changes = answer.numbers["differences"]
    if changes:
        yield forest_svg(
            [(change["name"], _estimate(change["macro_auroc"])) for change in changes],
            title="Difference in macro AUROC to the same classifier without synthetic records",
            favours=("synthetic records harm", "they help"),
            caption=(
                "Paired over the same resamples of test patients and trainings; 95 % intervals, "
                "not adjusted for the number of comparisons. The verdicts go by adjusted ones. A "
                "set alone stands against the target only."
            ),
        )
    for overall in answer.numbers["overall"]:
        chosen = " / ".join(dict.fromkeys(overall["chosen"]))
        yield forest_svg(
            [
                (f"minus {change['against']}", _estimate(change["macro_auroc"]))
                for change in overall["differences"]
            ],
            title=f"{chosen} against every classifier without synthetic records",
            favours=("it is worse", "it is better"),
            caption=(
                f"The best of {overall['candidates']} ways with {overall['synthetic']} records by "
                "its training score; differences in macro AUROC, 95 % intervals, not adjusted."
            ),
        )


def _fidelity_figures(
    answer: Answer, sets: SyntheticSets, source: Source, target: Target
) -> Iterator[Figure]:
    """Spectra of lead II, and a map of the feature space."""
    rate_hz = float(target.ecgset.sampling_rate_hz)
    rng = np.random.default_rng(0)
    wanted = target.labels[target.test]
    curves = [_curve("real", target.ecgset, some(target.test, SPECTRUM_RECORDS, rng))]
    for method in sets.methods:
        ecgset = sets.open(method)
        labels = labels_in(target.label_space, ecgset)
        chosen = in_the_mix_of(labels, wanted, rng, SPECTRUM_RECORDS)
        curves.append(_curve(method, ecgset, chosen))
    frequency_hz = np.fft.rfftfreq(round(SEGMENT_S * rate_hz), 1 / rate_hz)
    shown = frequency_hz > 0
    yield spectrum_svg(
        frequency_hz[shown],
        [
            Curve(c.name, *(np.asarray(part)[shown] for part in (c.power, c.low, c.high)))
            for c in curves
        ],
        title="Power spectrum of lead II",
        caption="Medians over records in the class mix of the test records; bands hold the central "
        "half of them.",
    )
    if picture := answer.numbers["projection"]:
        yield scatter_svg(
            {name: np.array(points) for name, points in picture["points"].items()},
            title="Feature space of the target's classifier",
            caption=picture["caption"],
        )


def _curve(name: str, ecgset: ECGSet, numbers: np.ndarray) -> Curve:
    """Spectrum of lead II over some records: median and quartiles."""
    from scipy.signal import welch

    rate_hz = float(ecgset.sampling_rate_hz)
    lead_mv = ecgset.independent_mv(numbers)[:, 1].astype(np.float64)
    _, power = welch(lead_mv, rate_hz, nperseg=round(SEGMENT_S * rate_hz))
    low, middle, high = np.quantile(power, [0.25, 0.5, 0.75], axis=0)
    return Curve(name, middle, low, high)


def _physiology_figures(answer: Answer, sets: SyntheticSets) -> Iterator[Figure]:
    """How often the rules of the classes are obeyed, and intervals by class."""
    for method in sets.methods:
        found = answer.numbers.get(method)
        tested = [rule for rule in found["rules"] if rule["shares"]] if found else []
        if tested:
            yield bars_svg(
                [
                    (
                        f"{rule['label']}: {rule['rule']}",
                        _estimate(rule["shares"]["real"]),
                        _estimate(rule["shares"]["generated"]),
                    )
                    for rule in tested
                ],
                title=f"Records that obey the rule of their class, {method}",
                axis="records that pass",
            )
        for measure, limits in DRAWN_INTERVALS.items():
            rows = [
                row for row in (found["intervals"] if found else ()) if row["measure"] == measure
            ]
            if rows:
                yield interval_plot_svg(
                    [
                        (row["group"], _quantiles(row["real"]), _quantiles(row["generated"]))
                        for row in rows
                    ],
                    title=f"{measure} by class, {method}",
                    unit=rows[0]["unit"],
                    axis=measure,
                    limits=limits,
                )


def _privacy_figures(
    answer: Answer, sets: SyntheticSets, target: Target, settings: ReportSettings
) -> Iterator[Figure]:
    """The closest pairs, real above synthetic; without real records their synthetic halves."""
    for method in sets.methods:
        if method not in answer.numbers:
            continue
        ecgset = sets.open(method)
        for rank, pair in enumerate(answer.numbers[method]["signal"]["closest_pairs"][:PAIRS], 1):
            title = (
                f"{method}, closest pair {rank}: correlation {pair['correlation']:.2f} at a lag of "
                f"{pair['lag_s']:+.2f} s"
            )
            generated = _by_name(ecgset, pair["generated_name"])
            words = " + ".join(ecgset.label_space.decode(ecgset.labels[generated])) or "no label"
            if not settings.with_real:
                yield ecg_svg(
                    ecgset.recording(generated),
                    title=title,
                    description=words,
                    caption="The real record of this pair is left out of this report.",
                )
                continue
            training = _by_name(target.ecgset, pair["training_name"])
            stated = target.ecgset.label_space.decode(target.ecgset.labels[training])
            yield ecg_pair_svg(
                target.ecgset.recording(training),
                ecgset.recording(generated),
                title=title,
                headings=(
                    f"Training record {pair['training_name']}: {' + '.join(stated) or 'no label'}",
                    f"Synthetic record {pair['generated_name']}: {words}",
                ),
            )


def _galleries(
    sets: SyntheticSets, source: Source, target: Target, settings: ReportSettings
) -> Section:
    """The first record of every label, synthetic and, where allowed, real: none chosen by eye."""
    body: list[Figure | str] = [
        "The first record of each label that states it alone, where there is one. None was chosen."
    ]
    for name in target.label_space.names:
        if settings.with_real:
            real = np.concatenate([target.train, target.test])
            number = first_with(target.labels[real], target.label_space.index(name))
            if number is not None:
                body.append(
                    ecg_svg(
                        target.ecgset.recording(int(real[number])),
                        title=f"{name}, a real record of the target",
                        mark="",
                        description=name,
                    )
                )
        for method in sets.methods:
            ecgset = sets.open(method)
            labels = labels_in(target.label_space, ecgset)
            number = first_with(labels, target.label_space.index(name))
            if number is not None:
                body.append(
                    ecg_svg(
                        ecgset.recording(number),
                        title=f"{name}, by {method}",
                        description=name,
                    )
                )
    return Section(id="galleries", title="ECGs on paper", body=tuple(body))


def _methods(source: Source, target: Target, sets: SyntheticSets) -> Iterator[str]:
    """How the records came about, in paragraphs."""
    config = source.model.config
    yield (
        f"Source model: conditional diffusion model of eight independent leads, {config.samples} "
        f"samples at {config.sampling_rate_hz:g} Hz, of {source.settings.source.name} "
        f"(selection: {', '.join(source.settings.select) or 'all records'}; fingerprint "
        f"{source.fingerprint}). The other four leads follow by Einthoven's and Goldberger's laws."
    )
    for method in sets.methods:
        card = sets.open(method).card
        yield (
            f"{method}: synthetic set of {card['records']} records, fingerprint "
            f"{sets.fingerprints[method][:12]}."
        )
    yield (
        f"Target: {target.ecgset.folder.name}, {len(target.train)} records learned from and "
        f"{len(target.test)} of other patients for tests (fingerprint {target.fingerprint}). "
        "Transfer: TGDP, Ouyang, Xie, Zha and Cheng, Transfer Learning for Diffusion Models, "
        "NeurIPS 2024, https://arxiv.org/abs/2405.16876."
    )
    yield (
        "Every interval is at patient level and covers 95 % unless it says otherwise; every "
        "distance stands beside the same distance between two groups of real patients."
    )


def _settings(run: Run, name: str, sets: SyntheticSets) -> dict[str, object]:
    """What each stage was asked for, as its card has it; and the versions."""
    held: dict[str, object] = {"ecgtransfer": version("ecgtransfer")}
    for question in QUESTIONS:
        stage = question_stage(run, question, name)
        if stage.is_done:
            held[question] = stage.card["settings"]["settings"]
    for method in sets.methods:
        generated = run.stage(f"{sets.name}-{method}").card["settings"]
        held[f"generate {method}"] = generated["generate"]
    return held


def _licences(source: Source, target: Target) -> Iterator[str]:
    """Where the records are from, under which licence, and what is to be cited."""
    for role, corpus in (("Source", source.summary.corpus), ("Target", corpus_of(target.ecgset))):
        yield f"{role}: {corpus_in_words(corpus)}. {_citation(corpus['name'])}".strip()


def _citation(corpus: str) -> str:
    try:
        return " ".join(f"{each}." for each in load_manifest(corpus).citations)
    except ManifestError:
        return ""


def _limits(
    settings: ReportSettings, target: Target, answers: Mapping[str, Answer]
) -> Iterator[str]:
    """What the page cannot say."""
    yield NOT_FOR_DIAGNOSIS
    missing = [question for question in QUESTIONS if question not in answers]
    if missing:
        yield f"Not answered for this run: {', '.join(missing)}."
    if settings.with_real:
        yield (
            "This page shows real ECGs of the target's patients. Treat it as patient data; "
            "'ecgtransfer report --without-real' writes one without them."
        )
    yield (
        f"One target, one split into {len(target.train)} and {len(target.test)} records, one "
        "training of each model: intervals hold for this run's models and split, and say nothing "
        "about other hospitals, recorders or seeds of the transfer."
    )
    yield (
        "Passing the privacy tests means that these attacks found nothing with this many patients, "
        "not that nobody can be found."
    )


def _estimate(numbers: Mapping[str, float]) -> Estimate:
    return Estimate(numbers["value"], numbers["low"], numbers["high"])


def _quantiles(spread: Mapping[str, float]) -> Quantiles:
    return Quantiles(
        spread["percentile_5"],
        spread["lower_quartile"],
        spread["median"],
        spread["upper_quartile"],
        spread["percentile_95"],
        int(spread["records"]),
    )


def _by_name(ecgset: ECGSet, name: str) -> int:
    """The number of the record of that name."""
    return int(np.flatnonzero(ecgset.records.name.astype(str).to_numpy() == name)[0])
