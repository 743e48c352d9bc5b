"""Refusal of sets with synthetic records where recorded ones are needed."""

from ecgtransfer.corpus import ECGSet
from ecgtransfer.corpus.sets.ecgset import MIXED
from ecgtransfer.errors import CorpusError


def require_recorded(ecgset: ECGSet, reason: str) -> None:
    """Check that no record of a set was generated; simulated sets are accepted.

    Args:
        ecgset: the set.
        reason: why recorded records are needed, for the message.

    Raises:
        CorpusError: the set is of origin `generated` or `mixed`.
    """
    if ecgset.origin in ("generated", MIXED):
        raise CorpusError(
            f"expected recorded ECGs in {ecgset.folder}, because {reason}, got a {ecgset.origin} "
            "set; name the set of the recorded ECGs"
        )
