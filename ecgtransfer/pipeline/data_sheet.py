"""The data sheet of an augmented training set, in Markdown.

It answers the questions of Gebru et al., "Datasheets for datasets" (Communications of the ACM 2021)
that this program can answer: composition, collection, preprocessing, uses, distribution.
"""

from collections.abc import Iterator, Mapping

from ecgtransfer.corpus import ECGSet
from ecgtransfer.errors import RunError
from ecgtransfer.evaluation.gate import GateCount
from ecgtransfer.evaluation.privacy.result import PrivacyEvaluation
from ecgtransfer.pipeline.augmented import FOLDS, Augmentation
from ecgtransfer.pipeline.evaluation import question_stage, read_answer
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.source_stage import corpus_in_words
from ecgtransfer.transfer.methods import METHODS

#: Uses that the sheet advises against.
NOT_FOR = (
    "Diagnosis, its teaching, or statements about patients: a synthetic ECG has no patient.",
    "Prevalence, intervals or any other statistic of the clinic's patients: the mix of labels was "
    "chosen, and synthetic records repeat the errors of the model.",
    "Tests and validation: score a classifier on `test/` alone, and choose nothing by it. Records "
    "with `fold` -1 are synthetic and belong to training only.",
    "Cross-validation as a final score: the generator was fitted to all training patients, so that "
    "synthetic records give away a little about every validation fold.",
    "Training of another generator or another transfer: errors of the model would add up.",
)


def data_sheet(augmentation: Augmentation, source: Source, train: ECGSet, test: ECGSet) -> str:
    """Data sheet of an augmented set.

    Args:
        augmentation: the augmentation.
        source: source of its run.
        train: training set, recorded and synthetic.
        test: test set.
    """
    return "\n".join(_lines(augmentation, source, train, test)) + "\n"


def _lines(
    augmentation: Augmentation, source: Source, train: ECGSet, test: ECGSet
) -> Iterator[str]:
    summary, settings = augmentation.summary, augmentation.settings
    recorded = augmentation.target.ecgset
    yield f"# Augmented training set of {recorded.folder.name}"
    yield ""
    yield (
        f"{summary.train_records} recorded and {summary.synthetic_records} synthetic 12-lead ECGs "
        f"to train a classifier with, and {summary.test_records} recorded ones of other patients "
        "to test it. Not for diagnosis."
    )
    yield from ("", "## What is in it", "")
    yield "- `train`: the training set; the column `origin` says of each record what it is."
    yield "- `test`: the test set, recorded ECGs that nothing here was fitted to or chosen by."
    yield (
        "- `arrays`, `wfdb`, `ptbxl`: the same for other programs, where asked for. `X` is "
        "millivolts, (records, 12 leads, samples); `groups` are patients."
    )
    yield (
        "- `ptbxl`: the column `strat_fold` gives synthetic records (device SYNTHETIC) a fold of 1 "
        "to 8 as well, so cross-validation over it would validate on them; exclude them from each "
        "validation part, or use `fold` of the other forms."
    )
    yield (
        f"- {train.n_samples} samples at {train.sampling_rate_hz:g} Hz; labels "
        f"{', '.join(train.names)}."
    )
    yield (
        f"- `weight`: 1 for a recorded record, {summary.weight:.3g} for a synthetic one, so that "
        "all synthetic records together weigh at most as much as all recorded ones."
    )
    yield (
        f"- `fold`: up to {FOLDS} folds of patients for recorded records, -1 for synthetic ones."
    )
    yield from ("", "| class | recorded | synthetic | test |", "|---|---|---|---|")
    tested = dict(zip(test.names, test.labels.sum(axis=0, dtype=float), strict=True))
    for name, count in summary.recorded.items():
        yield f"| {name} | {count} | {summary.synthetic[name]} | {int(tested.get(name, 0))} |"
    yield ""
    yield "A record with several labels counts in each of their lines."
    for sentence in summary.warnings:
        yield from ("", f"{sentence[0].upper()}{sentence[1:]}.")
    yield from ("", "## How it was made", "")
    yield (
        f"- Recorded ECGs: {_corpus(recorded)}; set fingerprint {recorded.fingerprint[:12]}. "
        "Training and test records were split by patient before anything was fitted."
    )
    yield (
        f"- Source model: {source.fingerprint[:12]}, trained on {source.summary.records} records "
        f"of {corpus_in_words(source.summary.corpus) or 'a corpus that it does not state'}."
    )
    yield (
        f"- Transfer: {summary.method} ({METHODS[summary.method].title}), fitted to the training "
        "records."
    )
    sampler = settings.sampler
    yield (
        f"- Generation: seed {settings.seed}, {sampler.steps} steps of {sampler.solver}, label "
        f"scale {sampler.classifier_free_scale:g}; "
        + ", ".join(f"{each.name} {each.generated}" for each in summary.rounds)
        + " records. Each record has its seed in the table."
    )
    yield f"- Settings and fingerprints: `augmented.json`; fingerprint {augmentation.fingerprint}."
    yield from ("", "## Quality gate", "")
    yield from _gate_lines(augmentation)
    yield from ("", "## Privacy", "")
    yield from _privacy_lines(augmentation)
    yield from ("", "## Licence", "")
    yield (
        f"- Recorded ECGs: {_licence(recorded.card.get('corpus'))}. They are records of patients: "
        "share them only as the clinic's rules allow."
    )
    yield (
        f"- Synthetic ECGs: derived from the recorded ones above and from the source model's data "
        f"({_licence(source.summary.corpus)}); both sets of terms apply."
    )
    yield from ("", "## Do not use it for", "")
    yield from (f"- {sentence}" for sentence in NOT_FOR)


