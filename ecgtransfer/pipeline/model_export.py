"""Export of a trained source model without its records, with a model card."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ecgtransfer.pipeline.pretrained import MODEL_CARD, SCORES, PretrainedModel
from ecgtransfer.pipeline.run import CARD, REQUEST, Run
from ecgtransfer.pipeline.source import Source, read_source
from ecgtransfer.pipeline.source_stage import BEAT_SHAPES, RHYTHM, SOURCE, WEIGHTS, corpus_in_words
from ecgtransfer.statistics import Estimate
from ecgtransfer.storage import atomic_folder, fingerprint, make_folder, read_json, write_json
from ecgtransfer.training import save_weights

#: Format of the network's weights on disk.
STORED = "bfloat16"


def export_source(
    run: Run,
    folder: Path,
    scores: Mapping[str, Any] | None = None,
    limits: str | None = None,
) -> PretrainedModel:
    """Write the source model of a run for others: the folder has no record and no path.

    Weights are stored in bfloat16, half the size. The model gets a new fingerprint.

    Args:
        run: run with a trained source.
        folder: folder to write, atomically; it must not exist.
        scores: scores on held-out patients for the card, as JSON values by evaluation.
        limits: paragraph for the card on the limits of the model.

    Raises:
        RunError: the source is not finished, the folder exists, or the disk is full.
    """
    stage = run.stage(SOURCE)
    source = read_source(stage)
    stored = fingerprint({"training": source.fingerprint, "stored": STORED})
    with atomic_folder(folder) as partial:
        for name in (REQUEST, CARD):
            content = read_json(stage.folder / name) | {"fingerprint": stored}
            content["settings"]["source"]["source"] = source.settings.source.name
            write_json(partial / name, content)
        # Units keep their precision: rounding them would shift whole leads.
        source.model.denoiser.to(torch.bfloat16)
        save_weights(source.model, partial / WEIGHTS)
        if source.cascade is not None:
            smaller: dict[str, torch.nn.Module] = {
                RHYTHM: source.cascade.rhythm,
                BEAT_SHAPES: source.cascade.beat_shapes,
            }
            shapes = source.cascade.beat_shapes
            for components in (shapes.ordinary, shapes.ventricular):
                # Rounding a basis changes a shape by 0.2 % of its distance from the mean shape.
                components.basis = components.basis.to(torch.bfloat16)
            for name, model in smaller.items():
                make_folder(partial / name)
                for parameter in model.parameters():
                    parameter.data = parameter.data.to(torch.bfloat16)
                save_weights(model, partial / name / WEIGHTS)
        if source.seen is not None:
            source.seen.write(partial)
        if scores:
            write_json(partial / SCORES, scores)
        card = _model_card(folder.name, source, scores or {}, limits)
        (partial / MODEL_CARD).write_text(card, encoding="utf-8")
    return PretrainedModel.open(folder)


def _model_card(name: str, source: Source, scores: Mapping[str, Any], limits: str | None) -> str:
    """Model card in Markdown."""
    return "\n".join(_card_lines(name, source, scores, limits)) + "\n"


def _card_lines(
    name: str, source: Source, scores: Mapping[str, Any], limits: str | None
) -> Iterator[str]:
    summary, config, settings = source.summary, source.model.config, source.settings
    chosen: list[tuple[str, object]] = [("--select", each) for each in settings.select]
    chosen += [("--validation", each) for each in settings.validation]
    train = settings.train()
    yield f"# {name}"
    yield ""
    yield (
        f"Conditional diffusion model of 12-lead ECGs, {config.samples} samples at "
        f"{config.sampling_rate_hz} Hz. It generates eight independent leads in millivolts; the "
        "other four follow from Einthoven's and Goldberger's laws. Synthetic ECGs are not for "
        "diagnosis."
    )
    yield ""
    yield (
        f"- Data: {corpus_in_words(summary.corpus)}. {summary.records} training records and "
        f"{summary.held_out} held-out records."
    )
    yield (
        "- Labels (training records): "
        + ", ".join(f"{label} {summary.labels[label]}" for label in source.label_space.names)
        + "."
    )
    yield f"- Network: {summary.parameters:,} parameters, stored in {STORED}."
    for name, smaller in summary.stages.items():
        loss = _score(smaller.validation_loss)
        yield (
            f"- Model of {name.replace('_', ' ')}: {smaller.parameters:,} parameters, "
            f"{smaller.steps} training steps, {smaller.seconds / 60:.0f} minutes, held-out loss "
            f"{loss}."
        )
    yield (
        f"- Training: {summary.steps} steps of {train.batch_size * train.accumulate} records, "
        f"seed {settings.seed}, {summary.seconds / 3600:.1f} hours, {summary.precision}. "
        f"Denoising loss on held-out records {_score(summary.validation_loss)} (best linear "
        f"denoiser: {summary.gaussian_loss:.3f})."
    )
    if source.start is not None:
        yield (
            f"- Started from the weights of training {source.start.fingerprint}: "
            f"{source.start.steps} steps, {source.start.seconds / 3600:.1f} hours. Layers that it "
            "lacked started with zero effect."
        )
        chosen.append(("--start", f"training-{source.start.fingerprint[:6]}"))
    chosen += [("--preset", settings.preset), ("--steps", train.steps)]
    chosen += [
        (option, value)
        for option, value in (
            ("--batch-size", settings.batch_size),
            ("--accumulate", None if settings.accumulate == 1 else settings.accumulate),
            ("--learning-rate", settings.learning_rate),
            ("--least-records", None if settings.least_records == 1 else settings.least_records),
        )
        if value is not None
    ]
    chosen += [("--precision", settings.precision), ("--seed", settings.seed)]
    words = shlex.join(str(word) for pair in chosen for word in pair)
    words += "" if settings.factorised else " --plain"
    yield f"- Command: `ecgtransfer train RUN --set {settings.source.name} {words}`"
    yield f"- Fingerprints: training {source.fingerprint}, set {source.set_fingerprint[:12]}."
    if scores:
        yield ""
        yield "## Scores on held-out patients"
        yield from _score_lines(scores, "###")
    if limits:
        yield ""
        yield "## Limits"
        yield ""
        yield limits


def _score_lines(scores: Mapping[str, Any], heading: str) -> Iterator[str]:
    """Scores in Markdown: numbers as a list, rows as tables, nested scores below headings."""
    plain = {key: _plain_score(value) for key, value in scores.items()}
    yield ""
    yield from (f"- {key}: {text}" for key, text in plain.items() if text is not None)
    for key, value in scores.items():
        if plain[key] is not None:
            continue
        yield from ("", f"{heading} {key}")
        if isinstance(value, Mapping):
            yield from _score_lines(value, f"{heading}#")
        elif all(isinstance(row, list) for row in value):
            header, *rows = value
            yield ""
            for row in (header, ["---"] * len(header), *rows):
                yield f"| {' | '.join(str(cell) for cell in row)} |"
        else:
            yield ""
            yield from (f"- {each}" for each in value)


def _plain_score(value: Any) -> str | None:
    """Format a number, a word or an estimate with its interval; None for other values."""
    if isinstance(value, Mapping):
        if {"value", "low", "high"} <= value.keys():
            return str(Estimate(value["value"], value["low"], value["high"]))
        return None
    return None if isinstance(value, list) else str(value)


def _score(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
