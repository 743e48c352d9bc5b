"""`ecgtransfer transfer`: transfer the source model to the target."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import pipeline
from ecgtransfer.defaults import TRANSFER_METHODS, SplitProtocol
from ecgtransfer.errors import ConfigError

from .console import Json, KeyValues, Output, Quiet, format_value


def transfer(
    run: Annotated[
        Path, typer.Argument(help="Run folder with a source model; created with --source.")
    ],
    target: Annotated[Path, typer.Option(help="Prepared target set.")],
    select: Annotated[
        list[str] | None, typer.Option(help='Target records, e.g. "device=CS-12".')
    ] = None,
    train_records: Annotated[
        int | None,
        typer.Option(
            min=5,
            help="Target training records; default: three quarters; the others are for testing.",
        ),
    ] = None,
    protocol: Annotated[
        SplitProtocol,
        typer.Option(
            help="paper: train on fold 10, test on 1-8; standard: train on 1-8, hold out 9, "
            "test on 10; cross-validation: see --part; split: random, see --train-records."
        ),
    ] = "split",
    part: Annotated[
        str | None,
        typer.Option(help="Part of a cross-validation, e.g. 2/5 to test on the second of five."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Source model: name of a shipped one, or folder of a run or an exported model."
        ),
    ] = None,
    source_set: Annotated[
        Path | None,
        typer.Option(help="Prepared set that the source model was trained on, if available."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="; ".join(f"{name}: {title}" for name, title in TRANSFER_METHODS.items())
        ),
    ] = "tgdp",
    source_records: Annotated[
        str | None,
        typer.Option(
            help="Source records for the guidance: real (default if available) or model (sampled "
            "from the source model)."
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=1, help="Patient folds of tgdp and stack; default: 3."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps of guidance or fine-tuning.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the training.")] = 0,
    split_seed: Annotated[
        int | None,
        typer.Option(min=0, help="Random seed of the split; default: that of the run, or 0."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with research settings; see docs/transfer-config.md."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Transfer the source model to the target. The source model is not changed.

    Example: ecgtransfer transfer runs/clinic --source ptbxl-cascade --target sets/clinic
    """
    output = Output(json, quiet)
    settings = pipeline.TransferSettings(method=method, seed=seed)
    if config is not None:
        settings = pipeline.read_transfer_config(config, settings)
    if folds is not None:
        settings = replace(settings, folds=folds)
    request = pipeline.TransferRequest(
        pipeline.TargetSettings(target, tuple(select or ()), train_records, protocol, _part(part)),
        settings.with_training(steps),
        source,
        source_set,
        source_records,
        split_seed,
    )
    summary = pipeline.request_transfer(run, request, output.training, output.warn)
    output.result(summary, KeyValues(f"Transfer by {method} in {run}", _rows(summary)))


def _part(text: str | None) -> tuple[int, int] | None:
    """Parse "2/5" as (2, 5)."""
    if text is None:
        return None
    number, slash, parts = text.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal()):
        raise ConfigError(
            f"expected a part such as 2/5, got {text!r}; give the part and the number of parts"
        )
    return int(number), int(parts)


def _rows(summary: "pipeline.TransferSummary") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("target records", summary.target_records),
        ("trained parameters", summary.trained_parameters),
        ("held-out denoising loss, label scale 1", summary.held_out_loss),
        ("held-out denoising loss of the source model", summary.source_loss),
        ("seconds", summary.seconds),
    ]
    if ratio := summary.details.get("ratio"):
        rows += [
            ("E_p[r] (1 for the true ratio)", _with_error(ratio, "mean_ratio")),
            ("E_q[1/r] (1 for the true ratio)", _with_error(ratio, "mean_inverse_ratio")),
            ("effective sample size, fraction of the source records", ratio["effective_fraction"]),
            ("domain classifier: AUC, out of fold", ratio["auc"]),
            ("domain classifier: log loss (0.693 at chance)", _with_error(ratio, "log_loss")),
            ("domain classifier: calibration error", ratio["calibration_error"]),
        ]
    weights = {
        "guidance weight": summary.details.get("weight"),
        "guidance weight without label": summary.details.get("weight_without_label"),
    }
    weights |= {
        f"weight of {name}": each for name, each in summary.details.get("weights", {}).items()
    }
    rows += [
        (f"{name} at sigma {sigma:.2g}", value)
        for name, weight in weights.items()
        if weight
        for sigma, value in zip(weight["sigmas"], weight["values"], strict=True)
    ]
    return rows


def _with_error(ratio: Mapping[str, float | None], name: str) -> str:
    """Format a mean with its standard error."""
    return f"{format_value(ratio[name])} +- {format_value(ratio[name + '_error'])}"