def _corpus(ecgset: ECGSet) -> str:
    stated = ecgset.card.get("corpus")
    words = corpus_in_words(stated) if isinstance(stated, Mapping) else ""
    return words or f"{ecgset.origin}, source not stated in the set"


def _licence(corpus: object) -> str:
    licence = corpus.get("licence") if isinstance(corpus, Mapping) else None
    return f"licence {licence}" if licence else "no licence stated; ask who owns them"


def _gate_lines(augmentation: Augmentation) -> Iterator[str]:
    gate, counts = augmentation.settings.gate, augmentation.summary.gate
    if gate is None:
        yield "Switched off: no record was checked."
        return
    checks = []
    if gate.rules:
        checks.append("records that break the rule of their class")
    if gate.classifier:
        checks.append(
            "records that do not resemble the recorded training records of each of their classes "
            "for classifiers that were cross-fitted over training patients (a share of "
            f"{gate.error:g} of true ones would be, per label)"
        )
    yield f"Dropped: {', and '.join(checks)}."
    yield ""
    yield "| class | generated | passed | broke rule | recorded that do | unlike | taken for |"
    yield "|---|---|---|---|---|---|---|"
    for each in counts:
        yield (
            f"| {each.label} | {each.generated} | {each.passed} | "
            f"{each.broken if each.rule else 'no rule'} | {recorded_share(each)} | "
            f"{judged_unlike(each)} | "
            f"{', '.join(f'{name} {n}' for name, n in each.assigned.items()) or '-'} |"
        )
    yield ""
    yield (
        "Recorded ECGs break these rules too, so the gate also drops good records, and the records "
        "that are left are more regular than those of patients."
    )


def recorded_share(each: GateCount) -> str:
    """How many recorded training records of a class break its rule."""
    if each.recorded_broken is None:
        return "-"
    return f"{each.recorded_broken} of {each.recorded}"


def judged_unlike(each: GateCount) -> str:
    """How many synthetic records do not resemble the recorded ones of a class."""
    return str(each.unlike) if each.judged else f"not judged ({each.recorded} recorded)"


def _privacy_lines(augmentation: Augmentation) -> Iterator[str]:
    run, method = augmentation.run, augmentation.summary.method
    open_rounds = []
    for each in augmentation.summary.rounds:
        stage = question_stage(run, "privacy", each.name)
        sentence = None
        if stage.is_done and method in stage.read(dict[str, str], "settings.synthetic"):
            try:
                evaluation = read_answer(stage, "privacy").evaluation
            except RunError:
                evaluation = None  # an answer of an earlier version
            if isinstance(evaluation, PrivacyEvaluation):
                sentence = evaluation.methods[method].verdicts()[0].sentence
        if sentence is None:
            open_rounds.append(each.name)
        else:
            yield f"- Set `{each.name}` ({each.generated} generated records): {sentence}"
    for name in open_rounds:
        yield (
            f"- Set `{name}`: not measured. Measure it with `ecgtransfer evaluate privacy RUN "
            f"--name {name}`, then repeat the command that made this folder to renew this sheet."
        )
    yield ""
    yield (
        "Do not share the run folder: its networks were fitted to the training patients, and it "
        "lists their records."
    )
    yield (
        "The verdicts are about the synthetic records as they were generated; a test that passes "
        "is no proof. The recorded ECGs in `train` and `test` are the patients' own."
    )
