"""Contents of a finished source stage: its files, its summary and the corpus of its records."""

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
#: File of the weights, as in `training.WEIGHTS`; repeated here, because `training` imports torch.
WEIGHTS = "weights.safetensors"
#: Fields that are stated of a corpus, in this order.
STATED_OF_CORPUS = ("name", "version", "licence", "url")


@dataclass(frozen=True)
class StageSummary:
    """Result of training one of the smaller models of a factorised source.

    Attributes:
        parameters: number of parameters.
        steps: number of training steps.
        validation_loss: loss on held-out records; None if it was not measured.
        seconds: duration of the training.
    """

    parameters: int
    steps: int
    validation_loss: float | None
    seconds: float

    @classmethod
    def of(cls, model: "nn.Module", fitted: "FitResult") -> "StageSummary":
        """Summarise the training of a model."""
        size = sum(p.numel() for p in model.parameters())
        return cls(size, fitted.steps, fitted.validation, fitted.seconds)


@dataclass(frozen=True)
class SourceSummary:
    """Result of training the source model.

    Attributes:
        records: number of training records.
        held_out: number of held-out records.
        parameters: number of parameters of the record model.
        steps: number of training steps.
        validation_loss: loss on held-out records; None if it was not measured.
        gaussian_loss: loss of the best linear denoiser on the same records.
        seconds: duration of the training.
        precision: arithmetic of the network.
        labels: number of training records of each label.
        corpus: name, version, licence and address of the corpus.
        stages: trainings of the rhythm and beat-shape models of a factorised source.
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
    """Files of a finished source stage, without the one that states where its records are."""
    optional = [*(f"{name}/{WEIGHTS}" for name in (RHYTHM, BEAT_SHAPES)), SEEN]
    return (REQUEST, WEIGHTS, CARD, *(n for n in optional if (stage.folder / n).exists()))


def corpus_of(ecgset: ECGSet) -> dict[str, str]:
    """Name, version, licence and address of the corpus of a set, if its card states them."""
    stated = ecgset.card.get("corpus")
    known: Mapping[str, Any] = stated if isinstance(stated, Mapping) else {}
    named = {"name": str(known.get("name") or ecgset.folder.name)}
    return named | {key: str(known[key]) for key in STATED_OF_CORPUS[1:] if known.get(key)}


def corpus_in_words(corpus: Mapping[str, str]) -> str:
    """Format the result of `corpus_of` in one line."""
    return ", ".join(corpus[key] for key in STATED_OF_CORPUS if key in corpus)
