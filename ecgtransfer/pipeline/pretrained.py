"""Source models without their records: shipped with the package, or exported by others.

Such a model is a folder with the source stage of a run (`request.json`, `card.json`,
`weights.safetensors` in bfloat16) and `README.md`, its model card. It contains no records and no
paths of the machine on which it was trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ecgtransfer.errors import RunError
from ecgtransfer.pipeline.run import CARD, CONFIG, Run, Stage
from ecgtransfer.pipeline.source_stage import SOURCE, WEIGHTS, SourceSummary, source_files
from ecgtransfer.storage import read_json

#: Files of the model card in Markdown and of its scores.
MODEL_CARD, SCORES = "README.md", "scores.json"


@dataclass(frozen=True)
class PretrainedModel:
    """A source model without its records.

    Attributes:
        name: name of its folder.
        folder: its folder.
        summary: result of its training.
        scores: scores on held-out patients, by evaluation; empty if there are none.
    """

    name: str
    folder: Path
    summary: SourceSummary
    scores: Mapping[str, Any]

    @property
    def megabytes(self) -> float:
        """Size of the weights on disk."""
        names = (name for name in source_files(Stage(self.folder)) if name.endswith(WEIGHTS))
        return sum((self.folder / name).stat().st_size for name in names) / 1e6

    @property
    def model_card(self) -> str:
        """Model card in Markdown: data, licence, command, seed, time, scores and limits."""
        return (self.folder / MODEL_CARD).read_text(encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> "PretrainedModel":
        """Open the model in a folder.

        Raises:
            RunError: the folder has no model, or the source of a run, which has no model card.
        """
        stage = Stage(folder)
        summary = stage.read(SourceSummary, "results")
        if not (folder / MODEL_CARD).exists():
            raise RunError(
                f"expected an exported model in {folder}, which is the source of a run and has no "
                "model card; write one with 'ecgtransfer models export'"
            )
        scores = read_json(folder / SCORES) if (folder / SCORES).exists() else {}
        return cls(folder.name, folder, summary, scores)


def pretrained_models() -> tuple[PretrainedModel, ...]:
    """Return the models that are shipped with the package, sorted by name."""
    return tuple(PretrainedModel.open(folder) for folder in sorted(_shipped()))


def find_source(name: str) -> Stage:
    """Find the source stage of a model.

    Args:
        name: name of a shipped model, a run folder, or the folder of an exported model.

    Raises:
        RunError: it is none of these.
    """
    for folder in _shipped():
        if folder.name == name:
            return Stage(folder)
    folder = Path(name)
    if (folder / CONFIG).exists():
        return Run.open(folder).stage(SOURCE)
    if (folder / CARD).exists() and (folder / WEIGHTS).exists():
        return Stage(folder)
    raise RunError(
        f"expected a source model at {name!r}, found none; name a shipped model ({_names()}), a "
        "run with a trained source, or the folder of an exported model"
    )


def _shipped() -> list[Path]:
    """Folders of the models in the package."""
    folder = Path(str(files("ecgtransfer"))) / "pretrained"
    return [path.parent for path in folder.glob(f"*/{CARD}")]


def _names() -> str:
    return ", ".join(sorted(path.name for path in _shipped())) or "none is shipped"
