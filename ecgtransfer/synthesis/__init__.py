"""Generation of labelled synthetic records from a denoiser, written to disk."""

from ecgtransfer.storage import DiskSpace
from ecgtransfer.synthesis.generate import generate
from ecgtransfer.synthesis.plan import disk_bytes, record_seed
from ecgtransfer.synthesis.request import SynthesisRequest, parse_counts, per_class
from ecgtransfer.synthesis.shards import Shard, missing_shards

__all__ = [
    "DiskSpace",
    "Shard",
    "SynthesisRequest",
    "disk_bytes",
    "generate",
    "missing_shards",
    "parse_counts",
    "per_class",
    "record_seed",
]
