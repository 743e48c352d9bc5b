"""The source model without transfer: the baseline for all methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecgtransfer.training import Bars, no_bars
from ecgtransfer.transfer.methods.base import (
    Fitted,
    Method,
    MethodSettings,
    SourceDomain,
    TargetDomain,
)
from ecgtransfer.transfer.methods.finetune import TunedModel


class Unchanged(Method):
    """Use the unchanged source model for the target."""

    name = "source"
    title = "unchanged source model"

    def fit(
        self,
        source: SourceDomain,
        target: TargetDomain,
        settings: MethodSettings,
        folder: Path,
        *,
        bars: Bars = no_bars,
        reuse: Sequence[Path] = (),
    ) -> Fitted:
        """See `Method.fit`."""
        model = TunedModel(source.model)
        return Fitted(model, 0, 0.0, evaluated=[(source.model, target.held_out)])

    def load(
        self, source: SourceDomain, folder: Path, details: Mapping[str, Any], card: Path
    ) -> TunedModel:
        """See `Method.load`."""
        return TunedModel(source.model)
