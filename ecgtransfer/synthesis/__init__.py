"""From a denoiser and a request to labelled synthetic records on disk, here and for others."""

from ecgtransfer.storage import DiskSpace
from ecgtransfer.synthesis.export import export_wfdb, header_comments
from ecgtransfer.synthesis.generate import generate
from ecgtransfer.synthesis.plan import disk_bytes, record_seed
from ecgtransfer.synthesis.request import SynthesisRequest, parse_counts, per_class
from ecgtransfer.synthesis.shards import Shard, missing_shards

__all__ = [
    "DiskSpace",
    "Shard",
    "SynthesisRequest",
    "disk_bytes",
    "export_wfdb",
    "generate",
    "header_comments",
    "missing_shards",
    "parse_counts",
    "per_class",
    "record_seed",
]
