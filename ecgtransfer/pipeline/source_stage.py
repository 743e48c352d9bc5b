"""What lies in a finished source stage: its files, its summary and the corpus that it is from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ecgtransfer.corpus import ECGSet
from ecgtransfer.pipeline.run import CARD, REQUEST, Stage
from ecgtransfer.pipeline.seen import SEEN
from ecgtransfer.storage import OMIT_AT_DEFAULT

if TYPE_CHECKING:
    from torch import nn

    from ecgtransfer.training import FitResult

SOURCE = "source"
#: Folders of the smaller models of a factorised source.
RHYTHM, BEAT_SHAPES = "rhythm", "beat_shapes"
#: The same name as in `training`, which needs torch.
WEIGHTS = "weights.safetensors"
#: What is told of the corpus that a set is from, in this order.
STATED_OF_CORPUS = ("name", "version", "licence", "url")


@dataclass(frozen=True)
class StageSummary:
    """Training of one of the smaller models of a factorised source."""

    parameters: int
    steps: int
    validation_loss: float | None
    seconds: float

    @classmethod
    def of(cls, model: "nn.Module", fitted: "FitResult") -> "StageSummary":
        """Of a model that was just trained."""
        size = sum(p.numel() for p in model.parameters())
        return cls(size, fitted.steps, fitted.validation, fitted.seconds)


@dataclass(frozen=True)
class SourceSummary:
    """What training the source came to.

    `labels` counts the training records of each label, `corpus` says where they are from,
    `stages` are the models of rhythm and beat shapes, where the source has them.
    """

    records: int
    held_out: int
    parameters: int
    steps: int
    validation_loss: float | None
    gaussian_loss: float
    seconds: float
    precision: str
    labels: Mapping[str, int]
    corpus: Mapping[str, str]
    stages: Mapping[str, StageSummary] = field(default_factory=dict, metadata=OMIT_AT_DEFAULT)


def source_files(stage: Stage) -> tuple[str, ...]:
    """Files of a finished source stage, apart from where its records lie."""
    optional = [*(f"{name}/{WEIGHTS}" for name in (RHYTHM, BEAT_SHAPES)), SEEN]
    return (REQUEST, WEIGHTS, CARD, *(n for n in optional if (stage.folder / n).exists()))


def corpus_of(ecgset: ECGSet) -> dict[str, str]:
    """Name, version, licence and address of the corpus of a set, as far as its card states them."""
    stated = ecgset.card.get("corpus")
    known: Mapping[str, Any] = stated if isinstance(stated, Mapping) else {}
    named = {"name": str(known.get("name") or ecgset.folder.name)}
    return named | {key: str(known[key]) for key in STATED_OF_CORPUS[1:] if known.get(key)}


def corpus_in_words(corpus: Mapping[str, str]) -> str:
    """What `corpus_of` found, in a line."""
    return ", ".join(corpus[key] for key in STATED_OF_CORPUS if key in corpus)
