"""From a denoiser and a request to labelled synthetic records on disk, here and for others."""

from ecgtransfer.synthesis.export import export_wfdb, header_comments
from ecgtransfer.synthesis.generate import generate, record_seed
from ecgtransfer.synthesis.request import SynthesisRequest, parse_counts, per_class

__all__ = [
    "SynthesisRequest",
    "export_wfdb",
    "generate",
    "header_comments",
    "parse_counts",
    "per_class",
    "record_seed",
]
