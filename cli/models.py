"""`ecgtransfer models`: source models that are shipped, and how to give one's own away."""

import json as json_format
from pathlib import Path
from typing import Annotated, Any

import typer

from ecgtransfer import pipeline
from ecgtransfer.errors import ConfigError

from .console import Facts, Json, Output, Quiet, add_command

app = typer.Typer(
    name="models",
    help="Source models that need no training, and how to give one's own away.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def list_(json: Json = False, quiet: Quiet = False) -> None:
    """List the source models that are shipped with the package.

    Example: ecgtransfer models list
    """
    found = pipeline.pretrained_models()
    told: list[Facts | str] = [Facts(model.name, _rows(model)) for model in found]
    if not told:
        told.append("This version ships no model; train one, or get an exported one.")
    Output(json, quiet).result({"models": [_payload(model) for model in found]}, *told)


def show(
    name: Annotated[str, typer.Argument(help="Of a shipped model, or an exported one's folder.")],
    full: Annotated[
        bool, typer.Option("--full", help="The whole card: command, all scores, limits.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what a model is: data, licence, size and main scores; with --full, its whole card.

    Example: ecgtransfer models show ptbxl-cascade --full
    """
    model = pipeline.PretrainedModel.open(pipeline.find_source(name).folder)
    payload = _payload(model) | {"scores": model.scores}
    if full:
        Output(json, quiet).result(payload, model.model_card)
        return
    rows = [
        *_rows(model),
        *_main_scores(model),
        ("whole card", f"ecgtransfer models show {name} --full"),
    ]
    Output(json, quiet).result(payload, Facts(model.name, rows))


def get(
    name: Annotated[str, typer.Argument(help="Of a shipped model, or an exported one's folder.")],
    to: Annotated[Path, typer.Option(help="Run folder; begun with the model as its source.")],
    source_set: Annotated[
        Path | None, typer.Option(help="Its records, prepared, if they are here.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Begin a run with a model as its source, without any training.

    Example: ecgtransfer models get ptbxl-cascade --to runs/clinic
    """
    run = pipeline.Run.create(to)
    pipeline.import_source_model(run, pipeline.find_source(name), source_set)
    stage = run.stage("source")
    Output(json, quiet).result(
        {"source": stage.folder, "fingerprint": stage.card["fingerprint"]},
        Facts(f"{name} in {to}", [("next", f"ecgtransfer transfer {to} --target SET")]),
    )


def export(
    run: Annotated[Path, typer.Argument(help="Run with a trained source.")],
    to: Annotated[Path, typer.Option(help="Folder of the model; its name is the model's.")],
    scores: Annotated[
        Path | None, typer.Option(help="JSON of what was measured, for the model's card.")
    ] = None,
    limits: Annotated[
        str | None, typer.Option(help="What the model cannot do, for its card.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a trained source model so that it can be given away: no record, no path in it.

    Example: ecgtransfer models export runs/clinic --to models/our-hospital
    """
    model = pipeline.export_source(pipeline.Run.open(run), to, _read_scores(scores), limits)
    Output(json, quiet).result(_payload(model), Facts(f"Model in {to}", _rows(model)))


for name, command in (("list", list_), ("show", show), ("get", get), ("export", export)):
    add_command(app, command, name)


def _read_scores(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        held = json_format.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"expected scores as JSON in {path}, got none ({error})") from None
    if not isinstance(held, dict):
        raise ConfigError(f"expected an object of scores in {path}, got {type(held).__name__}")
    return held


def _main_scores(model: "pipeline.PretrainedModel") -> list[tuple[str, object]]:
    """AUROC of classifiers trained on real and on synthetic records, where it is stated."""
    stated = model.scores.get("utility")
    utility = stated if isinstance(stated, dict) else {}
    return [
        (f"AUROC, {key} records", "{value:.3f} [{low:.3f}, {high:.3f}]".format_map(utility[key]))
        for key in ("real", "synthetic")
        if isinstance(utility.get(key), dict) and {"value", "low", "high"} <= utility[key].keys()
    ]


def _payload(model: "pipeline.PretrainedModel") -> dict[str, object]:
    return {"name": model.name, "folder": model.folder, "training": model.summary}


def _rows(model: "pipeline.PretrainedModel") -> list[tuple[str, object]]:
    summary = model.summary
    return [
        ("learned from", pipeline.corpus_in_words(summary.corpus)),
        ("records", summary.records),
        ("labels", ", ".join(label for label, count in summary.labels.items() if count)),
        ("parameters", summary.parameters),
        ("megabytes", model.megabytes),
        ("held-out denoising loss", summary.validation_loss),
    ]
