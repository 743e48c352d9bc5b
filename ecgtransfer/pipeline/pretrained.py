"""Source models that travel without their records: shipped with the package, or another's.

Such a model is a folder with the source stage of a run (`request.json`, `card.json`,
`weights.safetensors`), the weights in bfloat16, and `README.md`, its model card. No path of the
machine that trained it and no record is in it.
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

#: The model card for people, and the scores that it states.
MODEL_CARD, SCORES = "README.md", "scores.json"


@dataclass(frozen=True)
class PretrainedModel:
    """A source model that came without its records.

    Attributes:
        name: of its folder.
        folder: where it lies.
        summary: what the training came to.
        scores: what was measured on held-out patients, by question; empty where nothing was.
    """

    name: str
    folder: Path
    summary: SourceSummary
    scores: Mapping[str, Any]

    @property
    def megabytes(self) -> float:
        """Of the weights on disk."""
        names = (name for name in source_files(Stage(self.folder)) if name.endswith(WEIGHTS))
        return sum((self.folder / name).stat().st_size for name in names) / 1e6

    @property
    def model_card(self) -> str:
        """Data, folds, licence, command, seed, time, scores and limits, in Markdown."""
        return (self.folder / MODEL_CARD).read_text(encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> "PretrainedModel":
        """The model in a folder.

        Raises:
            RunError: none is there, or a source in its run, which has no model card.
        """
        stage = Stage(folder)
        summary = stage.read(SourceSummary, "results")
        if not (folder / MODEL_CARD).exists():
            raise RunError(
                f"{folder} is a source in its run and has no model card; write one with "
                f"'ecgtransfer models export'"
            )
        scores = read_json(folder / SCORES) if (folder / SCORES).exists() else {}
        return cls(folder.name, folder, summary, scores)


def pretrained_models() -> tuple[PretrainedModel, ...]:
    """The models that are shipped with the package, by name."""
    return tuple(PretrainedModel.open(folder) for folder in sorted(_shipped()))


def find_source(name: str) -> Stage:
    """The source stage that a name stands for.

    Args:
        name: a shipped model, a run folder, or the folder of an exported model.

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
        f"run with a trained source, or the folder of an exported model"
    )


def _shipped() -> list[Path]:
    """Folders of the models in the package."""
    folder = Path(str(files("ecgtransfer"))) / "pretrained"
    return [path.parent for path in folder.glob(f"*/{CARD}")]


def _names() -> str:
    return ", ".join(sorted(path.name for path in _shipped())) or "none is shipped"
