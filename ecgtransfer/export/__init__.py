"""Export of sets for other programs: WFDB, PTB-XL layout, WebDataset, Croissant metadata."""

from ecgtransfer.export.croissant import croissant, write_croissant
from ecgtransfer.export.ptbxl_layout import export_wfdb
from ecgtransfer.export.webdataset import SHARD_RECORDS, export_webdataset
from ecgtransfer.export.wfdb_set import export_set, header_comments

__all__ = [
    "SHARD_RECORDS",
    "croissant",
    "export_set",
    "export_webdataset",
    "export_wfdb",
    "header_comments",
    "write_croissant",
]
