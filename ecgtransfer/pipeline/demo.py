"""Demonstration: all stages for a simulated clinic without source records, in minutes."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from ecgtransfer.corpus import ECGSet, label_space
from ecgtransfer.drawing import draw_recordings
from ecgtransfer.evaluation import (
    ClassifierConfig,
    FidelitySettings,
    PhysiologySettings,
    PrivacySettings,
    UtilitySettings,
)
from ecgtransfer.evaluation.cohorts import first_with_label
from ecgtransfer.pipeline.demo_summary import DemoSummary, benefits_of
from ecgtransfer.pipeline.evaluation import QuestionSettings, evaluate_all
from ecgtransfer.pipeline.methods import TransferSettings, transfer
from ecgtransfer.pipeline.pretrained import find_source
from ecgtransfer.pipeline.report import ReportSettings, report_run
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import import_source_model, load_source
from ecgtransfer.pipeline.synthetic import GenerateSettings, SamplerSettings, export, synthesise
from ecgtransfer.pipeline.target import Target, TargetSettings, split_target
from ecgtransfer.simulation import TARGET_HOSPITAL, simulate_ecgset
from ecgtransfer.storage import atomic_file, make_folder, to_card, write_json
from ecgtransfer.training import Progress, TrainConfig, available_cores
from ecgtransfer.transfer import DomainClassifierConfig, TgdpConfig

#: Diagnoses that the figures show, a real above a generated record.
SHOWN = ("NORM", "AFIB", "CLBBB")
RESULTS = "results.json"
#: Steps of a demonstration, in order.
STEPS = ("simulate a clinic", "transfer", "generate", "export", "evaluate", "report")
#: Duration in words, for the opening line.
DURATION = "about 4 minutes on two free cores"
#: Name of the stage of the clinic's simulated set.
CLINIC = "clinic"


class StageReporter(Protocol):
    """Shows the progress of stages."""

    def progress(self, task: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """Show a task; the callback takes (done, total)."""
        ...

    def training(self, task: str) -> AbstractContextManager[Callable[[Progress], None]]:
        """Show a training; the callback takes its `Progress`."""
        ...


@dataclass(frozen=True)
class DemoSettings:
    """Sizes of the demonstration; the defaults take minutes on two cores.

    The clinic, the seed and the sizes were fixed before anything was scored. They follow from the
    cost alone and were not changed afterwards: 30 records are what a small clinic can label, 300
    test patients make an interval useful, and five trainings per arm show their variation.

    Attributes:
        source: source model, as for `find_source`; its records are not needed.
        target_records: number of simulated records of the clinic.
        train_records: number of training records among them; the others are test records.
        asked: label whose AUROC the summary states.
        ratio: synthetic records per training record.
        surrogate_records: approximate number of records that replace the source's in evaluations.
        delineated: number of the clinic's records that are delineated, drawn at random.
        sampler: settings of the sampler.
        transfer: settings of the transfer.
        utility: settings of the utility study; the features of fidelity and privacy come from
            classifiers of the same size.
        seed: seed of all stages.
    """

    source: str = "ptbxl-cascade"
    target_records: int = 330
    train_records: int = 30
    asked: str = "AFIB"
    ratio: float = 4.0
    surrogate_records: int = 200
    delineated: int = 160
    sampler: SamplerSettings = field(
        default_factory=lambda: SamplerSettings(classifier_free_scale=2.0)
    )
    transfer: TransferSettings = field(
        default_factory=lambda: TransferSettings(
            source_records="model",
            n_source=150,
            tgdp=TgdpConfig(
                train=TrainConfig(
                    steps=100,
                    batch_size=16,
                    learning_rate=2e-3,
                    warmup_steps=20,
                    ema_decay=0.98,
                    validate_every=25,
                    gradient_clip=100.0,
                )
            ),
            classifier=DomainClassifierConfig(
                widths=(32, 48, 64),
                folds=3,
                train=TrainConfig(
                    steps=80,
                    batch_size=32,
                    learning_rate=2e-3,
                    warmup_steps=20,
                    weight_decay=0.05,
                    ema_decay=0.95,
                    validate_every=20,
                    validate_from=20,
                    patience=2,
                ),
            ),
            folds=1,
        )
    )
    utility: UtilitySettings = field(
        default_factory=lambda: UtilitySettings(
            arms=(),
            ratios=(4.0,),
            seeds=5,
            classifier=ClassifierConfig(widths=(32, 48, 64), steps=100, batch_size=16, folds=2),
        )
    )
    seed: int = 0

    def opening(self, folder: Path) -> str:
        """Return one line on what the demonstration does, how long it takes, and where."""
        test = self.target_records - self.train_records
        return (
            f"Demonstration in {len(STEPS)} steps ({', '.join(STEPS)}), {DURATION}: learn from "
            f"{self.train_records} simulated ECGs of a clinic, test on {test} others; output in "
            f"{folder}"
        )


def run_demo(folder: Path, settings: DemoSettings, reporter: StageReporter) -> DemoSummary:
    """Simulate a clinic, transfer, generate, evaluate and report; finished stages are kept.

    Args:
        folder: run folder, new or of an interrupted demonstration.
        settings: sizes of the demonstration.
        reporter: shows the progress of each stage.

    Raises:
        RunError: the folder has other files, or a demonstration with other settings.
    """
    run = Run.create(folder)
    import_source_model(run, find_source(settings.source))
    source = load_source(run)
    clinic = _clinic(run, settings)
    target = split_target(
        run,
        source,
        TargetSettings(clinic, train_records=settings.train_records, seed=settings.seed),
    )
    transfer_summary = transfer(
        run, source, target, replace(settings.transfer, seed=settings.seed), reporter.training
    )
    method = settings.transfer.method
    generate = GenerateSettings(
        ratio=settings.ratio, method=method, sampler=settings.sampler, seed=settings.seed
    )
    with reporter.progress("synthetic records") as counter:
        synthetic = synthesise(run, source, generate, counter)
    with reporter.progress("WFDB records") as counter:
        wfdb = export(run, "synthetic", method, counter)
    answers = evaluate_all(
        run,
        source,
        target,
        _questions(settings),
        reporter,
        available_cores(),
        settings.surrogate_records,
    )
    benefits = benefits_of(answers, method, settings.asked)
    report = report_run(run, source, target, ReportSettings(), run.folder / "report")
    figures = _figures(run, target, synthetic)
    results = run.folder / RESULTS
    write_json(
        results,
        to_card(
            {
                "source": source.summary,
                "transfer": transfer_summary,
                "benefits": benefits,
                "answers": {answer.question: answer.to_json() for answer in answers},
                "settings": settings,
            }
        ),
    )
    return DemoSummary(
        source.summary,
        transfer_summary,
        benefits,
        answers,
        synthetic.folder,
        wfdb,
        report,
        figures,
        results,
    )


def _questions(settings: DemoSettings) -> tuple[QuestionSettings, ...]:
    """Settings of the four evaluations of the synthetic set."""
    methods, seed = (settings.transfer.method,), settings.seed
    classifier = settings.utility.classifier
    return (
        replace(settings.utility, methods=methods, seed=seed),
        FidelitySettings(methods, classifier=classifier, seed=seed),
        PhysiologySettings(methods, records=settings.delineated, seed=seed),
        PrivacySettings(methods, classifier=classifier, seed=seed),
    )


def _clinic(run: Run, settings: DemoSettings) -> Path:
    """Simulate the clinic's set, in the nine classes of ICBEB2018; return its folder."""
    stage = run.stage(CLINIC)
    folder = stage.folder / "set"
    inputs = {
        "hospital": TARGET_HOSPITAL,
        "records": settings.target_records,
        "seed": settings.seed,
    }
    if not stage.begin(inputs):
        ecgset = simulate_ecgset(
            folder,
            TARGET_HOSPITAL,
            settings.target_records,
            settings.seed,
            label_space("icbeb9"),
            overwrite=folder.exists(),
        )
        stage.finish({"records": len(ecgset), "fingerprint": ecgset.fingerprint})
    return folder


def _figures(run: Run, target: Target, synthetic: ECGSet) -> tuple[Path, ...]:
    """Plot a target record above a generated one, on ECG paper, for each of `SHOWN`."""
    folder = run.folder / "figures"
    make_folder(folder)
    paths = []
    for name in SHOWN:
        path = folder / f"{name}.png"
        paths.append(path)
        if path.exists():
            continue
        column = synthetic.label_space.index(name)
        real = first_with_label(target.labels[target.train], column)
        generated = first_with_label(synthetic.labels, column)
        if real is None or generated is None:
            paths.pop()
            continue
        figure = draw_recordings(
            [target.ecgset.recording(int(target.train[real])), synthetic.recording(generated)],
            [f"{name}, simulated clinic", f"{name}, SYNTHETIC, not for diagnosis"],
        )
        with atomic_file(path) as partial:
            figure.savefig(partial, format="png")
    return tuple(paths)
