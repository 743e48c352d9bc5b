"""`ecgtransfer models`: use shipped source models, and share trained ones."""

import json as json_format
from pathlib import Path
from typing import Annotated, Any

import typer

from ecgtransfer import pipeline
from ecgtransfer.errors import ConfigError

from .console import Json, KeyValues, Output, Quiet, add_command

app = typer.Typer(
    name="models",
    help="Use source models that need no training, and share trained ones.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def list_(json: Json = False, quiet: Quiet = False) -> None:
    """List the source models that are shipped with the package.

    Example: ecgtransfer models list
    """
    found = pipeline.pretrained_models()
    parts: list[KeyValues | str] = [KeyValues(model.name, _rows(model)) for model in found]
    if not parts:
        parts.append("This version ships no model; train one, or use an exported one.")
    Output(json, quiet).result({"models": [_payload(model) for model in found]}, *parts)


def show(
    name: Annotated[
        str, typer.Argument(help="Name of a shipped model, or folder of an exported one.")
    ],
    full: Annotated[
        bool, typer.Option("--full", help="Print the whole card: command, all scores, limits.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show data, licence, size and main scores of a model; with --full, its whole card.

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
    Output(json, quiet).result(payload, KeyValues(model.name, rows))


def get(
    name: Annotated[
        str, typer.Argument(help="Name of a shipped model, or folder of an exported one.")
    ],
    to: Annotated[Path, typer.Option(help="Run folder to create, with the model as its source.")],
    source_set: Annotated[
        Path | None, typer.Option(help="Prepared set that the model was trained on, if available.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Create a run with a given source model, without training.

    Example: ecgtransfer models get ptbxl-cascade --to runs/clinic
    """
    run = pipeline.Run.create(to)
    pipeline.import_source_model(run, pipeline.find_source(name), source_set)
    stage = run.stage("source")
    Output(json, quiet).result(
        {"source": stage.folder, "fingerprint": stage.card["fingerprint"]},
        KeyValues(f"{name} in {to}", [("next", f"ecgtransfer transfer {to} --target SET")]),
    )


def export(
    run: Annotated[Path, typer.Argument(help="Run folder with a trained source model.")],
    to: Annotated[Path, typer.Option(help="Folder to write; the model is named after it.")],
    scores: Annotated[
        Path | None, typer.Option(help="JSON file of measured scores, for the model card.")
    ] = None,
    limits: Annotated[
        str | None, typer.Option(help="Known limits of the model, for the model card.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export a trained source model for sharing; it contains no records and no paths.

    Example: ecgtransfer models export runs/clinic --to models/our-hospital
    """
    model = pipeline.export_source(pipeline.Run.open(run), to, _read_scores(scores), limits)
    Output(json, quiet).result(_payload(model), KeyValues(f"Model in {to}", _rows(model)))


for name, command in (("list", list_), ("show", show), ("get", get), ("export", export)):
    add_command(app, command, name)


def _read_scores(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        scores = json_format.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"expected scores as JSON in {path}, but reading failed ({error}); check the file"
        ) from None
    if not isinstance(scores, dict):
        raise ConfigError(
            f"expected a JSON object of scores in {path}, got {type(scores).__name__}; give each "
            "score a name"
        )
    return scores


def _main_scores(model: "pipeline.PretrainedModel") -> list[tuple[str, object]]:
    """Return the AUROC of classifiers trained on real and on synthetic records, if on the card."""
    scores = model.scores.get("utility")
    utility = scores if isinstance(scores, dict) else {}
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
        ("trained on", pipeline.corpus_in_words(summary.corpus)),
        ("records", summary.records),
        ("labels", ", ".join(label for label, count in summary.labels.items() if count)),
        ("parameters", summary.parameters),
        ("megabytes", model.megabytes),
        ("held-out denoising loss", summary.validation_loss),
    ]
