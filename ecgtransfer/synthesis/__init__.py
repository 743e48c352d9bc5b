"""Generation of labelled synthetic records from a denoiser, written to disk."""

from typing import TYPE_CHECKING

from ecgtransfer.lazy import lazy_names

if TYPE_CHECKING:
    from ecgtransfer.storage import DiskSpace
    from ecgtransfer.synthesis.amounts import (
        Combination,
        check_amounts,
        records_to_add,
        records_to_generate,
    )
    from ecgtransfer.synthesis.generation import generate
    from ecgtransfer.synthesis.plan import disk_bytes, record_seed
    from ecgtransfer.synthesis.request import SynthesisRequest, parse_counts, per_class
    from ecgtransfer.synthesis.shards import Shard, missing_shards
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "Combination",
    "DiskSpace",
    "Shard",
    "SynthesisRequest",
    "check_amounts",
    "disk_bytes",
    "generate",
    "missing_shards",
    "parse_counts",
    "per_class",
    "record_seed",
    "records_to_add",
    "records_to_generate",
]
